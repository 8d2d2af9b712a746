"""The networks of ``keras.applications``. To add one, add its line."""

import os
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.backbones.architecture import Architecture, Weights
from featurestore.errors import WeightsError

if TYPE_CHECKING:
    import keras


def _builder(function: str) -> Callable[[int, Weights], "keras.Model"]:
    def build(size: int, weights: Weights) -> "keras.Model":
        import keras

        create = getattr(keras.applications, function)
        shape = (size, size, 3)
        if weights == "imagenet":
            try:
                with redirect_stdout(sys.stderr):  # where Keras' progress of a download belongs
                    return create(include_top=False, weights="imagenet", input_shape=shape)
            except Exception as error:  # Keras raises a bare Exception when a download fails
                raise _no_download(function, error) from error
        model = create(include_top=False, weights=None, input_shape=shape)
        if isinstance(weights, Path):
            _load(model, weights, function)
        return model

    return build


def _no_download(function: str, error: Exception) -> WeightsError:
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    address = re.search(r"https?://\S+/([^/\s:]+)", str(error))
    file = f"as {address[1]} " if address else ""
    reason = str(error).rsplit(" -- ", 1)[-1]
    return WeightsError(
        f"the ImageNet weights of {function} cannot be had ({_one_line(reason)}): put them {file}into {home}/models, "
        "or pass --weights FILE, or --weights random"
    )


def _load(model: "keras.Model", path: Path, function: str) -> None:
    try:
        model.load_weights(path)
    except Exception as error:  # whatever Keras and HDF5 make of a foreign file
        raise WeightsError(
            f"{path}: no weights for {function} without its classifier ({_one_line(str(error))}): "
            "pass the file that Keras calls …_notop.h5, or one saved by model.save_weights"
        ) from error


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


ARCHITECTURES = (
    Architecture("mobilenet_v2", _builder("MobileNetV2"), 224, 32, "tf", 1280),
    Architecture("resnet50", _builder("ResNet50"), 224, 32, "caffe", 2048),
    Architecture("vgg16", _builder("VGG16"), 224, 32, "caffe", 512),
)
