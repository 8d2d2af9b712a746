"""From feature files to the arrays that heads are fitted on."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError, StoreError
from featurestore.spec import ExtractionSpec
from featurestore.store.reader import FeatureStore, find_file, find_files

Floats = NDArray[np.float32]
Labels = NDArray[np.intp]
LabelledRows = tuple[Floats, Labels]
"""Rows of features (N, D) and their labels (N,)."""
Features = NDArray[np.floating[Any]]
StoreTap = tuple[FeatureStore, str | None]
"""A file and one of its taps; None for its only one."""


@dataclass(frozen=True)
class Input:
    """What some columns of a table are.

    Attributes:
        spec: how they were made.
        tap: name of their tap.
        weights: the backbone's weights as the user named them.
    """

    spec: ExtractionSpec
    tap: str
    weights: str

    @property
    def fingerprint(self) -> str:
        """Fingerprint of :attr:`spec`."""
        return self.spec.fingerprint

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        spec = self.spec.to_dict()
        return {"spec": spec, "fingerprint": self.fingerprint, "tap": self.tap, "weights": self.weights}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Input":
        """Inverse of :meth:`to_dict`.

        Raises:
            CorruptFileError, ValueError, KeyError: its parts do not fit each other, or are missing.
        """
        spec = ExtractionSpec.from_json(json.dumps(values["spec"]))
        if spec.fingerprint != values["fingerprint"]:
            raise ValueError("its fingerprint does not match its spec")
        if values["tap"] not in spec.tap_names:
            raise ValueError("its spec has no such tap")
        return cls(spec, values["tap"], str(values["weights"]))


class FeatureTable:
    """Rows of features: of one tap of a feature file, or of several taps side by side, of one file or of several.

    Attributes:
        path: the file or folder that was asked for.
        files: the file of each input.
        inputs: what the columns are, from left to right.
        dataset: name of the data set.
        class_names: class `i` is ``class_names[i]``.
        y: int32 (N,), indices into `class_names`.
        splits, digests: str (N,).

    Raises:
        StoreError: files of different rows, or without such a tap; the message names them.
    """

    def __init__(self, path: Path, sources: Sequence[StoreTap]) -> None:
        stores = [store for store, _ in sources]
        first = stores[0]
        for other in stores[1:]:
            _check_same_rows(first, other)
        self._parts = [_flat(store.features(tap)) for store, tap in sources]
        self._views = [_flat(store.views(tap)) for store, tap in sources]
        self._stores = stores
        self.path, self.files = path, tuple(store.path for store in stores)
        self.inputs = tuple(Input(s.spec, tap or s.taps[0], s.provenance["weights"]) for s, tap in sources)
        self.dataset, self.class_names = first.dataset, first.class_names
        self.y, self.splits, self.digests = first.labels, first.splits, first.digests

    @cached_property
    def X(self) -> Features:  # noqa: N802
        """Float16 or float32 (N, D), a map of features flattened; memory-mapped and read-only if there is one input."""
        return _beside(self._parts, slice(None))

    @contextmanager
    def named(self) -> Iterator[None]:
        """Put the path before what a head finds wrong with rows of this table: it does not know whose they are."""
        try:
            yield
        except HeadError as error:
            raise HeadError(f"{self.path}: {error}") from error

    @property
    def ids(self) -> NDArray[np.str_]:
        """The samples' names in their source: str (N,)."""
        return self._stores[0].ids

    def rows(self, *splits: str) -> NDArray[np.intp]:
        """Indices of the rows of these splits, in the file's order."""
        return np.flatnonzero(np.isin(self.splits, splits))

    def select(self, *splits: str) -> tuple[Features, NDArray[np.int32]]:
        """Features (n, D) and labels (n,) of these splits, read into memory."""
        rows = self.rows(*splits)
        return _beside(self._parts, rows), self.y[rows]

    def read(self, rows: NDArray[np.intp], views: NDArray[np.intp]) -> Features:
        """Features of these rows, then of these rows of :attr:`view_rows`, in memory."""
        plain = _beside(self._parts, rows)
        return np.concatenate([plain, _beside(self._views, views)]) if len(views) else plain

    @cached_property
    def view_rows(self) -> NDArray[np.int32]:
        """The row that each augmented view shows (M,).

        Raises:
            StoreError: several files that do not have the same views.
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
        """Features (m, D) of augmented rows, and which row of ``select(*splits)`` each shows; None without any.

        Without splits, of ``train``.

        Raises:
            StoreError: several files that do not have the same views.
        """
        rows = self.rows(*(splits or ("train",)))
        place = np.full(len(self.y), -1)
        place[rows] = np.arange(len(rows))
        owners = place[self.view_rows]
        used = np.flatnonzero(owners >= 0)
        return (_beside(self._views, used), owners[used]) if len(used) else None

    def groups(self, rows: NDArray[np.intp]) -> Labels:
        """Number of the group of each of these rows (n,): rows of the same image are one."""
        return np.unique(self.digests[rows], return_inverse=True)[1]

    def split_counts(self) -> dict[str, int]:
        """Rows per split."""
        names, counts = np.unique(self.splits, return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))


def load_features(path: str | os.PathLike[str], tap: str | None = None) -> FeatureTable:
    """Open a feature file, or files of a store folder, without reading their features.

    Args:
        path: file or store folder.
        tap: which features; may be left out for one file of one tap. Several are joined by ``+``, and put side by
            side: taps of one file (``block4_pool+last``), or of files of one data set, with their backbones
            (``vgg16.block4_pool+efficientnet_lite0.last``; the tap may be left out where a file has one). A file's
            name without its suffix may stand for the backbone.

    Raises:
        StoreError: nothing there, several files or taps to choose from, no such tap, or files of different rows.
        CorruptFileError: truncated, altered, or no feature file.
    """
    if tap is None:
        store = FeatureStore(find_file(path))
        return FeatureTable(store.path, [(store, None)])
    stores = [FeatureStore(file) for file in find_files(path)]
    known = _names(stores)
    sources: list[StoreTap] = []
    for part in _split(tap, known):
        found = known.get(part, [])
        if len(found) != 1:
            what = f"{part!r} is in {', '.join(store.path.name for store, _ in found)}" if found else f"no tap {part!r}"
            raise StoreError(f"{path}: {what}: name one of {', '.join(n for n in known if len(known[n]) == 1)}")
        sources += found
    # A single file is named as itself, as it is without a tap.
    return FeatureTable(stores[0].path if len(stores) == 1 else Path(path), sources)


def _names(stores: Sequence[FeatureStore]) -> dict[str, list[StoreTap]]:
    """All that each name may stand for."""
    known: dict[str, list[StoreTap]] = {}
    for store in stores:
        for tap in store.taps:
            names = {tap: None}
            for base in (store.spec.backbone, store.path.stem):
                names |= {f"{base}.{tap}": None} | ({base: None} if len(store.taps) == 1 else {})
            for name in names:
                known.setdefault(name, []).append((store, tap))
    return known


def _split(text: str, known: Mapping[str, Any]) -> list[str]:
    """The names in `text`, which may hold a ``+`` themselves (``last.avg+max``): the longest known one goes first."""
    words, names = text.split("+"), []
    while words:
        size = next((n for n in range(len(words), 0, -1) if "+".join(words[:n]) in known), 1)
        names.append("+".join(words[:size]))
        words = words[size:]
    return names


def _check_same_rows(one: FeatureStore, other: FeatureStore) -> None:
    for name in ("class_names", "ids", "digests", "labels", "splits"):
        if not np.array_equal(getattr(one, name), getattr(other, name)):
            raise StoreError(
                f"{one.path} and {other.path}: differ in {name.replace('_', ' ')}: "
                "to use them together, extract the same source for both"
            )


def _flat(features: Features) -> Features:
    # Not -1: the shape of an empty file says nothing about it.
    return features.reshape(len(features), int(np.prod(features.shape[1:])))


def _beside(parts: Sequence[Features], rows: Any) -> Features:
    """The same rows of several arrays, side by side."""
    picked = [np.asarray(part[rows]) for part in parts]
    return picked[0] if len(picked) == 1 else np.concatenate(picked, axis=1)
