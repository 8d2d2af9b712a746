"""Which shard each image of a large data set stands in: decided when it is first seen, and kept for good.

So a run that adds images writes the last shard and new ones only, wherever their names stand in the order of all names;
and tasks that share nothing but the store agree. The file ``NAME.partition`` in the store: magic "FSP1", CRC-32 of what
follows (u32); most rows of a shard (u64), images that stood in one file before the data set was divided (u64); then for
each image a hash of its id (u64) and its shard (u32), in the order of the hashes. All numbers are little-endian. It
grows by 12 bytes an image: images that are gone keep their place.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptFileError, StoreError
from featurestore.system.files import read_regular, why, write_whole

SHARD_ROWS = 1_000_000
"""Most images of a shard, unless the user says otherwise: some gigabytes, and a gigabyte of memory for the plan."""

_HEAD, _FACTS = struct.Struct("<4sI"), struct.Struct("<QQ")
_MAGIC, _ROW = b"FSP1", np.dtype([("key", "<u8"), ("shard", "<u4")])
_LIMIT = 2**33
"""Most bytes of the file: 700 million images."""


@dataclass(frozen=True, eq=False)
class Partition:
    """A data set divided into shards.

    Attributes:
        shard_rows: most images of a shard that is still to be filled.
        taken: images of shard 0 that stood in one file before.
        keys: hashes of ids, ascending, uint64 (N,).
        shards: of the same images, uint32 (N,).
    """

    shard_rows: int = SHARD_ROWS
    taken: int = 0
    keys: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    shards: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))

    @property
    def count(self) -> int:
        """The number of shards."""
        return int(self.shards.max()) + 1 if len(self.shards) else 0

    def find(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the shard of each image by the hash of its id (M,), and whether it has one."""
        if not len(self.keys):
            return np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return self.shards[at].astype(np.int64), self.keys[at] == keys

    def with_images(self, keys: NDArray[np.uint64]) -> "Partition":
        """Return a partition that has these images too: they fill the last shard, and then new ones.

        Args:
            keys: hashes of ids, in the order of the ids (M,).
        """
        new = keys[~self.find(keys)[1]]
        # Images whose hashes are the same stay together: later nothing else tells them apart.
        distinct, first = np.unique(new, return_index=True)
        order = np.empty(len(distinct), np.int64)
        order[np.argsort(first, kind="stable")] = np.arange(len(distinct))
        last = self.count - 1
        room = max(0, self.shard_rows - int((self.shards == last).sum())) if last >= 0 else 0
        shard = np.where(order < room, last, last + 1 + (order - room) // self.shard_rows)
        merged = np.concatenate([self.keys, distinct])
        by_key = np.argsort(merged, kind="stable")
        shards = np.concatenate([self.shards, shard.astype(np.uint32)])
        return Partition(self.shard_rows, self.taken, merged[by_key], shards[by_key])

    def save(self, path: Path) -> None:
        """Write the file, which is there as a whole, or not at all."""
        rows = np.empty(len(self.keys), _ROW)
        rows["key"], rows["shard"] = self.keys, self.shards
        body = _FACTS.pack(self.shard_rows, self.taken) + rows.tobytes()
        write_whole(path, _HEAD.pack(_MAGIC, zlib.crc32(body)) + body)


def read(path: Path) -> Partition | None:
    """Read the file; None if there is none.

    Raises:
        StoreError: it cannot be read.
        CorruptFileError: it is damaged. It cannot be made again: the shards do not tell which image was to stand where.
    """
    try:
        raw = read_regular(path, _LIMIT)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({why(error)}): give a store that you may read") from error
    head, body = raw[: _HEAD.size], memoryview(raw)[_HEAD.size :]
    if len(body) < _FACTS.size or _HEAD.unpack(head) != (_MAGIC, zlib.crc32(body)):
        raise CorruptFileError(
            f"{path}: damaged: copy it anew; or delete it and the folders of shards beside it, and extract again"
        )
    shard_rows, taken = _FACTS.unpack_from(body)
    rows = np.frombuffer(body[_FACTS.size :], _ROW)
    return Partition(shard_rows, taken, rows["key"].copy(), rows["shard"].copy())


def hashes(ids: Iterable[str]) -> NDArray[np.uint64]:
    """Return a hash of each id, uint64 (N,)."""
    raw = bytearray()
    for key in ids:
        raw += hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return np.frombuffer(bytes(raw), "<u8").astype(np.uint64)


def taken_over(ids: Sequence[str], shard_rows: int) -> Partition:
    """Return the partition of a data set that was one file so far: all its images are in shard 0."""
    keys = np.unique(hashes(ids))
    return Partition(shard_rows, len(ids), keys, np.zeros(len(keys), np.uint32))
