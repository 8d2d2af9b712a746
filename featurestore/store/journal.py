"""Append-only log of finished rows. A row is done once :meth:`Journal.append` has returned, and then it stays.

An HDF5 file that grows while it is written loses finished rows when its process is killed; this log does not. It
is read back once, to be published as an HDF5 file, and then deleted.

Format, little-endian::

    magic "FSJ1" · u32 header length · u32 CRC-32 of the header · header (JSON)
    then per batch:  magic "ROWS" · u32 rows n · u32 CRC-32 of what follows · n digests of 32 bytes · n rows

A row is the bytes of each tap's features, one tap after the other, as the header's ``taps`` lists them. The header
appears under its final name in one piece (rename), so only the last batch can be torn; it is cut off on opening.
"""

import json
import math
import os
import struct
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptFileError
from featurestore.store.file_format import BLOCK_BYTES
from featurestore.store.file_format import SUFFIX as FILE_SUFFIX
from featurestore.system.documents import parse
from featurestore.system.files import check_filled, open_own, why, write_error, write_whole

SUFFIX = ".journal"

_FILE_MAGIC, _ROWS_MAGIC = b"FSJ1", b"ROWS"
_PREFIX = struct.Struct("<4sII")
_DIGEST_BYTES = 32
_HEADER_BYTES = 4 * 2**20
_LARGEST_BATCH = 2**16

_sync = getattr(os, "fdatasync", os.fsync)  # macOS has fsync only

Features = Mapping[str, NDArray[np.floating[Any]]]
"""The features of some rows: for each tap an array (rows, *shape)."""


def journal_path(target: Path) -> Path:
    """Return the path of the journal that holds the rows of a feature file until it is published."""
    return target.with_name(target.name.removesuffix(FILE_SUFFIX) + SUFFIX)


def worker_journals(target: Path) -> list[Path]:
    """Return the journals that workers of a cluster have written: see :mod:`featurestore.extraction.cluster`."""
    return sorted(target.parent.glob(f"{journal_path(target).stem}.*{SUFFIX}"))


def new_worker_journal(target: Path) -> Path:
    """Return the path of a journal that no other worker uses."""
    return journal_path(target).with_suffix(f".{uuid.uuid4().hex[:12]}{SUFFIX}")


@dataclass(frozen=True)
class TapLayout:
    """Name, shape of one row, and NumPy type string of a tap's features."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        if self.dtype not in ("<f2", "<f4") or not all(side >= 1 for side in self.shape):
            raise ValueError(f"a row of {self.shape} values of type {self.dtype!r}")

    @property
    def row_bytes(self) -> int:
        """The bytes of one row."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class JournalHeader:
    """What a resumed run must have in common with the interrupted one: features, batches and engine."""

    fingerprint: str
    engine: str
    batch_size: int
    producer: dict[str, str]
    taps: tuple[TapLayout, ...]

    def __post_init__(self) -> None:
        if not self.taps or not 1 <= self.batch_size <= _LARGEST_BATCH:
            raise ValueError(f"{len(self.taps)} taps, batches of {self.batch_size}")

    @property
    def row_bytes(self) -> int:
        """The bytes of one row over all taps."""
        return sum(tap.row_bytes for tap in self.taps)


