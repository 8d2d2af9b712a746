"""Tables of features: they read feature files into the arrays that heads are fitted to."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError, StoreError
from featurestore.sources.groups import joined
from featurestore.sources.tasks import REGRESSION, TASKS
from featurestore.spec import ExtractionSpec, backbone_names
from featurestore.store.file_format import TABULAR, Column
from featurestore.store.reader import FeatureStore, find_file, find_files
from heads.rows import Codes, Features, Floats, Labels, NumericScaling, Rows, StreamedRows

__all__ = ["FeatureTable", "Features", "Floats", "Input", "LabelledRows", "Labels", "Rows", "load_features"]

LabelledRows = tuple[Rows, Codes]
"""Rows of features (N, D) and their labels (N,), or other answers."""
_KEY = "S32"
"""Images are told apart by half of the digits of their SHA-256: that two of a million agree in them is next to
impossible."""
StoreTap = tuple[FeatureStore, str | None]
"""A feature file and the name of one of its taps; None for its only one."""


@dataclass(frozen=True)
class Input:
    """The origin of some columns of a table.

    Attributes:
        spec: how the features were extracted.
        tap: the name of the tap.
        weights: the backbone's weights as the user named them.
    """

    spec: ExtractionSpec
    tap: str
    weights: str

    @property
    def fingerprint(self) -> str:
        """The fingerprint of :attr:`spec`."""
        return self.spec.fingerprint

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON types."""
        spec = self.spec.to_dict()
        return {"spec": spec, "fingerprint": self.fingerprint, "tap": self.tap, "weights": self.weights}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Input":
        """Read what :meth:`to_dict` returned.

        Raises:
            CorruptFileError, ValueError, KeyError: a value is missing, or the values do not fit each other.
        """
        spec = ExtractionSpec.from_json(json.dumps(values["spec"]))
        if spec.fingerprint != values["fingerprint"]:
            raise ValueError("its fingerprint does not match its spec")
        if values["tap"] not in spec.tap_names:
            raise ValueError("its spec has no such tap")
        return cls(spec, values["tap"], str(values["weights"]))


