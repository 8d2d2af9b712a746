"""Any ``.keras`` file as a frozen network, as long as it holds no code."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.backbones import keras_archive
from featurestore.backbones.base import Weights
from featurestore.backbones.graph import largest_output
from featurestore.backbones.keras_network import KerasArchitecture, load_weights
from featurestore.backbones.preprocessing import PREPROCESSINGS, Preprocessing
from featurestore.errors import BackboneError, MissingDependencyError, one_line
from featurestore.system.files import size_text
from featurestore.system.keras import import_keras
from featurestore.system.machine import machine_memory

if TYPE_CHECKING:
    import keras

SUFFIX = ".keras"
_SIZE = 224  # of a network that takes any
_MOST_OBJECTS = 100_000
"""Layers, initializers and so on of a network; the largest of keras.applications have some 6,000."""


def architecture(name: str, preprocessing: str | None) -> KerasArchitecture:
    """Find out what the registry needs to know of the network in a file; its name is the file's stem.

    Args:
        name: path of what ``model.save`` wrote. Its input is one float image (side, side, 3) or (None, None, 3), its
            output one tensor.
        preprocessing: the name of one, as the file does not tell what its network was trained on.

    Returns:
        ``build`` takes ``imagenet`` for the file's own weights. ``config`` tells the layers.

    Raises:
        BackboneError: no preprocessing is given; the file is no such file, holds code or is of another shape.
        MissingDependencyError: Keras is not installed.
    """
    path = Path(name)
    if preprocessing is None:
        raise BackboneError(
            f"{path}: say how its network wants the pixels, with --preprocessing {' or '.join(PREPROCESSINGS)}"
        )
    config = _config(path)
    model = _load(path)
    side = model.inputs[0].shape[1]
    return KerasArchitecture(
        path.stem,
        side or _SIZE,
        side or 1,
        Preprocessing.of(preprocessing).name,
        model.outputs[0].shape[-1],
        "in the file",
        build=partial(_build, path),
        file=name,
        config=config,
    )


def files(path: Path) -> list[Path]:
    """Return the file alone."""
    return [path]


def _build(path: Path, size: int, weights: Weights) -> "keras.Model":
    model = _load(path)
    side = model.inputs[0].shape[1]
    if side not in (None, size):
        raise BackboneError(f"{path}: its network takes {side} pixels, not {size}: pass --size {side}, or none")
    import keras

    if weights == "random":
        model = keras.models.clone_model(model)
    elif isinstance(weights, Path):
        load_weights(model, weights, path.name)
    if side is None:
        # The same layers on an input of known size: shapes and costs are then known everywhere.
        image = keras.Input((size, size, 3))
        sequential = isinstance(model, keras.Sequential)
        inputs = image if sequential else keras.tree.map_structure(lambda _: image, model.input)
        try:
            model = keras.models.clone_model(model, input_tensors=inputs, clone_function=lambda layer: layer)
        except ValueError as error:
            raise BackboneError(f"{path}: its network cannot take {size} pixels ({one_line(error)})") from error
    name, numbers = largest_output(model)
    if 4 * numbers > (limit := machine_memory() // 4):
        raise BackboneError(
            f"{path}: its layer {name!r} gives {size_text(4 * numbers)} for one image, more than a quarter of this "
            f"machine's memory ({size_text(limit)}): pass a smaller --size, or another network"
        )
    return model


def _load(path: Path) -> "keras.Model":
    keras = import_keras(f"the backbone {path}")
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
        outputs = len(model.outputs)
    except Exception as error:  # whatever Keras makes of a foreign file
        raise _unusable(path, error) from error
    if outputs != 1 or len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][0] != shapes[0][1] or shapes[0][2] != 3:
        raise BackboneError(
            f"{path}: it takes {shapes} to {outputs} outputs, and a backbone takes one square RGB image "
            "(side, side, 3) or (None, None, 3) to one"
        )
    return model


def _config(path: Path) -> str:
    """Read the layers and their connections, as canonical JSON.

    Raises:
        BackboneError: it is no Keras file, its layers ask for more than it holds, or there is a Lambda layer: Keras
            itself lets some pass.
    """
    try:
        config, weights = keras_archive.read_config(path)
        layers = config["config"]
    except (ValueError, KeyError) as error:
        raise BackboneError(f"{path} is no .keras file ({one_line(error)}): pass what model.save wrote") from error

    objects = 0

    def plain(value: Any) -> Any:
        nonlocal objects
        if isinstance(value, dict):
            objects += "class_name" in value
            if value.get("class_name") in ("Lambda", "__lambda__"):
                raise BackboneError(f"{path} holds code, in a Lambda layer, which is not run: save it without")
            # Those numbers are addresses in the memory of the process that wrote the file.
            return {key: plain(item) for key, item in value.items() if key != "shared_object_id"}
        return [plain(item) for item in value] if isinstance(value, list) else value

    text = json.dumps(plain(layers), sort_keys=True)
    if objects > _MOST_OBJECTS:
        raise BackboneError(f"{path}: its config holds {objects:,} objects, more than {_MOST_OBJECTS:,}: it is refused")
    try:
        keras_archive.check_layers(config, weights)
    except MissingDependencyError:
        raise
    except Exception as error:  # whatever Keras makes of a foreign file
        raise _unusable(path, error) from error
    return text


def _unusable(path: Path, error: Exception) -> BackboneError:
    reason = str(error).rpartition("Exception encountered: ")[2]  # where Keras quotes the whole config before it
    return BackboneError(
        f"{path} cannot be used as a backbone ({one_line(reason)}): save it with model.save as a .keras file of "
        "Keras' own layers"
    )
