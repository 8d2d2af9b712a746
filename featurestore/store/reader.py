"""Reading a feature file: the only code that opens HDF5 for reading.

A file may come from anybody, so :mod:`featurestore.store.structure` checks it before a value is read.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptFileError, StoreError
from featurestore.sources.samples import Sample
from featurestore.spec import ExtractionSpec
from featurestore.store import file_format, structure
from featurestore.store.remote import is_remote, local_copy
from featurestore.system.documents import parse
from featurestore.system.files import check_filled, why
from featurestore.system.printing import printable
from featurestore.system.results import Result

T = TypeVar("T")


class FeatureStore:
    """One feature file, checked and open for reading.

    Features are memory-mapped, read-only, and so are texts until they are asked for; everything else is read on
    opening. No handle to HDF5 stays open, so a later extraction can replace the file while this object goes on showing
    the old one.

    Attributes:
        path: the file.
        dataset: name of the data set.
        spec: how the features were made.
        class_names: class `i` is ``class_names[i]``.
        labels: int32 array (N,), indices into `class_names`.
        augment: preset of the views, or ``none``.
        view_rows, view_numbers: int32 arrays (M,), see :meth:`views`.
        grouped: whether rows have :attr:`groups`.
        columns: the numeric columns, such as age, which are the tap ``tabular``; () for none.
        failures: pairs (path, reason), inputs that gave no row.
        provenance: weights as the user named them, engines and library versions.
        content_digest: SHA-256 of the content, compared by :meth:`verify`.

    Raises:
        StoreError: there is no such file, or it cannot be read.
        CorruptFileError: truncated, altered, or no feature file.
        UnsafeFileError: uses an HDF5 facility that this format forbids.

    Example:
        >>> from featurestore import FeatureStore
        >>> store = FeatureStore("digits.h5")
        >>> store.features().shape, store.class_names[:2]
        ((600, 64), ('digit 0', 'digit 1'))
        >>> store.labels[store.rows("test")][:3]
        array([4, 9, 4], dtype=int32)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with _open(self.path) as file:
            attributes = structure.check_attributes(file)
            self.spec = ExtractionSpec.from_json(attributes["spec"])
            if self.spec.fingerprint != attributes["fingerprint"]:
                raise CorruptFileError("its fingerprint does not match its spec: the file was altered")
            version = int(attributes[file_format.VERSION_ATTRIBUTE])
            structure.check_datasets(file, self.spec, version)
            self.dataset = attributes["dataset"]
            self.augment = attributes["augment"]
            self.class_names = _class_names(attributes)
            self.columns = _columns(attributes)
            self.provenance: dict[str, Any] = asdict(_typed("provenance", attributes, file_format.Provenance))
            self.content_digest = attributes["content_digest"]
            structure.check_values(file, len(self.class_names))
            self.labels: NDArray[np.int32] = file[file_format.LABEL][()]
            self.view_rows: NDArray[np.int32] = file[file_format.VIEWS][file_format.ROW][()]
            self.view_numbers: NDArray[np.int32] = file[file_format.VIEWS][file_format.NUMBER][()]
            failed = [
                file_format.decode(file[file_format.FAILURES][name][()]).tolist()
                for name in file_format.FAILURE_COLUMNS
            ]
            self.failures: tuple[tuple[str, str], ...] = tuple(zip(*failed, strict=True))
            there = [name for name in file_format.TEXT_COLUMNS if name in file_format.columns(version)]
            self._texts = {name: _map(self.path, file[name]) for name in there}
            # A file of version 3 has the column in any case.
            self.grouped = file_format.GROUP in self._texts and bool((self._texts[file_format.GROUP] != b"").any())
            # Of a file without groups these texts are one, shown N times.
            self._texts.setdefault(file_format.GROUP, np.broadcast_to(np.bytes_(b""), self.labels.shape))
            self._features, self._views = (
                {tap: _map(self.path, file[name]) for tap, name in file_format.feature_names(self.taps, group).items()}
                for group in ("", file_format.VIEWS)
            )
            self._numbers = None
            if self.columns:
                self._numbers = _map(self.path, file[file_format.TABULAR])
                if self._numbers.shape[1] != len(self.columns):
                    raise CorruptFileError("its numbers have other columns than are named: the file was altered")

    def close(self) -> None:
        """Let go of the file, as soon as no array of it is left. Its features can then no longer be asked for."""
        self._features, self._views, self._texts, self._numbers = {}, {}, {}, None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.path)!r}: {len(self)} rows, {self.spec.backbone})"

    @cached_property
    def ids(self) -> NDArray[np.str_]:
        """The samples' names in their source: str array (N,), see :mod:`featurestore.store.file_format`."""
        return file_format.decode(self._texts[file_format.ID])

    @cached_property
    def paths(self) -> NDArray[np.str_]:
        """Where the images were in the source: str array (N,)."""
        return file_format.decode(self._texts[file_format.PATH])

    @cached_property
    def digests(self) -> NDArray[np.str_]:
        """SHA-256 of each image in hexadecimal: str array (N,)."""
        return file_format.decode(self._texts[file_format.DIGEST])

    @property
    def digest_bytes(self) -> NDArray[np.bytes_]:
        """:attr:`digests` as they are in the file, bytes (N,), memory-mapped, which takes no memory."""
        return self._texts[file_format.DIGEST]

    @cached_property
    def splits(self) -> NDArray[np.str_]:
        """``train``, ``validation``, ``test`` or ``duplicate``: str array (N,)."""
        return file_format.decode(self._texts[file_format.SPLIT])

    @cached_property
    def groups(self) -> NDArray[np.str_]:
        """Name of the group whose images must not be divided, such as a patient: str array (N,); "" for none."""
        return file_format.decode(self._texts[file_format.GROUP])

    def texts(self, column: str) -> Iterator[str]:
        """Give a column of texts as Python's own strings: of many rows, a fraction of an array's memory.

        Args:
            column: of :data:`featurestore.store.file_format.TEXT_COLUMNS`.
        """
        return file_format.decode_each(self._texts[column])

    @property
    def fingerprint(self) -> str:
        """Fingerprint of :attr:`spec`."""
        return self.spec.fingerprint

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the taps, as :meth:`features` takes them."""
        return self.spec.tap_names

    def features(self, tap: str | None = None) -> NDArray[np.floating[Any]]:
        """Return the features of one tap: a read-only, memory-mapped float16 or float32 array (N, ...).

        Args:
            tap: may be left out when the file has one tap; ``tabular`` for its numeric columns, float32 (N, C), NaN for
                missing values.

        Raises:
            StoreError: the file has no such tap, or several and none was named.
        """
        if tap == file_format.TABULAR and self._numbers is not None:
            return self._numbers
        return self._features[self._tap(tap)]

    def views(self, tap: str | None = None) -> NDArray[np.floating[Any]]:
        """Return the features of augmented versions of training rows, as :meth:`features`: (M, ...), possibly none.

        View `i` is a version of row ``view_rows[i]``, and number ``view_numbers[i]`` among these.
        """
        if tap == file_format.TABULAR and self._numbers is not None:
            return np.asarray(self._numbers[self.view_rows])
        return self._views[self._tap(tap)]

    def _tap(self, tap: str | None) -> str:
        if not self._features:
            raise StoreError(f"{self.path}: is closed: open it again")
        if tap is None and len(self.taps) == 1:
            return self.taps[0]
        if tap not in self.taps:
            what = "name a tap" if tap is None else f"no tap {tap!r}"
            there = [*self.taps, *([file_format.TABULAR] if self.columns else [])]
            raise StoreError(f"{self.path}: {what}: it has {printable(', '.join(there))}")
        return tap

    @property
    def producers(self) -> list[dict[str, str]]:
        """Engines and library versions that computed the rows."""
        return [dict(producer) for producer in self.provenance["producers"]]

    def rows(self, split: str) -> NDArray[np.intp]:
        """Return the indices of the rows of one split, in the file's order."""
        return np.flatnonzero(self.splits == split)

    def samples(self, rows: Sequence[int] | None = None) -> list[Sample]:
        """Return the samples of these rows, by default of all."""
        names: tuple[str, ...] = ("id", "path", "digest", "label", "split", "group")
        if rows is None:
            lists = [self.labels.tolist() if name == "label" else list(self.texts(name)) for name in names]
            numbers = self._numbers
        else:
            columns = (self.ids, self.paths, self.digests, self.labels, self.splits, self.groups)
            lists = [column[list(rows)].tolist() for column in columns]
            numbers = None if self._numbers is None else self._numbers[list(rows)]
        if numbers is not None:
            names, lists = (*names, "values"), [*lists, list(map(tuple, numbers.tolist()))]
        return [Sample(**dict(zip(names, values, strict=True))) for values in zip(*lists, strict=True)]

    def summary(self) -> dict[str, Any]:
        """Return what ``featurestore info`` shows, as plain JSON types."""
        splits, counts = np.unique(self.splits, return_counts=True)
        shapes = {tap: [str(array.dtype), *array.shape[1:]] for tap, array in self._features.items()}
        return {
            "path": str(self.path),
            "dataset": self.dataset,
            "rows": len(self),
            "features": shapes,
            "views": {"rows": len(self.view_rows), "augment": self.augment},
            "splits": dict(zip(splits.tolist(), counts.tolist(), strict=True)),
            "classes": {
                name: int(count)
                for name, count in zip(
                    self.class_names, np.bincount(self.labels, minlength=len(self.class_names)), strict=True
                )
            },
            **({"columns": [column.name for column in self.columns]} if self.columns else {}),
            "groups": len(set(self.texts(file_format.GROUP)) - {""}) if self.grouped else 0,
            "failures": [list(failure) for failure in self.failures],
            "bytes": self.path.stat().st_size,
            "fingerprint": self.fingerprint,
            "spec": self.spec.to_dict(),
            "provenance": self.provenance,
        }

    def verify(self) -> None:
        """Read the whole file and compare its content digest.

        Raises:
            CorruptFileError: the content is not what was written.
        """
        with _open(self.path) as file:
            version = int(structure.check_attributes(file)[file_format.VERSION_ATTRIBUTE])
            structure.check_datasets(file, self.spec, version)
            actual = file_format.content_digest(file, self.taps)
        if actual != self.content_digest:
            raise CorruptFileError(
                f"{self.path}: content digest {actual[:12]}… differs from the recorded {self.content_digest[:12]}…: "
                "the file was damaged or altered; extract it again, or copy it anew"
            )


