"""Whether an HDF5 file is a feature file as :mod:`featurestore.store.file_format` describes it: asked before a value is
read.

HDF5 can name other files of the machine as its storage, declare terabytes that are nowhere, or hide behind links, and
h5py would follow. The errors give reasons; who opened the file puts its name before them.
"""

import math
import os
import re
import textwrap
from collections.abc import Iterable
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptFileError, UnsafeFileError
from featurestore.sources.numeric import MOST_COLUMNS
from featurestore.sources.tasks import CLASSIFICATION, TASKS
from featurestore.spec import ExtractionSpec
from featurestore.store import file_format
from featurestore.system.printing import printable


def check_attributes(file: h5py.File) -> dict[str, str]:
    """Read the root attributes, each a fixed-length string of a sane size, but for the version, which is a number."""
    _check_overhead(file)
    if "format" not in file.attrs or file_format.VERSION_ATTRIBUTE not in file.attrs:
        raise CorruptFileError("an HDF5 file, but not one written by featurestore extract")
    texts = {}
    for name, most in file_format.ATTRIBUTES.items():
        texts[name] = _attribute(file, name, most)
    if not re.fullmatch("[0-9a-f]{64}", texts["content_digest"]):
        raise CorruptFileError("its content digest is no SHA-256: the file was altered")
    version = file.attrs.get_id(file_format.VERSION_ATTRIBUTE)
    if version.shape != () or version.dtype.kind != "i":
        raise UnsafeFileError(f"attribute {file_format.VERSION_ATTRIBUTE!r} is not a number: file refused")
    number = int(file.attrs[file_format.VERSION_ATTRIBUTE])
    if texts["format"] != file_format.FORMAT or not 1 <= number <= file_format.FORMAT_VERSION:
        raise CorruptFileError(
            f"format {texts['format']!r} version {number}, this program reads "
            f"{file_format.FORMAT!r} from 1 to {file_format.FORMAT_VERSION}: upgrade featurestore"
        )
    for name, most in file_format.attributes(number).items() - file_format.ATTRIBUTES.items():
        texts[name] = _attribute(file, name, most)
    return texts | {file_format.VERSION_ATTRIBUTE: str(number)}


def _attribute(file: h5py.File, name: str, most: int) -> str:
    kind = file.attrs.get_id(name)
    if kind.shape != () or kind.dtype.kind != "S":
        raise UnsafeFileError(f"attribute {name!r} is not a fixed-length string: file refused")
    if kind.dtype.itemsize > most:
        raise UnsafeFileError(f"attribute {name!r} has {kind.dtype.itemsize:,} bytes, of {most:,}: file refused")
    return file_format.attribute_text(file.attrs[name])


def _check_overhead(file: h5py.File) -> None:
    """Refuse a file that holds too much beside its datasets: HDF5 reads an attribute whole, to tell its size."""
    stored = objects = 0

    def count(name: str, item: Any) -> bool | None:
        nonlocal stored, objects
        objects += 1
        if isinstance(item, h5py.Dataset) and item.id.get_offset() is not None:
            stored += item.id.get_storage_size()
        return objects > file_format.MOST_OBJECTS or None

    file.visititems(count)
    overhead = os.stat(file.filename).st_size - stored  # noqa: PTH116
    if objects > file_format.MOST_OBJECTS or overhead > file_format.OVERHEAD_BYTES:
        raise UnsafeFileError(f"{objects:,} objects, and {overhead:,} bytes beside them: file refused")


def check_datasets(file: h5py.File, spec: ExtractionSpec, version: int) -> None:
    """Check every link, type, layout and size."""
    schema = file_format.schema(spec.tap_names, version)
    for group, names in file_format.children(schema).items():
        _check_group(file[group], names)
    size = os.stat(file.filename).st_size  # noqa: PTH116 (HDF5 gives the name of what it has opened)
    lengths: dict[str, set[int]] = {"rows": set(), "views": set(), "failures": set()}
    datasets = {name: file[name] for name in schema}  # to open one takes longer than to check it
    for name, (kind, length) in schema.items():
        _check_dataset(datasets[name], kind, size)
        lengths[length].add(datasets[name].shape[0])
    if any(len(found) != 1 for found in lengths.values()):
        raise CorruptFileError(f"its datasets are not of one length: {lengths}")
    _check_features(file, spec)
    if version >= file_format.NUMERIC:
        _check_numbers(file[file_format.TABULAR], least=0 if version >= file_format.ASKED else 1)
    columns = sum(datasets[name].nbytes for name, (kind, _) in schema.items() if kind not in "ft")
    allowed = file_format.SPARE_BYTES + file_format.ROW_BYTES * sum(min(found) for found in lengths.values())
    if columns > allowed:
        raise UnsafeFileError(f"its ids, paths and other columns take {columns:,} bytes, of {allowed:,}: file refused")


def _check_group(group: Any, names: set[str]) -> None:
    if not isinstance(group, h5py.Group) or len(group) != len(names) or set(group) != names:
        where = printable(group.name)
        raise UnsafeFileError(f"{where} does not hold {_listed(names)} and only that: file refused")
    for name in names:
        if group.id.links.get_info(os.fsencode(name)).type != h5py.h5l.TYPE_HARD:
            raise UnsafeFileError(f"{printable(name)!r} is a link to somewhere else: file refused")