class FeatureTable:
    """A table with a row of features for each sample, made by :func:`load_features`.

    The columns come from one tap of a feature file, or from several taps side by side, of one file or of several.

    Attributes:
        path: the file or folder that was asked for.
        files: the file of each input.
        inputs: the origin of the columns that are features of images, from left to right.
        numeric: the numeric columns, which stand behind these; () for none.
        dataset: the name of the data set.
        class_names: class `i` is ``class_names[i]``.
        task: what is asked of the images, of :data:`featurestore.sources.tasks.TASKS`.
        y: the answers: the class of each row, int32 (N,), indices into `class_names`; of several labels uint8 (N, L), 1
            for each that a row has; of a regression the numbers, float64 (N,).
        splits: the split of each row, str (N,): ``train``, ``validation`` or ``test``.

    Raises:
        StoreError: the files have different rows, or no such tap; the message names them.
    """

    def __init__(self, path: Path, sources: Sequence[StoreTap]) -> None:
        first = sources[0][0]
        for other, _ in sources[1:]:
            _check_same_rows(first, other)
        numbers = [store for store, tap in sources if tap == TABULAR and store.columns][:1]
        self._images = [(store, tap) for store, tap in sources if tap != TABULAR or not store.columns]
        self.inputs = tuple(Input(s.spec, tap or s.taps[0], s.provenance["weights"]) for s, tap in self._images)
        self.numeric: tuple[Column, ...] = numbers[0].columns if numbers else ()
        sources = [*self._images, *((store, TABULAR) for store in numbers)]
        stores = [store for store, _ in sources]
        self._parts = [_flat(store.features(tap)) for store, tap in sources]
        self._views = [_flat(store.views(tap)) for store, tap in sources]
        self._stores = stores
        self.path, self.files = path, tuple(store.path for store in stores)
        self._alike: NDArray[np.str_] | None = None
        self.dataset, self.class_names = first.dataset, first.class_names
        self.task, self.y, self.splits = first.task, _answers(first), first.splits

    @cached_property
    def X(self) -> Features:  # noqa: N802
        """The features, float16 or float32 (N, D), maps flattened; memory-mapped, read-only if there is one input."""
        return _beside(self._parts, slice(None))

    @contextmanager
    def named(self) -> Iterator[None]:
        """Put the path of the table before the message of a HeadError about its rows."""
        try:
            yield
        except HeadError as error:
            raise type(error)(f"{self.path}: {error}") from error

    @property
    def ids(self) -> NDArray[np.str_]:
        """The names of the samples in their source, str (N,)."""
        return self._stores[0].ids

    def answer(self, row: int) -> str:
        """Return what is known of a row, in words: its class, its labels or its number."""
        return TASKS[self.task].answer(self._stores[0].samples([row])[0], self.class_names)

    @property
    def digests(self) -> NDArray[np.str_]:
        """The SHA-256 of each row's image in hexadecimal, str (N,)."""
        return self._stores[0].digests

    @property
    def digest_bytes(self) -> NDArray[np.bytes_]:
        """:attr:`digests` as bytes (N,), mapped from the file."""
        return self._stores[0].digest_bytes

    def rows(self, *splits: str) -> NDArray[np.intp]:
        """Return the indices of the rows of these splits, in the order of the file."""
        return np.flatnonzero(np.isin(self.splits, splits))

    @property
    def columns(self) -> int:
        """The number of features D."""
        return sum(part.shape[1] for part in self._parts)

    @property
    def images(self) -> "FeatureTable":
        """The table without its numeric columns; of a table of these alone, the file's first features."""
        if not self.numeric:
            return self
        first = self._stores[0]
        return FeatureTable(self.path, self._images or [(first, first.taps[0])])

    def numbers(self, source: NDArray[np.intp]) -> Floats:
        """Return the numeric columns (n, C) of some rows, NaN for missing values; `source` as in :meth:`stream`."""
        rows = np.array(source)
        views = rows >= len(self.y)
        rows[views] = self.view_rows[rows[views] - len(self.y)] if views.any() else 0
        return np.asarray(self._parts[-1][rows], np.float32)

    def scaling(self, rows: NDArray[np.intp]) -> NumericScaling | None:
        """Return how training rows scale the numeric columns, and fill missing values; None without such columns."""
        return NumericScaling.of(self.numbers(rows)) if self.numeric else None

    def stream(self, source: NDArray[np.intp], numeric: NumericScaling | None = None) -> StreamedRows:
        """Return rows that are read when they are used, at most a block of them at a time.

        Args:
            source: indices of rows (N,); N and an index of :attr:`view_rows` stands for an augmented view.
            numeric: see :meth:`scaling`; by default numeric columns are as they are in the file, with NaN.
        """
        return StreamedRows(tuple(zip(self._parts, self._views, strict=True)), source, numeric=numeric)

    def select(self, *splits: str) -> tuple[Features, NDArray[Any]]:
        """Read the features (n, D) and labels (n,), or other answers, of these splits into memory."""
        rows = self.rows(*splits)
        return _beside(self._parts, rows), self.y[rows]

    def read(self, rows: NDArray[np.intp], views: NDArray[np.intp], numeric: NumericScaling | None = None) -> Features:
        """Read the features of these rows, followed by those of these augmented views, into memory.

        `views` are indices into :attr:`view_rows`; for `numeric` see :meth:`stream`.
        """
        plain = _beside(self._parts, rows)
        found = np.concatenate([plain, _beside(self._views, views)]) if len(views) else plain
        return found if numeric is None else numeric.apply(found)

    @cached_property
    def view_rows(self) -> NDArray[np.int32]:
        """The index of the row that each augmented view shows, int32 (M,).

        Raises:
            StoreError: the table has several files, which do not have the same views.
        """
        first = self._stores[0]
        for other in self._stores[1:]:
            same = first.augment == other.augment and all(
                np.array_equal(getattr(first, name), getattr(other, name)) for name in ("view_rows", "view_numbers")
            )
            if not same:
                raise StoreError(
                    f"{first.path} and {other.path}: do not have the same views: extract both with the same --views, "
                    "or fit without views"
                )
        return first.view_rows

    def views(self, *splits: str) -> tuple[Features, NDArray[np.intp]] | None:
        """Read the augmented views of the rows of these splits, or of ``train``, into memory.

        Returns:
            Features (m, D), and the index of the row of ``select(*splits)`` that each view shows (m,); None if there
            are no views.

        Raises:
            StoreError: the table has several files, which do not have the same views.
        """
        used, owners = self.shown(self.rows(*(splits or ("train",))))
        return (_beside(self._views, used), owners) if len(used) else None

    def shown(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Find the augmented views of some rows.

        Returns:
            Indices of :attr:`view_rows` (m,), and the place among `rows` of the row that each view shows (m,).

        Raises:
            StoreError: see :meth:`views`.
        """
        place = np.full(len(self.y), -1)
        place[rows] = np.arange(len(rows))
        owners = place[self.view_rows]
        used = np.flatnonzero(owners >= 0)
        return used, owners[used]

    def groups(self, rows: NDArray[np.intp]) -> Labels:
        """Return the number of the group of each of these rows (n,): rows of one image, or of one group of its source.

        Where an image stands in two groups of the source, both are one.
        """
        found = np.unique(self.digest_bytes[rows].astype(_KEY), return_inverse=True)[1]
        if self._stores[0].grouped:
            found = joined(found, self._stores[0].groups[rows])
        return found if self._alike is None else joined(found, self._alike[rows])

    @property
    def grouped(self) -> bool:
        """Whether it is known which images are a group, from the source or by :meth:`grouped_by`."""
        return self._stores[0].grouped or self._alike is not None

    @property
    def group_names(self) -> NDArray[np.str_]:
        """The name of each row's group in the source, str (N,); "" for none."""
        return self._stores[0].groups

    def grouped_by(self, names: NDArray[np.str_]) -> "FeatureTable":
        """Return the table with further groups, whose names are str (N,), "" for none."""
        made = copy(self)
        made._alike = names
        return made

    def split_counts(self) -> dict[str, int]:
        """Return the number of rows of each split."""
        names, counts = np.unique(self.splits, return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))