def find_files(path: str | os.PathLike[str]) -> list[Path]:
    """Return the feature file at `path`, or all feature files in the folder `path`, sorted.

    Args:
        path: or the ``https://`` or ``s3://`` address of a feature file, see :mod:`featurestore.store.remote`. What a
            file gives, and nobody here, is a :class:`featurestore.store.remote.Recorded`.

    Raises:
        StoreError: nothing there.
        MissingDependencyError: an address, and the extra ``remote`` is not installed.
    """
    if is_remote(path):
        return [local_copy(path, _verified)]
    path = Path(path)
    try:
        names = os.listdir(path)  # noqa: PTH208 (Path.glob passes over a folder that it may not read)
    except NotADirectoryError:
        return [path]
    except FileNotFoundError as error:
        raise StoreError(f"{path}: no such file or folder: run  featurestore extract  first") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({why(error)}): give a folder that you may read") from error
    found = sorted(path / name for name in names if name.endswith(file_format.SUFFIX))
    if not found:
        raise StoreError(
            f"{path}: no feature file (*{file_format.SUFFIX}) in this folder: run  featurestore extract  first"
        )
    return found


def find_file(path: str | os.PathLike[str]) -> Path:
    """Return the one feature file that `path` stands for: itself, or the only one in the folder.

    Raises:
        StoreError: nothing there, or several files to choose from.
    """
    found = find_files(path)
    if len(found) > 1:
        raise StoreError(f"{path}: {len(found)} feature files: name one of {', '.join(f.name for f in found)}")
    return found[0]


