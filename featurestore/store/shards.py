"""A data set of many rows: a folder of feature files and an index, read as one feature file.

The folder ``NAME--BACKBONE--FINGERPRINT.shards`` holds ordinary feature files (:mod:`featurestore.store.file_format`),
``00000.h5`` and so on, which are called shards, and ``index.json``, see :class:`Index`. Readers see the shards that
the index names: it is written last, so what a run that is under way, or was killed, has not finished is not seen. All
shards are of one spec and have the same class names; their rows stand one after the other.

An image may stand in two shards, in different splits. Each shard was written without a look at the others, so the index
says which rows of the weaker split do not count. It can be made again from the shards, and is, where one of them is no
longer the file that the index was made for.

To change the index, raise ``INDEX_VERSION`` and keep reading the old ones.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from featurestore.errors import CorruptFileError, StoreError
from featurestore.sources.splits import DUPLICATE, SPLITS
from featurestore.store import feature_file, file_format
from featurestore.store.feature_file import Contents
from featurestore.system import documents
from featurestore.system.files import write_whole

INDEX = "index.json"
INDEX_VERSION = 1
_FORMAT = "featurestore-shards"
_NAME = re.compile(r"\d{5,}\.h5")
_MOST_LISTED = 10**6
"""Repeats that an index lists; more are found anew by each reader."""


@dataclass(frozen=True)
class Entry:
    """A shard: the name of its file, the number of its rows, and its content digest."""

    file: str
    rows: int
    content_digest: str


@dataclass(frozen=True)
class Index:
    """What ``index.json`` holds.

    Attributes:
        format, format_version: ``featurestore-shards`` and 1.
        shards: in the order of their rows.
        repeats: numbers of rows, counted through all shards, that are left out because a stronger split holds the same
            image in another shard; None where they are too many to be listed.
    """

    shards: list[Entry]
    repeats: list[int] | None = field(default_factory=list)
    format: str = _FORMAT
    format_version: int = INDEX_VERSION


class JoinedRows:
    """Rows of several arrays (N₁, …), (N₂, …), … as one (N, …): what is asked for is read, the rest is not.

    Args:
        parts: arrays of one type and shape, but for their lengths, and the widths of texts.

    Example:
        >>> import numpy as np
        >>> rows = JoinedRows([np.zeros((2, 3)), np.ones((1, 3))])
        >>> rows.shape, rows[1:].tolist(), rows[[2, 0], 0].tolist()
        ((3, 3), [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], [1.0, 0.0])
    """

    def __init__(self, parts: Sequence[NDArray[Any]]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])
        self.dtype = np.result_type(*(part.dtype for part in parts))
        self.shape: tuple[int, ...] = (int(self._starts[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all rows would take in memory."""
        return math.prod(self.shape) * int(self.dtype.itemsize)

    def __getitem__(self, place: Any) -> Any:
        rows, more = (place[0], place[1:]) if isinstance(place, tuple) else (place, ())
        if isinstance(rows, int | np.integer):
            return self._rows(np.array([range(len(self))[rows]]))[(0, *more)]
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            found = self._between(start, stop) if step == 1 else self._rows(np.arange(start, stop, step))
        else:
            chosen = np.asarray(rows)
            found = self._rows(np.flatnonzero(chosen) if chosen.dtype == bool else chosen)
        return found[(slice(None), *more)] if more else found

    def _between(self, start: int, stop: int) -> NDArray[Any]:
        pieces = [
            part[max(start - first, 0) : max(stop - first, 0)]
            for first, part in zip(self._starts.tolist(), self._parts, strict=False)
            if first < stop and first + len(part) > start
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate([*pieces, np.empty((0, *self.shape[1:]), self.dtype)])

    def _rows(self, rows: NDArray[Any]) -> NDArray[Any]:
        rows = np.where(rows < 0, rows + len(self), rows).astype(np.intp)
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"rows from {rows.min()} to {rows.max()}, where there are {len(self)}")
        of = np.searchsorted(self._starts, rows, side="right") - 1
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for number in np.unique(of).tolist():
            here = of == number
            found[here] = self._parts[number][rows[here] - self._starts[number]]
        return found

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all rows into memory."""
        return np.asarray(self._between(0, len(self)), dtype)

    def reshape(self, *shape: Any) -> "JoinedRows":
        """Return the rows in another shape (N, …)."""
        rows, *sides = shape[0] if isinstance(shape[0], tuple) else shape
        if rows not in (-1, len(self)):
            raise ValueError(f"{len(self)} rows cannot become {rows}")
        return JoinedRows([part.reshape(len(part), *sides) for part in self._parts])


def is_sharded(path: Path) -> bool:
    """Tell whether a folder holds the shards of one data set, and is read as one feature file."""
    return os.path.isdir(path) and (path.suffix == file_format.SHARDS or has_index(path))  # noqa: PTH112 (as below)


def has_index(folder: Path) -> bool:
    """Tell whether an extraction into a folder of shards has come to its end."""
    return os.path.isfile(folder / INDEX)  # noqa: PTH113 (a Path raises an error in a folder that may not be read)


def read(folder: Path) -> Contents:
    """Open the shards that an index names, as one. A slice of the features within one shard is its memory map.

    Raises:
        StoreError: the folder has no index yet, or a shard is gone.
        CorruptFileError: the index or a shard is damaged, or shards do not fit each other.
    """
    index = read_index(folder)
    shards = [_opened(folder / entry.file) for entry in index.shards]
    _check_fit(folder, shards)
    fresh = all(
        [entry.content_digest] == list(shard.files.values()) for entry, shard in zip(index.shards, shards, strict=True)
    )
    if fresh and index.repeats is not None:
        rows = np.array(index.repeats, np.intp)
        if len(rows) and not (rows.min() >= 0 and rows.max() < sum(len(shard.labels) for shard in shards)):
            raise CorruptFileError(f"{folder / INDEX}: names rows that no shard has: delete it, and extract again")
    else:
        rows = repeats(shards)
    return _as_one(shards, rows)


def _as_one(shards: Sequence[Contents], left_out: NDArray[np.intp]) -> Contents:
    first, lengths = shards[0], [len(shard.labels) for shard in shards]
    starts = np.cumsum([0, *lengths[:-1]])
    names = dict.fromkeys(name for shard in shards for name in shard.texts)
    texts = {
        name: _joined([each.texts.get(name, np.zeros(len(each.labels), "S1")) for each in shards]) for name in names
    }
    if len(left_out):
        splits = np.asarray(texts[file_format.SPLIT]).astype(f"S{len(DUPLICATE)}")
        splits[left_out] = DUPLICATE.encode()
        texts[file_format.SPLIT] = splits
    return replace(
        first,
        files={path: digest for shard in shards for path, digest in shard.files.items()},
        augment=next((shard.augment for shard in shards if len(shard.view_rows)), first.augment),
        provenance=_joined_provenance([shard.provenance for shard in shards]),
        labels=np.concatenate([shard.labels for shard in shards]),
        view_rows=np.concatenate([each.view_rows + start for each, start in zip(shards, starts, strict=True)]).astype(
            np.int32
        ),
        view_numbers=np.concatenate([shard.view_numbers for shard in shards]),
        failures=tuple(failure for shard in shards for failure in shard.failures),
        texts=texts,
        features={tap: _joined([shard.features[tap] for shard in shards]) for tap in first.features},
        views={tap: _joined([shard.views[tap] for shard in shards]) for tap in first.views},
        numbers=_joined([shard.numbers for shard in shards if shard.numbers is not None]) if first.columns else None,
        targets=None if first.targets is None else _joined([s.targets for s in shards if s.targets is not None]),
    )


def content_digest(contents: Contents) -> str:
    """Return the content digest of a file; of several, SHA-256 over theirs."""
    digests = list(contents.files.values())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def shard_path(folder: Path, number: int) -> Path:
    """Return the path of a shard."""
    return folder / f"{number:05d}{file_format.SUFFIX}"


def entry_path(folder: Path, number: int) -> Path:
    """Return the path of a note of what a shard is, which stands in for it where it lies on another machine."""
    return folder / f"{number:05d}.json"


def write_entry(shard: Path) -> Path:
    """Write a note of what a shard is, and return its path."""
    found, path = feature_file.read(shard), shard.with_suffix(".json")
    write_whole(path, json.dumps(asdict(Entry(shard.name, len(found.labels), content_digest(found)))).encode())
    return path


def write_index_of_entries(folder: Path, numbers: Sequence[int]) -> Path:
    """Make the index of shards from notes of what they are, and return its path. Readers find the repeats themselves.

    Raises:
        CorruptFileError: a note is damaged.
    """
    entries = []
    for path in (entry_path(folder, number) for number in numbers):
        try:
            entries.append(documents.read(path, Entry))
        except (OSError, ValueError) as error:
            raise CorruptFileError(f"{path}: damaged ({error}): delete it, and extract again") from error
    write_whole(folder / INDEX, json.dumps(asdict(Index(entries, None)), indent=1).encode())
    return folder / INDEX


def write_index(folder: Path, count: int) -> int:
    """Make the index of a folder that holds all its shards, and return the number of :func:`repeats`.

    Args:
        folder: of the shards.
        count: of shards that there are to be. One whose images could all not be read has no file.

    Raises:
        StoreError: no shard is there, or they do not fit each other.
    """
    paths = [path for number in range(count) if (path := shard_path(folder, number)).is_file()]
    if not paths:
        raise StoreError(f"{folder}: no shard is there: run  featurestore extract  again")
    shards = [feature_file.read(path) for path in paths]
    _check_fit(folder, shards)
    rows = repeats(shards)
    entries = [Entry(path.name, len(shard.labels), digest) for shard in shards for path, digest in shard.files.items()]
    index = Index(entries, rows.tolist() if len(rows) <= _MOST_LISTED else None)
    write_whole(folder / INDEX, json.dumps(asdict(index), indent=1).encode())
    return len(rows)


def repeats(shards: Sequence[Contents]) -> NDArray[np.intp]:
    """Return the numbers of the rows, counted through all shards, whose image stands in a stronger split elsewhere.

    Of ten million rows this takes 400 MB: candidates are found by a quarter of their digests, which is sorted.
    """
    keys = np.concatenate([_key(shard) for shard in shards])
    ordered = np.sort(keys)
    twice = np.unique(ordered[:-1][ordered[1:] == ordered[:-1]])
    del ordered
    rows = np.flatnonzero(np.isin(keys, twice))
    digests, splits = (
        _joined([shard.texts[name] for shard in shards])[rows] for name in (file_format.DIGEST, file_format.SPLIT)
    )
    rank = np.select([splits == split.encode() for split in SPLITS], range(1, len(SPLITS) + 1), 0)
    images, of = np.unique(digests, return_inverse=True)
    strongest = np.zeros(len(images), int)
    np.maximum.at(strongest, of, rank)
    return rows[(rank > 0) & (rank < strongest[of])]


def _key(shard: Contents) -> NDArray[np.uint64]:
    """Return the first 16 of the 64 hexadecimal digits of each row's digest as a number (N,)."""
    hexadecimal = shard.texts[file_format.DIGEST]
    found = np.empty(len(hexadecimal), np.uint64)
    for block in file_format.blocks(len(hexadecimal), file_format.DIGEST_CHARS):
        digits = np.ascontiguousarray(hexadecimal[block]).view(np.uint8).reshape(-1, file_format.DIGEST_CHARS)
        raw = bytes.fromhex(digits[:, :16].tobytes().decode("ascii"))
        found[block] = np.frombuffer(raw, ">u8")
    return found


