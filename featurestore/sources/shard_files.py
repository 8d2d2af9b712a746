"""Data sets of several files: which files an address means, what their names say, and how any place in them is read."""

import glob
import io
import itertools
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from featurestore.errors import SourceError
from featurestore.images.decode import IMAGE_SUFFIXES
from featurestore.sources.remote_file import Reach, RemoteFile
from featurestore.sources.remote_folder import globbed
from featurestore.sources.split_names import split_in_file_name, split_of
from featurestore.sources.tree import OUTSIDE, inside
from featurestore.system import documents
from featurestore.system.addresses import is_address, server
from featurestore.system.files import open_regular, read_regular, why
from featurestore.system.stamps import stamp_of

_RANGE = re.compile(r"\{(?:(\d{1,18})\.\.(\d{1,18})|([^{}]*,[^{}]*))\}")
_MOST = 10**6
"""Files that a pattern may name."""

_OPEN = 64
"""Files of a data set that are open at a time."""

_CLASS_FILES = ("classes.txt", "classnames.txt")
_INFO_FILE = "dataset_info.json"
_NAMES_LIMIT = 64 * 2**20
_ENTRIES = 100_000
"""Names of a folder that are looked at, at most, to tell whether it holds such files."""


# --------------------------------------------------------------------------------------- reading at any place of a file


class RandomAccess(Protocol):
    """A file that is read at any place, by many threads at once.

    Attributes:
        size: of the file in bytes.
        stamp: see :mod:`featurestore.system.stamps`; empty where nothing tells whether the file has changed.
    """

    size: int
    stamp: bytes

    def read(self, start: int, length: int) -> bytes:
        """Return the bytes from a place on: fewer than asked for only at the file's end.

        Raises:
            OSError: they cannot be read.
        """


class _LocalFile:
    """A file of this machine, see :class:`RandomAccess`."""

    def __init__(self, path: str) -> None:
        self._file = open_regular(path)
        status = os.fstat(self._file.fileno())
        self.size, self.stamp = status.st_size, stamp_of(status)
        self._turn = threading.Lock()

    def read(self, start: int, length: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), length, start)
        with self._turn:  # Windows has one place in a file for all threads
            self._file.seek(start)
            return self._file.read(length)


def open_file(address: str, reach: Reach | None = None) -> RandomAccess:
    """Open a file for reading at any place.

    Args:
        address: of the file.
        reach: what it shares with other files on servers.

    Raises:
        OSError: it cannot be read.
        AddressError: its server may not be asked, or is down.
    """
    return RemoteFile(address, reach or Reach()) if is_address(address) else _LocalFile(address)


