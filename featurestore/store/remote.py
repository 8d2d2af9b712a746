"""Feature files at ``https://`` and ``s3://`` addresses: copied to this machine once, and again when they change.

Copies lie in ``$XDG_CACHE_HOME/featurestore`` (by default ``~/.cache/featurestore``), each in a folder called after its
content digest; deleting any of it costs a download. Beside them stands, per address, what the server said of the file
when it was copied: a server that now says the same is not asked for the file again.

No server is asked that the user did not name: neither at an address that a file names, nor a host to which a server
redirects. A server gets no more of the disk than it announced, and no more time than a slow line needs.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from featurestore.errors import AddressError, DiskFullError, StoreError
from featurestore.store import file_format, shards
from featurestore.system import documents
from featurestore.system.addresses import cannot_be_had, check_address, file_system, patiently
from featurestore.system.files import check_space, is_full, locked, sync, write_error, write_whole
from featurestore.system.stamps import horizon
from featurestore.system.transfer import Downloads
from featurestore.system.user_cache import cache_folder

_ADDRESS = re.compile(r"(https?|s3):/+")
_VERSION = ("size", "ETag", "Last-Modified", "LastModified", "VersionId")
"""The parts of a server's answer that change when the file does."""
_DRAFT = "download-"
_PATIENCE_SECONDS, _LEAST_BYTES = 60, 2**20
"""At least so many bytes must come in each such time: a file of 1 GB may take 17 hours, a silent server a minute."""


