"""Small ONNX networks for all tests, written by ``onnx.helper``."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from featurestore.backbones.sidecar import Sidecar, write_sidecar


class Net:
    """Nodes and weights as they are added; random numbers are the same on every call."""

    def __init__(self, seed=0):
        self.rng, self.nodes, self.weights = np.random.default_rng(seed), [], []

    def add(self, op, inputs, name, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def constant(self, name, values):
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def random(self, name, *shape, scale=0.3):
        return self.constant(name, self.rng.normal(0, scale, shape).astype(np.float32))

    def save(self, path, image, outputs, *, opset=17, kind=TensorProto.FLOAT, inputs=(), **options):
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        entrances = [helper.make_tensor_value_info("image", kind, image), *inputs]
        graph = helper.make_graph(self.nodes, "net", entrances, ends, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.save(model, path, **options)
        return path


def cnn(path, *, sides=("H", "W"), batch="N", layout="NCHW", seed=0, opset=17, sidecar=None, **options):
    """Two convolutions and a projection of their average: layers `a`, `block1.relu`, `logits`."""
    net = Net(seed)
    entrance = "image"
    if layout == "NHWC":
        entrance = net.add("Transpose", ["image"], "first", perm=[0, 3, 1, 2])
    net.add("Conv", [entrance, net.random("w1", 4, 3, 3, 3)], "a", kernel_shape=[3, 3], strides=[2, 2])
    net.add("Conv", ["a", net.random("w2", 6, 4, 3, 3), net.random("b2", 6)], "/block1/conv", kernel_shape=[3, 3])
    net.add("Relu", ["/block1/conv"], "/block1/relu")
    net.add("Transpose", ["/block1/relu"], "back", perm=[0, 2, 3, 1])
    net.add("GlobalAveragePool", ["/block1/relu"], "pool")
    net.add("Flatten", ["pool"], "flat")
    net.add("Gemm", ["flat", net.random("w3", 6, 5)], "logits")
    image = [batch, 3, *sides] if layout == "NCHW" else [batch, *sides, 3]
    net.save(path, image, ["logits"], opset=opset, **options)
    if sidecar is not None:
        write_sidecar(path, Sidecar(**{"size": 32, "preprocessing": "torch"} | sidecar))
    return path


def transformer(path, *, cls=True, registers=2, side=16, dim=8, batch="N", baked=False, **options):
    """Patches of 4 pixels, a class token and registers, two blocks of attention: `block0`, `block1`, `tokens`.

    With `baked` its batch is fixed in a shape, though the file says otherwise, as careless exports do.
    """
    net, places = Net(), (side // 4) ** 2
    net.add(
        "Conv", ["image", net.random("patch", dim, 3, 4, 4, scale=0.1)], "maps", kernel_shape=[4, 4], strides=[4, 4]
    )
    net.add("Reshape", ["maps", net.constant("rows", np.array([1 if baked else 0, dim, -1]))], "columns")
    net.add("Transpose", ["columns"], "patches", perm=[0, 2, 1])
    # As PyTorch writes `expand`: the shape is computed from that of the input.
    net.add("Shape", ["image"], "shape")
    net.add("Gather", ["shape", net.constant("zero", np.array([0]))], "count", axis=0)
    net.add("Concat", ["count", net.constant("one", np.array([cls + registers, dim]))], "wanted", axis=0)
    net.add("Expand", [net.random("prefix", 1, cls + registers, dim), "wanted"], "extra")
    net.add("Concat", ["extra", "patches"], "all", axis=1)
    x = net.add("Add", ["all", net.random("position", 1, cls + registers + places, dim)], "embedded")
    net.constant("heads", np.array([0, 0, 2, dim // 2])), net.constant("whole", np.array([0, 0, dim]))
    net.constant("scale", np.float32((dim // 2) ** -0.5))
    for i in range(2):
        parts = [net.add("MatMul", [x, net.random(f"{k}{i}", dim, dim)], f"{k}_{i}") for k in "qkv"]
        q, k, v = (net.add("Transpose", [net.add("Reshape", [each, "heads"], f"{each}s")], f"{each}h", perm=order)
                   for each, order in zip(parts, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True))  # fmt: skip
        net.add("Mul", [net.add("MatMul", [q, k], f"products{i}"), "scale"], f"scores{i}")
        net.add("Softmax", [f"scores{i}"], f"attention{i}", axis=-1)
        net.add("Transpose", [net.add("MatMul", [f"attention{i}", v], f"values{i}")], f"back{i}", perm=[0, 2, 1, 3])
        net.add("Reshape", [f"back{i}", "whole"], f"mixed{i}")
        x = net.add("Add", [x, f"mixed{i}"], f"block{i}")
    net.add("Tanh", [x], "tokens")
    net.save(path, [batch, 3, side, side], ["tokens"], **options)
    from featurestore.backbones.taps import Tokens

    write_sidecar(path, Sidecar(preprocessing="tf", tokens=Tokens(cls, registers), licence="apache-2.0", revision="r1"))
    return path
