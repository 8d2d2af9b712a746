"""The one opener of files that may come from anybody, and the one writer of files that users keep.

A file is written beside its final name, synced, and renamed: under that name stands the whole new file, or what was
there before, however the process ends.
"""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
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


def check_filled(path: str | os.PathLike[str]) -> None:
    """As :func:`check_regular`, for a file that is to be read from end to end: one that is mostly holes is refused,
    since a sparse file of a few bytes can claim to be terabytes of zeros.

    (It asks for the holes themselves. ``st_blocks`` says less: a file system that compresses makes it small, and ZFS
    tells it only seconds after a file was written.)
    """
    with open_regular(path) as file:
        handle, size = file.fileno(), os.fstat(file.fileno()).st_size
        stored = end = 0
        while size > _HOLES + stored * _HOLES_PER_BYTE:
            try:
                start = os.lseek(handle, end, os.SEEK_DATA)
                end = os.lseek(handle, start, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:  # no more data
                    raise OSError(errno.EINVAL, "mostly holes: a sparse file", os.fspath(path)) from error
                return  # a file system that cannot tell
            stored += end - start


_HOLES, _HOLES_PER_BYTE = 64 * 2**20, 16
"""A file may be so much larger than what is stored of it: rows of zeros can become holes when somebody copies it."""


def open_own(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file that this program keeps for itself in a folder of anybody's making; made if `flags` say so.

    Raises:
        OSError: it cannot be opened; or it is a link, which could lead to a file of somebody else, a FIFO or a device.
    """
    try:
        handle = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.EINVAL, "a link, not a regular file", os.fspath(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return handle


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
        handle = _locked(draft, _open_draft)
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


@contextmanager
def replacing_files(path: str | os.PathLike[str]) -> Iterator[Path]:
    """As :func:`replacing`, for libraries that write a folder, several files, or only what has a certain suffix.

    The draft has the name of `path`, in a hidden folder beside it; whatever else is written there comes along.

    Raises:
        WriteError: see there.
    """
    try:
        target = _target(Path(path), folder_allowed=True)
        folder = target.with_name(f".{target.name}{DRAFT}")
        handle = _locked(folder, _open_folder)
    except OSError as error:
        raise write_error(path, error) from error
    try:
        _clear(folder)  # of what a killed process left
        yield folder / target.name
        for file in folder.rglob("*"):
            sync(file)
        if target.is_dir():
            shutil.rmtree(target)
        for item in folder.iterdir():
            item.replace(target.with_name(item.name))
        sync(target.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _clear(folder: Path) -> None:
    for item in folder.iterdir():
        if item.is_dir():
            shutil.rmtree(item)
        else:
            item.unlink()


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
        os.close(_locked(draft, _open_draft))
        draft.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def _target(path: Path, *, folder_allowed: bool = False) -> Path:
    """What is to be replaced; the folder that holds it is there."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, "symlink loop", os.fspath(path))
    if target.exists() and not (target.is_file() or (folder_allowed and target.is_dir())):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _open_draft(draft: Path) -> int:
    return open_own(draft, os.O_RDWR | os.O_CREAT)


def _open_folder(draft: Path) -> int:
    draft.mkdir(exist_ok=True)
    return os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _locked(draft: Path, opener: Callable[[Path], int]) -> int:
    """A handle that holds the lock of a draft, which is made if it is not there."""
    while True:
        handle = opener(draft)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who held the lock before may have given this very file its final name.
            if draft.exists() and draft.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        except OSError as error:
            os.close(handle)
            if isinstance(error, BlockingIOError):
                raise OSError(errno.EBUSY, "another process is writing it", os.fspath(draft)) from error
            raise
        os.close(handle)


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_full(error: Exception) -> bool:
    """Whether a disk, or somebody's share of it, is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def write_error(path: str | os.PathLike[str], error: OSError) -> WriteError:
    """Our error for a failed write."""
    if is_full(error):
        return DiskFullError(
            f"{path}: {os.strerror(error.errno or 0)}: what is finished is kept; "
            "free some space and run the same command again"
        )
    return WriteError(f"{path}: cannot be written ({why(error)}): choose another place")


def check_space(folder: Path, needed: int) -> None:
    """Refuse to start what cannot be finished.

    Raises:
        DiskFullError: less than `needed` bytes are free in `folder`.
    """
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < needed:
        raise DiskFullError(
            f"{folder}: {size_text(needed)} needed, {size_text(free)} free: what is finished is kept; "
            "free some space and run the same command again"
        )
