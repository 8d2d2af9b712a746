"""Images in Parquet files, as Hugging Face keeps its data sets.

A column holds the images' bytes, alone or as ``bytes`` of a struct with their ``path``; another one the labels, as text
or as numbers, whose names stand in the metadata of the schema. Opening a source reads the small columns. Images are
read later, each row group from its beginning to its end.
"""

import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import ImageError, SourceError, missing
from featurestore.images.decode import FILES, MAX_BYTES
from featurestore.sources.base import Format, ImageData, digest_of
from featurestore.sources.digest_cache import DigestCache
from featurestore.sources.indexed import IndexedSource
from featurestore.sources.labels import MAX_IMAGES, About, Gathered
from featurestore.sources.options import SourceOptions
from featurestore.sources.parquet_reader import RowReader, open_parquet, reason
from featurestore.sources.samples import Dataset, Failure, Sample
from featurestore.sources.shard_files import (
    OpenFiles,
    ShardFiles,
    class_label_names,
    different,
    has_suffix,
    holds_only,
    shard_files,
    shards_name,
)
from featurestore.sources.split_names import split_named
from featurestore.system import documents
from featurestore.system.files import size_text
from featurestore.system.stamps import part_stamps

_SUFFIX = ".parquet"
_USUAL = {
    "image": ("image", "img", "images", "picture", "photo", "jpg", "png", "bytes", "image_bytes"),
    "label": ("label", "labels", "class", "class_name", "category", "breed", "species", "target", "y", "cls"),
    "split": ("split", "subset", "partition"),
    "group": (),
}
_BATCH = 4096
_TOGETHER = 32
"""Images that are read one after the other, before their digests are computed."""
_WAITING = 2
"""So many of these portions may wait for their digests."""
_REMEDY = "give rows of two classes or more; --label-column chooses the column"


class _Columns(NamedTuple):
    """The columns of a data set: paths of the images' bytes, and of their names; labels, splits and groups. "" for one
    that is not there.
    """

    image: str
    name: str
    label: str
    split: str
    group: str


class ParquetSource(IndexedSource):
    """Images in Parquet files.

    Args:
        files: the files, which have the same columns.
        name: of the data set.
        options: see :class:`featurestore.sources.options.SourceOptions`; ``path_column`` is that of the images.

    Raises:
        SourceError: no images or no labels there, or a single class.
    """

    def __init__(self, files: ShardFiles, *, name: str, options: SourceOptions) -> None:
        opened = OpenFiles(files.addresses)
        plan = _Plan(files, options)
        self._stamps_of = [plan.read(opened, number) for number in range(len(files.addresses))]
        super().__init__(plan.dataset(name))
        self._rows = RowReader(opened, plan.columns.image if plan.columns else "")
        # Each row group: its file, its number in that, and the number of its first row among all rows.
        self._file_of, self._group = np.array(plan.groups, np.int32).reshape(-1, 2).T
        self._first = np.array(plan.firsts, np.int64)

    def _keep(self, places: NDArray[np.int64]) -> None:
        assert self._kept is not None
        used = np.unique(np.searchsorted(self._first, self._kept, "right") - 1)
        numbers, file = np.unique(self._file_of[used], return_inverse=True)
        self._file_of, self._group, self._first = file.astype(np.int32), self._group[used], self._first[used]
        self._stamps_of = [self._stamps_of[number] for number in numbers]
        self._rows = RowReader(self._rows.files.some(numbers.tolist()), self._rows.column)

    @contextmanager
    def reading(self, sample: Sample) -> Iterator[ImageData]:
        """Give the data as :meth:`Source.reading`. Its size is known only when it is read: rows that are read together
        have a bounded size of their own.
        """
        data = self.read(sample)
        with FILES.share(len(data)):
            yield data

    def _load(self, sample: Sample) -> bytes:
        row = self._place(sample) if self._kept is None else int(self._kept[self._place(sample)])
        at = int(np.searchsorted(self._first, row, "right")) - 1
        data = self._rows.read(int(self._file_of[at]), int(self._group[at]), row - int(self._first[at]))
        if not data:
            raise ImageError("empty file")
        if len(data) > MAX_BYTES:
            raise ImageError(f"larger than {size_text(MAX_BYTES)}")
        return data

    def _digests(
        self, part: Sequence[Sample], pool: ThreadPoolExecutor, cache: DigestCache | None
    ) -> list[str | Failure]:
        def load(sample: Sample) -> bytes | Failure:
            try:
                return self._load(sample)
            except ImageError as error:
                return Failure(path=sample.path, reason=str(error))

        def digests(images: list[bytes | Failure]) -> list[str | Failure]:
            return [each if isinstance(each, Failure) else digest_of(each) for each in images]

        def read(which: Sequence[int]) -> list[str | Failure]:
            # One thread reads, since rows come one after the other; others compute the digests of what it has read.
            found: list[str | Failure] = []
            waiting: deque[Future[list[str | Failure]]] = deque()
            for start in range(0, len(which), _TOGETHER):
                waiting.append(pool.submit(digests, [load(part[i]) for i in which[start : start + _TOGETHER]]))
                if len(waiting) > _WAITING:
                    found += waiting.popleft().result()
            return [*found, *chain.from_iterable(each.result() for each in waiting)]

        return cache.complete(self._stamps(part), read) if cache else read(range(len(part)))

    def _stamps(self, samples: Sequence[Sample]) -> list[bytes]:
        rows = np.array([self._place(sample) for sample in samples], np.int64)
        rows = rows if self._kept is None else self._kept[rows]
        groups = np.searchsorted(self._first, rows, "right") - 1
        column = np.full(len(rows), zlib.crc32(self._rows.column.encode()), np.int64)
        stamps = [b""] * len(samples)
        for file in np.unique(self._file_of[groups]).tolist():
            there = np.flatnonzero(self._file_of[groups] == file)
            # The number of a row among all depends on the other files: what says where it stands is group and row.
            starts = (self._group[groups[there]].astype(np.int64) << 32) + rows[there] - self._first[groups[there]]
            for i, stamp in zip(there.tolist(), part_stamps(self._stamps_of[file], starts, column[there]), strict=True):
                stamps[i] = stamp
        return stamps


