"""An ``.npz`` file of images and labels, as Keras and many tutorials keep small data sets."""

import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.lib import format
from numpy.typing import NDArray

from featurestore.errors import SourceError
from featurestore.sources.arrays import ArraySource
from featurestore.sources.base import Format
from featurestore.sources.options import SourceOptions
from featurestore.system.files import open_regular, size_text, why
from featurestore.system.machine import memory_limit

_KEYS = (("x", "y"), ("images", "labels"))

_HEAD = 2**16
"""Bytes in which an array of an archive must have said what it is."""


def read_npz(path: Path) -> dict[str, Any]:
    """Return the arguments of ``ArraySource`` that a file holds.

    Its keys are x and y, or images and labels, beside them perhaps split and groups; or, as in Keras' mnist.npz,
    x_train, y_train, x_test, y_test (and val); in any case perhaps class_names.

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
    """The arrays of an archive. What an array declares at its beginning is checked before it is unpacked."""

    def __init__(self, archive: ZipFile) -> None:
        self._archive = archive
        self._members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        self._left = memory_limit()

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
            groups = _one_row(file["groups"], "groups").tolist() if "groups" in file else None
            return {"images": file[x], "labels": file[y], "splits": splits, "groups": groups}
    words = [key[2:] for key in file if key.startswith("x_") and f"y_{key[2:]}" in file]
    if not words:
        return {}
    parts = [(file[f"x_{word}"], file[f"y_{word}"]) for word in words]
    return {
        "images": np.concatenate([x for x, _ in parts]),
        "labels": np.concatenate([y for _, y in parts]),
        "splits": np.repeat(words, [len(x) for x, _ in parts]),
    }


def _open(where: str, name: str, options: SourceOptions) -> ArraySource:
    return ArraySource(**read_npz(Path(where)), name=name)


FORMAT = Format(
    called="an .npz",
    recognises=lambda where, options: where.lower().endswith(".npz"),
    open=_open,
)
