"""Join a head and its backbones to one Keras model, from pixels to probabilities."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.backbones import FrozenNetwork
from featurestore.errors import ExportError
from featurestore.spec import ExtractionSpec
from featurestore.system.keras import import_keras
from heads.console import text
from heads.exporting.formats.base import PIXELS
from heads.kinds.base import Head
from heads.kinds.design import kinds_of_layers
from heads.solvers.arrays import Layers
from heads.storage.saved_head import FittedHead
from heads.tasks.base import Task

if TYPE_CHECKING:
    import keras

_ABSENT = -1e9
"""Score of a class that the head was not shown: its probability is 0."""


def join(head: FittedHead, nets: Sequence[Layers], networks: Mapping[ExtractionSpec, FrozenNetwork]) -> "keras.Model":
    """Join a head and its backbones to a model from PIXELS to one output, called as its task says.

    Args:
        head: a saved head.
        nets: the head as :func:`nets_of` gives it.
        networks: its backbones, by the specs of their features; they take the same pixels.

    Raises:
        ExportError: one of the backbones is no network of Keras.
    """
    keras = import_keras("exporting a model")
    size = next(iter(networks)).size
    pixels = keras.Input((size, size, 3), dtype="uint8", name=PIXELS)
    features = {
        # Two cuts of one network have the same name.
        spec: keras.Model(model.input, model.output, name=f"backbone_{i}")(pixels)
        for i, (spec, model) in enumerate(_keras_models(head, networks).items())
    }
    parts = [keras.layers.Flatten()(features[wanted.spec][wanted.tap]) for wanted in head.inputs]
    values = keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    task = head.head.task_
    if len(nets) == 1:
        return keras.Model(pixels, {task.output: _stacked(values, nets[0], task.output, task)})
    found = [_stacked(values, net, f"member_{i}", task) for i, net in enumerate(nets)]
    return keras.Model(pixels, {task.output: _mean(found, head.head.temperature_)})


def check_framings(head: FittedHead, specs: Iterable[ExtractionSpec]) -> None:
    """Check that all backbones of a head take the same pixels of one image.

    Raises:
        ExportError: they do not.
    """
    framings = {spec.framing for spec in specs}
    if len(framings) > 1:
        sizes = ", ".join(sorted(f"{each.size} px ({each.resize}, {each.decoder})" for each in framings))
        raise ExportError(f"{head.path}: its backbones take different pixels ({sizes}): extract all with one --size")


def nets_of(head: FittedHead) -> list[Layers]:
    """Return the head as nets from features to scores of all classes, calibrated; of an ensemble, all.

    Raises:
        ExportError: a head of this kind is no net.
    """
    nets = []
    for part in getattr(head.head, "heads_", [head.head]):
        layers = part.as_layers()
        if layers is None:
            raise ExportError(
                f"{head.path}: {text.design(head.to_dict())} cannot be written as a network: "
                f"fit one of {', '.join(kinds_of_layers())}"
            )
        nets.append(_of_all_classes(layers, head, part))
    return nets


def _keras_models(
    head: FittedHead, networks: Mapping[ExtractionSpec, FrozenNetwork]
) -> dict[ExtractionSpec, "keras.Model"]:
    found = {}
    for spec, network in networks.items():
        model = network.keras_model()
        if model is None:
            raise ExportError(f"{head.path}: its backbone {network.name} is no network of Keras, and cannot be written")
        found[spec] = model
    return found


def _of_all_classes(layers: Layers, head: FittedHead, part: Head) -> Layers:
    """Return the net with a score for each class, also for those that it was not shown."""
    *inner, (weights, bias) = layers
    if part.link_ is not None:
        return [*inner, ((weights * part.link_.slope).astype(np.float32), part.link_.of(bias).astype(np.float32))]
    temperature = np.float32(part.temperature_)
    classes = head.head.classes_
    last = np.zeros((len(weights), len(head.class_names)), np.float32)
    scores = np.full(len(head.class_names), _ABSENT, np.float32)
    last[:, classes], scores[classes] = weights / temperature, bias / temperature
    return [*inner, (last, scores)]


def _stacked(values: Any, net: Layers, name: str, task: Task) -> Any:
    """Put a net on features; its outputs are those of the head."""
    import keras

    for i, (weights, bias) in enumerate(net, 1):
        last = i == len(net)
        called = name if last else f"head_{i}" if name == task.output else f"{name}_{i}"
        dense = keras.layers.Dense(len(bias), task.activation if last else "relu", name=called)
        values = dense(values)
        dense.set_weights([weights, bias])
    return values


def _mean(probabilities: Sequence[Any], temperature: float) -> Any:
    """Average probabilities, with a temperature: see :class:`heads.kinds.ensemble.EnsembleHead`."""
    import keras

    mean = keras.layers.Average()(probabilities)
    powers = keras.ops.power(mean, 1 / temperature)
    return keras.ops.divide(powers, keras.ops.sum(powers, axis=-1, keepdims=True))
