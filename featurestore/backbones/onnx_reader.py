"""Read an ONNX file that may come from anybody: everything is checked that it declares, before memory is taken for it.

What comes out is in one form, however the file was written: all weights are initializers with raw data, also those of
external files and of ``Constant`` nodes; inputs are only what a caller has to give; nothing stands there for people.
"""

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.errors import BackboneError, one_line
from featurestore.system.files import check_filled, open_regular, read_regular, size_text, why

LIMIT = 2**31 - 2**24
"""Most bytes of a network: a message of protobuf has less than 2 GiB, and a little is put around the network later."""
MOST_NODES = 20_000
"""Operations of a network; a ViT-g has some 2,000."""
OLDEST_OPSET = 11

_TYPES = (
    "FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32",
    "UINT64",
)  # fmt: skip
_RANDOM = (
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
)  # fmt: skip
_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
_STANDARD = ("", "ai.onnx")


def read_model(path: Path) -> Any:
    """Read a file as an ``onnx.ModelProto`` of the form that the module describes.

    Raises:
        BackboneError: it is no ONNX file; it holds what is refused (operators that are not ONNX' own, graphs inside of
            operators, functions, random numbers); or it declares other sizes than it has.
    """
    import onnx

    model = _parsed(path)
    _check_operators(path, model)
    graph, kept = model.graph, []
    for node in graph.node:
        if node.op_type == "Constant" and [attribute.name for attribute in node.attribute] == ["value"]:
            tensor = graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
        else:
            kept.append(node)
    operations = onnx.GraphProto(node=kept)
    graph.ClearField("node")
    graph.node.extend(operations.node)
    _Data(path).fill(model)
    known = {tensor.name for tensor in graph.initializer}
    if len(known) < len(graph.initializer):
        raise _refused(path, "two of its weights have one name")
    inputs = [each for each in graph.input if each.name not in known]
    for field in ("input", "value_info", "quantization_annotation", "metadata_props", "doc_string"):
        graph.ClearField(field)
    graph.input.extend(inputs)
    clean = onnx.ModelProto(ir_version=max(model.ir_version, 4), opset_import=model.opset_import, graph=graph)
    sketch = outline(clean)
    for value in (*sketch.graph.input, *sketch.graph.output):
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.SetInParent()  # some exporters leave it out, which harms nobody here
    try:
        onnx.checker.check_model(sketch)
    except Exception as error:  # whatever the checker finds
        raise _refused(path, one_line(error)) from error
    return clean


def outline(model: Any) -> Any:
    """Return a copy without the values of large weights, which are inputs then: what a checker of shapes needs."""
    import onnx

    found = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = found.graph
    graph.name = model.graph.name or "network"
    for field in ("node", "input", "output"):
        getattr(graph, field).extend(getattr(model.graph, field))
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= SMALL:
            graph.initializer.add().CopyFrom(tensor)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return found


SMALL = 256
"""Numbers of a tensor that may be a shape."""


def files_of(path: Path) -> list[Path]:
    """List the file and those beside it that hold its weights; the file alone if it cannot be read."""
    try:
        model = _parsed(path)
        locations = {_location(path, tensor) for tensor in _tensors(model) if tensor.data_location == tensor.EXTERNAL}
    except (BackboneError, ImportError):
        return [path]
    return [path, *sorted(locations)]


def digest(model: Any, facts: str) -> str:
    """Compute SHA-256 over weights and operations: all that changes a result, and names of tensors, which taps have.

    Args:
        model: as :func:`read_model` gives it.
        facts: what decides beside the file.
    """
    found, graph = hashlib.sha256(facts.encode()), model.graph
    versions = {each.version for each in model.opset_import if each.domain in _STANDARD}
    ends = [[value.name for value in values] for values in (graph.input, graph.output)]
    found.update(repr((sorted(versions), ends)).encode())
    for node in graph.node:
        found.update(repr((node.op_type, list(node.input), list(node.output))).encode())
        for attribute in sorted(node.attribute, key=lambda each: each.name):
            plain = type(attribute)()
            plain.CopyFrom(attribute)
            plain.ClearField("doc_string")
            found.update(plain.SerializeToString(deterministic=True))
    for tensor in sorted(graph.initializer, key=lambda each: each.name):
        found.update(repr((tensor.name, tensor.data_type, list(tensor.dims))).encode())
        found.update(tensor.raw_data)
    return found.hexdigest()


