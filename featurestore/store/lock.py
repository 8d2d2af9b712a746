"""One writer per store folder: a file ``LOCK`` under ``flock``, which the kernel frees however a process ends."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from featurestore.errors import StoreLockedError
from featurestore.system.documents import parse
from featurestore.system.files import open_own, write_error
from featurestore.system.printing import printable

LOCK_NAME = "LOCK"
PATIENCE_SECONDS = 2.0
"""How long to wait for a writer that is just ending."""


@dataclass(frozen=True)
class _Holder:
    pid: int
    host: str


@contextmanager
def store_lock(folder: Path) -> Iterator[int]:
    """Create `folder` if need be, hold its lock, and give the handle that holds it.

    Raises:
        StoreLockedError: another process holds it; the message names that process.
        WriteError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = open_own(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise write_error(folder / LOCK_NAME, error) from error
    try:
        _acquire(handle, folder)
        # Only a hint for the message above: the lock itself is the kernel's.
        with suppress(OSError):
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        yield handle
    finally:
        os.close(handle)


def _acquire(handle: int, folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StoreLockedError(
                    f"{folder}: {_holder(handle)} is writing to this store: wait until it ends, "
                    "or use another folder with --store"
                ) from None
            time.sleep(0.05)


def _holder(handle: int) -> str:
    try:
        who = parse(os.pread(handle, 4096, 0), _Holder)
    except (OSError, ValueError):
        return "another process"
    return f"process {who.pid} on {printable(who.host)}"
