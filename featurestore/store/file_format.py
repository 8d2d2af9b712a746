"""The feature file, format versions 1 to 4. This text is the specification; every name in a file stands below it.

One HDF5 file per data set and extraction spec. All datasets are contiguous, unfiltered and little-endian, so that
a reader can memory-map them; there are hard links only, no external storage, no virtual datasets, no
variable-length and no object types. A file that breaks one of these rules is not opened.

Datasets, all of one length N (samples in the order of their ids):

========================  ====================  ==============================================================
``features``              float16|32 (N, ...)   one tap. Several taps: a group, ``features/<layer>`` each
``id``                    fixed UTF-8           the sample's name in its source, unique
``digest``                64 hex characters     SHA-256 of the image file's bytes
``label``                 int32                 index into ``class_names``
``split``                 fixed UTF-8           ``train``, ``validation``, ``test``, or ``duplicate``: a row left
                                                out because the same image stands in a stronger split
``path``                  fixed UTF-8           path relative to the source, empty for arrays
``views/features``        as ``features``       (M, ...): features of augmented versions of training rows
``views/row``             int32 (M,)            index of the row that it is a version of
``views/number``          int32 (M,)            its number among them, from 1 to 1,000: see
                                                :mod:`featurestore.images.augment`
``group``                 fixed UTF-8           from version 2 on: name of the group whose images must not be
                                                divided, such as a patient; empty for none
``tabular``               float32 (N, C)        from version 3 on: numbers of the sample, such as its patient's age; NaN
                                                for a missing value. C is 1 at least; in version 4 it may be 0
``targets``               uint8|float32 (N, T)  version 4 only: what is asked of the sample. ``multilabel``: uint8, 1
                                                for each of the T ``class_names`` that it has, else 0; ``regression``:
                                                float32, the number, T is 1. Every ``label`` is 0 then
``failures/path``         fixed UTF-8 (F,)      inputs that gave no row
``failures/reason``       fixed UTF-8 (F,)      and why
========================  ====================  ==============================================================

Fixed UTF-8 is zero-padded; bytes of file names that are no UTF-8 are kept as they are (``os.fsencode``).

A row of features has one value at least. Those of all taps, and of their views, have the type that the spec says; a
view has the shape of its row.

A file may come from anybody, and what is not features is read into memory. So all columns but the features, as wide
as they declare themselves, may take 1 KiB for each sample, view and failure, and 64 MiB beyond; attributes may have the
sizes in :data:`ATTRIBUTES`, and all that is no dataset 128 MiB together; and a file of which much more is holes than is
stored is refused. (A million rows with names of 200 bytes need half of that.) Texts become a str array, whose items all
take four bytes for each character of the longest one; where that is more than 64 MiB, an array of Python's own str
objects.

Root attributes, fixed-length strings except the second:

========================  ==================================================================================
``format``                ``featurestore``
``format_version``        int64: 4 if the task is not classification, else 3 if rows have numbers, else 2 if a
                          row has a group, else 1
``dataset``               name of the data set
``spec``                  canonical JSON of :class:`featurestore.spec.ExtractionSpec`
``fingerprint``           SHA-256 of ``spec``, in hexadecimal
``class_names``           JSON list, each name once; of a regression the name of its number
``augment``               preset of all views, or ``none``
``provenance``            JSON, see :class:`Provenance`
``columns``               from version 3 on: JSON list of :class:`Column`, one for each column of ``tabular``
``task``                  version 4 only: ``multilabel`` or ``regression``
``content_digest``        SHA-256 over all of the above, see :func:`content_digest`
========================  ==================================================================================

Nothing in a file depends on when or how it was made: two runs over the same images, one of them killed and
resumed, give the same bytes. A file says the lowest version that can hold it. To change this format, raise
``FORMAT_VERSION``, keep reading the old ones, and add a file of the old version to the tests.
"""

import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from featurestore.sources.splits import DUPLICATE, SPLITS
from featurestore.spec import ExtractionSpec

FORMAT = "featurestore"
FORMAT_VERSION = 4
GROUPED = 2
"""The version from which on rows have groups."""
NUMERIC = 3
"""The version from which on rows have numbers."""
ASKED = 4
"""The version from which on a file says its task."""

FEATURES = "features"
ID, DIGEST, LABEL, SPLIT, PATH, GROUP = "id", "digest", "label", "split", "path", "group"
TABULAR = "tabular"
"""Dataset of the numbers, and the name of the tap that they are."""
TARGETS = "targets"
COLUMNS = (ID, DIGEST, LABEL, SPLIT, PATH)
"""Of every version."""
TEXT_COLUMNS = (ID, DIGEST, SPLIT, PATH, GROUP)
FAILURES = "failures"
FAILURE_COLUMNS = (PATH, REASON) = ("path", "reason")
VIEWS = "views"
VIEW_COLUMNS = (ROW, NUMBER) = ("row", "number")
NO_AUGMENT = "none"
MOST_VIEWS = 1000
"""Most views of one row."""
FILE_SPLITS = (*SPLITS, DUPLICATE)