class Journal:
    """A journal opened for appending and for looking up its rows. Use as a context manager."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open an existing journal and cut off a torn last batch. With `read_only` the file stays as it is, since
        another process may be writing to it.

        Raises:
            CorruptFileError: the header is damaged, or this is no file of ours.
        """
        self.path = path
        self._read_only = read_only
        try:
            check_filled(path)
            flags, mode = (os.O_RDONLY, "rb") if read_only else (os.O_RDWR, "r+b")
            self._file = os.fdopen(open_own(path, flags), mode, buffering=0)
        except OSError as error:
            raise _damaged(path, why(error)) from error
        self.header, self._end = self._read_header()
        self._where: dict[str, int] = {}
        self._scan()

    @classmethod
    def create(cls, path: Path, header: JournalHeader) -> "Journal":
        """Write a new journal that holds no rows yet.

        Raises:
            DiskFullError: no space left.
        """
        text = json.dumps(asdict(header), sort_keys=True).encode()
        write_whole(path, _PREFIX.pack(_FILE_MAGIC, len(text), zlib.crc32(text)) + text)
        return cls(path)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the rows stay."""
        self._file.close()

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, digest: object) -> bool:
        return digest in self._where

    def __iter__(self) -> Iterator[str]:
        """Give the digests of the rows that are done, oldest first."""
        return iter(self._where)

    def append(self, digests: Sequence[str], features: Features) -> None:
        """Add one batch; when this returns, its rows survive any crash.

        Args:
            digests: one per row, 64 hexadecimal digits.
            features: per tap, an array (rows, *shape) of the header's type.

        Raises:
            DiskFullError: no space left; the batch is not in the journal, all before it are.
        """
        count = len(digests)
        columns = [
            np.ascontiguousarray(features[tap.name], dtype=tap.dtype).reshape(count, -1).view(np.uint8)
            for tap in self.header.taps
        ]
        body = b"".join(map(bytes.fromhex, digests)) + np.hstack(columns).tobytes()
        record = memoryview(_PREFIX.pack(_ROWS_MAGIC, count, zlib.crc32(body)) + body)
        try:
            self._file.seek(self._end)
            while record:
                record = record[self._file.write(record) :]
            _sync(self._file.fileno())
        except OSError as error:
            self._file.truncate(self._end)
            raise write_error(self.path, error) from error
        self._index(digests, self._end)
        self._end += _PREFIX.size + len(body)

    def read(self, digest: str) -> dict[str, NDArray[np.floating[Any]]]:
        """Return one row's features, by tap.

        Raises:
            KeyError: the row is not in the journal.
        """
        self._file.seek(self._where[digest])
        raw = self._file.read(self.header.row_bytes)
        row, start = {}, 0
        for tap in self.header.taps:
            row[tap.name] = np.frombuffer(
                raw, tap.dtype, offset=start, count=tap.row_bytes // np.dtype(tap.dtype).itemsize
            )
            row[tap.name] = row[tap.name].reshape(tap.shape)
            start += tap.row_bytes
        return row

    def _read_header(self) -> tuple[JournalHeader, int]:
        try:
            magic, length, crc = _PREFIX.unpack(self._file.read(_PREFIX.size))
            if magic != _FILE_MAGIC or length > _HEADER_BYTES:
                raise ValueError("no header")
            text = self._file.read(length)
            if zlib.crc32(text) != crc:
                raise ValueError("checksum")
            return parse(text, JournalHeader), self._file.tell()
        except (struct.error, ValueError) as error:
            self._file.close()
            raise _damaged(self.path, str(error)) from error

    def _scan(self) -> None:
        """Index every whole batch, and drop what follows the last one."""
        size = os.fstat(self._file.fileno()).st_size
        while size - self._end > _PREFIX.size:
            self._file.seek(self._end)
            magic, count, crc = _PREFIX.unpack(self._file.read(_PREFIX.size))
            length = count * (_DIGEST_BYTES + self.header.row_bytes)
            if magic != _ROWS_MAGIC or self._end + _PREFIX.size + length > size:
                break
            digests = self._file.read(count * _DIGEST_BYTES)
            found, left = zlib.crc32(digests), count * self.header.row_bytes
            while left and (block := self._file.read(min(left, BLOCK_BYTES))):
                found, left = zlib.crc32(block, found), left - len(block)
            if left or found != crc:
                break
            starts = range(0, len(digests), _DIGEST_BYTES)
            self._index([digests[start : start + _DIGEST_BYTES].hex() for start in starts], self._end)
            self._end += _PREFIX.size + length
        if not self._read_only:
            self._file.truncate(self._end)

    def _index(self, digests: Sequence[str], start: int) -> None:
        rows = start + _PREFIX.size + len(digests) * _DIGEST_BYTES
        for i, digest in enumerate(digests):
            self._where[digest] = rows + i * self.header.row_bytes


def _damaged(path: Path, reason: str) -> CorruptFileError:
    return CorruptFileError(
        f"{path}: the journal of an unfinished run is damaged ({reason}): "
        "delete it, and the rows in it will be extracted again"
    )
