"""A SavedModel of TensorFlow, a folder. The information is its file ``assets.extra/featurestore.json``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featurestore.engines.keras_engine import graph
from heads.exporting.formats.base import INFO, Classify, Format, Info, only

if TYPE_CHECKING:
    import keras


def save(model: "keras.Model", path: Path, info: Info) -> None:
    """Write the model's graph as the signature for serving."""
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), str(path), signatures=graph(model))
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / INFO).write_text(json.dumps(info, indent=1))


def load(path: Path) -> Classify:
    """Run it by TensorFlow."""
    import tensorflow as tf

    module = tf.saved_model.load(str(path))
    return lambda pixels: np.asarray(only(module.signatures["serving_default"](pixels=tf.constant(pixels))))


FORMAT = Format("saved_model", "", ("tensorflow",), save, load)