ATTRIBUTES = {
    "format": 64, "dataset": 4096, "spec": 2**22, "fingerprint": 64, "class_names": 2**24, "augment": 64,
    "provenance": 2**22, "content_digest": 64,
}  # fmt: skip
"""Name -> most bytes, of every version."""
COLUMNS_ATTRIBUTE, COLUMNS_BYTES = "columns", 2**21
"""Name of the attribute of version 3, and its most bytes."""
TASK_ATTRIBUTE = "task"
VERSION_ATTRIBUTE = "format_version"
DIGEST_CHARS = 64

MOST_OBJECTS, OVERHEAD_BYTES = 2**15, 128 * 2**20
"""Most groups and datasets in a file, and most bytes outside its datasets: attributes, and what HDF5 itself writes."""
ROW_BYTES, SPARE_BYTES = 2**10, 64 * 2**20
"""Bytes that all columns but the features may take for each row, and in addition."""
PADDED_BYTES = 64 * 2**20
"""Most bytes of a str array, see above."""

SUFFIX = ".h5"
SHARDS = ".shards"
"""End of the name of a folder of feature files that are one, see :mod:`featurestore.store.shards`."""

MAX_STEM = 240
"""Bytes of a feature file's name without its suffix: a file system takes 255, with what is behind those of drafts."""
BLOCK_BYTES = 16 * 2**20
"""Bytes read or written at a time, so that memory does not grow with the file."""


@dataclass(frozen=True)
class Provenance:
    """How the rows of a file were computed. What is not known is left out.

    Attributes:
        flops: per tap, of one forward pass up to it; None where that is not known.
        producers: each engine and set of library versions that computed rows of the file.
        weights: as named by the user.
        licence, revision: of the weights, see :class:`featurestore.backbones.Outline`.
    """

    flops: dict[str, int | None] = field(default_factory=dict)
    producers: list[dict[str, str]] = field(default_factory=list)
    weights: str = ""
    licence: str = ""
    revision: str = ""


@dataclass(frozen=True)
class Column:
    """A numeric column.

    Attributes:
        name: of the column in the source.
        codes: the texts that 0 and 1 stand for, one or two; () for plain numbers.
    """

    name: str
    codes: tuple[str, ...] = ()


def feature_names(taps: Sequence[str], group: str = "") -> dict[str, str]:
    """Return the name of each tap's dataset in the file, or in `group`."""
    base = f"{group}/{FEATURES}".lstrip("/")
    return {taps[0]: base} if len(taps) == 1 else {tap: f"{base}/{tap}" for tap in taps}


def columns(version: int) -> tuple[str, ...]:
    """Return the columns of labels and texts that the rows of a file have."""
    return (*COLUMNS, GROUP) if version >= GROUPED else COLUMNS


def attributes(version: int) -> dict[str, int]:
    """Return the attributes that are texts of a file: name -> most bytes."""
    numeric = {COLUMNS_ATTRIBUTE: COLUMNS_BYTES} if version >= NUMERIC else {}
    return ATTRIBUTES | numeric | ({TASK_ATTRIBUTE: 64} if version >= ASKED else {})


def schema(taps: Sequence[str], version: int) -> dict[str, tuple[str, str]]:
    """Return all datasets of a file with these taps: name -> (NumPy's kind of its type, or ``t`` for that of the
    task; name of its length)."""
    return {
        **dict.fromkeys(feature_names(taps).values(), ("f", "rows")),
        **{name: ("i" if name == LABEL else "S", "rows") for name in columns(version)},
        **({TABULAR: ("f", "rows")} if version >= NUMERIC else {}),
        **({TARGETS: ("t", "rows")} if version >= ASKED else {}),
        **dict.fromkeys(feature_names(taps, VIEWS).values(), ("f", "views")),
        **{f"{VIEWS}/{name}": ("i", "views") for name in VIEW_COLUMNS},
        **{f"{FAILURES}/{name}": ("S", "failures") for name in FAILURE_COLUMNS},
    }


def children(names: Iterable[str]) -> dict[str, set[str]]:
    """Return the groups that hold datasets of these names, outer ones first: name -> the names directly below."""
    below: dict[str, set[str]] = {}
    for name in names:
        parts = name.split("/")
        for depth, part in enumerate(parts):
            below.setdefault("/".join(parts[:depth]) or "/", set()).add(part)
    return dict(sorted(below.items(), key=lambda item: item[0].count("/") if item[0] != "/" else -1))


