"""The one opener of files that may come from anybody, and the one writer of files that users keep.

A file is written beside its final name, synced, and renamed: under that name stands the whole new file, or what was
there before, however the process ends.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    return os.open(path, flags | _flag("O_NONBLOCK"))


def _flag(name: str) -> int:
    """A flag of :func:`os.open`, or 0 on a system that has no such flag."""
    return getattr(os, name, 0)


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
        if not hasattr(os, "SEEK_DATA"):
            return  # Windows cannot tell
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
        handle = os.open(path, flags | _OWN, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.EINVAL, "a link, not a regular file", os.fspath(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return handle


_OWN = _flag("O_CLOEXEC") | _flag("O_NOFOLLOW") | _flag("O_NONBLOCK") | _flag("O_BINARY")


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
        with _alone(target):
            draft = target.with_name(target.name + DRAFT)
            os.close(open_own(draft, os.O_RDWR | os.O_CREAT))  # which refuses a link, a FIFO or a device
            try:
                yield draft
                sync(draft)
                draft.replace(target)
            except BaseException:
                if not keep:
                    draft.unlink(missing_ok=True)
                raise
            sync(target.parent)
    except OSError as error:
        raise write_error(path, error) from error


@contextmanager
def replacing_files(path: str | os.PathLike[str]) -> Iterator[Path]:
    """As :func:`replacing`, for libraries that write a folder, several files, or only what has a certain suffix.

    The draft has the name of `path`, in a hidden folder beside it; whatever else is written there comes along.

    Raises:
        WriteError: see there.
    """
    try:
        target = _target(Path(path), folder_allowed=True)
        with _alone(target):
            folder = target.with_name(f".{target.name}{DRAFT}")
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)  # a killed process left it
            folder.mkdir()
            try:
                yield folder / target.name
                for file in folder.rglob("*"):
                    sync(file)
                if target.is_dir():
                    shutil.rmtree(target)
                for item in folder.iterdir():
                    item.replace(target.with_name(item.name))
                sync(target.parent)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise write_error(path, error) from error


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
        with _alone(target):
            draft = target.with_name(target.name + DRAFT)
            os.close(open_own(draft, os.O_RDWR | os.O_CREAT))
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


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Hold the right to write a file, which no two processes have at a time."""
    try:
        with locked(target.with_name(f".{target.name}.lock")):
            yield
    except BlockingIOError as error:
        raise OSError(errno.EBUSY, "another process is writing it", os.fspath(target)) from error


@contextmanager
def locked(path: Path, *, keep: bool = False) -> Iterator[int]:
    """Hold the lock of a file that exists for its lock alone; the system frees it however a process ends.

    Windows forbids others to read a locked file, and to rename an open one: so what is written is never locked itself.

    Args:
        path: of the lock file, which is made if it is not there.
        keep: leave it where it is; otherwise it is deleted.

    Yields:
        The handle that holds the lock.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file cannot be made, or is a link, a FIFO or a device.
    """
    handle = _lock(path)
    try:
        yield handle
    finally:
        if not keep:
            with suppress(OSError):  # Windows deletes no open file
                path.unlink()
        os.close(handle)
        if not keep and os.name == "nt":
            with suppress(OSError):  # another process has opened it meanwhile
                path.unlink()


def _lock(path: Path) -> int:
    while True:
        handle = open_own(path, os.O_RDWR | os.O_CREAT)
        try:
            if not lock_handle(handle):
                raise BlockingIOError(errno.EWOULDBLOCK, "another process holds it", os.fspath(path))
            # Who held the lock before may have deleted this very file.
            with suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), os.fstat(handle)):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def lock_handle(handle: int) -> bool:
    """Lock an open file for this process alone, if no other process has locked it.

    Returns:
        Whether it is locked now.
    """
    try:
        import fcntl
    except ImportError:  # on Windows
        from filelock import lock_descriptor  # which takes 0.07 s to import, so it is not used everywhere

        try:
            return lock_descriptor(handle, blocking=False)
        except OSError as error:
            if error.errno == errno.ENOSYS:  # a system without any locks
                return True
            raise
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, durable."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders, and keeps its names by itself
    handle = os.open(path, (os.O_RDWR if os.name == "nt" else os.O_RDONLY) | _flag("O_BINARY"))
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
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFullError(
            f"{folder}: {size_text(needed)} needed, {size_text(free)} free: what is finished is kept; "
            "free some space and run the same command again"
        )
