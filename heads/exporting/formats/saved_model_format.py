"""A SavedModel of TensorFlow, a folder. The information is its file ``assets.extra/featurestore.json``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurestore.engines.keras_engine import graph
from heads.exporting.formats.base import INFO, Classify, Format, Info, by_name, only

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

    def run(*pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        given = {name: tf.constant(each) for name, each in by_name(pixels).items()}
        return np.asarray(only(module.signatures["serving_default"](**given)))

    return run


FORMAT = Format("saved_model", "", ("tensorflow",), save, load)
