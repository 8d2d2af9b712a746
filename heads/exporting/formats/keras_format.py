"""A ``.keras`` file. The information is the member ``featurestore.json`` of the zip archive that it is."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heads.exporting.formats.base import Classify, Format, Info, attach, by_name, only

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

    def run(*pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        given = by_name(pixels) if len(pixels) > 1 else pixels[0]
        return np.asarray(keras.ops.convert_to_numpy(model(given, training=False)))

    return run


FORMAT = Format("keras", ".keras", (), save, load)
