"""The one opener of files that may come from anybody, and the one writer of files that users keep.

A file is written beside its final name, synced, and renamed: under that name stands the whole new file, or what was
there before, however the process ends.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from featurestore.errors import DiskFullError, WriteError

DRAFT = ".part"
"""What follows the name of a file until it is complete."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_REASONS = {
    errno.ENOENT: "no such file",
    errno.EISDIR: "not a regular file",
    errno.ENXIO: "not a regular file",  # what opening a socket gives
    errno.ELOOP: "symlink loop",
    errno.EEXIST: "a file is in the way",
}


def why(error: OSError) -> str:
    """The reason in an operating system's error, without the path: ``permission denied``."""
    text = error.strerror or str(error)
    return _REASONS.get(error.errno or 0) or text[:1].lower() + text[1:]


def open_regular(path: str | os.PathLike[str], limit: int | None = None) -> BinaryIO:
    """Open a regular file for reading; a folder, FIFO, socket or device is refused, and never waited for.

    Args:
        path: of the file.
        limit: most bytes that it may have.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger. :func:`why` tells which.
    """
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 (the caller closes it)
    try:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        if limit is not None and status.st_size > limit:
            raise OSError(errno.EFBIG, f"larger than {size_text(limit)}", os.fspath(path))
    except BaseException:
        file.close()
        raise
    return file


def _open_at_once(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a FIFO waits for a writer that may never come. (O_CLOEXEC is in Python's flags.)
    return os.open(path, flags | os.O_NONBLOCK)


def read_regular(path: str | os.PathLike[str], limit: int) -> bytes:
    """The bytes of a regular file, see :func:`open_regular`; `limit` holds even for a file that grows meanwhile."""
    with open_regular(path, limit) as file:
        return file.read(limit)


def check_regular(path: str | os.PathLike[str], limit: int | None = None) -> None:
    """As :func:`open_regular`, for a file that a library opens by its name."""
    open_regular(path, limit).close()


def size_text(count: int) -> str:
    """A number of bytes as people read it: ``17 KiB``, ``512 MiB``. Never 0 of a unit for what is more than nothing."""
    unit = next((unit for unit in ("GiB", "MiB", "KiB") if count >= 10 * _UNITS[unit]), "bytes")
    return f"{count / _UNITS[unit]:,.0f} {unit}"


_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@contextmanager
def replacing(path: str | os.PathLike[str], *, keep: bool = False) -> Iterator[Path]:
    """Give the path of a draft; what the block has written there takes the place of `path`, whole and durable.

    One process at a time can write a file. A symlink stays one: the file that it points to is replaced.

    Args:
        path: of the file; its folder is made if it is not there.
        keep: leave the draft where it is if the block fails, for what is in it.

    Raises:
        WriteError: it cannot be written, is no regular file (so ``/dev/null`` remains a device), or another process
            is writing it; a DiskFullError where no space is left.
    """
    try:
        target = _target(Path(path))
        draft = target.with_name(target.name + DRAFT)
        handle = _locked(draft)
    except OSError as error:
        raise write_error(path, error) from error
    done = False
    try:
        yield draft
        sync(draft)
        draft.replace(target)
        done = True
        sync(target.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if not done and not keep:
            draft.unlink(missing_ok=True)
        os.close(handle)


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file that is there as a whole, durably, or not at all; see :func:`replacing`."""
    with replacing(path) as draft:
        draft.write_bytes(data)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Check that :func:`replacing` could write `path`; ask before the slow work starts.

    Raises:
        WriteError: see there.
    """
    try:
        target = _target(Path(path))
        draft = target.with_name(target.name + DRAFT)
        os.close(_locked(draft))
        draft.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def _target(path: Path) -> Path:
    """The file to replace; its folder is there."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, "symlink loop", os.fspath(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _locked(draft: Path) -> int:
    """A handle that holds the lock of a draft, which is made if it is not there."""
    while True:
        handle = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who held the lock before may have given this very file its final name.
            if draft.exists() and draft.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        except BlockingIOError as error:
            os.close(handle)
            raise OSError(errno.EBUSY, "another process is writing it", os.fspath(draft)) from error
        os.close(handle)


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_error(path: str | os.PathLike[str], error: OSError) -> WriteError:
    """Our error for a failed write."""
    if error.errno in _FULL:
        return DiskFullError(
            f"{path}: {os.strerror(error.errno or 0)}: what is finished is kept; "
            "free some space and run the same command again"
        )
    return WriteError(f"{path}: cannot be written ({why(error)}): choose another place")
