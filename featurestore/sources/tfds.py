"""Data sets that TensorFlow Datasets has prepared: ``tfds:NAME``.

They are read from the files that were prepared, without the code that made them and without a network. Each file is a
row of records; a record is a ``tf.train.Example``, in which the image stands as the bytes of a PNG or JPEG. Opening a
source reads all records, since the labels are in them, and computes the digests of the images on the way.
"""

import hashlib
import os
import re
import struct
import threading
from array import array
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import ImageError, SourceError, missing, one_line, suggest
from featurestore.sources.base import Format, ImageData
from featurestore.sources.indexed import IndexedSource
from featurestore.sources.labels import About, Gathered
from featurestore.sources.options import SourceOptions
from featurestore.sources.samples import Failure, Sample
from featurestore.sources.shard_files import OpenFiles, different
from featurestore.sources.split_names import split_of
from featurestore.system.files import why

_PREFIX = "tfds:"
_ADDRESS = re.compile(r"tfds:(?P<name>[^:\[\]]+)(?::(?P<version>\d[\d.*]*))?(?::(?P<split>.+))?")
_LENGTH = struct.Struct("<Q4x")
"""Before a record of a TFRecord file: its length, and a checksum of that; behind it are four bytes more."""

_PATH_KEYS = ("image/filename", "filename", "file_name")
_LABEL_KEYS = ("label", "labels", "class")
_MOST = 2**31
"""Most bytes of a record: protocol buffers have no more."""


class _Features(NamedTuple):
    """Which features of an example are the image, its label, its group and its file's name; "" for none."""

    image: str
    label: str
    group: str
    path: str


class _Records:
    """The records of some files, at any place.

    Args:
        files: of one of the formats.
        form: ``tfrecord`` or ``array_record``.
    """

    def __init__(self, files: OpenFiles, form: str) -> None:
        self.files, self.form = files, form
        self._readers: dict[int, Any] = {}
        self._turn = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Records, (self.files, self.form)

    def places(self, number: int, part: "_Part") -> Iterator[tuple[int, int]]:
        """Give place and size of the records of a part of a file.

        Raises:
            ValueError, OSError: the file is damaged, or has fewer records than the data set says.
        """
        end = part.skip + part.take if part.take >= 0 else part.examples
        if self.form == "array_record":
            if (count := self._reader(number).num_records()) != part.examples:
                raise ValueError(f"cut off, or damaged: {count} records where {part.examples} should be")
            yield from ((i, 0) for i in range(part.skip, end))
            return
        file, at = self.files[number], 0
        for i in range(end):
            head = file.read(at, _LENGTH.size)
            size = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else _MOST
            if size >= _MOST or at + _LENGTH.size + size + 4 > file.size:
                raise ValueError(f"cut off, or damaged, in record {i}")
            if i >= part.skip:
                yield at + _LENGTH.size, size
            at += _LENGTH.size + size + 4

    def read(self, number: int, place: int, size: int) -> Any:
        """Return an example's features.

        Raises:
            ValueError, OSError: it is damaged.
        """
        from google.protobuf.message import DecodeError
        from tensorflow_datasets.proto import tf_example_pb2

        if self.form == "array_record":
            with self._turn:
                (raw,) = self._reader(number).read([place])
        else:
            raw = self.files[number].read(place, size)
        try:
            return tf_example_pb2.Example.FromString(raw).features.feature
        except DecodeError as error:
            raise ValueError(f"a damaged record ({one_line(error)})") from error

    def _reader(self, number: int) -> Any:
        if number not in self._readers:
            try:
                from array_record.python.array_record_module import ArrayRecordReader
            except ImportError as error:
                raise missing("reading array_record files", "array-record", "tfds") from error
            try:
                self._readers[number] = ArrayRecordReader(self.files.addresses[number])
            except RuntimeError as error:
                raise ValueError(one_line(error)) from error
        return self._readers[number]


