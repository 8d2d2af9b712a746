"""Find out the shape of every tensor in an ONNX graph for one image, before anything is computed.

ONNX' own inference loses track where a graph computes shapes from shapes, as exporters write it; such arithmetic on a
few numbers is done here, round by round.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones.onnx_reader import SMALL, outline
from featurestore.backbones.sidecar import Layout
from featurestore.errors import one_line
from featurestore.system.files import size_text
from featurestore.system.machine import machine_memory

Shapes = dict[str, tuple[int, ...]]

_ARITHMETIC = (
    "Shape", "Size", "Gather", "Slice", "Cast", "Concat", "Squeeze", "Unsqueeze", "Reshape", "Identity",
    "ConstantOfShape", "Constant", "Add", "Sub", "Mul", "Div", "Mod", "Floor", "Ceil", "Min", "Max", "Equal", "Where",
    "ReduceProd",
)  # fmt: skip
_GROWING = ("ConstantOfShape", "Expand", "Tile", "Resize", "Upsample", "Pad", "Range", "OneHot", "EyeLike")
_ROUNDS = 100
_BYTES = 8
"""Of the widest numbers."""


def shapes_of(model: Any, size: int, layout: Layout) -> tuple[dict[str, str], Shapes]:
    """Return types and shapes of the tensors in a graph for one image, of those for which they can be known.

    Args:
        model: as :func:`featurestore.backbones.onnx_reader.read_model` gives it.
        size: side of the image.
        layout: of the image.

    Raises:
        ValueError: the graph cannot take this size, or would need too much memory; the text is a reason of one line.
    """
    import onnx

    sketch = outline(model)
    dims = (1, 3, size, size) if layout == "NCHW" else (1, size, size, 3)
    image = sketch.graph.input[0]
    image.CopyFrom(onnx.helper.make_tensor_value_info(image.name, image.type.tensor_type.elem_type, dims))
    for value in sketch.graph.output:
        value.type.tensor_type.ClearField("shape")
    types: dict[str, str] = {}
    shapes: Shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for _ in range(_ROUNDS):
        try:
            graph = onnx.shape_inference.infer_shapes(sketch, strict_mode=True, data_prop=True).graph
        except Exception as error:  # whatever the rules of the operators find
            raise ValueError(f"its network cannot take {size} pixels: {one_line(error)}") from error
        for value in (*graph.input, *graph.value_info, *graph.output):
            kind = value.type.tensor_type
            types[value.name] = onnx.TensorProto.DataType.Name(kind.elem_type)
            sides = [side.dim_value if side.HasField("dim_value") else -1 for side in kind.shape.dim]
            if any(side.HasField("dim_value") and side.dim_value < 0 for side in kind.shape.dim):
                raise ValueError(f"its network cannot take {size} pixels: nothing is left of them in {value.name!r}")
            if kind.HasField("shape") and min(sides, default=0) >= 0:
                shapes[value.name] = tuple(sides)
        _check_memory(model, shapes)
        if all(name in shapes for node in sketch.graph.node for name in node.output if name):
            break
        if not _simplified(sketch, shapes):
            break
    _check_growth(model, shapes)
    return types, shapes


def _check_memory(model: Any, shapes: Shapes) -> None:
    limit = machine_memory() // 4
    for node in model.graph.node:
        for name in node.output:
            if (needed := _BYTES * math.prod(shapes.get(name, (0,)))) > limit:
                raise ValueError(
                    f"{name!r} takes {size_text(needed)} for one image, more than a quarter of this machine's memory "
                    f"({size_text(limit)})"
                )


def _check_growth(model: Any, shapes: Shapes) -> None:
    for node in model.graph.node:
        if node.op_type in _GROWING and node.output[0] not in shapes:
            raise ValueError(f"how large {node.output[0]!r} becomes, which {node.op_type} gives, cannot be known")


def _simplified(sketch: Any, shapes: Shapes) -> bool:
    """Replace arithmetic on a few known numbers by its results; return whether there was any."""
    import onnx

    graph = sketch.graph
    known: dict[str, NDArray[Any]] = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if math.prod(tensor.dims) <= SMALL
    }
    kept, found = [], dict[str, NDArray[Any]]()
    for node in graph.node:
        values = _result(sketch, node, known, shapes)
        if values is None:
            kept.append(node)
        else:
            known |= values
            found |= values
    operations = onnx.GraphProto(node=kept)
    graph.ClearField("node")
    graph.node.extend(operations.node)
    ends = {value.name for value in graph.output}
    graph.initializer.extend(onnx.numpy_helper.from_array(values, name) for name, values in found.items())
    for value in [value for value in graph.output if value.name in found]:
        graph.output.remove(value)
    return bool(found.keys() - ends)


def _result(
    sketch: Any, node: Any, known: Mapping[str, NDArray[Any]], shapes: Mapping[str, Sequence[int]]
) -> dict[str, NDArray[Any]] | None:
    """Return what a node gives, if it is arithmetic on known numbers, and these are few."""
    if node.op_type not in _ARITHMETIC or len(node.output) != 1:
        return None
    name = node.output[0]
    shape = shapes.get(node.input[0]) if node.input else None
    if node.op_type in ("Shape", "Size") and shape is not None:
        ends = {attribute.name: attribute.i for attribute in node.attribute}
        found = shape[ends.get("start", 0) : ends.get("end", len(shape))]
        return {name: np.array(found if node.op_type == "Shape" else math.prod(shape), np.int64)}
    inputs = {each: known[each] for each in node.input if each in known}
    missing = [each for each in node.input if each and each not in inputs]
    if missing or (node.op_type == "ConstantOfShape" and math.prod(map(int, inputs[node.input[0]])) > SMALL):
        return None
    values = _evaluated(sketch, node, inputs)
    return None if values is None or values.size > SMALL else {name: values}


def _evaluated(sketch: Any, node: Any, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
    import onnx
    from onnx.reference import ReferenceEvaluator

    ends = [onnx.helper.make_empty_tensor_value_info(name) for name in (*inputs, node.output[0])]
    graph = onnx.helper.make_graph([node], "node", ends[:-1], ends[-1:])
    one = onnx.helper.make_model(graph, opset_imports=sketch.opset_import, ir_version=sketch.ir_version)
    try:
        (values,) = ReferenceEvaluator(one).run(None, dict(inputs))
    except Exception:  # it stays unknown, as it is where the inference has no rule
        return None
    return np.asarray(values)
