"""Feature files at ``https://`` and ``s3://`` addresses: copied to this machine once, and again when they change.

Copies lie in ``$XDG_CACHE_HOME/featurestore`` (by default ``~/.cache/featurestore``), each in a folder called after its
content digest; deleting any of it costs a download. Beside them stands, per address, what the server said of the file
when it was copied: a server that now says the same is not asked for the file again.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from featurestore import layout
from featurestore.errors import StoreError, missing
from featurestore.journal import disk_error
from featurestore.stamps import horizon
from featurestore.system.files import sync, write_whole

_ADDRESS = re.compile(r"(https?|s3):/+")
_VERSION = ("size", "ETag", "Last-Modified", "LastModified", "VersionId")
"""What of a server's answer changes when the file does."""
_CONNECT_SECONDS, _READ_SECONDS = 15, 60


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether it is an address that :func:`local_copy` takes."""
    return _ADDRESS.match(os.fspath(path)) is not None


def cache_folder() -> Path:
    """Where copies lie."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "featurestore"


def local_copy(address: str | os.PathLike[str], check: Callable[[Path], str]) -> Path:
    """The path of a copy of the file at `address`, as it is there now.

    Args:
        address: what :func:`is_remote` accepts.
        check: raises a StoreError for a file that is not to be trusted, and gives the content digest of any other.

    Raises:
        StoreError: there is no such file, it cannot be had, or `check` refused it; nothing of it is kept.
        MissingDependencyError: the extra is not installed.
    """
    # A Path has made one slash of two.
    address = _ADDRESS.sub(r"\1://", os.fspath(address), count=1)
    name = layout.safe_name(urlsplit(address).path.rpartition("/")[2]).removesuffix(layout.SUFFIX) + layout.SUFFIX
    note = cache_folder() / f"{hashlib.sha256(address.encode()).hexdigest()[:32]}.json"
    before = horizon()
    files, version = _ask(address)
    with suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(note.read_bytes())
        copy = cache_folder() / str(known["digest"]) / name
        if known["version"] == version and copy.is_file():
            return copy
    copy = _download(files, address, int(version["size"]), name, check)
    if _tells_versions_apart(version, before):
        write_whole(note, json.dumps({"version": version, "digest": copy.parent.name}).encode())
    return copy


def _ask(address: str) -> tuple[Any, dict[str, str]]:
    """A way to the server's files, and what it says of this one."""
    options: dict[str, Any] = {}
    try:
        import fsspec

        if not address.startswith("s3:"):
            from aiohttp import ClientTimeout

            timeout = ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
            options = {"client_kwargs": {"timeout": timeout}}
        files, _ = fsspec.url_to_fs(address, **options)
        info = files.info(address)
    except ImportError as error:
        raise missing(f"reading {address}", "fsspec or a part of it", "remote") from error
    except Exception as error:  # each file system has errors of its own
        raise _cannot_be_had(address, error) from error
    if info.get("size") is None or info.get("type") != "file":
        raise StoreError(f"{address}: no file of a known size: give the address of one feature file")
    return files, {key: str(info[key]) for key in _VERSION if info.get(key)}


def _download(files: Any, address: str, size: int, name: str, check: Callable[[Path], str]) -> Path:
    """Copy under a temporary name, check, and only then put the copy in its place."""
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="download-") as folder:
            draft = Path(folder) / name
            try:
                files.get_file(address, str(draft))
            except Exception as error:
                raise _cannot_be_had(address, error) from error
            if draft.stat().st_size != size:
                raise StoreError(f"{address}: {draft.stat().st_size:,} of {size:,} bytes came: try again")
            try:
                digest = check(draft)
            except StoreError as error:
                raise type(error)(str(error).replace(str(draft), address)) from error
            sync(draft)
            target = cache_folder() / digest / name
            target.parent.mkdir(exist_ok=True)
            draft.replace(target)
            sync(target.parent)
            return target
    except OSError as error:
        if (full := disk_error(cache_folder(), error)) is not error:
            raise full from error
        raise StoreError(
            f"{cache_folder()}: cannot keep a copy of {address} here ({error.strerror}): set XDG_CACHE_HOME to "
            "another folder"
        ) from error


def _tells_versions_apart(version: dict[str, str], before: int) -> bool:
    """Not every server gives ETags; and a date alone, in seconds, says little about a file that has just changed."""
    if "ETag" in version or "VersionId" in version:
        return True
    with suppress(KeyError, ValueError):
        return parsedate_to_datetime(version["Last-Modified"]).timestamp() * 1e9 < before
    return False


def _cannot_be_had(address: str, error: Exception) -> Exception:
    """What to raise for whatever a file system raised; a failed write is left as it is."""
    if isinstance(error, OSError) and disk_error(Path(address), error) is not error:
        return error
    cause = error.__cause__ or error
    status = getattr(cause, "status", None)
    if status == 404 or (cause is error and isinstance(error, FileNotFoundError)):
        return StoreError(f"{address}: no such file there: check the address")
    reason = f"the server says {status}" if status else " ".join(str(cause).split()) or type(cause).__name__
    return StoreError(f"{address}: cannot be had ({reason}): check the address, your access rights and the network")
