"""Files at addresses that are read at any place, such as tars: a block at a time, each fetched once.

A block that was fetched lies beside the copies of images (:mod:`featurestore.sources.copies`), called by the file's
address, what the server says of the file's version, and the block's number.
"""

import errno
import hashlib
import os
import threading
import uuid
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from typing import BinaryIO

from featurestore.errors import AddressError, ServerError
from featurestore.sources.copies import Copies
from featurestore.system.addresses import check_address
from featurestore.system.transfer import Downloads

BLOCK = 4 * 2**20
"""Bytes that are asked for at a time: some forty photographs, so that a request's latency is a small part."""

_AHEAD = 4
"""Blocks that are fetched ahead of who reads a file from its beginning to its end."""

_WAITING = 64
"""Blocks for which there is no room on the disk, and which wait there nevertheless, at most."""


class Reach:
    """What files at addresses share: connections, copies, and the blocks that are on their way."""

    def __init__(self, servers: int = 1) -> None:
        self.downloads, self._copies = Downloads(servers), Copies()
        self._under_way: dict[str, threading.Lock] = {}
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._turn = threading.Lock()

    @cached_property
    def pool(self) -> ThreadPoolExecutor:
        """Threads that fetch ahead."""
        return ThreadPoolExecutor(_AHEAD, thread_name_prefix="ahead")

    def read(self, file: "RemoteFile", number: int, start: int, length: int) -> bytes:
        """Return a part of a block, which is fetched if it is not here.

        Raises:
            AddressError, ServerError: see :meth:`featurestore.system.transfer.Downloads.get`.
            OSError: the file has changed; or the disk is full.
        """
        with self.bring(file, number) as block:
            block.seek(start)
            return block.read(length)

    def bring(self, file: "RemoteFile", number: int) -> BinaryIO:
        """Have a block here, and open it."""
        key = file.key(number)
        if block := self._opened(key):
            return block
        with self._turn:
            lock = self._under_way.setdefault(key, threading.Lock())
        with lock:
            block = self._opened(key) or self._fetched(file, number, key)
        with self._turn:
            self._under_way.pop(key, None)
            self._waiting[key] = None
            if len(self._waiting) > _WAITING:
                self._copies.done(self._waiting.popitem(last=False)[0])
        return block

    def _opened(self, key: str) -> BinaryIO | None:
        path = self._copies.find(key)
        with suppress(FileNotFoundError):  # another run may have made room
            return open(path, "rb", buffering=0) if path else None  # noqa: PTH123
        return None

    def _fetched(self, file: "RemoteFile", number: int, key: str) -> BinaryIO:
        draft, first = self._copies.draft(), number * BLOCK
        span = first, min(first + BLOCK, file.size)
        try:
            stamp = self.downloads.get(file.address, draft, BLOCK, span)
            if stamp != file.stamp:
                raise OSError(errno.EIO, "changed since it was opened")
            if os.stat(draft).st_size != span[1] - span[0]:  # noqa: PTH116
                raise OSError(errno.EIO, "its server gives other parts than it is asked for")
            self._copies.take(draft, key, wait=True)
        finally:
            with suppress(OSError):
                os.unlink(draft)  # noqa: PTH108
        block = self._opened(key)
        if block is None:
            raise OSError(errno.EIO, "its copy was deleted before it was read")
        return block


class RemoteFile:
    """A file at an address, see :class:`featurestore.sources.shard_files.RandomAccess`.

    Args:
        address: of the file.
        reach: to its server.

    Raises:
        OSError: it is not there, or cannot be had.
        AddressError: its address is none that may be asked.
        ServerError: its server is down.
    """

    def __init__(self, address: str, reach: Reach) -> None:
        check_address(address)
        self.address, self._reach = address, reach
        try:
            size, self.stamp = reach.downloads.look(address)
        except ServerError:
            raise
        except AddressError as error:
            raise OSError(errno.EIO, str(error)) from error
        if size is None:
            raise OSError(errno.EIO, "its server does not tell its size: copy it to this machine")
        self.size = size
        self._version = self.stamp.hex() or uuid.uuid4().hex
        self._recent = deque[int](maxlen=16)

    def key(self, number: int) -> str:
        """Return the name of a block among the copies."""
        return hashlib.sha256(f"block {BLOCK} {self.address} {self._version} {number}".encode()).hexdigest()

    def read(self, start: int, length: int) -> bytes:
        """Return the bytes from a place on: fewer than asked for only at the file's end.

        Raises:
            OSError: they cannot be had.
            ServerError: the server is down.
        """
        end, parts = min(start + length, self.size), []
        try:
            while start < end:
                number, at = divmod(start, BLOCK)
                self._read_ahead(number)
                part = self._reach.read(self, number, at, min(end - start, BLOCK - at))
                if not part:
                    raise OSError(errno.EIO, "ends too early")
                parts.append(part)
                start += len(part)
        except ServerError:
            raise
        except AddressError as error:
            raise OSError(errno.EIO, str(error)) from error
        return b"".join(parts)

    def _read_ahead(self, number: int) -> None:
        """Fetch the next blocks too, if the one before was read just now."""
        if number in self._recent:
            return
        self._recent.append(number)
        if number and number - 1 not in self._recent:
            return
        for ahead in range(number + 1, min(number + 1 + _AHEAD, -(-self.size // BLOCK))):
            self._reach.pool.submit(self._bring, ahead)

    def _bring(self, number: int) -> None:
        try:
            self._reach.bring(self, number).close()
        except (AddressError, OSError):
            return  # who reads that block will see