def _answers(store: FeatureStore) -> NDArray[Any]:
    """Return what is known of each row, see :attr:`FeatureTable.y`."""
    if store.targets is None:
        return store.labels
    return store.targets[:].astype(np.float64)[:, 0] if store.task == REGRESSION.name else np.asarray(store.targets[:])


def load_features(path: str | os.PathLike[str], tap: str | None = None) -> FeatureTable:
    """Open a feature file, or files of a store folder, without reading their features.

    Args:
        path: a feature file, or a store folder.
        tap: the name of the features; it may be left out for one file with one tap. Names joined by ``+`` are put side
            by side: taps of one file (``block4_pool+last``), or of files of one data set, with their backbones
            (``vgg16.block4_pool+efficientnet_lite0.last``; the tap may be left out for a file with one). The name of
            a file without its suffix may stand for the backbone. Where files have several looks at the images, a
            backbone's names are with the look (``vgg16@crop.last+vgg16@squash-crops5.last``, or ``@crop+@squash`` where
            there is one backbone), see :attr:`featurestore.spec.Framing.look`. ``tabular`` are the numeric columns of
            the data set (``last+tabular``), which come last in any case.

    Raises:
        StoreError: there is no file, there are several files or taps to choose from, there is no such tap, or the
            files have different rows.
        CorruptFileError: the file is truncated or altered, or is no feature file.

    Example:
        >>> from heads import load_features
        >>> table = load_features("digits.h5")
        >>> table.split_counts()
        {'test': 120, 'train': 360, 'validation': 120}
        >>> X, y = table.select("train")
        >>> X.shape, y.shape
        ((360, 64), (360,))
        >>> table.class_names[y[0]]
        'digit ...'
    """
    if tap is None:
        store = FeatureStore(find_file(path))
        return FeatureTable(store.path, [(store, None)])
    stores = [FeatureStore(file) for file in find_files(path)]
    known = _names(stores)
    sources: list[StoreTap] = []
    for part in _split(tap, known):
        found = known.get(part, [])
        if part == TABULAR and found and all(store.columns for store, _ in found):
            found = found[:1]  # files of the same rows have the same numbers
        if len(found) != 1:
            what = f"{part!r} is in {', '.join(store.path.name for store, _ in found)}" if found else f"no tap {part!r}"
            raise StoreError(f"{path}: {what}: name one of {', '.join(n for n in known if len(known[n]) == 1)}")
        sources += found
    # A single file is named as itself, as it is without a tap.
    return FeatureTable(stores[0].path if len(stores) == 1 else Path(path), sources)


