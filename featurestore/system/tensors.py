"""The one opener of safetensors that may come from anybody: names, types and shapes are checked, then numbers read.

The library maps a file and checks that its tensors fill it without gaps; what stands here keeps its header small, and
tells it which tensors there should be.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from featurestore.system.files import open_regular, size_text

HEADER = 16 * 2**20
"""Most bytes of a header: a hundred thousand tensors have less."""

Layout = Mapping[str, tuple[DTypeLike, tuple[int | None, ...]]]
"""Name of a tensor -> its type and shape; None for a side of any length."""

_TYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "F32": "float32", "F64": "float64",
}  # fmt: skip


class Tensors:
    """The tensors of an open file.

    Attributes:
        metadata: texts by name.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self.metadata: dict[str, str] = file.metadata() or {}

    def __contains__(self, name: str) -> bool:
        return name in self._file.keys()  # noqa: SIM118 (the library's object is no mapping)

    def read(self, layout: Layout, limit: int | None = None) -> dict[str, NDArray[Any]]:
        """All tensors, if they are those of a layout.

        Args:
            layout: the tensors that there should be.
            limit: most bytes that they may take.

        Raises:
            ValueError: there are others, of other types or shapes, or they are larger.
        """
        self._check_names(layout)
        total = 0
        for name, (kind, shape) in layout.items():
            part = self._file.get_slice(name)
            found, sides = _TYPES.get(part.get_dtype(), part.get_dtype()), part.get_shape()
            fits = len(sides) == len(shape) and all(b in (None, a) for a, b in zip(sides, shape, strict=True))
            if found != np.dtype(kind).name or not fits:
                wanted = ", ".join("any" if side is None else str(side) for side in shape)
                raise ValueError(f"{name} is {found} {tuple(sides)}, not {np.dtype(kind).name} ({wanted})")
            total += np.dtype(kind).itemsize * int(np.prod(sides, dtype=object))
        if limit is not None and total > limit:
            raise ValueError(f"its arrays take {size_text(total)} of memory, and {size_text(limit)} may be used")
        return {name: self._file.get_tensor(name) for name in layout}

    def _check_names(self, layout: Layout) -> None:
        found = set(self._file.keys())
        if wrong := sorted(found ^ layout.keys()):
            which = "holds a tensor" if wrong[0] in found else "lacks the tensor"
            raise ValueError(f"it {which} {wrong[0][:100]!r}: {len(found):,} are there, not {len(layout):,}")


@contextmanager
def open_tensors(path: str | os.PathLike[str]) -> Iterator[Tensors]:
    """Open a safetensors file.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: it is no safetensors file, or has a header beyond :data:`HEADER`.
    """
    from safetensors import SafetensorError, safe_open

    with open_regular(path) as file:
        size = int.from_bytes(file.read(8), "little")
    if size > HEADER:
        raise ValueError(f"a header of more than {size_text(HEADER)}")
    try:
        with safe_open(path, "np") as opened:
            yield Tensors(opened)
    except SafetensorError as error:
        raise ValueError(f"no safetensors file: {error}") from error
