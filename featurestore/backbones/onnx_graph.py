"""The tensors in an ONNX graph that can be tapped, with their cost, and the graph as a model from pixels to features.

The models are as :func:`featurestore.backbones.onnx_reader.read_model` gives them.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones.onnx_shapes import shapes_of
from featurestore.backbones.preprocessing import Preprocessing
from featurestore.backbones.sidecar import Layout
from featurestore.backbones.taps import TOKEN_POOLS, Tokens
from featurestore.spec import LAST, Pool

PIXELS = "pixels"
"""Name of a model's input, uint8 (N, size, size, 3), RGB."""
ANY = "N"
"""How the number of images is called where it is open."""

_FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")
_CHANNELS_FIRST = (
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool",
    "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN", "DepthToSpace", "SpaceToDepth",
)  # fmt: skip
_TO_LAST, _TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


@dataclass(frozen=True)
class Layer:
    """One tensor that can be tapped.

    Attributes:
        tensor: its name in the graph.
        type: the operator that gives it.
        shape: of one image; of a map (H, W, C), wherever its channels stand.
        flops: see :func:`featurestore.backbones.graph.tap_table`; the products of attention are counted too.
        channels_first: whether a map's channels stand in front in the graph.
    """

    tensor: str
    type: str
    shape: tuple[int, ...]
    flops: int | None
    channels_first: bool


def layers_of(model: Any, size: int, layout: Layout) -> dict[str, Layer]:
    """Return what can be tapped in a graph, by the names of layers, in the graph's order.

    These are the float tensors of rank 2 to 4 that begin with the batch and depend on the image. A layer is called as
    its tensor, without what has a meaning in a path or in a list of taps, see :func:`layer_name`.

    Raises:
        ValueError: the graph cannot take this size, or would need too much memory; the text is a reason of one line.
    """
    types, shapes = shapes_of(model, size, layout)
    first, depends = {model.graph.input[0].name: layout == "NCHW"}, {model.graph.input[0].name}
    needed, costs = _costs(model, shapes)
    found: dict[str, Layer] = {}
    for node in model.graph.node:
        if depends.isdisjoint(node.input) or node.op_type in ("Shape", "Size"):
            continue
        depends.update(node.output)
        for name in node.output:
            shape = shapes.get(name)
            if shape is None or types.get(name) not in _FLOATS or not 2 <= len(shape) <= 4:
                continue
            if len(shape) == 4:
                first[name] = _is_channels_first(node, first, layout)
            if shape[0] != 1 or 0 in shape:
                continue
            total = float(_bits(needed[name], len(costs)) @ costs)
            row = tuple(shape[1:])
            if first.get(name):
                row = (*row[1:], row[0])
            flops = None if math.isnan(total) else int(total)
            layer, number = layer_name(name), 2
            while layer in found or layer in ("", LAST):
                layer, number = f"{layer_name(name)}_{number}", number + 1
            found[layer] = Layer(name, node.op_type, row, flops, first.get(name, False))
    return found


def layer_name(tensor: str) -> str:
    """Return how a tensor is called as a layer.

    PyTorch writes names with slashes, TensorFlow with ``:0`` behind; in a feature file slashes would be groups.

    Example:
        >>> layer_name("/blocks.0/Add_output_0"), layer_name("net/conv/Relu:0")
        ('blocks.0.Add_output_0', 'net.conv.Relu')
    """
    return re.sub(r"[^\w.-]", "_", plain_name(tensor))[:200]


def plain_name(pattern: str) -> str:
    """Return a pattern of layers, where it names tensors as the graph does, with the names of layers instead."""
    return re.sub(r":\d+$", "", pattern).strip("/").replace("/", ".")


def _is_channels_first(node: Any, first: Mapping[str, bool], layout: Layout) -> bool:
    """Return where the channels of a map stand: ONNX' convolutions want them in front, also in TensorFlow's graphs."""
    if node.op_type in _CHANNELS_FIRST:
        return True
    order = next((list(each.ints) for each in node.attribute if node.op_type == "Transpose"), None)
    if order in (_TO_LAST, _TO_FIRST):
        return order == _TO_FIRST
    return next((first[name] for name in node.input if name in first), layout == "NCHW")