def _parsed(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        check_filled(path)
        model = onnx.ModelProto.FromString(read_regular(path, LIMIT))
    except OSError as error:
        raise _refused(path, why(error)) from error
    except DecodeError as error:
        raise _refused(path, "it is no ONNX file, or is cut short") from error
    if not model.graph.node:
        raise _refused(path, "it is no ONNX file, or holds no operations")
    if not all(isinstance(name, str) for name in _names(model)):  # else protobuf gives bytes
        raise _refused(path, "a name in it is no UTF-8: it is damaged")
    return model


def _names(model: Any) -> Iterator[Any]:
    """Give every text that is used later."""
    yield from (model.graph.name, *(each.domain for each in model.opset_import))
    for node in model.graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for tensor in _tensors(model):
        yield from (tensor.name, *(text for entry in tensor.external_data for text in (entry.key, entry.value)))
    for value in (*model.graph.input, *model.graph.output):
        yield from (value.name, *(side.dim_param for side in value.type.tensor_type.shape.dim))


def _check_operators(path: Path, model: Any) -> None:
    nodes = model.graph.node
    if len(nodes) > MOST_NODES:
        raise _refused(path, f"it has {len(nodes):,} operations, more than {MOST_NODES:,}")
    if model.functions:
        raise _refused(path, "it holds functions", "write it again by onnx.inliner.inline_local_functions")
    version = max((each.version for each in model.opset_import if each.domain in _STANDARD), default=0)
    if version < OLDEST_OPSET:
        raise _refused(path, f"it is of opset {version}", f"export it with opset {OLDEST_OPSET} or a later one")
    if model.graph.sparse_initializer:
        raise _refused(path, "it holds sparse weights", "export it with dense ones")
    for node in nodes:
        called = f"{node.name or node.op_type!r}"
        if node.domain not in _STANDARD:
            raise _refused(
                path, f"its operator {node.op_type} is {node.domain}'s", "export it with ONNX' own operators only"
            )
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise _refused(
                path, f"its operator {called} is a {node.op_type} with a graph inside", "export it without branches"
            )
        if node.op_type in _RANDOM:
            raise _refused(path, f"its operator {called} gives random numbers", "export it for inference")


class _Data:
    """Fills in the values of all tensors of a file, none of which may claim more than is there."""

    def __init__(self, path: Path) -> None:
        self._path, self._total = path, path.stat().st_size

    def fill(self, model: Any) -> None:
        for tensor in _tensors(model):
            self._fill(tensor)

    def _fill(self, tensor: Any) -> None:
        import onnx
        from onnx import numpy_helper

        kind = onnx.TensorProto.DataType.Name(tensor.data_type)
        if kind not in _TYPES:
            raise _refused(self._path, f"its weights {tensor.name!r} are of type {kind}", "export it in float32")
        if any(side < 0 for side in tensor.dims):
            raise _refused(self._path, f"its weights {tensor.name!r} have a negative size")
        count = math.prod(tensor.dims)
        size = count * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
        if tensor.data_location == tensor.EXTERNAL:
            data = self._external(tensor, size)
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = data
            return
        given = [len(getattr(tensor, field)) for field in _FIELDS if getattr(tensor, field)]
        there, wanted = (given, [count]) if given else ([len(tensor.raw_data)], [size])
        if there != wanted or (given and tensor.raw_data):
            raise _refused(self._path, f"its weights {tensor.name!r} are not as many as it says ({count:,})")
        if given:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))

    def _external(self, tensor: Any, size: int) -> bytes:
        path = _location(self._path, tensor)
        facts = {entry.key: entry.value for entry in tensor.external_data}
        where = f"its weights {tensor.name!r} in {path.name}"
        try:
            offset, length = int(facts.get("offset") or 0), int(facts.get("length") or size)
        except ValueError:
            offset = length = -1
        if offset < 0 or length != size:
            raise _refused(self._path, f"{where} are not as many bytes as it says")
        self._total += size
        if self._total > LIMIT:
            raise _refused(
                self._path, f"it has more than {size_text(LIMIT)}", "export it in float16, or take a smaller network"
            )
        try:
            with open_regular(path) as file:
                there = os.fstat(file.fileno()).st_size
                if offset + size > there:
                    raise _refused(self._path, f"{where} end behind the file's end")
                file.seek(offset)
                found = file.read(size)
            check_filled(path)
        except OSError as error:
            raise _refused(self._path, f"{where} cannot be read ({why(error)})", "put them beside the file") from error
        return found


def _tensors(model: Any) -> Iterator[Any]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _location(path: Path, tensor: Any) -> Path:
    """Return the file of external data, which lies in the folder of the ONNX file, or below."""
    name = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    folder = Path(os.path.realpath(path.parent))
    if name and name.isprintable() and not Path(name).is_absolute() and ".." not in Path(name).parts:
        found = Path(os.path.realpath(folder / name))
        if folder in found.parents:
            return path.parent / name
    raise _refused(
        path, f"its weights {tensor.name!r} lie outside its folder ({name[:100]!r})", "copy that file beside it"
    )


def _refused(path: Path, reason: str, way_out: str = "export it again") -> BackboneError:
    return BackboneError(f"{path} cannot be used as a backbone ({reason}): {way_out}")
