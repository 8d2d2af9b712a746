"""One writer per store folder: a locked file ``LOCK``, which the system unlocks however a process ends."""

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
from featurestore.system.files import lock_handle, open_own, write_error
from featurestore.system.printing import printable

LOCK_NAME = "LOCK"
PATIENCE_SECONDS = 2.0
"""How long to wait for a writer that is just ending."""


@dataclass(frozen=True)
class _Holder:
    pid: int
    host: str


@contextmanager
def store_lock(folder: Path, name: str = LOCK_NAME, patience: float = PATIENCE_SECONDS) -> Iterator[int]:
    """Create `folder` if need be, hold its lock, and give the handle that holds it.

    Args:
        folder: the store, or a folder of shards in it.
        name: of the lock's file; each shard has one of its own.
        patience: seconds to wait for another process.

    Raises:
        StoreLockedError: another process holds it; the message names that process.
        WriteError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = open_own(folder / name, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise write_error(folder / name, error) from error
    try:
        _acquire(handle, folder, patience)
        # Only a hint for the message above: the lock itself is the system's.
        with suppress(OSError):
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        yield handle
    finally:
        os.close(handle)


def _acquire(handle: int, folder: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not lock_handle(handle):
        if time.monotonic() > deadline:
            raise StoreLockedError(
                f"{folder}: {_holder(handle)} is writing to this store: wait until it ends, "
                "or use another folder with --store"
            )
        time.sleep(0.05)


def _holder(handle: int) -> str:
    try:
        who = parse(os.read(handle, 4096), _Holder)
    except (OSError, ValueError):
        return "another process"
    return f"process {who.pid} on {printable(who.host)}"