def _costs(model: Any, shapes: Mapping[str, Sequence[int]]) -> tuple[dict[str, int], NDArray[np.float64]]:
    """Return the costs of all operations that cost something, and for each tensor a number whose bits name these."""
    needed: dict[str, int] = {}
    costs: list[float] = []
    for node in model.graph.node:
        mask = 0
        for name in node.input:
            mask |= needed.get(name, 0)
        if cost := _flops(node, shapes):
            mask |= 1 << len(costs)
            costs.append(cost)
        needed |= dict.fromkeys(node.output, mask)
    return needed, np.array(costs)


def _bits(mask: int, count: int) -> NDArray[np.uint8]:
    raw = np.frombuffer(mask.to_bytes(-(-count // 8), "little"), np.uint8)
    return np.unpackbits(raw, count=count, bitorder="little")


def _flops(node: Any, shapes: Mapping[str, Sequence[int]]) -> float:
    if node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
        return 0.0
    a, b, out = (shapes.get(name) for name in (*node.input[:2], node.output[0]))
    if a is None or b is None or out is None:
        return math.nan
    if node.op_type == "Conv":
        return 2.0 * math.prod(out) * math.prod(b[1:])
    if node.op_type == "ConvTranspose":
        return 2.0 * math.prod(a) * math.prod(b[1:])
    inner = a[-1] if node.op_type == "MatMul" else math.prod(a) // max(out[0], 1)
    return 2.0 * math.prod(out) * inner


@dataclass
class Builder:
    """A graph that grows node by node; everything in it is named after the prefix, but for what gets a name of its own.

    Attributes:
        opset: the version of the operators.
        prefix: see above.
        nodes, weights: what is there so far.
    """

    opset: int
    prefix: str = ""
    nodes: list[Any] = field(default_factory=list)
    weights: list[tuple[str, Any]] = field(default_factory=list)

    def add(self, op: str, *inputs: str, called: str | None = None, **attributes: Any) -> str:
        """Add an operator, and return the name of its output."""
        from onnx import helper

        name = called or f"{self.prefix}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def constant(self, values: Any) -> str:
        """Add an array of numbers, and return its name."""
        from onnx import numpy_helper

        name = f"{self.prefix}c{len(self.weights)}"
        self.weights.append((name, numpy_helper.from_array(np.asarray(values))))
        return name

    def reduce(self, op: str, values: str, axes: list[int], *, keep: bool = False) -> str:
        """Add ``ReduceMean``, ``ReduceMax`` or ``ReduceSum``, whose axes became an input."""
        if self.opset >= (13 if op == "ReduceSum" else 18):
            return self.add(op, values, self.constant(np.array(axes, np.int64)), keepdims=int(keep))
        return self.add(op, values, axes=axes, keepdims=int(keep))

    def include(self, nodes: Iterable[Any], weights: Iterable[Any], names: Mapping[str, str], prefix: str) -> None:
        """Add nodes and weights of another graph; its tensors are as in `names`, or have the prefix in front."""

        def renamed(name: str) -> str:
            return names.get(name, prefix + name) if name else ""

        for node in nodes:
            copy = type(node)()
            copy.CopyFrom(node)
            copy.name = ""
            copy.input[:], copy.output[:] = map(renamed, node.input), map(renamed, node.output)
            self.nodes.append(copy)
        self.weights += [(renamed(tensor.name), tensor) for tensor in weights]

    def model(
        self, sides: Mapping[str, int], batch: int | str, outputs: Mapping[str, Sequence[int]], ir_version: int
    ) -> Any:
        """Return the model from inputs of uint8 pixels, of these sides, to float32 outputs of these shapes."""
        from onnx import TensorProto, helper

        pixels = [
            helper.make_tensor_value_info(name, TensorProto.UINT8, [batch, side, side, 3])
            for name, side in sides.items()
        ]
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape]) for name, shape in outputs.items()
        ]
        graph = helper.make_graph(self.nodes, "backbone", pixels, ends)
        for name, tensor in self.weights:  # each is copied once
            copy = graph.initializer.add()
            copy.CopyFrom(tensor)
            copy.name = name
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="featurestore")


def opset_of(model: Any) -> int:
    """Return the version of ONNX' operators that a model uses."""
    return int(max(each.version for each in model.opset_import))


