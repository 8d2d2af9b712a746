"""What the file system says of a file, as a witness that its bytes are still those that were read.

A stamp is device, inode, size, and the times of the last change of content and of inode. Any write changes one of
them, but for a write within the same tick of the clock: so what changed shortly before it was read is not trusted.
"""

import hashlib
import os
import struct
import time

import numpy as np
from numpy.typing import NDArray

MARGIN_NS = 2 * 10**9
"""Coarsest clock of a file system in use (FAT's), in nanoseconds."""

STAMP = struct.Struct("<QQQqq")
"""How a stamp is packed into bytes."""


def stamp(path: str | os.PathLike[str]) -> bytes:
    """The stamp of the file at `path`, through symlinks; empty if it has none."""
    try:
        return stamp_of(os.stat(path))  # noqa: PTH116 (twice as fast as a Path)
    except OSError:
        return b""


def stamp_of(found: os.stat_result) -> bytes:
    """The stamp of a file by its status."""
    return STAMP.pack(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def version_stamp(version: str, changed: int) -> bytes:
    """The stamp of a file on a server.

    Args:
        version: its address and what the server says of it, which changes whenever the file does.
        changed: when it did so last, in seconds since 1970; 0 if the server does not say that.
    """
    parts = struct.unpack("<QQQ", hashlib.sha256(version.encode()).digest()[:24])
    moment = min(max(changed, 0), 2**33) * 10**9
    return STAMP.pack(*parts, moment, moment)


def part_stamps(stamp: bytes, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[bytes]:
    """The stamps of parts of a file, such as the members of an archive: that of the file, with place and size of the
    part in it.

    Args:
        stamp: of the file; if it is empty, so are those of its parts.
        starts, sizes: (N,), of the parts in bytes.
    """
    if not stamp:
        return [b""] * len(starts)
    device, inode, _, changed, altered = STAMP.unpack(stamp)
    parts = np.empty((len(starts), 5), np.uint64)
    parts[:, 0], parts[:, 2] = device, sizes
    parts[:, 3:] = np.array([changed, altered], np.int64).view(np.uint64)
    mixed = np.uint64(inode) + (starts.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64: no two places give one
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    parts[:, 1] = mixed ^ (mixed >> np.uint64(31))
    raw = parts.astype("<u8").tobytes()
    return [raw[at : at + STAMP.size] for at in range(0, len(raw), STAMP.size)]


def horizon() -> int:
    """The time, in ns, before which a file must have changed last for its stamp, taken from now on, to be trusted."""
    return time.time_ns() - MARGIN_NS


def settled(stamp: bytes, before: int) -> bool:
    """Whether a file changed last before that time: see :func:`horizon`."""
    return bool(stamp) and max(STAMP.unpack(stamp)[3:]) < before
