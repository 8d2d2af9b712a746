"""A ``.keras`` file. The information is the member ``featurestore.json`` of the zip archive that it is."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heads.exporting.formats.base import Classify, Format, Info, attach, only

if TYPE_CHECKING:
    import keras


def save(model: "keras.Model", path: Path, info: Info) -> None:
    """Write the model, with its one output as a plain tensor."""
    import keras

    keras.Model(model.input, only(model.output), name="classifier").save(path)
    attach(path, info)


def load(path: Path) -> Classify:
    """Run it by Keras."""
    import keras

    model = keras.saving.load_model(path, compile=False)
    return lambda pixels: np.asarray(keras.ops.convert_to_numpy(model(pixels, training=False)))


FORMAT = Format("keras", ".keras", (), save, load)