class Stream(io.RawIOBase):
    """A file for libraries that read one from a place that they seek."""

    def __init__(self, file: RandomAccess) -> None:
        super().__init__()
        self._access, self._at = file, 0

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that any place can be sought."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._access.size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read what is next."""
        data = self._access.read(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class OpenFiles:
    """Files of a data set, opened when they are first read; those that were read last stay open.

    It is sent to other processes as the addresses alone.

    Args:
        addresses: of the files, which are called by their number here.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = list(addresses)
        self._open: OrderedDict[int, RandomAccess] = OrderedDict()
        self._turn = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return OpenFiles, (self.addresses,)

    @cached_property
    def remote(self) -> bool:
        """Whether any of them is on a server."""
        return any(map(is_address, self.addresses))

    @cached_property
    def _reach(self) -> Reach | None:
        return Reach(len(set(map(server, filter(is_address, self.addresses))))) if self.remote else None

    def __getitem__(self, number: int) -> RandomAccess:
        """Return a file; it is closed when nobody has it any more.

        Raises:
            OSError: it cannot be opened.
        """
        with self._turn:
            file = self._open.get(number)
            if file is not None:
                self._open.move_to_end(number)
                return file
        file = open_file(self.addresses[number], self._reach)
        with self._turn:
            self._open[number] = file
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)
        return file

    def some(self, numbers: Sequence[int]) -> "OpenFiles":
        """Return these files alone, by addresses that hold in any working directory."""
        return OpenFiles([anywhere(self.addresses[number]) for number in numbers])


def anywhere(address: str) -> str:
    """Return an address that means the same in any working directory."""
    return address if is_address(address) else str(Path(address).absolute())


# ------------------------------------------------------------------------------------------------ which files there are


@dataclass(frozen=True)
class ShardFiles:
    """The files of a data set.

    Attributes:
        where: what the user wrote, for messages.
        addresses: of the files.
        names: of the files, by which samples are called: their addresses below the folder that all are in.
    """

    where: str
    addresses: list[str]
    names: list[str]

    def splits(self) -> list[str]:
        """Return the split that the name of each file, or of a folder above it, says; all "" if none says one.

        Raises:
            SourceError: some are called like a split, and others are not.
        """
        found = [_split(name) for name in self.names]
        if any(found) and not all(found):
            named, other = self.names[[*map(bool, found)].index(True)], self.names[found.index("")]
            raise SourceError(
                f"{self.where}: {named} is called like a split, and {other} is not: call all files after their "
                "splits, as in train-000, validation-000 and test-000, or give those alone that are"
            )
        return found

    def class_names(self) -> tuple[str, tuple[str, ...]]:
        """Return the file beside the data set that names its classes, and the names; "" and none if there is no such
        file.

        It is ``classes.txt`` or ``classnames.txt`` with one name a line, or a ``dataset_info.json`` of Hugging Face:
        beside the files, or in the folder above.

        Raises:
            SourceError: it cannot be read, or a name stands twice.
        """
        folders = {address.rpartition("/")[0]: None for address in self.addresses}
        above = {folder.rpartition("/")[0]: None for folder in folders if "/" in folder}
        for folder, name in itertools.product({**folders, **above}, (*_CLASS_FILES, _INFO_FILE)):
            path = f"{folder}/{name}" if folder else name
            if "://" not in path and os.path.isfile(path):  # noqa: PTH113 (an address)
                return path, _class_names(path)
        return "", ()


def has_suffix(where: str, suffixes: tuple[str, ...]) -> bool:
    """Tell whether the name of a file ends so, whatever the query of an address is."""
    return (where.partition("?")[0] if is_address(where) else where).lower().endswith(suffixes)


def is_pattern(where: str) -> bool:
    """Tell whether an address has a brace range or a wild card."""
    if is_address(where):  # a query begins with a question mark
        return bool(_RANGE.search(where)) or "*" in where
    return bool(_RANGE.search(where)) or glob.has_magic(where)


def holds_only(where: str, suffix: str) -> bool:
    """Tell whether a folder, or each folder in it, holds files of this suffix, and no images.

    Of a folder inside, the first names are looked at: there may be a million images.
    """
    try:
        there, folders = _kinds(where, suffix)
        return bool(there or folders) and all(
            inside and not deeper for inside, deeper in (_kinds(folder, suffix) for folder in folders)
        )
    except (OSError, _ImagesError):
        return False


class _ImagesError(Exception):
    """A folder holds images."""


def _kinds(folder: str, suffix: str) -> tuple[bool, list[str]]:
    """Return whether a folder itself holds files of a suffix, and the folders in it."""
    found, folders = False, []
    with os.scandir(folder) as entries:
        for entry in itertools.islice(entries, _ENTRIES):
            end = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 (there may be many)
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.path)
            elif end in IMAGE_SUFFIXES:
                raise _ImagesError
            found |= end == suffix
    return found, folders


def shard_files(where: str, suffix: str, *, contained: bool = False) -> ShardFiles:
    """Find the files that an address means: one, those in a folder, or those that a pattern names.

    Args:
        where: a file; a folder, for all files of the suffix below it; a glob (``train-*.tar``), where ``**`` is any
            number of folders; or a brace range (``train-{000..129}.tar``, ``{train,test}.tar``), whose files must all
            be there.
        suffix: of the files, such as ``.tar``.
        contained: refuse symlinks that lead out of the folder that all are in.

    Raises:
        SourceError: there are none, or one leads out of the folder.
    """
    if os.path.isdir(where):  # noqa: PTH112 (an address)
        pattern = f"{glob.escape(where.rstrip('/'))}/**/*"
        addresses = [path for path in _globbed(pattern) if path.lower().endswith(suffix)]
        above = where.rstrip("/")
    elif os.path.lexists(where) or not is_pattern(where):
        addresses, above = [where], where.rpartition("/")[0]
    else:
        addresses = [*itertools.chain.from_iterable(_globbed(each) for each in _expanded(where))]
        above = re.split(r"[{*?\[]", where, maxsplit=1)[0].rpartition("/")[0]
    if not addresses:
        raise SourceError(f"{where}: no {suffix} file is there, or is called so: give a file, a folder or a pattern")
    addresses = sorted(dict.fromkeys(addresses))
    names = [address[len(above) :].lstrip("/") for address in addresses]
    if is_address(where):
        return ShardFiles(where, addresses, [name.partition("?")[0] for name in names])
    if contained:
        stays = inside(Path(above))
        if out := [name for name in names if not stays(name)]:
            raise SourceError(f"{where}: {out[0]} {OUTSIDE}")
    return ShardFiles(where, addresses, names)


def shards_name(where: str) -> str:
    """Return the name of a data set of several files: that of the folder, or of the files without numbers and suffix.

    Example:
        >>> shards_name("data/pets-{000..129}.tar"), shards_name("data/*.tar")
        ('pets', 'data')
    """
    if os.path.isdir(where):  # noqa: PTH112 (an address)
        return Path(where).resolve().name
    folder, _, file = where.rpartition("/")
    if os.path.lexists(where) or not is_pattern(where):
        return os.path.splitext(file)[0]  # noqa: PTH122 (an address)
    plain = re.split(r"[{*?\[]", where, maxsplit=1)[0]
    folder, _, start = plain.rpartition("/")
    return start.strip("-_. ") or folder.rpartition("/")[2] or Path(folder).resolve().name


def _expanded(where: str) -> Iterator[str]:
    """Give the addresses that the brace ranges of a pattern stand for, as a shell does."""
    found = _RANGE.search(where)
    if found is None:
        yield where
        return
    first, last, words = found.groups()
    if words is None:
        low, high = int(first), int(last)
        if not 0 <= high - low < _MOST:
            raise SourceError(f"{where}: {found[0]} names no files, or more than {_MOST:,}: write it as {{000..129}}")
        padded = any(len(end) > 1 and end.startswith("0") for end in (first, last))
        width = max(len(first), len(last)) if padded else 0
        parts: Iterator[str] = (str(number).zfill(width) for number in range(low, high + 1))
    else:
        parts = iter(words.split(","))
    for part in parts:
        yield from _expanded(where[: found.start()] + part + where[found.end() :])


def _globbed(pattern: str) -> list[str]:
    """Return the files that a pattern without brace ranges names; a plain name stands for itself, there or not."""
    if is_address(pattern):
        return globbed(pattern) if "*" in pattern else [pattern]
    return glob.glob(pattern, recursive=True) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207 (an address)


def _split(name: str) -> str:
    *folders, file = name.split("/")
    return next(filter(None, map(split_of, reversed(folders))), None) or split_in_file_name(file) or ""


def _class_names(path: str) -> tuple[str, ...]:
    try:
        if path.endswith(_INFO_FILE):
            features = documents.read(path, dict[str, Any]).get("features") or {}
            names = class_label_names(features)
        else:
            text = read_regular(path, _NAMES_LIMIT).decode("utf-8-sig", "surrogateescape")
            names = tuple(line.strip() for line in text.splitlines() if line.strip())
    except OSError as error:
        raise SourceError(f"{path}: {why(error)}") from error
    except ValueError as error:
        raise SourceError(f"{path}: {error}: correct it, or take it away") from error
    return different(names, path)


def different(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Return class names, if all can be written and no two are the same; else raise a SourceError."""
    for name in names:
        if "\0" in name or any(
            "\ud800" <= letter <= "\udfff" and not "\udc80" <= letter <= "\udcff" for letter in name
        ):
            raise SourceError(f"{where}: class name {name!r} is no text: correct it")
    if len(set(names)) < len(names):
        twice = next(each for each in names if names.count(each) > 1)
        raise SourceError(f"{where}: class name {twice!r} stands twice: each class needs its own")
    return names


def class_label_names(features: Any, column: str | None = None) -> tuple[str, ...]:
    """Return the class names that the features of a Hugging Face data set tell: of a column, or of the only one with
    classes; none if they tell none.
    """
    labels = {
        key: tuple(map(str, each["names"]))
        for key, each in (features.items() if isinstance(features, dict) else ())
        if isinstance(each, dict) and each.get("_type") == "ClassLabel" and isinstance(each.get("names"), list)
    }
    if column is not None:
        return labels.get(column, ())
    return next(iter(labels.values())) if len(labels) == 1 else ()