def each_tap(stores: Sequence[FeatureStore]) -> list[tuple[str, list[StoreTap]]]:
    """Return what there is to be compared: each tap; with numeric columns, also each beside them, and them alone.

    Returns:
        The name of each within its file, and its sources.
    """
    found: list[tuple[str, list[StoreTap]]] = []
    for store in stores:
        numbers: list[StoreTap] = [(store, TABULAR)] if store.columns else []
        found += [(tap, [(store, tap)]) for tap in store.taps]
        found += [(f"{tap}+{TABULAR}", [(store, tap), *numbers]) for tap in store.taps if numbers]
        found += [(TABULAR, numbers)] if numbers and store is stores[0] else []
    return found


def _names(stores: Sequence[FeatureStore]) -> dict[str, list[StoreTap]]:
    """Return the taps that each name may stand for."""
    known: dict[str, list[StoreTap]] = {}
    for store, called in zip(stores, backbone_names([store.spec for store in stores]), strict=True):
        look = called.removeprefix(store.spec.backbone)
        for tap in (*store.taps, *([TABULAR] if store.columns else [])):
            names = {tap: None}
            for base in (store.spec.backbone, store.path.stem, *((called, look) if look else ())):
                names |= {f"{base}.{tap}": None} | ({base: None} if len(store.taps) == 1 else {})
            for name in names:
                known.setdefault(name, []).append((store, tap))
    return known


def _split(text: str, known: Mapping[str, Any]) -> list[str]:
    """Split a text at each ``+`` that is not part of a known name (``last.avg+max``); the longest name goes first."""
    words, names = text.split("+"), []
    while words:
        size = next((n for n in range(len(words), 0, -1) if "+".join(words[:n]) in known), 1)
        names.append("+".join(words[:size]))
        words = words[size:]
    return names


def _check_same_rows(one: FeatureStore, other: FeatureStore) -> None:
    for name in ("class_names", "ids", "digest_bytes", "labels", "splits", "groups"):
        if not np.array_equal(getattr(one, name), getattr(other, name)):
            raise StoreError(
                f"{one.path} and {other.path}: differ in {name.removesuffix('_bytes').replace('_', ' ')}: "
                "to use them together, extract the same source for both"
            )
    if one.columns and other.columns:
        same = np.array_equal(one.features(TABULAR), other.features(TABULAR), equal_nan=True)
        if one.columns != other.columns or not same:
            raise StoreError(
                f"{one.path} and {other.path}: differ in numeric columns: extract the same source for both again"
            )


def _flat(features: Features) -> Features:
    # Not -1, which cannot be derived from the shape of an empty file.
    return features.reshape(len(features), int(np.prod(features.shape[1:])))


def _beside(parts: Sequence[Features], rows: Any) -> Features:
    """Return the same rows of several arrays side by side."""
    picked = [np.asarray(part[rows]) for part in parts]
    return picked[0] if len(picked) == 1 else np.concatenate(picked, axis=1)
