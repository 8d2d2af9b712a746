"""Reading a feature file: the only code that opens HDF5 for reading.

A file may come from anybody, so its structure is checked before a value is read: HDF5 can name other files of the
machine as its storage, declare terabytes, or hide behind links, and h5py would follow.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from featurestore import layout
from featurestore.errors import CorruptFileError, StoreError, UnsafeFileError
from featurestore.remote import is_remote, local_copy
from featurestore.spec import ExtractionSpec

METADATA_LIMIT = 2 * 2**30
"""Most bytes of ids, paths and attributes that are read into memory. (Features are mapped, not read.)"""


class FeatureStore:
    """One feature file, checked and open for reading.

    Features are memory-mapped, read-only; everything else is read on opening. No handle to HDF5 stays open, so a
    later extraction can replace the file while this object goes on showing the old one.

    Attributes:
        path: the file.
        dataset: name of the data set.
        spec: how the features were made.
        class_names: class `i` is ``class_names[i]``.
        ids, paths: str arrays (N,).
        digests: str array (N,), SHA-256 of each image in hexadecimal.
        labels: int32 array (N,), indices into `class_names`.
        splits: str array (N,): ``train``, ``validation``, ``test`` or ``duplicate``.
        augment: preset of the views, or ``none``.
        view_rows, view_numbers: int32 arrays (M,), see :meth:`views`.
        failures: pairs (path, reason), inputs that gave no row.
        provenance: weights as the user named them, engines and library versions.
        content_digest: SHA-256 of the content, compared by :meth:`verify`.

    Raises:
        StoreError: there is no such file.
        CorruptFileError: truncated, altered, or no feature file.
        UnsafeFileError: uses an HDF5 facility that this format forbids.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with _open(self.path) as file:
            attributes = _check_attributes(file, self.path)
            self.spec = ExtractionSpec.from_json(attributes["spec"])
            if self.spec.fingerprint != attributes["fingerprint"]:
                raise CorruptFileError(f"{self.path}: its fingerprint does not match its spec: the file was altered")
            _check_datasets(file, self.taps, self.path)
            self.dataset = attributes["dataset"]
            self.augment = attributes["augment"]
            self.class_names = tuple(str(name) for name in json.loads(attributes["class_names"]))
            self.provenance: dict[str, Any] = json.loads(attributes["provenance"])
            self.content_digest = attributes["content_digest"]
            self.ids, self.digests, self.splits, self.paths = (
                layout.decode(file[name][()]) for name in (layout.ID, layout.DIGEST, layout.SPLIT, layout.PATH)
            )
            self.labels: NDArray[np.int32] = file[layout.LABEL][()]
            self.view_rows: NDArray[np.int32] = file[layout.VIEWS][layout.ROW][()]
            self.view_numbers: NDArray[np.int32] = file[layout.VIEWS][layout.NUMBER][()]
            failed = [layout.decode(file[layout.FAILURES][name][()]).tolist() for name in layout.FAILURE_COLUMNS]
            self.failures: tuple[tuple[str, str], ...] = tuple(zip(*failed, strict=True))
            self._features, self._views = (
                {tap: _map(self.path, file[name]) for tap, name in layout.feature_names(self.taps, group).items()}
                for group in ("", layout.VIEWS)
            )
        for what, indices, limit in (
            ("labels", self.labels, len(self.class_names)),
            ("views", self.view_rows, len(self)),
        ):
            if len(indices) and not (indices.min() >= 0 and indices.max() < limit):
                raise CorruptFileError(f"{self.path}: {what} point outside the {limit} that there are")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.path)!r}: {len(self)} rows, {self.spec.backbone})"

    @property
    def fingerprint(self) -> str:
        """Fingerprint of :attr:`spec`."""
        return self.spec.fingerprint

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the taps, as :meth:`features` takes them."""
        return self.spec.tap_names

    def features(self, tap: str | None = None) -> NDArray[np.floating[Any]]:
        """Features of one tap: a read-only, memory-mapped float16 or float32 array (N, ...).

        Args:
            tap: may be left out when the file has one tap.

        Raises:
            StoreError: the file has no such tap, or several and none was named.
        """
        return self._features[self._tap(tap)]

    def views(self, tap: str | None = None) -> NDArray[np.floating[Any]]:
        """Features of augmented versions of training rows, as :meth:`features`: (M, ...), possibly none.

        View `i` is a version of row ``view_rows[i]``, and number ``view_numbers[i]`` among these.
        """
        return self._views[self._tap(tap)]

    def _tap(self, tap: str | None) -> str:
        if tap is None and len(self.taps) == 1:
            return self.taps[0]
        if tap not in self.taps:
            what = "name a tap" if tap is None else f"no tap {tap!r}"
            raise StoreError(f"{self.path}: {what}: it has {', '.join(self.taps)}")
        return tap

    @property
    def producers(self) -> list[dict[str, str]]:
        """Engines and library versions that computed the rows."""
        return [dict(producer) for producer in self.provenance.get("producers", [])]

    def rows(self, split: str) -> NDArray[np.intp]:
        """Indices of the rows of one split, in the file's order."""
        return np.flatnonzero(self.splits == split)

    def summary(self) -> dict[str, Any]:
        """What ``featurestore info`` tells, in plain JSON types."""
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
            _check_datasets(file, self.taps, self.path)
            actual = layout.content_digest(file, self.taps)
        if actual != self.content_digest:
            raise CorruptFileError(
                f"{self.path}: content digest {actual[:12]}… differs from the recorded {self.content_digest[:12]}…: "
                "the file was damaged or altered; extract it again, or copy it anew"
            )


