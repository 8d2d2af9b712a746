"""Digests of a source's files, kept beside the store, so that files which did not change are not read again."""

import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import WriteError
from featurestore.system.files import read_regular, write_whole
from featurestore.system.stamps import STAMP, horizon, settled

Found = TypeVar("Found")

_ROW = np.dtype([("stamp", f"S{STAMP.size}"), ("digest", "V32")])
_HEAD = struct.Struct("<4sI")
_MAGIC = b"FSD1"
_LIMIT = 400 * 2**20
"""Most bytes of a cache: 5.8 million files."""


class DigestCache:
    """Digests of a source's files by their stamps, kept beside the store, so that unchanged files are not read again.

    The file: magic "FSD1" · u32 CRC-32 of what follows · per image, its stamp (40 bytes) and SHA-256 (32 bytes). It is
    sorted by the stamps, so that in memory it is no larger: a stamp is found by bisection.

    Args:
        path: the file; one that is damaged counts as empty.
        trust: whether to use what it says.
    """

    def __init__(self, path: Path, *, trust: bool = True) -> None:
        self._path, self._before = path, horizon()
        self._there = _read(path)
        self._known = self._there if trust else self._there[:0]
        self._stamps = np.ascontiguousarray(self._known["stamp"])
        self._seen = np.zeros(len(self._known), bool)
        self._new: list[tuple[bytes, bytes]] = []

    @property
    def empty(self) -> bool:
        """Whether no file is known."""
        return not len(self._known)

    def complete(
        self, stamps: Sequence[bytes], read: Callable[[Sequence[int]], list[str | Found]]
    ) -> list[str | Found]:
        """Return the digests of files in hexadecimal: known ones from the cache, the others by reading.

        Args:
            stamps: of the files, taken now, so before they are read: a file that is changed in between has another
                one next time.
            read: from indices into `stamps` to digests, or to whatever else is to stand in the result. It may put
                other stamps into that list, which came together with the bytes.
        """
        at, known = self._find(stamps)
        rows = at[known]
        self._seen[rows] = True
        digests = self._known["digest"][rows].tobytes().hex()
        result: list[str | Found] = [""] * len(stamps)
        for number, i in enumerate(np.flatnonzero(known).tolist()):
            result[i] = digests[64 * number : 64 * (number + 1)]
        unknown = np.flatnonzero(~known).tolist()
        for i, outcome in zip(unknown, read(unknown), strict=True):
            result[i] = outcome
            if isinstance(outcome, str) and settled(stamps[i], self._before):
                self._new.append((stamps[i], bytes.fromhex(outcome)))
        return result

    def _find(self, stamps: Sequence[bytes]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return the row of each stamp, and whether it is there; an empty stamp never is."""
        asked = np.array(stamps, self._stamps.dtype)
        given = np.fromiter(map(bool, stamps), bool, len(stamps))
        if not len(self._stamps):
            return np.zeros(len(asked), np.intp), given & False
        at = np.minimum(np.searchsorted(self._stamps, asked), len(self._stamps) - 1)
        return at, given & (self._stamps[at] == asked)

    def save(self, *, forget: bool = True) -> None:
        """Keep what was seen, and perhaps the rest. A cache that cannot be written is only slow."""
        self._seen |= not forget
        if not self._new and self._seen.all() and len(self._known) == len(self._there):
            return
        rows = _sorted(np.concatenate([self._known[self._seen], np.array(self._new, _ROW)]))
        if rows.tobytes() != self._there.tobytes():
            body = rows.tobytes()
            with suppress(WriteError):
                write_whole(self._path, _HEAD.pack(_MAGIC, zlib.crc32(body)) + body)


def _read(path: Path) -> NDArray[Any]:
    """Return the rows of a cache, sorted; none of a file that cannot be believed."""
    nothing = np.empty(0, _ROW)
    try:
        raw = read_regular(path, _LIMIT)
        magic, crc = _HEAD.unpack_from(raw)
    except (OSError, struct.error):
        return nothing
    body = memoryview(raw)[_HEAD.size :]
    if magic != _MAGIC or zlib.crc32(body) != crc or len(body) % _ROW.itemsize:
        return nothing
    return _sorted(np.frombuffer(body, _ROW))


def _sorted(rows: NDArray[Any]) -> NDArray[Any]:
    """Return rows in the order of their stamps, each stamp once."""
    stamps = np.ascontiguousarray(rows["stamp"])
    if (stamps[:-1] < stamps[1:]).all():
        return rows
    return rows[np.unique(stamps, return_index=True)[1]]
