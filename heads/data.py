"""From a feature file to the arrays that heads are fitted on."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.spec import ExtractionSpec
from featurestore.store import FeatureStore, find_file


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """The rows of one tap of a feature file.

    Attributes:
        path: the file.
        dataset: name of the data set.
        tap: name of the tap.
        spec: how the features were made.
        provenance: weights as the user named them, engines and library versions.
        class_names: class `i` is ``class_names[i]``.
        X: float16 or float32 (N, D), memory-mapped, read-only; a map of features is flattened to D columns.
        y: int32 (N,), indices into `class_names`.
        splits, ids, digests: str (N,).
    """

    path: Path
    dataset: str
    tap: str
    spec: ExtractionSpec
    provenance: dict[str, Any]
    class_names: tuple[str, ...]
    X: NDArray[np.floating[Any]]
    y: NDArray[np.int32]
    splits: NDArray[np.str_]
    ids: NDArray[np.str_]
    digests: NDArray[np.str_]

    @classmethod
    def of(cls, store: FeatureStore, tap: str | None = None) -> "FeatureTable":
        """The table of one tap of an open file.

        Raises:
            StoreError: no such tap, or several and none was named.
        """
        features = store.features(tap)
        return cls(
            path=store.path,
            dataset=store.dataset,
            tap=tap or store.taps[0],
            spec=store.spec,
            provenance=store.provenance,
            class_names=store.class_names,
            # Not -1: the shape of an empty file says nothing about it.
            X=features.reshape(len(store), int(np.prod(features.shape[1:]))),
            y=store.labels,
            splits=store.splits,
            ids=store.ids,
            digests=store.digests,
        )

    @property
    def fingerprint(self) -> str:
        """Fingerprint of :attr:`spec`."""
        return self.spec.fingerprint

    def rows(self, split: str) -> NDArray[np.intp]:
        """Indices of the rows of one split, in the file's order."""
        return np.flatnonzero(self.splits == split)

    def select(self, split: str) -> tuple[NDArray[np.floating[Any]], NDArray[np.int32]]:
        """Features (n, D) and labels (n,) of one split, read into memory."""
        rows = self.rows(split)
        return np.asarray(self.X[rows]), self.y[rows]

    def split_counts(self) -> dict[str, int]:
        """Rows per split."""
        names, counts = np.unique(self.splits, return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))


def load_features(path: str | os.PathLike[str], tap: str | None = None) -> FeatureTable:
    """Open a feature file, or the only one in a folder, without reading its features.

    Args:
        path: file or store folder.
        tap: may be left out when the file has one tap.

    Raises:
        StoreError: nothing there, several files to choose from, or no such tap.
        CorruptFileError: truncated, altered, or no feature file.
    """
    return FeatureTable.of(FeatureStore(find_file(path)), tap)