def from_pixels(
    model: Any,
    image: tuple[int, Layout, Preprocessing],
    taps: Mapping[str, tuple[Layer, Pool]],
    tokens: Tokens | None,
) -> Any:
    """Return the part of a graph that `taps` need, as a model from PIXELS to pooled features by the taps' names.

    Args:
        model: the graph.
        image: size, layout and preprocessing of what it takes.
        taps: by their names.
        tokens: how its sequences of tokens begin.
    """
    size, layout, preprocessing = image
    entrance = model.graph.input[0]
    builder = Builder(opset_of(model), "io.")
    values = _prepared(builder, entrance.type.tensor_type.elem_type, layout, preprocessing)
    nodes, weights = _part(model.graph, {layer.tensor for layer, _ in taps.values()})
    builder.include(nodes, weights, {entrance.name: values}, "net/")
    for name, (layer, pool) in taps.items():
        builder.add("Identity", _pooled(builder, layer, pool, tokens), called=name)
    shapes = {name: pooled_shape(layer.shape, pool, tokens) for name, (layer, pool) in taps.items()}
    # A number of images that the file states is the only one that its graph may be able to take.
    batch = entrance.type.tensor_type.shape.dim[0].dim_value
    return builder.model({PIXELS: size}, batch if batch > 0 else ANY, shapes, model.ir_version)


def pooled_shape(shape: tuple[int, ...], pool: Pool, tokens: Tokens | None) -> tuple[int, ...]:
    """Return the shape of a pooled output, see :func:`featurestore.backbones.load_backbone`."""
    if pool == "flatten":
        return (math.prod(shape),)
    if pool == "none" or not _has_places(shape, tokens):
        return shape
    return (shape[-1] * len(pool.split("+")),)


def _has_places(shape: tuple[int, ...], tokens: Tokens | None) -> bool:
    return len(shape) == 3 or (len(shape) == 2 and tokens is not None)


def _prepared(builder: Builder, kind: int, layout: Layout, preprocessing: Preprocessing) -> str:
    """Add what turns pixels into the network's input."""
    from onnx import TensorProto

    values = PIXELS
    if kind != TensorProto.UINT8:
        values = builder.add("Cast", values, to=TensorProto.FLOAT)
    if preprocessing.bgr:
        values = builder.add("Gather", values, builder.constant(np.array([2, 1, 0])), axis=3)
    for op, numbers, neutral in (("Sub", preprocessing.mean, 0), ("Div", preprocessing.std, 1)):
        if set(numbers) != {neutral}:
            values = builder.add(op, values, builder.constant(np.array(numbers, np.float32)))
    if layout == "NCHW":
        values = builder.add("Transpose", values, perm=_TO_FIRST)
    return values if kind in (TensorProto.UINT8, TensorProto.FLOAT) else builder.add("Cast", values, to=kind)


def _pooled(builder: Builder, layer: Layer, pool: Pool, tokens: Tokens | None) -> str:
    """Add what pools a layer, as :func:`featurestore.backbones.keras_network.pooled` does for Keras."""
    values = builder.add("Cast", f"net/{layer.tensor}", to=1)
    if pool in ("flatten", "none") or not _has_places(layer.shape, tokens):
        if layer.channels_first and len(layer.shape) == 3:
            values = builder.add("Transpose", values, perm=_TO_LAST)
        return builder.add("Flatten", values, axis=1) if pool == "flatten" else values
    places = [1] if len(layer.shape) == 2 else [2, 3] if layer.channels_first else [1, 2]

    def part(name: str) -> str:
        if name == "cls":
            return builder.add("Gather", values, builder.constant(np.int64(0)), axis=1)
        if name == "max":
            return builder.reduce("ReduceMax", values, places)
        if tokens and name in TOKEN_POOLS:
            bounds = (builder.constant(np.array([each], np.int64)) for each in (tokens.prefix, 2**31, 1))
            return builder.reduce("ReduceMean", builder.add("Slice", values, *bounds), places)
        return builder.reduce("ReduceMean", values, places)

    parts = [part(name) for name in pool.split("+")]
    return builder.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]


def _part(graph: Any, ends: set[str]) -> tuple[list[Any], list[Any]]:
    """Return the nodes and weights of a graph that these tensors need."""
    needed, kept = set(ends), []
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1], [tensor for tensor in graph.initializer if tensor.name in needed]