class _Plan:
    """The small columns of all files, read one after the other.

    Attributes:
        columns: of the first file that can be read; None before.
        groups: file and number of each row group.
        firsts: number of the first row of each among all rows.
    """

    def __init__(self, files: ShardFiles, options: SourceOptions) -> None:
        self._files, self._chosen, self._exclude = files, options.columns, set(options.exclude)
        self._labelled = options.labelled
        self._splits = files.splits() if options.labelled else [""] * len(files.names)
        self._named: tuple[str, tuple[str, ...]] | None = None
        self._gathered = Gathered(files.where)
        self._count = 0
        self.columns: _Columns | None = None
        self.groups: list[tuple[int, int]] = []
        self.firsts: list[int] = []

    def read(self, files: OpenFiles, number: int) -> bytes:
        """Read labels and what else is small from one file, and return its stamp; one that is damaged is a failure."""
        name, address = self._files.names[number], self._files.addresses[number]
        stamp = b""
        try:
            file = files[number]
            stamp = file.stamp
            parquet = open_parquet(file)
            if self.columns is None:
                self.columns = _columns(parquet.schema_arrow, self._chosen, address, labelled=self._labelled)
                names = _hugging_face_names(parquet.schema_arrow.metadata, self.columns.label)
                self._named = ("its metadata", different(names, address)) if names else self._files.class_names()
            self._take(parquet, number, self.columns)
        except FileNotFoundError as error:
            raise SourceError(f"{address}: no such file") from error
        except (ValueError, OSError, KeyError) as error:  # pyarrow's own errors are these
            told = f"{reason(error)}: a Parquet file that is cut off, or damaged"
            self._gathered.failures.append(Failure(path=name, reason=told))
        return stamp

    def _take(self, parquet: Any, number: int, columns: _Columns) -> None:
        metadata, name = parquet.metadata, self._files.names[number]
        if self._count + metadata.num_rows > MAX_IMAGES:
            address = self._files.addresses[number]
            raise SourceError(f"{address}: more than {MAX_IMAGES:,} rows: too many for the memory here: divide them")
        if absent := [each for each in columns if each and each.partition(".")[0] not in parquet.schema_arrow.names]:
            raise ValueError(f"no column {absent[0]!r}, which the other files have")
        width, row = len(str(max(0, metadata.num_rows - 1))), 0
        counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        if sum(counts) != metadata.num_rows or min(counts, default=0) < 0:
            raise ValueError("row groups of other sizes than the file says")
        first = self._count
        for group, count in enumerate(counts):
            self.groups.append((number, group))
            self.firsts.append(self._count)
            self._count += count
        for told, path in _rows(parquet, columns, self._files.addresses[number]):
            if self._labelled and (not told.label or (told.label == "-1" and self._named and self._named[1])):
                self._gathered.skipped["without a label"] += 1
            else:
                key = f"{name}/{row:0{width}d}"
                about = told._replace(split=told.split or self._splits[number])
                self._gathered.add(key, f"{key}/{path}" if path else key, about, first + row)
            row += 1
        if row != metadata.num_rows:
            raise ValueError("fewer rows than the file says")

    def dataset(self, name: str) -> Dataset:
        """Return the data set of what was read, without digests."""
        if not self._labelled:
            return self._gathered.unlabelled(name)
        class_names, meant = self._gathered.by_label(self._named or ("", ()), self._exclude, "no label")
        return self._gathered.listing(name, meant, class_names, _REMEDY)


