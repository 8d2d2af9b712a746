"""Copies of images from addresses on this machine's disk, so that none is fetched twice as long as there is room.

An image is needed twice: to know what it is, and to compute its features; and again for the next backbone, or for a
report. Copies are called by what they hold, so that they are good wherever they came from, and who reads one checks
that. They lie in ``$XDG_CACHE_HOME/featurestore/images``; deleting any of it costs a download.
"""

import os
import shutil
import threading
import time
import uuid
import weakref
from contextlib import ExitStack, suppress
from pathlib import Path

from featurestore.errors import SourceError
from featurestore.system.files import locked, why
from featurestore.system.user_cache import cache_folder

ROOM = "FEATURESTORE_IMAGE_CACHE_GB"
"""Environment variable: gigabytes that the copies may take; 0 for none that stay."""

_ROOM_GB = 10.0
_SHARE = 4
"""Of the disk that is free, or taken by copies, they take at most one part in so many."""
_WAITING = "run-"


class Copies:
    """Copies that are kept, and those that only wait to be read: there may be no room for all.

    A process has a folder for those that wait, with a lock beside it: what a killed process left is deleted.
    """

    def __init__(self) -> None:
        self._folder = cache_folder() / "images"
        self._started = time.time()
        self._left: int | None = None
        self._old: list[tuple[float, int, str]] = []
        self._turn = threading.Lock()
        with ExitStack() as stack:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._remove_abandoned()
                self._waiting = self._folder / f"{_WAITING}{uuid.uuid4().hex}"
                stack.enter_context(locked(_lock_of(self._waiting)))
                stack.callback(shutil.rmtree, self._waiting, ignore_errors=True)
                self._waiting.mkdir()
            except OSError as error:
                raise SourceError(
                    f"{self._folder}: images cannot be copied here ({why(error)}): set XDG_CACHE_HOME to another folder"
                ) from error
            weakref.finalize(self, stack.pop_all().close)

    def find(self, digest: str) -> str | None:
        """Return the path of the copy of an image, if there is one."""
        kept = self._kept(digest)
        with suppress(OSError):
            os.utime(kept)  # it was used now
            return kept
        waiting = f"{self._waiting}/{digest}"
        return waiting if os.path.exists(waiting) else None  # noqa: PTH110 (many times faster than a Path)

    def draft(self) -> str:
        """Return the path of a file to be."""
        return f"{self._waiting}/{uuid.uuid4().hex}.part"

    def take(self, draft: str, digest: str, *, wait: bool = False, keep: bool = True) -> None:
        """Keep what was copied, if there is room.

        Args:
            draft: the copy; it is moved, or deleted.
            digest: of what it holds.
            wait: where there is no room, let it wait until it is read.
            keep: False to let it wait in any case; then it may be called by another name than its digest.
        """
        kept = self._kept(digest)
        if os.path.exists(kept):  # noqa: PTH110
            os.unlink(draft)  # noqa: PTH108
            return
        with self._turn:
            fits = keep and self._makes_room(os.stat(draft).st_size)  # noqa: PTH116
        if fits:
            os.makedirs(os.path.dirname(kept), exist_ok=True)  # noqa: PTH103, PTH120
            os.replace(draft, kept)  # noqa: PTH105
        elif wait:
            os.replace(draft, f"{self._waiting}/{digest}")  # noqa: PTH105
        else:
            os.unlink(draft)  # noqa: PTH108

    def done(self, digest: str) -> None:
        """Delete a copy that only waited to be read."""
        with suppress(OSError):
            os.unlink(f"{self._waiting}/{digest}")  # noqa: PTH108

    def forget(self, digest: str) -> bool:
        """Delete a copy that turned out to be damaged; return whether there was one."""
        there = False
        for path in (self._kept(digest), f"{self._waiting}/{digest}"):
            with suppress(OSError):
                os.unlink(path)  # noqa: PTH108
                there = True
        return there

    def _kept(self, digest: str) -> str:
        return f"{self._folder}/{digest[:2]}/{digest}"

    def _makes_room(self, size: int) -> bool:
        """Take room for a copy; those that no run has used since this one began make way."""
        if self._left is None:
            self._left = self._room()
        while self._left < size and self._old:
            _, freed, path = self._old.pop()
            with suppress(OSError):
                if os.stat(path).st_mtime < self._started:  # noqa: PTH116
                    os.unlink(path)  # noqa: PTH108
                    self._left += freed
        if self._left < size:
            return False
        self._left -= size
        return True

    def _room(self) -> int:
        """Look at the copies that are there; return the bytes that more of them may take."""
        for folder in self._folder.glob("[0-9a-f][0-9a-f]"):
            with suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(OSError):
                        found = entry.stat()
                        self._old.append((found.st_mtime, found.st_size, entry.path))
        self._old.sort(reverse=True)
        taken = sum(size for _, size, _ in self._old)
        try:
            most = float(os.environ.get(ROOM, _ROOM_GB)) * 1e9
        except ValueError:
            raise SourceError(f"{ROOM}={os.environ[ROOM]!r}: give a number of gigabytes, or 0") from None
        return int(min(most, (shutil.disk_usage(self._folder).free + taken) / _SHARE)) - taken

    def _remove_abandoned(self) -> None:
        """Delete what killed processes have left."""
        for path in self._folder.glob(f"{_WAITING}*"):
            with suppress(OSError), locked(_lock_of(path)):
                shutil.rmtree(path, ignore_errors=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")
