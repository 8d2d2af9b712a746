"""Join a head and its backbones to one Keras model, from pixels to probabilities."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.backbones import FrozenNetwork
from featurestore.errors import ExportError
from featurestore.images.crops import crops_of
from featurestore.spec import ExtractionSpec, Framing
from featurestore.system.keras import import_keras
from heads.console import text
from heads.exporting.formats.base import by_name
from heads.kinds.answering import calibrated_layer
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
    """Join a head and its backbones to a model from the pixels of :func:`inputs_of` to what the head says.

    Its one output is called as the head's task says. A backbone that sees an image in several ways, or several crops of
    it, is in the model once.

    Args:
        head: a saved head.
        nets: the head as :func:`nets_of` gives it.
        networks: its backbones, by the specs of their features.

    Raises:
        ExportError: one of the backbones is no network of Keras.
    """
    keras = import_keras("exporting a model")
    pixels = {
        framing: keras.Input((framing.side, framing.side, 3), dtype="uint8", name=name)
        for name, framing in inputs_of(networks).items()
    }
    backbones: dict[ExtractionSpec, Any] = {}
    for spec, model in _keras_models(head, networks).items():
        # Two cuts of one network have the same name.
        named = keras.Model(model.input, model.output, name=f"backbone_{len(backbones)}")
        backbones.setdefault(spec.network, named)
    features = {spec: _seen(backbones[spec.network], pixels[spec.framing], spec.framing) for spec in networks}
    parts = [keras.layers.Flatten()(features[wanted.spec][wanted.tap]) for wanted in head.inputs]
    values = keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    task = head.head.task_
    single = len(nets) == 1
    found = [_stacked(values, net, task.output if single else f"member_{i}", task) for i, net in enumerate(nets)]
    whole = {task.output: found[0] if single else _mean(found, head.head.temperature_)}
    return keras.Model(by_name([*pixels.values()]) if len(pixels) > 1 else next(iter(pixels.values())), whole)


def inputs_of(specs: Iterable[ExtractionSpec]) -> dict[str, Framing]:
    """Return what a model of these features takes of one image: for each input, by its name, how it is framed.

    There is one input, unless the image is resized, or decoded, in several ways: none follows from another then.
    """
    return by_name(list(dict.fromkeys(spec.framing for spec in specs)))


def _seen(backbone: "keras.Model", pixels: Any, framing: Framing) -> dict[str, Any]:
    """Run a backbone on the crops of pixels, as one batch, and average: as the features were made."""
    from keras import layers, ops

    if framing.crops == 1:
        return dict(backbone(pixels))
    parts, end = [], framing.side - framing.size
    for top, left, mirrored in crops_of(framing):
        part = layers.Cropping2D(((top, end - top), (left, end - left)))(pixels)
        parts.append(ops.flip(part, axis=2) if mirrored else part)
    found = backbone(layers.Concatenate(axis=0)(parts))
    return {
        tap: ops.mean(ops.reshape(values, (framing.crops, -1, *values.shape[1:])), axis=0)
        for tap, values in found.items()
    }


def nets_of(head: FittedHead) -> list[Layers]:
    """Return the head as nets from features to scores of all classes, calibrated; of an ensemble, all.

    Raises:
        ExportError: a head of this kind is no net.
    """
    if head.head.offset_ is not None:
        raise ExportError(
            f"{head.path}: was adapted, and {text.design(head.to_dict())} has no bias of its own to hold that in a "
            "network: export the head before that, or adapt a linear or dense one"
        )
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
    weights, bias = calibrated_layer(part, weights, bias)
    if part.link_ is not None:
        return [*inner, (weights, bias)]
    classes = head.head.classes_
    last = np.zeros((len(weights), len(head.class_names)), np.float32)
    scores = np.full(len(head.class_names), _ABSENT, np.float32)
    last[:, classes], scores[classes] = weights, bias
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