class TfdsSource(IndexedSource):
    """Images of a prepared data set.

    Args:
        builder: of tensorflow_datasets.
        split: what it calls a split, or a part of one; "" for all.
        name: of the data set.
        options: see :class:`featurestore.sources.options.SourceOptions`; columns are features.

    Raises:
        SourceError: no images or no labels there, a single class, or files of another format.
    """

    def __init__(self, builder: Any, split: str, *, name: str, options: SourceOptions) -> None:
        where = str(builder.data_path)
        form = builder.info.file_format.value if builder.info.file_format else "tfrecord"
        if form not in ("tfrecord", "array_record"):
            raise SourceError(f"{where}: prepared as {form}: prepare it with file_format='array_record'")
        found = _features(builder.info.features, options, where)
        names = getattr(dict(builder.info.features.items()).get(found.label), "names", None) or ()
        parts, skipped = _parts(builder.info.splits, split, where)
        self._image = found.image
        self._records = _Records(OpenFiles([part.path for part in parts]), form)
        self._known = bytearray()  # digests, 32 bytes each
        columns = array("i"), array("q"), array("q")
        gathered = Gathered(where)
        gathered.skipped.update(skipped)
        for number, part in enumerate(parts):
            self._take(number, part, found, gathered, columns)
        self._shard, self._start, self._size = np.array(columns[0], np.int32), *map(np.array, columns[1:])
        if not options.labelled:
            super().__init__(gathered.unlabelled(name))
            return
        named = ("its features", different(tuple(names), where)) if names else ("", ())
        class_names, meant = gathered.by_label(named, set(options.exclude), "no label")
        super().__init__(gathered.listing(name, meant, class_names, "--label-column chooses the feature"))

    def _take(
        self, number: int, part: "_Part", wanted: _Features, gathered: Gathered, columns: tuple["array[int]", ...]
    ) -> None:
        """Read a file: its labels, and the digests of its images. One that is damaged is a failure."""
        base, row = os.path.basename(part.path), part.skip  # noqa: PTH119
        width = len(str(part.examples))
        try:
            for place, size in self._records.places(number, part):
                key = f"{base}/{row:0{width}d}"
                row += 1
                values = self._records.read(number, place, size)
                label = _value(values, wanted.label) if wanted.label else ""
                if label is None or label == "-1":
                    gathered.skipped["without a label"] += 1
                    continue
                about = About(label, part.split, _value(values, wanted.group) or "")
                path = _value(values, wanted.path)
                gathered.add(key, f"{key}/{path}" if path else key, about, len(columns[0]))
                for column, value in zip(columns, (number, place, size), strict=True):
                    column.append(value)
                self._known += hashlib.sha256(_image(values, self._image)).digest()
        except OSError as error:
            gathered.failures.append(Failure(path=base, reason=why(error)))
        except (ValueError, RuntimeError) as error:
            told = f"{one_line(error)}; {row - part.skip} records before are used"
            gathered.failures.append(Failure(path=base, reason=told))

    def _keep(self, places: NDArray[np.int64]) -> None:
        used, shard = np.unique(self._shard[places], return_inverse=True)
        self._shard = shard.astype(np.int32)
        self._start, self._size = self._start[places], self._size[places]
        self._records = _Records(self._records.files.some(used.tolist()), self._records.form)
        self._known = bytearray()

    def _load(self, sample: Sample) -> ImageData:
        place = self._place(sample)
        try:
            values = self._records.read(*(int(each[place]) for each in (self._shard, self._start, self._size)))
        except OSError as error:
            raise ImageError(why(error)) from error
        except (ValueError, RuntimeError, IndexError) as error:
            raise ImageError(one_line(error)) from error
        if data := _image(values, self._image):
            return data
        raise ImageError("no bytes of an image")

    def _digest(self, sample: Sample) -> str | Failure:
        at = self._place(sample) * 32
        known = self._known[at : at + 32].hex()
        return super()._digest(sample) if known in ("", _NOTHING) else known


_NOTHING = hashlib.sha256().hexdigest()


class _Part(NamedTuple):
    """Some records of one file: after those that are skipped so many, or all if that is negative; how many the whole
    file has; and our name of their split.
    """

    path: str
    skip: int
    take: int
    examples: int
    split: str


def _parts(splits: Any, wanted: str, where: str) -> tuple[list[_Part], dict[str, int]]:
    """Return the parts of files that make up a split, or all; and how many images are left out, by reason.

    Where a data set has but one split, or one is asked for, it says nothing: its images are divided like any others.
    """
    skipped: dict[str, int] = {}
    known = {name: split_of(name) or "" for name in splits}
    if not known:
        raise SourceError(f"{where}: has no splits, so no images: prepare it again")
    if wanted:
        try:
            asked = splits[wanted].file_instructions
        except (KeyError, ValueError, AssertionError) as error:
            reason = suggest(wanted, known) if wanted.isidentifier() else one_line(error)
            raise SourceError(f"{where}: unknown split {wanted!r}: {reason}") from error
    else:
        named = [name for name in known if known[name]] or list(known)
        skipped = {f"of split {name!r}": splits[name].num_examples for name in known if name not in named}
        asked = [each for name in named for each in splits[name].file_instructions]
    split_by_file = {os.fspath(path): known[name] for name in known for path in splits[name].filepaths}
    parts = [
        _Part(
            path := os.fspath(each.filename), each.skip, each.take, each.examples_in_shard, split_by_file.get(path, "")
        )
        for each in asked
    ]
    if len({part.split for part in parts}) < 2:
        parts = [part._replace(split="") for part in parts]
    return sorted(parts), skipped