def _columns(schema: Any, chosen: Sequence[str | None], address: str, *, labelled: bool = True) -> _Columns:
    """Find the columns of a schema; if images need not be labelled, that of the images alone.

    Args:
        schema: of pyarrow.
        chosen: names of the image, label, split and group columns; None to look for the usual ones.
        address: of the file, for messages.

    Raises:
        SourceError: one is not there, or holds something else.
    """
    there = "its columns are " + ", ".join(f"{field.name} ({str(field.type)[:40]})" for field in list(schema)[:40])
    found: dict[str, str] = {}
    for (role, usual), choice in zip(_USUAL.items(), chosen, strict=True):
        fits = _leaf if role == "image" else _is_label
        if choice is not None and choice not in schema.names:
            raise SourceError(f"{address}: no column {choice!r}: {there}")
        if choice is not None and not fits(schema.field(choice)):
            wanted = "the bytes of images" if role == "image" else "whole numbers or texts"
            raise SourceError(f"{address}: column {choice!r} does not hold {wanted}: {there}")
        likely = [name for name in usual if name in schema.names and fits(schema.field(name))]
        if role == "image":
            likely += [field.name for field in schema if _leaf(field)]
        if choice is not None or likely:
            found[role] = choice or likely[0]
        elif role == "image" or (role == "label" and labelled):
            option = "path" if role == "image" else "label"
            what = "images (their bytes, alone or in a struct with their path)" if role == "image" else "labels"
            raise SourceError(f"{address}: no column of {what} is found: choose it with --{option}-column: {there}")
    image = schema.field(found["image"])
    paths = getattr(image.type, "names", None) or ()
    name = f"{image.name}.path" if "path" in paths and _is_label(image.type.field("path")) else ""
    if not labelled:
        return _Columns(_leaf(image), name, "", "", "")
    return _Columns(_leaf(image), name, found["label"], found.get("split", ""), found.get("group", ""))


def _leaf(field: Any) -> str:
    """Return the path of the column with the bytes of images in a field; "" if it has none."""
    from pyarrow import types

    if types.is_binary(field.type) or types.is_large_binary(field.type):
        return str(field.name)
    if types.is_struct(field.type) and "bytes" in field.type.names and _leaf(field.type.field("bytes")):
        return f"{field.name}.bytes"
    return ""


def _is_label(field: Any) -> bool:
    """Tell whether a field holds whole numbers or texts."""
    from pyarrow import types

    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    return any(test(kind) for test in (types.is_integer, types.is_string, types.is_large_string))


def _rows(parquet: Any, columns: _Columns, address: str) -> Iterator[tuple[About, str]]:
    """Give what each row says of its image, and the image's path."""
    import pyarrow.compute as pc

    if not any(columns[1:]):
        yield from ((About(""), "") for _ in range(parquet.metadata.num_rows))
        return
    wanted = [each for each in (columns.name, columns.label, columns.split, columns.group) if each]
    for batch in parquet.iter_batches(_BATCH, columns=wanted, use_threads=False):
        values = {name: batch.column(name).to_pylist() for name in wanted if name != columns.name}
        nothing = [None] * batch.num_rows
        paths = nothing
        if columns.name:
            paths = pc.struct_field(batch.column(columns.name.partition(".")[0]), "path").to_pylist()
        for path, label, split, group in zip(
            paths, *(values.get(name, nothing) for name in (columns.label, columns.split, columns.group)), strict=True
        ):
            text = "" if label is None else str(label).strip()
            word = "" if split is None else str(split).strip()
            about = About(text, split_named(word, address) if word else "", "" if group is None else str(group))
            yield about, path or ""


def _hugging_face_names(metadata: Any, column: str) -> tuple[str, ...]:
    """Return the names of a column's classes that the metadata of a schema tell; none if they tell none."""
    try:
        told = documents.parse((metadata or {}).get(b"huggingface", b"{}"), dict[str, Any])
        return class_label_names(told["info"]["features"], column)
    except (ValueError, KeyError, TypeError):
        return ()


def _recognises(where: str, options: SourceOptions) -> bool:
    return options.labels is None and (has_suffix(where, (_SUFFIX,)) or holds_only(where, _SUFFIX))


def _open(where: str, name: str, options: SourceOptions) -> ParquetSource:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise missing(f"{where}: reading Parquet files", "pyarrow", "parquet") from error
    return ParquetSource(shard_files(where, _SUFFIX, contained=options.contained), name=name, options=options)


FORMAT = Format(
    called="a .parquet",
    recognises=_recognises,
    open=_open,
    has_columns=True,
    can_exclude=True,
    unlabelled=True,
    name=shards_name,
)