@dataclass(frozen=True, repr=False)
class Verification(Result):
    """What :func:`verify_files` found.

    Attributes:
        intact: paths of the files whose content digest is right: all of them, since a damaged one is an error.
    """

    intact: list[str]


def verify_files(path: str | os.PathLike[str]) -> Verification:
    """Read the feature file at `path`, or each one in the folder, and compare its content digest.

    Raises:
        StoreError: nothing there.
        CorruptFileError: one of them is damaged; the message names it.
    """
    files = find_files(path)
    for file in files:
        FeatureStore(file).verify()
    return Verification([str(file) for file in files])


def _verified(path: Path) -> str:
    store = FeatureStore(path)
    store.verify()
    return store.content_digest


def _class_names(attributes: Mapping[str, str]) -> tuple[str, ...]:
    names = _typed("class_names", attributes, list[str])
    if len(set(names)) < len(names):
        raise CorruptFileError("its class names are not each of another class: the file was altered")
    return tuple(names)


def _columns(attributes: Mapping[str, str]) -> tuple[file_format.Column, ...]:
    if file_format.COLUMNS_ATTRIBUTE not in attributes:
        return ()
    found = tuple(_typed(file_format.COLUMNS_ATTRIBUTE, attributes, list[file_format.Column]))
    if not found or len({column.name for column in found}) < len(found):
        raise CorruptFileError("its numeric columns are not each of another name: the file was altered")
    if any(len(column.codes) > 2 or len(set(column.codes)) < len(column.codes) for column in found):
        raise CorruptFileError("its numeric columns have codes that are not two texts: the file was altered")
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
        with h5py.File(path, "r") as file:
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
