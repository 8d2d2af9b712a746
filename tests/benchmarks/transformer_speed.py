"""Vision transformers at 224 pixels, by engine, against PyTorch's own loop in the same run. Needs the extra ``torch``.

    PYTHONPATH=. python tests/benchmarks/transformer_speed.py [NAME ...]

Networks of timm with random weights are imported, and run from pixels to features by each engine that there is. The
rival is timm's network in eager mode, without gradients, on all cores. All take turns in each of several rounds, and
the median round counts. A difference is that of an engine's features from those of the graph as it is, relative to the
largest.
"""

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import timm
import torch

from featurestore import engines
from featurestore.backbones import load_backbone
from featurestore.backbones.preprocessing import Preprocessing
from featurestore.importing.import_backbone import import_backbone

NAMES = ("vit_small_patch14_dinov2", "vit_base_patch16_224")
SIZE, BATCH, BATCHES, ROUNDS = 224, 8, 2, 4
WAYS = (("onnxruntime", "float32"), ("openvino", "float32"), ("openvino", "bfloat16"))


def torch_loop(name, preprocessing):
    resized = {"img_size": SIZE} if "dinov2" in name else {}
    model = timm.create_model(name, pretrained=False, num_classes=0, **resized).eval()

    def run(pixels):
        values = preprocessing(pixels).transpose(0, 3, 1, 2)
        with torch.inference_mode():
            for start in range(0, len(values), BATCH):
                model.forward_features(torch.from_numpy(np.ascontiguousarray(values[start : start + BATCH])))

    return run


def usable(network):
    """Give each engine that runs the network here, with the function that does, and how far its features are off."""
    pixels = np.random.default_rng(2).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    exact = network.run(pixels)["last"]
    for engine, precision in WAYS:
        one = replace(network, precision=precision)
        if engines.available(engine, one):
            compute = engines.compile_backbone(one, engine)
            off = engines.difference(exact, compute(pixels)()["last"])
            yield f"{engine} {precision}", lambda pixels, compute=compute: compute(pixels)(), off


def main(names):
    pixels = np.random.default_rng(1).integers(0, 256, (BATCH * BATCHES, SIZE, SIZE, 3), dtype=np.uint8)
    print("| backbone | way | images/s | × torch | difference |\n|---|---|---|---|---|")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f"{name}.onnx")
            import_backbone(f"timm:{name}", file, size=SIZE if "dinov2" in name else None, weights="random")
            network = load_backbone(str(file), size=SIZE)
            found = list(usable(network))
            runs = {"torch, eager": torch_loop(name, Preprocessing.of(network.preprocessing))}
            runs |= {way: run for way, run, _ in found}
            rates = {way: [] for way in runs}
            for step in range(ROUNDS + 1):
                for way, run in runs.items():
                    start = time.perf_counter()
                    run(pixels)
                    if step:  # the first round warms up
                        rates[way].append(len(pixels) / (time.perf_counter() - start))
        rival = rates["torch, eager"]
        differences = {way: f"{off:.1e}" for way, _, off in found}
        for way, each in rates.items():
            ratio = statistics.median(ours / theirs for ours, theirs in zip(each, rival, strict=True))
            shown = f"{statistics.median(each):.1f} | {ratio:.2f} | {differences.get(way, '–')}"
            print(f"| {name} | {way} | {shown} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or NAMES)
