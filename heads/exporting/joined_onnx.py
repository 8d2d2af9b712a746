"""Join a head and backbones from ONNX files to one ONNX model, from pixels to probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featurestore.backbones import FrozenNetwork
from featurestore.backbones.onnx_graph import ANY, Builder, opset_of
from featurestore.backbones.portable import sample_pixels
from featurestore.errors import ExportError
from featurestore.spec import ExtractionSpec
from heads.exporting.formats.base import PIXELS
from heads.solvers.arrays import Layers
from heads.storage.saved_head import FittedHead


def join_onnx(head: FittedHead, nets: Sequence[Layers], networks: Mapping[ExtractionSpec, FrozenNetwork]) -> Any:
    """Join a head and its backbones to an ``onnx.ModelProto`` from PIXELS to one output, called as its task says.

    It takes any number of images, or one at a time where a backbone's graph cannot do otherwise.

    Args:
        head: a saved head.
        nets: the head as :func:`heads.exporting.joined_model.nets_of` gives it.
        networks: its backbones, by the specs of their features; they take the same pixels.

    Raises:
        ExportError: a backbone is of another kind.
    """
    models = _models(head, networks)
    builder = Builder(max(map(opset_of, models.values())), "head.")
    features: dict[tuple[ExtractionSpec, str], str] = {}
    for i, (spec, model) in enumerate(models.items()):
        prefix = f"backbone_{i}/"
        builder.include(model.graph.node, model.graph.initializer, {PIXELS: PIXELS}, prefix)
        features |= {(spec, value.name): prefix + value.name for value in model.graph.output}
    parts = [builder.add("Flatten", features[wanted.spec, wanted.tap], axis=1) for wanted in head.inputs]
    values = builder.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    task = head.head.task_
    found = [_stacked(builder, values, net, task.activation) for net in nets]
    mean = found[0] if len(found) == 1 else _mean(builder, found, head.head.temperature_)
    builder.add("Identity", mean, called=task.output)
    size, version = next(iter(networks)).size, max(model.ir_version for model in models.values())
    fixed = any(model.graph.input[0].type.tensor_type.shape.dim[0].dim_value for model in models.values())
    shapes = {task.output: (len(head.class_names),)}
    whole = builder.model(size, 1 if fixed else ANY, shapes, version)
    return whole if fixed or _takes_several(whole, size) else builder.model(size, 1, shapes, version)


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


def _takes_several(model: Any, size: int) -> bool:
    """Return whether the model gives for two images what it gives for each alone; a graph may only claim so."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pictures = sample_pixels(size)
    alone = np.concatenate([session.run(None, {PIXELS: each[None]})[0] for each in pictures])
    try:
        (both,) = session.run(None, {PIXELS: pictures})
    except Exception:  # its exceptions have no common class
        return False
    return both.shape == alone.shape and np.allclose(both, alone, atol=1e-4)