def _check_dataset(dataset: Any, kind: str, file_size: int) -> None:
    name = printable(dataset.name)
    if not isinstance(dataset, h5py.Dataset):
        raise UnsafeFileError(f"{name} is not a dataset: file refused")
    plist = dataset.id.get_create_plist()
    if plist.get_external_count() or plist.get_layout() != h5py.h5d.CONTIGUOUS or plist.get_nfilters():
        raise UnsafeFileError(f"{name} is stored outside the file or in pieces: file refused")
    if not _fits(dataset, kind):
        raise UnsafeFileError(f"{name} has type {dataset.dtype}, {dataset.ndim}-d, against its format: file refused")
    # Storage that was never allocated reads as zeros, of any declared size. (Not dataset.nbytes, which can overflow.)
    nbytes, offset = dataset.dtype.itemsize * math.prod(dataset.shape), dataset.id.get_offset()
    if nbytes and (offset is None or offset + nbytes > file_size):
        raise CorruptFileError(f"{name} declares {nbytes:,} bytes, more than the file holds: truncated")


def _fits(dataset: h5py.Dataset, kind: str) -> bool:
    """Tell whether values are stored as NumPy reads them: HDF5 also knows others, which h5py converts."""
    dtype = dataset.dtype
    if kind == "S":
        return bool(dtype.kind == "S" and dataset.ndim == 1)
    if kind == "t":
        plain, shaped = dtype in (np.uint8, np.float32), dataset.ndim == 2
    else:
        sizes = (2, 4) if kind == "f" else (4,)
        plain = dtype.kind == kind and dtype.itemsize in sizes and dtype.isnative
        shaped = dataset.ndim == 1 if kind == "i" else dataset.ndim >= 1
    return bool(plain and shaped and dataset.id.get_type() == h5py.h5t.py_create(dtype))


def _check_features(file: h5py.File, spec: ExtractionSpec) -> None:
    taps = spec.tap_names
    views = file_format.feature_names(taps, file_format.VIEWS)
    for tap, name in file_format.feature_names(taps).items():
        rows = file[name]
        if any(dataset.dtype != spec.dtype for dataset in (rows, file[views[tap]])):
            raise CorruptFileError(f"{printable(rows.name)} is not the {spec.dtype} of its spec: the file was altered")
        if not math.prod(rows.shape[1:]):
            raise CorruptFileError(f"{printable(rows.name)} has no columns: the file was altered")
        if file[views[tap]].shape[1:] != rows.shape[1:]:
            raise CorruptFileError(f"views of {printable(tap)!r} have another shape than rows: the file was altered")


def _check_numbers(numbers: h5py.Dataset, least: int) -> None:
    if numbers.ndim != 2 or numbers.dtype != np.float32 or not least <= numbers.shape[1] <= MOST_COLUMNS:
        raise CorruptFileError(
            f"its numbers are {numbers.dtype} {numbers.shape}, no float32 (N, C): the file was altered"
        )


def check_values(file: h5py.File, classes: int) -> None:
    """Check the columns that are used to find other values: splits, digests, and all indices."""
    splits, digests = file[file_format.SPLIT], file[file_format.DIGEST]
    rows = len(splits)
    if splits.dtype.itemsize > max(map(len, _SPLITS)) or not set(np.unique(splits[()]).tolist()) <= _SPLITS:
        raise CorruptFileError(f"its splits are not all of {_listed(file_format.FILE_SPLITS)}: the file was altered")
    if rows and (digests.dtype.itemsize != file_format.DIGEST_CHARS or not all(map(_are_hex, _blocks(digests)))):
        raise CorruptFileError("its digests are not all SHA-256: the file was altered")
    views = file[file_format.VIEWS]
    for what, indices, first, end in (
        ("labels", file[file_format.LABEL], 0, classes),
        ("views", views[file_format.ROW], 0, rows),
        (
            "numbers of views",
            views[file_format.NUMBER],
            1,
            min(len(views[file_format.NUMBER]), file_format.MOST_VIEWS) + 1,
        ),
    ):
        values = indices[()]
        if len(values) and not (values.min() >= first and values.max() < end):
            raise CorruptFileError(f"its {what} point outside the {end - first} that there are: the file was altered")


def check_targets(file: h5py.File, task: str, classes: int) -> None:
    """Check what is asked of the rows of a file of version 4, and what it says of them."""
    asked = TASKS.get(task, CLASSIFICATION)
    if asked is CLASSIFICATION:
        raise CorruptFileError(f"its task is {printable(task)!r}: upgrade featurestore, or the file was altered")
    targets = file[file_format.TARGETS]
    if targets.dtype != asked.dtype or targets.shape[1] != asked.width(classes) or not classes:
        raise CorruptFileError(
            f"its targets are {targets.dtype} {targets.shape}, not those of {task}: the file was altered"
        )
    for block in file_format.blocks(len(targets), targets.shape[1] * targets.dtype.itemsize):
        values = targets[block]
        if not (values <= 1).all() if asked.dtype == np.uint8 else not np.isfinite(values).all():
            raise CorruptFileError(f"its targets are not those of {task}: the file was altered")


_SPLITS = {split.encode() for split in file_format.FILE_SPLITS}
_HEX = np.isin(np.arange(256), list(b"0123456789abcdef"))


def _blocks(column: h5py.Dataset) -> Iterable[NDArray[Any]]:
    # Of a sixteenth of the usual size, since a check makes several arrays of each, and costs no reading of its own.
    return (column[block] for block in file_format.blocks(len(column), 16 * column.dtype.itemsize))


def _are_hex(texts: NDArray[np.bytes_]) -> bool:
    return bool(_HEX[texts.view(np.uint8)].all())


def _listed(names: Iterable[str]) -> str:
    return textwrap.shorten(", ".join(printable(name) for name in sorted(names)), 200)
