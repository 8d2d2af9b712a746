"""One feature file, checked and mapped: the only code that opens HDF5 for reading.

A file may come from anybody, so :mod:`featurestore.store.structure` checks it before a value is read.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptFileError, StoreError
from featurestore.sources.tasks import CLASSIFICATION
from featurestore.spec import ExtractionSpec
from featurestore.store import file_format, structure
from featurestore.system.documents import parse
from featurestore.system.files import check_filled, why
from featurestore.system.printing import printable

T = TypeVar("T")


@dataclass(frozen=True, eq=False, kw_only=True)
class Contents:
    """What a feature file holds, or several that are one. Features and texts are memory-mapped, read-only.

    Attributes:
        files: the paths, and the content digest that each file says it has.
        spec, dataset, class_names, augment, provenance: see :class:`featurestore.store.reader.FeatureStore`.
        labels, view_rows, view_numbers, failures: see there.
        texts: each column of texts that is there, as bytes (N,).
        features, views: by tap, (N, ...) and (M, ...).
        columns: the numeric columns; () for none.
        numbers: their values, float32 (N, C); None for none.
        task: what is asked of the images, by its name in :data:`featurestore.sources.tasks.TASKS`.
        targets: the answers, (N, T); None where they are the labels.
    """

    files: dict[Path, str]
    spec: ExtractionSpec
    dataset: str
    class_names: tuple[str, ...]
    augment: str
    provenance: dict[str, Any]
    labels: NDArray[np.int32]
    view_rows: NDArray[np.int32]
    view_numbers: NDArray[np.int32]
    failures: tuple[tuple[str, str], ...]
    texts: dict[str, NDArray[np.bytes_]]
    features: dict[str, NDArray[Any]]
    views: dict[str, NDArray[Any]]
    columns: tuple[file_format.Column, ...] = ()
    numbers: NDArray[np.float32] | None = None
    task: str = CLASSIFICATION.name
    targets: NDArray[Any] | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row of each tap."""
        return {tap: array.shape[1:] for tap, array in self.features.items()}


def read(path: Path) -> Contents:
    """Open a file.

    Raises:
        StoreError: there is no such file, or it cannot be read.
        CorruptFileError: truncated, altered, or no feature file.
        UnsafeFileError: uses an HDF5 facility that this format forbids.
    """
    with _open(path) as file:
        attributes = structure.check_attributes(file)
        spec = ExtractionSpec.from_json(attributes["spec"])
        if spec.fingerprint != attributes["fingerprint"]:
            raise CorruptFileError("its fingerprint does not match its spec: the file was altered")
        version = int(attributes[file_format.VERSION_ATTRIBUTE])
        structure.check_datasets(file, spec, version)
        names = _class_names(attributes)
        provenance = asdict(_typed("provenance", attributes, file_format.Provenance))
        structure.check_values(file, len(names))
        task = attributes.get(file_format.TASK_ATTRIBUTE, CLASSIFICATION.name)
        if version >= file_format.ASKED:
            structure.check_targets(file, task, len(names))
        failed = [
            file_format.decode(file[file_format.FAILURES][name][()]).tolist() for name in file_format.FAILURE_COLUMNS
        ]
        there = [name for name in file_format.TEXT_COLUMNS if name in file_format.columns(version)]
        features, views = (
            {tap: _map(path, file[name]) for tap, name in file_format.feature_names(spec.tap_names, group).items()}
            for group in ("", file_format.VIEWS)
        )
        return Contents(
            files={path: attributes["content_digest"]},
            spec=spec,
            dataset=attributes["dataset"],
            class_names=names,
            augment=attributes["augment"],
            provenance=provenance,
            labels=file[file_format.LABEL][()],
            view_rows=file[file_format.VIEWS][file_format.ROW][()],
            view_numbers=file[file_format.VIEWS][file_format.NUMBER][()],
            failures=tuple(zip(*failed, strict=True)),
            texts={name: _map(path, file[name]) for name in there},
            features=features,
            views=views,
            columns=_columns(attributes),
            numbers=_numbers(path, file, len(_columns(attributes))),
            task=task,
            targets=_map(path, file[file_format.TARGETS]) if version >= file_format.ASKED else None,
        )


def verify(path: Path, spec: ExtractionSpec, content_digest: str) -> None:
    """Read a whole file and compare its content digest.

    Raises:
        CorruptFileError: the content is not what was written.
    """
    with _open(path) as file:
        version = int(structure.check_attributes(file)[file_format.VERSION_ATTRIBUTE])
        structure.check_datasets(file, spec, version)
        actual = file_format.content_digest(file, spec.tap_names)
    if actual != content_digest:
        raise CorruptFileError(
            f"{path}: content digest {actual[:12]}… differs from the recorded {content_digest[:12]}…: "
            "the file was damaged or altered; extract it again, or copy it anew"
        )


def _class_names(attributes: Mapping[str, str]) -> tuple[str, ...]:
    names = _typed("class_names", attributes, list[str])
    if len(set(names)) < len(names):
        raise CorruptFileError("its class names are not each of another class: the file was altered")
    return tuple(names)


def _columns(attributes: Mapping[str, str]) -> tuple[file_format.Column, ...]:
    if file_format.COLUMNS_ATTRIBUTE not in attributes:
        return ()
    found = tuple(_typed(file_format.COLUMNS_ATTRIBUTE, attributes, list[file_format.Column]))
    if len({column.name for column in found}) < len(found) or not (found or file_format.TASK_ATTRIBUTE in attributes):
        raise CorruptFileError("its numeric columns are not each of another name: the file was altered")
    if any(len(column.codes) > 2 or len(set(column.codes)) < len(column.codes) for column in found):
        raise CorruptFileError("its numeric columns have codes that are not two texts: the file was altered")
    return found


def _numbers(path: Path, file: h5py.File, columns: int) -> NDArray[np.float32] | None:
    if not columns:
        return None
    found = _map(path, file[file_format.TABULAR])
    if found.shape[1] != columns:
        raise CorruptFileError("its numbers have other columns than are named: the file was altered")
    return found


def _typed(name: str, attributes: Mapping[str, str], kind: type[T]) -> T:
    try:
        return parse(attributes[name], kind)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; whatever is found wrong with it becomes an error that names it."""
    try:
        check_filled(path)
        before = path.stat()
    except FileNotFoundError as error:
        raise StoreError(f"{path}: no such feature file: run  featurestore extract  first") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({why(error)}): give a feature file that you may read") from error
    try:
        # A published file is replaced, and never written to; network file systems may have no locks, or hang over them.
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except CorruptFileError as error:
        raise type(error)(f"{path}: {error}") from error
    except Exception as error:  # a file that somebody else made can break HDF5 and h5py in any way
        reason = printable(" ".join(str(error).split()))
        raise CorruptFileError(
            f"{path}: not a readable feature file ({reason}): it is truncated, damaged or something else; "
            "copy it anew, or extract again"
        ) from error
    # The features are mapped by name: they must be those of the file whose attributes were read.
    if path.stat().st_ino != before.st_ino:
        raise StoreError(f"{path}: replaced by an extraction while it was being opened: try again")


def _map(path: Path, dataset: h5py.Dataset) -> NDArray[Any]:
    """Memory-map one contiguous dataset (an empty one has nothing to map)."""
    if not dataset.size:
        return np.empty(dataset.shape, dataset.dtype)
    return np.memmap(path, dataset.dtype, "r", dataset.id.get_offset(), dataset.shape)