def find_files(path: str | os.PathLike[str]) -> list[Path]:
    """The feature file at `path`, or all feature files in the folder `path`, sorted.

    Args:
        path: or the ``https://`` or ``s3://`` address of a feature file, see :mod:`featurestore.remote`. What a file
            gives, and nobody here, is a :class:`featurestore.remote.Recorded`.

    Raises:
        StoreError: nothing there.
        MissingDependencyError: an address, and the extra ``remote`` is not installed.
    """
    if is_remote(path):
        return [local_copy(path, _verified)]
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise StoreError(f"{path}: no such file or folder: run  featurestore extract  first")
        return [path]
    found = sorted(path.glob(f"*{layout.SUFFIX}"))
    if not found:
        raise StoreError(f"{path}: no feature file (*{layout.SUFFIX}) in this folder: run  featurestore extract  first")
    return found


def find_file(path: str | os.PathLike[str]) -> Path:
    """The one feature file that `path` stands for: itself, or the only one in the folder.

    Raises:
        StoreError: nothing there, or several files to choose from.
    """
    found = find_files(path)
    if len(found) > 1:
        raise StoreError(f"{path}: {len(found)} feature files: name one of {', '.join(f.name for f in found)}")
    return found[0]


def verify_files(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Verify the feature file at `path`, or each one in the folder; ``{"intact": [their paths]}``.

    Raises:
        StoreError: nothing there.
        CorruptFileError: one of them is damaged; the message names it.
    """
    files = find_files(path)
    for file in files:
        FeatureStore(file).verify()
    return {"intact": [str(file) for file in files]}


def _verified(path: Path) -> str:
    store = FeatureStore(path)
    store.verify()
    return store.content_digest


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """Open for reading; whatever HDF5 finds wrong becomes a CorruptFileError."""
    if not path.is_file():
        raise StoreError(f"{path}: no such feature file")
    before = path.stat()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, MemoryError) as error:
        if isinstance(error, PermissionError):
            raise StoreError(f"{path}: permission denied") from error
        reason = " ".join(str(error).split())
        raise CorruptFileError(
            f"{path}: not a readable feature file ({reason}): it is truncated, damaged or something else; "
            "copy it anew, or extract again"
        ) from error
    # The features are mapped by name: they must be those of the file whose ids were read.
    if path.stat().st_ino != before.st_ino:
        raise StoreError(f"{path}: replaced by an extraction while it was being opened: try again")


def _check_attributes(file: h5py.File, path: Path) -> dict[str, str]:
    """Read the root attributes, each a fixed-length string of a sane size."""
    if "format" not in file.attrs or layout.VERSION_ATTRIBUTE not in file.attrs:
        raise CorruptFileError(f"{path}: an HDF5 file, but not one written by featurestore extract")
    texts = {}
    for name in layout.ATTRIBUTES:
        kind = file.attrs.get_id(name)
        if kind.shape != () or kind.dtype.kind != "S" or kind.dtype.itemsize > METADATA_LIMIT:
            raise UnsafeFileError(f"{path}: attribute {name!r} is not a fixed-length string: file refused")
        texts[name] = layout.attribute_text(file.attrs[name])
    version = file.attrs.get_id(layout.VERSION_ATTRIBUTE)
    if version.shape != () or version.dtype.kind != "i":
        raise UnsafeFileError(f"{path}: attribute {layout.VERSION_ATTRIBUTE!r} is not a number: file refused")
    number = int(file.attrs[layout.VERSION_ATTRIBUTE])
    if texts["format"] != layout.FORMAT or number > layout.FORMAT_VERSION:
        raise CorruptFileError(
            f"{path}: format {texts['format']!r} version {number}, this program reads "
            f"{layout.FORMAT!r} up to {layout.FORMAT_VERSION}: upgrade featurestore"
        )
    return texts


def _check_datasets(file: h5py.File, taps: Sequence[str], path: Path) -> None:
    """Check every link, type, layout and size before a value is read."""
    size, schema = path.stat().st_size, layout.schema(taps)
    for group, names in layout.children(schema).items():
        if not isinstance(file[group], h5py.Group) or set(file[group]) != names:
            raise UnsafeFileError(
                f"{path}: {group!r} does not hold {', '.join(sorted(names))} and only that: file refused"
            )
        for name in names:
            _check_hard_link(file[group], name, path)
    metadata = 0
    lengths: dict[str, set[int]] = {"rows": set(), "views": set(), "failures": set()}
    for name, (kind, length) in schema.items():
        _check_dataset(file[name], kind, size, path)
        metadata += 0 if kind == "f" else file[name].nbytes
        lengths[length].add(file[name].shape[0])
    if any(len(found) != 1 for found in lengths.values()):
        raise CorruptFileError(f"{path}: its datasets are not of one length: {lengths}")
    if metadata > METADATA_LIMIT:
        raise UnsafeFileError(
            f"{path}: {metadata:,} bytes of ids and paths are more than {METADATA_LIMIT:,}: file refused"
        )


def _check_hard_link(parent: h5py.Group, name: str, path: Path) -> None:
    if parent.id.links.get_info(os.fsencode(name)).type != h5py.h5l.TYPE_HARD:
        raise UnsafeFileError(f"{path}: {name!r} is a link to somewhere else: file refused")


def _check_dataset(dataset: Any, kind: str, file_size: int, path: Path) -> None:
    if not isinstance(dataset, h5py.Dataset):
        raise UnsafeFileError(f"{path}: {dataset.name} is not a dataset: file refused")
    plist = dataset.id.get_create_plist()
    if plist.get_external_count() or plist.get_layout() != h5py.h5d.CONTIGUOUS or plist.get_nfilters():
        raise UnsafeFileError(f"{path}: {dataset.name} is stored outside the file or in pieces: file refused")
    fits = dataset.dtype.kind == kind and dataset.dtype.isnative and (kind == "S" or dataset.dtype.itemsize in (2, 4))
    if not fits or dataset.ndim < 1 or (kind != "f" and dataset.ndim != 1):
        raise UnsafeFileError(f"{path}: {dataset.name} has type {dataset.dtype} against its format: file refused")
    # Storage that was never allocated reads as zeros, of any declared size.
    nbytes, offset = int(dataset.nbytes), dataset.id.get_offset()
    if nbytes and (offset is None or offset + nbytes > file_size):
        raise CorruptFileError(f"{path}: {dataset.name} declares {nbytes:,} bytes, more than the file holds: truncated")


def _map(path: Path, dataset: h5py.Dataset) -> NDArray[np.floating[Any]]:
    """Memory-map one contiguous dataset (an empty one has nothing to map)."""
    if not dataset.size:
        return np.empty(dataset.shape, dataset.dtype)
    return np.memmap(path, dataset.dtype, "r", dataset.id.get_offset(), dataset.shape)
