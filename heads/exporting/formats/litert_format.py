"""A ``.tflite`` file of LiteRT.

The information is the member ``featurestore.json`` of a zip archive at its end, where TensorFlow Lite's tools look for
associated files.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heads.exporting.formats import saved_model_format
from heads.exporting.formats.base import Classify, Format, Info, attach, by_name, in_turn, only

if TYPE_CHECKING:
    import keras


def save(model: "keras.Model", path: Path, info: Info) -> None:
    """Convert a SavedModel: only from there are the names of tensors kept."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        saved_model_format.save(model, Path(folder) / "model", info)
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(f"{folder}/model").convert())
    attach(path, info)


def load(path: Path) -> Classify:
    """Run it by LiteRT, one image after the other."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(path)).get_signature_runner()
    return in_turn(lambda *pixels: np.asarray(only(run(**by_name(pixels)))), True)


FORMAT = Format("litert", ".tflite", ("tensorflow", "ai_edge_litert"), save, load)
