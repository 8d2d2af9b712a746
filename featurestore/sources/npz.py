"""Arrays of images and labels: which ones serve, and how they lie in an ``.npz``."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.lib import format
from numpy.typing import NDArray

from featurestore.errors import SourceError
from featurestore.images.picture import scale16
from featurestore.system.files import open_regular, size_text, why
from featurestore.system.machine import machine_memory

_KEYS = (("x", "y"), ("images", "labels"))

_HEAD = 2**16
"""Bytes in which an array of an archive must have said what it is."""


def checked_images(images: NDArray[Any], name: str) -> NDArray[Any]:
    """The images themselves, if :func:`to_uint8` can take each of them; else a SourceError."""
    shape, dtype = images.shape, images.dtype
    if not (images.ndim == 3 or (images.ndim == 4 and shape[3] in (1, 3, 4))) or 0 in shape:
        raise SourceError(f"{name}: images must have shape (N, H, W) or (N, H, W, 1, 3 or 4), not {shape}")
    if dtype.kind == "f":
        if not (images.min() >= 0 and images.max() <= 1):  # also false for NaN
            raise SourceError(f"{name}: images of {dtype} must lie in [0, 1]: scale them, or convert them to uint8")
    elif dtype not in (np.uint8, np.uint16):
        raise SourceError(f"{name}: images must be uint8, uint16 or floats in [0, 1], not {dtype}: convert them")
    return images


def to_uint8(image: NDArray[Any]) -> NDArray[np.uint8]:
    """One checked image, scaled to [0, 255]; same shape."""
    if image.dtype == np.uint8:
        return image
    return np.rint(image * 255).astype(np.uint8) if image.dtype.kind == "f" else scale16(image)


def classes(labels: NDArray[Any], class_names: Sequence[str] | None, name: str) -> tuple[list[int], tuple[str, ...]]:
    """Labels as indices, and the names that they point to.

    Args:
        labels: (N,) or (N, 1), numbers or texts.
        class_names: what whole numbers point into, and what texts are among; None for the sorted labels themselves.
        name: of the dataset, for messages.

    Raises:
        SourceError: another shape or type, a label that is no class, or fewer than two classes.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iubUO":
        raise SourceError(f"{name}: labels must be N whole numbers or texts, not {labels.dtype} {labels.shape}")
    if labels.dtype.kind == "O":
        labels = labels.astype(str)
    values, index = np.unique(labels, return_inverse=True)
    names = tuple(str(value) for value in (values if class_names is None else class_names))
    if class_names is not None and len(set(names)) < len(names):
        twice = next(each for each in names if names.count(each) > 1)
        raise SourceError(f"{name}: class name {twice!r} stands twice: each class needs its own")
    known = list(values) if class_names is None else names if labels.dtype.kind == "U" else range(len(names))
    position = {value: i for i, value in enumerate(known)}
    for value in values:
        if value not in position:
            raise SourceError(f"{name}: label {value.item()!r} is none of the {len(names)} class names")
    if len(values) < 2:
        raise SourceError(f"{name}: only one class, {names[position[values[0]]]!r}: a head needs two or more")
    return [position[values[i]] for i in index], names


def read_npz(path: Path) -> dict[str, Any]:
    """The arguments of ``ArraySource`` that a file holds.

    Its keys are x and y, or images and labels, beside them perhaps split; or, as in Keras' mnist.npz, x_train,
    y_train, x_test, y_test (and val); in any case perhaps class_names.

    Raises:
        SourceError: not an ``.npz`` of plain arrays, or without such keys.
    """
    try:
        with open_regular(path) as stream, ZipFile(stream) as archive:
            file = _Arrays(archive)
            found = _pick(file)
            if found and "class_names" in file:
                found["class_names"] = _one_row(file["class_names"], "class_names").tolist()
            keys = ", ".join(file)
    except Exception as error:  # a damaged archive raises what it likes
        reason = why(error) if isinstance(error, OSError) else " ".join(str(error).split())[:200]
        raise SourceError(
            f"{path}: not an .npz of plain arrays ({reason or type(error).__name__}): write it with numpy.savez"
        ) from error
    if not found:
        raise SourceError(f"{path}: needs keys x and y, images and labels, or x_train, y_train, …: it has {keys[:200]}")
    return found


class _Arrays(Mapping[str, NDArray[Any]]):
    """Those of an archive: what one declares at its beginning is looked at before it is unpacked."""

    def __init__(self, archive: ZipFile) -> None:
        self._archive = archive
        self._members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        self._left = machine_memory() // 2

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, key: str) -> NDArray[Any]:
        with self._archive.open(self._members[key]) as file:
            head = io.BytesIO(file.read(_HEAD))
        version = format.read_magic(head)
        read = format.read_array_header_1_0 if version == (1, 0) else format.read_array_header_2_0
        shape, _, dtype = read(head)
        if dtype.hasobject:
            raise ValueError(f"{key} holds Python objects")
        size = dtype.itemsize * math.prod(shape)
        self._left -= size
        if min(shape, default=0) < 0:
            raise ValueError(f"{key} of shape {shape}")
        if self._left < 0:
            raise ValueError(f"{key} takes {size_text(size)}, and all together more than half of this machine's memory")
        with self._archive.open(self._members[key]) as file:
            return format.read_array(file, allow_pickle=False)


def _one_row(array: NDArray[Any], key: str) -> NDArray[Any]:
    if array.ndim != 1:
        raise ValueError(f"{key} of shape {array.shape}, where one row is expected")
    return array


def _pick(file: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    for x, y in _KEYS:
        if x in file and y in file:
            splits = _one_row(file["split"], "split") if "split" in file else None
            return {"images": file[x], "labels": file[y], "splits": splits}
    words = [key[2:] for key in file if key.startswith("x_") and f"y_{key[2:]}" in file]
    if not words:
        return {}
    parts = [(file[f"x_{word}"], file[f"y_{word}"]) for word in words]
    return {
        "images": np.concatenate([x for x, _ in parts]),
        "labels": np.concatenate([y for _, y in parts]),
        "splits": np.repeat(words, [len(x) for x, _ in parts]),
    }