class Recorded(str):
    """A path or address that a file names. Whoever made the file chose it, so no server at such an address is asked."""

    __slots__ = ()


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Tell whether `path` is an address that :func:`local_copy` takes."""
    return _ADDRESS.match(os.fspath(path)) is not None


def local_copy(address: str | os.PathLike[str], check: Callable[[Path], str]) -> Path:
    """Return the path of a local copy of the file at `address`, as it is there now.

    Args:
        address: what :func:`is_remote` accepts.
        check: raises a StoreError for a file that is not to be trusted, and gives the content digest of any other.

    Raises:
        StoreError: there is no such file, it cannot be had, or `check` refused it; nothing of it is kept. Or the
            address is :class:`Recorded`, or one of plain http; then nobody is asked.
        DiskFullError: it is larger than the free disk.
        MissingDependencyError: the extra is not installed.
    """
    if isinstance(address, Recorded):
        raise StoreError(
            f"{address}: not contacted, because only a file names this address: if you trust it, name it "
            "yourself, as with --features"
        )
    # A Path has turned two slashes into one.
    address = _ADDRESS.sub(r"\1://", os.fspath(address), count=1)
    check_address(address)
    name = (
        file_format.safe_name(urlsplit(address).path.rpartition("/")[2]).removesuffix(file_format.SUFFIX)
        + file_format.SUFFIX
    )
    note = cache_folder() / f"{hashlib.sha256(address.encode()).hexdigest()[:32]}.json"
    before = horizon()
    files, size, version = _ask(address)
    with suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(note.read_bytes())
        copy = cache_folder() / str(known["digest"]) / name
        if known["version"] == version and copy.is_file():
            return copy
    copy = _download(files, address, size, name, check)
    if _tells_versions_apart(version, before):
        write_whole(note, json.dumps({"version": version, "digest": copy.parent.name}).encode())
    return copy


def local_folder(address: str | os.PathLike[str], check: Callable[[Path], str]) -> Path:
    """Return the path of a local copy of the folder of shards at `address`, as it is there now.

    Raises:
        StoreError, DiskFullError, MissingDependencyError: see :func:`local_copy`.
        CorruptFileError: its index is none.
    """
    if isinstance(address, Recorded):
        return local_copy(address, check)  # which says that nobody is asked
    address = _ADDRESS.sub(r"\1://", os.fspath(address), count=1).rstrip("/")
    check_address(address)
    cache_folder().mkdir(parents=True, exist_ok=True)
    with _draft() as draft:
        try:
            Downloads().get(f"{address}/{shards.INDEX}", draft, documents.LIMIT)
        except AddressError as error:
            raise StoreError(
                f"{address}: no folder of shards there ({error}): its extraction is under way, or check the address"
            ) from error
        raw = draft.read_bytes()
    name = file_format.safe_name(urlsplit(address).path.rpartition("/")[2])
    folder = cache_folder() / hashlib.sha256(raw).hexdigest() / name
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / shards.INDEX, raw)
    for entry in shards.read_index(folder).shards:
        copy, path = local_copy(f"{address}/{entry.file}", check), folder / entry.file
        with suppress(FileExistsError):
            os.link(copy, path)
        if not path.samefile(copy):  # it has been replaced since
            path.unlink()
            os.link(copy, path)
    return folder


def _ask(address: str) -> tuple[Any, int, dict[str, str]]:
    """Ask the server: return its file system, and the size of this file and what tells its version."""
    files = file_system(address, 1)
    try:
        info = _patiently(files, files._info(address), address, lambda: 0)
    except Exception as error:  # each file system has errors of its own
        raise _cannot_be_had(address, error) from error
    if info.get("size") is None or info.get("type") != "file":
        raise StoreError(f"{address}: no file of a known size: give the address of one feature file")
    if (size := int(info["size"])) <= 0:
        raise StoreError(f"{address}: an empty file, and no feature file: upload it again, or check the address")
    return files, size, {key: str(info[key]) for key in _VERSION if info.get(key)}


def _patiently(files: Any, work: Coroutine[Any, Any, Any], address: str, came: Callable[[], int]) -> Any:
    return patiently(files, work, address, came, (_PATIENCE_SECONDS, _LEAST_BYTES))


class _Counter:
    """A callback for fsspec that stops a download which brings more bytes than were announced."""

    def __init__(self, address: str, most: int) -> None:
        self.came, self._address, self._most = 0, address, most

    def set_size(self, size: int | None) -> None:
        """Ignore the size that a second answer announces; the first one counts."""

    def relative_update(self, more: int = 1) -> None:
        """Count bytes that have come and are written."""
        self.came += more
        if self.came > self._most:
            raise StoreError(
                f"{self._address}: more came than the {self._most:,} bytes that were announced: try again, if you "
                "trust this server"
            )


def _download(files: Any, address: str, size: int, name: str, check: Callable[[Path], str]) -> Path:
    """Copy under a temporary name, check, and only then put the copy in its place."""
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        _remove_abandoned()
        try:
            check_space(cache_folder(), size)
        except DiskFullError as error:
            raise DiskFullError(f"{address} announces more than fits: {error}") from error
        with _draft() as draft:
            counter = _Counter(address, size)
            try:
                work = files._get_file(address, str(draft), callback=counter)
                _patiently(files, work, address, lambda: counter.came)
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
        if is_full(error):
            raise write_error(cache_folder(), error) from error
        raise StoreError(
            f"{cache_folder()}: cannot keep a copy of {address} here ({error.strerror}): set XDG_CACHE_HOME to "
            "another folder"
        ) from error


@contextmanager
def _draft() -> Iterator[Path]:
    """Give the path of a new file, with a lock beside it for as long as this process lives and needs it."""
    path = cache_folder() / f"{_DRAFT}{uuid.uuid4().hex}{file_format.SUFFIX}"
    with locked(_lock_of(path)):
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _lock_of(draft: Path) -> Path:
    return draft.with_name(f".{draft.name}.lock")


def _remove_abandoned() -> None:
    """Delete what killed downloads have left."""
    for path in cache_folder().glob(f"{_DRAFT}*"):
        if path.is_dir():  # an earlier version made folders, and locked nothing
            shutil.rmtree(path, ignore_errors=True)
            continue
        with suppress(OSError), locked(_lock_of(path)):
            path.unlink()


def _tells_versions_apart(version: dict[str, str], before: int) -> bool:
    """Tell whether what a server says of a file changes with it: a date in seconds does not, if it has just changed."""
    if "ETag" in version or "VersionId" in version:
        return True
    with suppress(KeyError, ValueError):
        return parsedate_to_datetime(version["Last-Modified"]).timestamp() * 1e9 < before
    return False


def _cannot_be_had(address: str, error: Exception) -> Exception:
    """Return the error to raise for what a file system raised; a failed write is left as it is."""
    return error if is_full(error) else cannot_be_had(address, error)
