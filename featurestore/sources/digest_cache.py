"""Digests of a source's files, kept beside the store, so that files which did not change are not read again."""

import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from featurestore.errors import WriteError
from featurestore.system.files import read_regular, write_whole
from featurestore.system.stamps import STAMP, horizon, settled

Found = TypeVar("Found")

_DIGEST_BYTES = 32
_HEAD = struct.Struct("<4sI")
_MAGIC = b"FSD1"
_LIMIT = 100 * 2**20
"""Most bytes of a cache, which in memory are four times as many: 1.4 million files."""


class DigestCache:
    """Digests of a source's files by their stamps, kept beside the store, so that unchanged files are not read again.

    The file: magic "FSD1" · u32 CRC-32 of what follows · per image, its stamp (40 bytes) and SHA-256 (32 bytes).

    Args:
        path: the file; one that is damaged counts as empty.
        trust: whether to use what it says.
    """

    def __init__(self, path: Path, *, trust: bool = True) -> None:
        self._path, self._before = path, horizon()
        self._there = _read(path)
        self._known = self._there if trust else {}
        self._seen: dict[bytes, bytes] = {}

    def complete(
        self, stamps: Sequence[bytes], read: Callable[[Sequence[int]], list[str | Found]]
    ) -> list[str | Found]:
        """Return the digests of files in hexadecimal: known ones from the cache, the others by reading.

        Args:
            stamps: of the files, taken now, so before they are read: a file that is changed in between has another
                one next time.
            read: from indices into `stamps` to digests, or to whatever else is to stand in the result.
        """
        known = [self._known.get(stamp) for stamp in stamps]
        unknown = [i for i, digest in enumerate(known) if digest is None]
        found = read(unknown)
        result: list[str | Found] = ["" if digest is None else digest.hex() for digest in known]
        self._seen.update((s, digest) for s, digest in zip(stamps, known, strict=True) if digest)
        for i, outcome in zip(unknown, found, strict=True):
            result[i] = outcome
            if isinstance(outcome, str) and settled(stamps[i], self._before):
                self._seen[stamps[i]] = bytes.fromhex(outcome)
        return result

    def save(self) -> None:
        """Keep what was seen, and forget the rest. A cache that cannot be written is only slow."""
        if self._seen != self._there:
            body = b"".join(stamp + digest for stamp, digest in self._seen.items())
            with suppress(WriteError):
                write_whole(self._path, _HEAD.pack(_MAGIC, zlib.crc32(body)) + body)


def _read(path: Path) -> dict[bytes, bytes]:
    try:
        raw = read_regular(path, _LIMIT)
        magic, crc = _HEAD.unpack_from(raw)
    except (OSError, struct.error):
        return {}
    body = memoryview(raw)[_HEAD.size :]
    width, step = STAMP.size, STAMP.size + _DIGEST_BYTES
    if magic != _MAGIC or zlib.crc32(body) != crc or len(body) % step:
        return {}
    return {bytes(body[i : i + width]): bytes(body[i + width : i + step]) for i in range(0, len(body), step)}
