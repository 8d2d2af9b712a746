"""Images per second of vision transformers with random weights, written as ONNX files, by each engine.

    python tests/benchmarks/vit_speed.py [--images 32] [--rounds 3]

ViT-S/14 (DINOv2's small size) and ViT-B/16, both at 224 pixels. Beside the engines stands the loop that ONNX Runtime's
users write: its own session with its defaults, batches of 8. Engines take turns; the best round of each is shown.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from featurestore.backbones import load_backbone
from featurestore.backbones.sidecar import Sidecar, write_sidecar
from featurestore.backbones.taps import Tokens
from featurestore.engines import compile_backbone, difference

SIZE, BLOCKS = 224, 12
NETWORKS = {"vit_small_patch14": (384, 6, 14), "vit_base_patch16": (768, 12, 16)}
"""Per network: width, heads, and side of a patch."""


class Graph:
    """Nodes and random weights of a network of one width."""

    def __init__(self, width: int) -> None:
        self.width, self.nodes, self.weights = width, [], []
        self.rng = np.random.default_rng(0)

    def constant(self, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def random(self, *shape: int) -> str:
        return self.constant(self.rng.normal(0, 0.02, shape).astype(np.float32))

    def add(self, op: str, *inputs: str, name: str | None = None, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name or f"t{len(self.nodes)}"], **attributes))
        return self.nodes[-1].output[0]

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        return self.add("Add", self.add("MatMul", x, self.random(inputs, outputs)), self.random(outputs))

    def norm(self, x: str) -> str:
        ones, zeros = (self.constant(make(self.width, np.float32)) for make in (np.ones, np.zeros))
        return self.add("LayerNormalization", x, ones, zeros, axis=-1, epsilon=1e-6)

    def attention(self, x: str, heads: int) -> str:
        shape = self.constant(np.array([0, 0, heads, self.width // heads]))
        q, k, v = (
            self.add("Transpose", self.add("Reshape", self.dense(x, self.width, self.width), shape), perm=order)
            for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        )
        scale = self.constant(np.float32((self.width // heads) ** -0.5))
        weights = self.add("Softmax", self.add("Mul", self.add("MatMul", q, k), scale), axis=-1)
        mixed = self.add("Transpose", self.add("MatMul", weights, v), perm=[0, 2, 1, 3])
        whole = self.add("Reshape", mixed, self.constant(np.array([0, 0, self.width])))
        return self.dense(whole, self.width, self.width)

    def mlp(self, x: str) -> str:
        x = self.dense(x, self.width, 4 * self.width)
        bell = self.add("Erf", self.add("Mul", x, self.constant(np.float32(0.5**0.5))))
        x = self.add("Mul", x, self.add("Add", bell, self.constant(np.float32(1))))
        return self.dense(self.add("Mul", x, self.constant(np.float32(0.5))), 4 * self.width, self.width)


def write(path: Path, width: int, heads: int, patch: int) -> None:
    """Write a transformer with a class token."""
    graph, places = Graph(width), (SIZE // patch) ** 2
    sides = {"kernel_shape": [patch, patch], "strides": [patch, patch]}
    x = graph.add("Conv", "image", graph.random(width, 3, patch, patch), graph.random(width), **sides)
    x = graph.add("Transpose", graph.add("Reshape", x, graph.constant(np.array([0, width, -1]))), perm=[0, 2, 1])
    count = graph.add("Gather", graph.add("Shape", "image"), graph.constant(np.array([0])), axis=0)
    shape = graph.add("Concat", count, graph.constant(np.array([1, width])), axis=0)
    x = graph.add("Concat", graph.add("Expand", graph.random(1, 1, width), shape), x, axis=1)
    x = graph.add("Add", x, graph.random(1, places + 1, width))
    for i in range(BLOCKS):
        x = graph.add("Add", x, graph.attention(graph.norm(x), heads))
        x = graph.add("Add", x, graph.mlp(graph.norm(x)), name=f"block{i}")
    last = graph.norm(x)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])
    end = helper.make_tensor_value_info(last, TensorProto.FLOAT, ["N", places + 1, width])
    whole = helper.make_graph(graph.nodes, "vit", [image], [end], graph.weights)
    onnx.save(helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    write_sidecar(path, Sidecar(preprocessing="torch", interpolation="bicubic", tokens=Tokens()))


def plain_loop(path: Path):
    """What a user of ONNX Runtime writes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(pixels: np.ndarray) -> None:
        values = (pixels.transpose(0, 3, 1, 2).astype(np.float32) - 120) / 58
        for i in range(0, len(values), 8):
            session.run(None, {"image": values[i : i + 8]})

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    pixels = np.random.default_rng(1).integers(0, 256, (options.images, SIZE, SIZE, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        for name, facts in NETWORKS.items():
            path = Path(folder) / f"{name}.onnx"
            write(path, *facts)
            network = load_backbone(str(path))
            exact = network.run(pixels[:2])["last"]
            ways = {"ONNX Runtime's own loop": plain_loop(path)}
            for engine, precision in (("onnxruntime", "float32"), ("openvino", "float32"), ("openvino", "bfloat16")):
                compute = compile_backbone(replace(network, precision=precision), engine)
                off = difference(exact, compute(pixels[:2])()["last"])
                ways[f"{engine} {precision}, off by {off:.1e}"] = lambda pixels, compute=compute: compute(pixels)()
            best = dict.fromkeys(ways, float("inf"))
            for _ in range(options.rounds):
                for way, run in ways.items():
                    start = time.perf_counter()
                    run(pixels)
                    best[way] = min(best[way], time.perf_counter() - start)
            print(f"{name}, {network.flops['last'] / 1e9:.1f} GFLOP an image")
            for way, seconds in best.items():
                print(f"  {len(pixels) / seconds:8.2f} images/s  {way}")


if __name__ == "__main__":
    main()
