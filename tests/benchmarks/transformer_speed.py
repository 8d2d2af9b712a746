"""Vision transformers by engine, with random weights, at 224 pixels: images/s on all cores. Needs the extra ``torch``.

    PYTHONPATH=. python tests/benchmarks/transformer_speed.py [NAME ...]

Prints a Markdown table. Each engine takes its turn in each of several rounds, and the median round counts.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import timm
import torch

from featurestore.importing.import_backbone import import_backbone
from featurestore.importing.onnx_writing import INPUT
from featurestore.system.machine import cores

NAMES = ("vit_small_patch14_dinov2", "vit_base_patch16_224")
SIZE, BATCH, BATCHES, ROUNDS = 224, 8, 2, 4


def engines(name, file):
    """For each engine, a function from pixels (B, 3, SIZE, SIZE) to the tokens (B, T, C)."""
    torch.set_num_threads(cores())
    sized = {"img_size": SIZE} if "dinov2" in name else {}
    network = timm.create_model(name, num_classes=0, **sized).eval()

    def eager(values):
        with torch.no_grad():
            return network.forward_features(torch.from_numpy(values)).numpy()

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = {"torch (its own loop)": eager, "onnxruntime": lambda values: session.run(["last"], {INPUT: values})[0]}
    for precision in ("f32", "bf16"):
        hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "THROUGHPUT"}
        found[f"openvino {precision}"] = by_openvino(openvino.Core().compile_model(file, "CPU", hints))
    return found


def by_openvino(compiled):
    """Several requests at a time, as the engine does."""

    def run(values):
        results = {}
        queue = openvino.AsyncInferQueue(compiled)
        queue.set_callback(lambda request, at: results.update({at: np.array(request.get_output_tensor(LAST[0]).data)}))
        for at in range(0, len(values), 2):
            queue.start_async({INPUT: values[at : at + 2]}, at)
        queue.wait_all()
        return np.concatenate([results[at] for at in sorted(results)])

    LAST = [next(i for i, output in enumerate(compiled.outputs) if "last" in output.names)]
    return run


def main(names):
    print("| backbone | " + " | ".join(["torch (its own loop)", "onnxruntime", "openvino f32", "openvino bf16"]) + " |")
    print("|---|---|---|---|---|")
    values = np.random.default_rng(0).normal(size=(BATCH, 3, SIZE, SIZE)).astype(np.float32)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f"{name}.onnx")
            import_backbone(f"timm:{name}", file, size=SIZE if "dinov2" in name else None, weights="random")
            compute = engines(name, file)
            rates = {engine: [] for engine in compute}
            for step in range(ROUNDS + 1):
                for engine, run in compute.items():
                    start = time.perf_counter()
                    for _ in range(BATCHES):
                        run(values)
                    if step:  # the first round warms up
                        rates[engine].append(BATCH * BATCHES / (time.perf_counter() - start))
        print(
            f"| {name} | " + " | ".join(f"{statistics.median(each):.1f}" for each in rates.values()) + " |", flush=True
        )


if __name__ == "__main__":
    main(sys.argv[1:] or NAMES)
