"""The folder of what can be made again, and of that a part which nobody else can write to."""

import os
import stat
from contextlib import suppress
from pathlib import Path


def cache_folder() -> Path:
    """Return the user's folder of caches of this program: ``$XDG_CACHE_HOME/featurestore``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "featurestore"


def private(folder: Path) -> Path | None:
    """Return a folder that this user owns and nobody else can enter, made if need be; None where it is not so.

    What lies there was put there by this user, as far as the system knows. (Windows keeps a profile's folders private
    by itself, and tells no modes.)
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    mine = not hasattr(os, "geteuid") or (found.st_uid == os.geteuid() and not found.st_mode & 0o077)
    return folder if stat.S_ISDIR(found.st_mode) and mine else None


def shrink(folder: Path, limit: int) -> None:
    """Delete the files of a folder that were used longest ago, until the others take no more than `limit` bytes."""
    files = []
    for path in folder.iterdir():
        with suppress(OSError):  # another process has deleted it
            files.append((path.lstat().st_mtime_ns, path.lstat().st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= limit:
            return
        with suppress(OSError):
            path.unlink()
            total -= size