def read_index(folder: Path) -> Index:
    """Read the index of a folder, see :func:`read` for its errors."""
    path = folder / INDEX
    try:
        index = documents.read(path, Index)
    except FileNotFoundError as error:
        raise StoreError(
            f"{folder}: its extraction is under way, or was interrupted: run  featurestore extract  to its end"
        ) from error
    except (OSError, ValueError) as error:
        raise CorruptFileError(f"{path}: not an index of shards ({error}): delete it, and extract again") from error
    if index.format != _FORMAT or not 1 <= index.format_version <= INDEX_VERSION:
        raise CorruptFileError(
            f"{path}: {index.format!r} of version {index.format_version}: this version reads {_FORMAT!r} up to "
            f"{INDEX_VERSION}: upgrade featurestore"
        )
    names = [entry.file for entry in index.shards]
    if not names or len(set(names)) < len(names) or not all(_NAME.fullmatch(name) for name in names):
        raise CorruptFileError(f"{path}: names no shards, or files that are none: delete it, and extract again")
    return index


def _opened(path: Path) -> Contents:
    if not path.is_file():
        raise StoreError(f"{path}: this shard is gone: bring it back, or run  featurestore extract  again")
    return feature_file.read(path)


def _check_fit(folder: Path, shards: Sequence[Contents]) -> None:
    """Check that shards are parts of one data set, made by one spec."""
    first = shards[0]
    presets = {shard.augment for shard in shards if len(shard.view_rows)}
    for other in shards[1:]:
        one, two = ((s.spec.fingerprint, s.class_names, s.task, s.shapes, s.columns) for s in (first, other))
        if one != two:
            names = " and ".join(path.name for each in (first, other) for path in each.files)
            raise StoreError(
                f"{folder}: {names} are not of one spec, the same classes, task and numeric columns: an "
                "extraction was interrupted, or a file is of another folder: run  featurestore extract  again"
            )
    if len(presets) > 1:
        raise StoreError(f"{folder}: its shards have views by {' and '.join(sorted(presets))}: extract again")


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return rows of several arrays as one; what is read of it are arrays, and so it passes for one."""
    return parts[0] if len(parts) == 1 else cast("NDArray[Any]", JoinedRows(parts))


def _joined_provenance(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    producers: list[dict[str, str]] = []
    for one in found:
        producers += [producer for producer in one["producers"] if producer not in producers]
    return found[0] | {"producers": producers}
