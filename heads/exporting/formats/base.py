"""What a format of a model is.

What is known of the model (class names, how images become pixels) goes into the file as JSON, where the format has a
place for it; the module of each format says where.
"""

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

PIXELS, PROBABILITIES = "pixels", "probabilities"
"""Names of a model's input, uint8 (N, side, side, 3), RGB, and of its output, float32 (N, classes); that of a number is
called as its task says, see :attr:`heads.tasks.base.Task.output`."""
INFO = "featurestore.json"

T = TypeVar("T")

Info = Mapping[str, Any]
"""What the user of a file has to know of the model: plain JSON types."""

Classify = Callable[..., NDArray[np.float32]]
"""Runs a written model: from pixels (N, side, side, 3), one array for each input, to probabilities (N, classes)."""

ValueT = TypeVar("ValueT")


def by_name(values: Sequence[ValueT]) -> dict[str, ValueT]:
    """Give the inputs of a model their names: PIXELS; or of several, with their numbers.

    Example:
        >>> by_name([224]), by_name([224, 160])
        ({'pixels': 224}, {'pixels_1': 224, 'pixels_2': 160})
    """
    if len(values) == 1:
        return {PIXELS: values[0]}
    return {f"{PIXELS}_{i}": value for i, value in enumerate(values, 1)}


@dataclass(frozen=True)
class Format:
    """How to write a model, and how to run what was written.

    Attributes:
        name: as the user gives it.
        suffix: of the file; "" of a folder.
        libraries: the packages that writing and running it takes, beside Keras; they need Keras on TensorFlow.
        save: writes the model, from PIXELS to one output by its name, and the information about it.
        load: from the path to the function that runs the model there.
        save_onnx: writes an ``onnx.ModelProto`` instead, where the format can hold one; `onnx_libraries` are what that
            and running it takes.
    """

    name: str
    suffix: str
    libraries: tuple[str, ...]
    save: Callable[["keras.Model", Path, Info], None]
    load: Callable[[Path], Classify]
    save_onnx: Callable[[Any, Path, Info], None] | None = None
    onnx_libraries: tuple[str, ...] = ()


def only(outputs: Mapping[str, T]) -> T:
    """Return the one output of a model."""
    (found,) = outputs.values()
    return found


def attach(path: Path, info: Info) -> None:
    """Write the information as a member of the zip archive that a file is, or has at its end then."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(INFO, json.dumps(info, indent=1))


def in_turn(run: Classify, alone: bool) -> Classify:
    """Return a function that runs a model as `run` does, image after image if it takes one `alone`."""

    def one_by_one(*pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.concatenate([run(*(image[None] for image in images)) for images in zip(*pixels, strict=True)])

    return one_by_one if alone else run


def as_text(value: Any) -> str:
    """A value of the information, for formats that keep texts by name."""
    return value if isinstance(value, str) else json.dumps(value)
