"""Reading what was extracted: a feature file, or a folder of shards."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import StoreError
from featurestore.sources.samples import Sample
from featurestore.sources.tasks import MULTILABEL
from featurestore.store import feature_file, file_format, shards
from featurestore.store.remote import is_remote, local_copy, local_folder
from featurestore.system.files import why
from featurestore.system.printing import printable
from featurestore.system.results import Result


class FeatureStore:
    """One feature file, or a folder of shards (:mod:`featurestore.store.shards`), checked and open for reading.

    Features are memory-mapped, read-only, and so are texts until they are asked for; everything else is read on
    opening. No handle to HDF5 stays open, so a later extraction can replace the file while this object goes on showing
    the old one.

    Attributes:
        path: the file, or the folder.
        dataset: name of the data set.
        spec: how the features were made.
        class_names: class `i` is ``class_names[i]``.
        labels: int32 array (N,), indices into `class_names`; all 0 where there are `targets`.
        augment: preset of the views, or ``none``.
        view_rows, view_numbers: int32 arrays (M,), see :meth:`views`.
        grouped: whether rows have :attr:`groups`.
        task: what is asked of the images, of :data:`featurestore.sources.tasks.TASKS`: ``classification``,
            ``multilabel`` or ``regression``.
        targets: the answers of the last two, memory-mapped: uint8 (N, C), 1 for each label that a row has, or float32
            (N, 1); None of the first, whose answers are `labels`.
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
        found = shards.read(self.path) if shards.is_sharded(self.path) else feature_file.read(self.path)
        self.spec, self.dataset, self.class_names = found.spec, found.dataset, found.class_names
        self.augment, self.provenance, self.failures = found.augment, found.provenance, found.failures
        self.labels, self.view_rows, self.view_numbers = found.labels, found.view_rows, found.view_numbers
        self.content_digest = shards.content_digest(found)
        self.columns, self._numbers = found.columns, found.numbers
        self.task, self.targets = found.task, found.targets
        # A file of version 3 or 4 has the texts in any case.
        always = self.columns or self.targets is not None
        self.grouped = file_format.GROUP in found.texts and not (always and _is_empty(found.texts[file_format.GROUP]))
        self._files, self._features, self._views = found.files, found.features, found.views
        # Of a file without groups these texts are one, shown N times.
        nothing = np.broadcast_to(np.bytes_(b""), self.labels.shape)
        self._texts = {file_format.GROUP: nothing} | found.texts

    def close(self) -> None:
        """Let go of the file, as soon as no array of it is left. Its features can then no longer be asked for."""
        self._features, self._views, self._texts, self._numbers, self.targets = {}, {}, {}, None, None

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
        else:
            columns = (self.ids, self.paths, self.digests, self.labels, self.splits, self.groups)
            lists = [column[list(rows)].tolist() for column in columns]
        parts = [part for part in (self.targets, self._numbers) if part is not None]
        if parts:
            some = slice(None) if rows is None else list(rows)
            values = np.concatenate([np.asarray(part[some], np.float32) for part in parts], axis=1)
            names, lists = (*names, "values"), [*lists, list(map(tuple, values.tolist()))]
        return [Sample(**dict(zip(names, values, strict=True))) for values in zip(*lists, strict=True)]

    def summary(self) -> dict[str, Any]:
        """Return what ``featurestore info`` shows, as plain JSON types."""
        splits, counts = np.unique(self.splits, return_counts=True)
        shapes = {tap: [str(array.dtype), *array.shape[1:]] for tap, array in self._features.items()}
        shard_count = {"shards": len(self._files)} if self.path.is_dir() else {}
        return {
            "path": str(self.path),
            "dataset": self.dataset,
            **shard_count,
            "rows": len(self),
            "features": shapes,
            "views": {"rows": len(self.view_rows), "augment": self.augment},
            "splits": dict(zip(splits.tolist(), counts.tolist(), strict=True)),
            **({"task": self.task} if self.targets is not None else {}),
            "classes": dict(zip(self.class_names, self.class_counts.tolist(), strict=True)),
            **({"columns": [column.name for column in self.columns]} if self.columns else {}),
            "groups": len(set(self.texts(file_format.GROUP)) - {""}) if self.grouped else 0,
            "failures": [list(failure) for failure in self.failures],
            "bytes": sum(path.stat().st_size for path in self._files),
            "fingerprint": self.fingerprint,
            "spec": self.spec.to_dict(),
            "provenance": self.provenance,
        }

    @property
    def class_counts(self) -> NDArray[np.intp]:
        """How many rows each class or label has (C,); of a regression, all."""
        classes = len(self.class_names)
        if self.task == MULTILABEL.name and self.targets is not None:
            parts = file_format.blocks(len(self), classes)
            counts = [self.targets[part].sum(axis=0, dtype=np.intp) for part in parts]
            return np.asarray(np.sum(counts, axis=0, dtype=np.intp))
        return np.bincount(self.labels, minlength=classes)

    def verify(self) -> None:
        """Read all files whole and compare their content digests.

        Raises:
            CorruptFileError: the content is not what was written.
        """
        for path, content_digest in self._files.items():
            feature_file.verify(path, self.spec, content_digest)


def _is_empty(column: NDArray[np.bytes_]) -> bool:
    return not any((column[block] != b"").any() for block in file_format.blocks(len(column), column.dtype.itemsize))


def find_files(path: str | os.PathLike[str]) -> list[Path]:
    """Return the feature file at `path`, or all feature files in the folder `path`, sorted; those of a folder of shards
    are one.

    Args:
        path: or the ``https://`` or ``s3://`` address of a feature file, or of a folder of shards, see
            :mod:`featurestore.store.remote`. What a file gives, and nobody here, is a
            :class:`featurestore.store.remote.Recorded`.

    Raises:
        StoreError: nothing there.
        MissingDependencyError: an address, and the extra ``remote`` is not installed.
    """
    if is_remote(path):
        folder = os.fspath(path).rstrip("/").endswith(file_format.SHARDS)
        return [local_folder(path, _verified) if folder else local_copy(path, _verified)]
    path = Path(path)
    if shards.is_sharded(path):
        return [path]
    try:
        names = os.listdir(path)  # noqa: PTH208 (Path.glob passes over a folder that it may not read)
    except NotADirectoryError:
        return [path]
    except FileNotFoundError as error:
        raise StoreError(f"{path}: no such file or folder: run  featurestore extract  first") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({why(error)}): give a folder that you may read") from error
    whole = [path / name for name in names if name.endswith(file_format.SUFFIX)]
    divided = [path / name for name in names if name.endswith(file_format.SHARDS)]
    found = sorted([*whole, *(folder for folder in divided if shards.has_index(folder))])
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