def _features(features: Any, options: SourceOptions, where: str) -> _Features:
    """Find the features of a data set that are the image, its label, its group and its file's name.

    Raises:
        SourceError: one is not there, or is of another kind.
    """
    kinds = {name: type(feature).__name__ for name, feature in sorted(features.items())}
    there = "its features are " + ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
    chosen = {"path": options.path_column, "label": options.columns[1], "group": options.group_column}
    for choice in filter(None, chosen.values()):
        if choice not in kinds:
            raise SourceError(f"{where}: no feature {choice!r}: {there}")
    if options.split_column:
        raise SourceError(
            f"{where}: the data set has its own splits: leave --split-column out, or write tfds:NAME:SPLIT"
        )
    images = [name for name, kind in kinds.items() if kind == "Image"]
    labels = [name for name in _LABEL_KEYS if name in kinds]
    labels += [name for name, kind in kinds.items() if kind == "ClassLabel"]
    found: dict[str, str] = {}
    needed = (("image", "path", images), ("label", "label", labels))
    for what, option, likely in needed if options.labelled else needed[:1]:
        choice = chosen[option] or next(iter(likely), "")
        if not choice:
            raise SourceError(f"{where}: no feature is an {what}: choose it with --{option}-column: {there}")
        found[what] = choice
    path = next((key for key in _PATH_KEYS if key in kinds), "")
    return _Features(found["image"], found.get("label", ""), options.group_column or "", path)


def _image(values: Any, key: str) -> bytes:
    """Return the bytes of an image in an example's features; none if there are none."""
    found = list(values[key].bytes_list.value) if key in values else []
    return bytes(found[0]) if len(found) == 1 else b""


def _value(values: Any, key: str) -> str | None:
    """Return a whole number or a text in an example's features; None if there is none."""
    if not key or key not in values:
        return None
    numbers, texts = values[key].int64_list.value, values[key].bytes_list.value
    if len(numbers) == 1:
        return str(numbers[0])
    return texts[0].decode("utf-8", "surrogateescape").strip() or None if len(texts) == 1 else None


def _open(where: str, name: str, options: SourceOptions) -> TfdsSource:
    found = _ADDRESS.fullmatch(where)
    if found is None:
        raise SourceError(f"{where}: write tfds:NAME, tfds:NAME:SPLIT or tfds:NAME:VERSION:SPLIT")
    try:
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core.read_only_builder import builder_from_files
    except ImportError as error:
        raise missing(where, "TensorFlow Datasets", "tfds") from error
    called, version, split = found["name"], found["version"], found["split"]
    try:
        if os.path.isdir(called):  # noqa: PTH112
            builder = tfds.builder_from_directory(called)
        else:
            builder = builder_from_files(f"{called}:{version}" if version else called)
    except tfds.core.DatasetNotFoundError as error:
        raise SourceError(
            f"{where}: not prepared in {os.environ.get('TFDS_DATA_DIR') or tfds.core.constants.DATA_DIR} "
            "(TFDS_DATA_DIR names another folder). Nothing is downloaded here: prepare it once with  "
            f"python -c \"import tensorflow_datasets as tfds; tfds.builder('{called}').download_and_prepare()\""
        ) from error
    except Exception as error:  # whatever a damaged description raises
        raise SourceError(f"{where}: its description cannot be read ({one_line(error)}): prepare it again") from error
    return TfdsSource(builder, split or "", name=name, options=options)


def _name(where: str) -> str:
    found = _ADDRESS.fullmatch(where)
    parts = (found["name"], found["split"]) if found else (where[len(_PREFIX) :], None)
    called = parts[0].rstrip("/")
    if re.search(r"/\d+\.\d+\.\d+$", called):  # a folder, which is called by its version
        called = called.rpartition("/")[0].rpartition("/")[2]
    return re.sub(r"[^\w.+-]+", "-", "-".join(filter(None, (called, parts[1])))).strip("-.") or "tfds"


FORMAT = Format(
    called="a tfds:NAME",
    recognises=lambda where, options: where.startswith(_PREFIX),
    open=_open,
    has_columns=True,
    can_exclude=True,
    unlabelled=True,
    name=_name,
)