def file_in(folder: Path, dataset: str, spec: ExtractionSpec) -> Path:
    """Return the path of a feature file in its store."""
    return folder / f"{file_stem(dataset, spec)}{SUFFIX}"


def file_stem(dataset: str, spec: ExtractionSpec) -> str:
    """Return the name of a feature file without its suffix: data set, backbone, start of the fingerprint."""
    first, second, third = safe_name(dataset), safe_name(spec.backbone), spec.fingerprint[:8]
    if len(os.fsencode(f"{first}--{second}--{third}")) > MAX_STEM:
        first, second = shortened(first, MAX_STEM // 2 - 6), shortened(second, MAX_STEM // 2 - 6)
    return f"{first}--{second}--{third}"


def dataset_stem(dataset: str, spare: int = 0) -> str:
    """Return the beginning of the name of a file that concerns a data set as a whole, with so many bytes to spare."""
    return shortened(safe_name(dataset), MAX_STEM - spare)


def shortened(name: str, most: int) -> str:
    """Cut a name to at most so many bytes; where something is cut off, the start of a digest keeps names apart."""
    raw = os.fsencode(name)
    if len(raw) <= most:
        return name
    mark = f"-{hashlib.sha256(raw).hexdigest()[:8]}"
    return raw[: most - len(mark)].decode(errors="ignore") + mark


def safe_name(text: str) -> str:
    """Make a text fit to be a part of a file's name."""
    return re.sub(r"[^\w.-]+", "_", text).strip("._") or "unnamed"


def encode(texts: Iterable[str]) -> NDArray[np.bytes_]:
    """Encode texts as bytes of one width, which is at least 1 (HDF5 knows no empty string type)."""
    raw = [os.fsencode(text) for text in texts]
    width = max((len(item) for item in raw), default=1)
    return np.array(raw, dtype=f"S{max(width, 1)}")


def decode(raw: NDArray[np.bytes_]) -> NDArray[np.str_]:
    """Decode what :func:`encode` gave."""
    texts = np.fromiter(decode_each(raw), dtype=object, count=len(raw))
    width = max(max(map(len, texts), default=0), 1)
    return texts.astype(f"U{width}") if 4 * width * len(texts) <= PADDED_BYTES else texts


def decode_each(raw: NDArray[np.bytes_]) -> Iterator[str]:
    """Decode what :func:`encode` gave to Python's own strings, which are not padded, a block at a time."""
    for block in blocks(len(raw), 64 * raw.dtype.itemsize):  # a character takes four bytes, and a text 50 at least
        try:
            yield from raw[block].astype(str).tolist()  # ten times as fast as one by one, and for ASCII only
        except UnicodeDecodeError:
            yield from map(os.fsdecode, raw[block].tolist())


def blocks(rows: int, row_bytes: int) -> Iterator[slice]:
    """Give slices that cover `rows` rows, each of at most about :data:`BLOCK_BYTES`."""
    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def content_digest(file: h5py.File, taps: Sequence[str]) -> str:
    """Compute the SHA-256 over attributes and datasets, in the order of their names.

    For each attribute except ``content_digest``: name, NUL, value as text, NUL. For each dataset: full name, NUL,
    NumPy type string, NUL, shape as text, NUL, then its bytes in C order.
    """
    digest = hashlib.sha256()
    version = int(file.attrs[VERSION_ATTRIBUTE])
    for name in sorted({*attributes(version), VERSION_ATTRIBUTE} - {"content_digest"}):
        digest.update(f"{name}\0{attribute_text(file.attrs[name])}\0".encode("utf-8", "surrogateescape"))
    for name in sorted(schema(taps, version)):
        dataset = file[name]
        digest.update(f"{dataset.name}\0{dataset.dtype.str}\0{dataset.shape}\0".encode("utf-8", "surrogateescape"))
        for block in _pieces(dataset):
            digest.update(np.ascontiguousarray(block).view(np.uint8).data)
    return digest.hexdigest()


def _pieces(dataset: h5py.Dataset, index: tuple[int, ...] = ()) -> Iterator[NDArray[Any]]:
    """Give the values in C order, in blocks of at most about :data:`BLOCK_BYTES`."""
    rows, *sides = dataset.shape[len(index) :]
    row_bytes = dataset.dtype.itemsize * math.prod(sides)
    if sides and row_bytes > BLOCK_BYTES:
        for row in range(rows):
            yield from _pieces(dataset, (*index, row))
    else:
        for block in blocks(rows, row_bytes):
            yield dataset[(*index, block)]


def attribute_text(value: Any) -> str:
    """Return an attribute's value as text, whether it is a string, bytes or a number."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
