"""Join a head and backbones from ONNX files to one ONNX model, from pixels to probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featurestore.backbones import FrozenNetwork
from featurestore.backbones.onnx_graph import ANY, PIXELS, Builder, opset_of
from featurestore.backbones.portable import sample_pixels
from featurestore.errors import ExportError
from featurestore.images.crops import Crop, crops_of
from featurestore.spec import ExtractionSpec, Framing
from heads.exporting.joined_model import inputs_of
from heads.solvers.arrays import Layers
from heads.storage.saved_head import FittedHead


def join_onnx(head: FittedHead, nets: Sequence[Layers], networks: Mapping[ExtractionSpec, FrozenNetwork]) -> Any:
    """Join a head and its backbones to an ``onnx.ModelProto`` from pixels, see ``inputs_of``, to what the head says.

    It takes any number of images, or one at a time where a backbone's graph cannot do otherwise. A backbone that sees
    an image in several ways, or several crops of it, has its weights in the model once.

    Args:
        head: a saved head.
        nets: the head as :func:`heads.exporting.joined_model.nets_of` gives it.
        networks: its backbones, by the specs of their features.

    Raises:
        ExportError: a backbone is of another kind.
    """
    models = _models(head, networks)
    builder = Builder(max(map(opset_of, models.values())), "head.")
    inputs = inputs_of(networks)
    pixels = {framing: name for name, framing in inputs.items()}
    prefixes: dict[ExtractionSpec, str] = {}
    features: dict[tuple[ExtractionSpec, str], str] = {}
    for spec, model in models.items():
        if spec.network not in prefixes:
            prefixes[spec.network] = f"backbone_{len(prefixes)}/"
            builder.include((), model.graph.initializer, {}, prefixes[spec.network])
        found = _seen(builder, model, prefixes[spec.network], pixels[spec.framing], spec.framing)
        features |= {(spec, tap): values for tap, values in found.items()}
    parts = [builder.add("Flatten", features[wanted.spec, wanted.tap], axis=1) for wanted in head.inputs]
    values = builder.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    task = head.head.task_
    members = [_stacked(builder, values, net, task.activation) for net in nets]
    mean = members[0] if len(members) == 1 else _mean(builder, members, head.head.temperature_)
    builder.add("Identity", mean, called=task.output)
    sides = {name: framing.side for name, framing in inputs.items()}
    version = max(model.ir_version for model in models.values())
    fixed = any(model.graph.input[0].type.tensor_type.shape.dim[0].dim_value for model in models.values())
    shapes = {task.output: (len(head.class_names),)}
    whole = builder.model(sides, 1 if fixed else ANY, shapes, version)
    return whole if fixed or _takes_several(whole, sides) else builder.model(sides, 1, shapes, version)


def _seen(builder: Builder, model: Any, prefix: str, pixels: str, framing: Framing) -> dict[str, str]:
    """Run a backbone, whose weights are there under a prefix, on each crop of pixels; give the mean of each tap.

    Crops are no batch: a graph may take one image alone.
    """
    shared = {tensor.name: prefix + tensor.name for tensor in model.graph.initializer}
    found: dict[str, list[str]] = {value.name: [] for value in model.graph.output}
    for crop in crops_of(framing):
        place = f"{prefix}{len(builder.nodes)}/"
        seen = pixels if framing.crops == 1 else _cut(builder, pixels, crop, framing.size)
        builder.include(model.graph.node, (), {PIXELS: seen, **shared}, place)
        for tap, parts in found.items():
            parts.append(place + tap)
    return {tap: parts[0] if len(parts) == 1 else builder.add("Mean", *parts) for tap, parts in found.items()}


def _cut(builder: Builder, pixels: str, crop: Crop, size: int) -> str:
    """Cut one crop out of pixels (N, side, side, 3)."""

    def sliced(values: str, *numbers: list[int]) -> str:
        return builder.add("Slice", values, *(builder.constant(np.array(each, np.int64)) for each in numbers))

    cut = sliced(pixels, [crop.top, crop.left], [crop.top + size, crop.left + size], [1, 2])
    return sliced(cut, [-1], [-size - 1], [2], [-1]) if crop.mirrored else cut


def _models(head: FittedHead, networks: Mapping[ExtractionSpec, FrozenNetwork]) -> dict[ExtractionSpec, Any]:
    """Return the backbones as ONNX models of one opset."""
    import onnx

    found = {}
    for spec, network in networks.items():
        raw = network.onnx_model()
        if raw is None:
            raise ExportError(
                f"{head.path}: {network.name} is no network of an ONNX file, as others of its backbones are: fit a "
                "head on backbones of one kind"
            )
        found[spec] = onnx.load_from_string(raw)
    newest = max(map(opset_of, found.values()))
    return {
        spec: model if opset_of(model) == newest else onnx.version_converter.convert_version(model, newest)
        for spec, model in found.items()
    }


_LAST: dict[str, tuple[str, dict[str, Any]]] = {
    "softmax": ("Softmax", {"axis": 1}), "sigmoid": ("Sigmoid", {}), "linear": ("Identity", {}),
}  # fmt: skip
"""Activation of a task -> the operator, and its attributes."""


def _stacked(builder: Builder, values: str, net: Layers, activation: str) -> str:
    """Put a net on features; its outputs are those of the head."""
    for i, (weights, bias) in enumerate(net, 1):
        pair = (builder.constant(np.asarray(each, np.float32)) for each in (weights, bias))
        values = builder.add("Gemm", values, *pair)
        if i < len(net):
            values = builder.add("Relu", values)
    operator, settings = _LAST[activation]
    return builder.add(operator, values, **settings)


def _mean(builder: Builder, probabilities: Sequence[str], temperature: float) -> str:
    """Average probabilities, with a temperature: see :class:`heads.kinds.ensemble.EnsembleHead`."""
    mean = builder.add("Mean", *probabilities)
    powers = builder.add("Pow", mean, builder.constant(np.float32(1 / temperature)))
    return builder.add("Div", powers, builder.reduce("ReduceSum", powers, [1], keep=True))


def _takes_several(model: Any, sides: Mapping[str, int]) -> bool:
    """Return whether the model gives for two images what it gives for each alone; a graph may only claim so."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pictures = {name: sample_pixels(side) for name, side in sides.items()}
    alone = np.concatenate(
        [session.run(None, {name: each[i : i + 1] for name, each in pictures.items()})[0] for i in range(2)]
    )
    try:
        (both,) = session.run(None, pictures)
    except Exception:  # its exceptions have no common class
        return False
    return both.shape == alone.shape and np.allclose(both, alone, atol=1e-4)
