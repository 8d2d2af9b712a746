"""How unlike its training rows an image is: what a head carries of these rows, so that it can say "never seen".

An image is far away if its nearest training rows are: the cosine distance to the tenth of them (Sun et al.,
"Out-of-distribution detection with deep nearest neighbors", ICML 2022). So that a head stays small, it carries a few
thousand rows at most, and of each row the coordinates in a few leading directions (Halko, Martinsson & Tropp, "Finding
structure with randomness", SIAM Review 2011), as float16. What a new image has outside of these directions counts too:
its length is known. `docs/benchmarks.md` has what that loses.

These are features of training images. Who must not pass them on leaves them out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import HeadError
from featurestore.system.files import size_text
from featurestore.system.tensors import Layout, open_tensors
from heads.feature_table import Floats, Labels
from heads.rows import BLOCK, Rows
from heads.solvers.calibration import stratified_folds
from heads.solvers.neighbours import Side, nearest

Doubles = NDArray[np.float64]

_ROWS, _CELLS = 4000, 2**26
"""Training rows that a head carries at most; and the most features of these that are read, 256 MiB."""
_DIRECTIONS, _POWERS = 64, 2
"""Leading directions that are kept, and steps of the power method that finds them."""
_NEIGHBOURS, _FOLDS = 10, 10
"""Which neighbour's distance counts; and into how many folds rows are divided to know that of rows held out."""
_DISTANCES = 1000
"""Distances of held-out rows that are kept at most: of more, that many quantiles."""
_LARGEST = 2**28
"""The most bytes of the file that is read."""


@dataclass(frozen=True, eq=False)
class Novelty:
    """Training rows in a few directions, and how far from them rows are that were held out.

    Attributes:
        basis: orthonormal directions, float16 (D, k).
        rows: training rows of length 1 in these directions, float16 (M, k).
        distances: of held-out rows, ascending, float32 (R,).
        neighbours: which neighbour's distance counts.

    Example:
        >>> import numpy as np
        >>> from heads.storage.novelty import Novelty
        >>> rng = np.random.default_rng(0)
        >>> seen = np.abs(rng.normal(size=(300, 20))) * np.repeat([1, 0.1], 10)
        >>> found = Novelty.of(seen, np.arange(300))
        >>> usual, other = found.quantiles(seen[:5] * 2), found.quantiles(seen[:5, ::-1])
        >>> bool(usual.max() < 0.9), other.tolist()
        (True, [1.0, 1.0, 1.0, 1.0, 1.0])
    """

    basis: NDArray[np.float16]
    rows: NDArray[np.float16]
    distances: Floats
    neighbours: int

    @classmethod
    def of(cls, X: Rows, groups: Labels, seed: int = 0) -> "Novelty":
        """Learn what training rows look like.

        Args:
            X: the features of the rows (N, D), in memory or not.
            groups: the number of each row's group (N,): rows of its own group do not make a row look familiar.
            seed: of the rows that are drawn, if there are many, and of the folds.

        Raises:
            HeadError: there are fewer than two groups.
        """
        rng = np.random.default_rng(seed)
        count, columns = X.shape
        drawn = np.sort(rng.permutation(count)[: min(_ROWS, max(_CELLS // columns, 2))])
        folds = stratified_folds(np.zeros(len(drawn), np.intp), _FOLDS, seed, groups[drawn])
        if folds.max() < 1:
            raise HeadError("--novelty: all training rows are one group, so that none can be held out: leave it out")
        units = np.concatenate([_unit(X[drawn[at : at + BLOCK]]) for at in range(0, len(drawn), BLOCK)])
        basis = _leading(units, min(_DIRECTIONS, columns, len(drawn)), rng).astype(np.float16)
        narrow = basis.astype(np.float32)
        rows = (units @ narrow).astype(np.float16)
        pairs = [(np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)) for fold in range(folds.max() + 1)]
        neighbours = min(_NEIGHBOURS, *(len(others) for _, others in pairs))
        # Among fewer rows a nearer neighbour is as far away as the one that counts is among all.
        found = np.sort(np.concatenate([
            _distances(units[held] @ narrow, rows[rest], max(1, round(neighbours * len(rest) / len(rows))))
            for held, rest in pairs
        ]))  # fmt: skip
        if len(found) > _DISTANCES:
            found = np.quantile(found, np.linspace(0, 1, _DISTANCES))
        return cls(basis, rows, found.astype(np.float32), neighbours)

    def quantiles(self, X: ArrayLike) -> Doubles:
        """Return the novelty (N,) of features (N, D): the share of held-out rows that are no farther away, 0 to 1."""
        far = _distances(_unit(np.asarray(X)) @ self.basis.astype(np.float32), self.rows, self.neighbours)
        return np.searchsorted(self.distances, far.astype(np.float32), "right") / len(self.distances)

    @property
    def size(self) -> str:
        """How many rows it knows, and how much memory that takes, in words."""
        kept = size_text(sum(each.nbytes for each in (self.basis, self.rows, self.distances)))
        return f"known from {len(self.rows):,} training rows ({kept})"

    def packed(self) -> bytes:
        """Return the bytes of a file that holds it."""
        from safetensors.numpy import save

        return save({
            "basis": self.basis, "rows": self.rows, "distances": self.distances,
            "neighbours": np.array([self.neighbours], np.int64),
        })  # fmt: skip

    @classmethod
    def read(cls, path: Path, columns: int) -> "Novelty":
        """Read what :meth:`packed` returned, for rows of so many features.

        Raises:
            ValueError, OSError: the file has another form.
        """
        layout: Layout = {
            "basis": (np.float16, (columns, None)), "rows": (np.float16, (None, None)),
            "distances": (np.float32, (None,)), "neighbours": (np.int64, (1,)),
        }  # fmt: skip
        with open_tensors(path) as file:
            arrays: dict[str, NDArray[Any]] = file.read(layout, _LARGEST)
        basis, rows, distances = arrays["basis"], arrays["rows"], arrays["distances"]
        neighbours = int(arrays["neighbours"][0])
        if basis.shape[1] != rows.shape[1] or not 1 <= neighbours <= len(rows) or not len(distances):
            raise ValueError("its directions, rows and neighbours do not fit each other")
        if not all(np.isfinite(each).all() for each in (basis, rows, distances)) or (np.diff(distances) < 0).any():
            raise ValueError("its numbers are damaged")
        return cls(basis, rows, distances, neighbours)


def _unit(X: NDArray[np.floating[Any]]) -> Floats:
    """Return rows (N, D) of length 1, float32; those without a direction stay 0."""
    rows = np.asarray(X, np.float32)
    rows = rows / np.maximum(np.abs(rows).max(axis=1, keepdims=True, initial=0), np.float32(1e-30))
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-30)))


def _leading(units: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Return an orthonormal basis (D, count) of the directions in which rows (N, D) are longest."""
    basis = units.T @ rng.standard_normal((len(units), count), np.float32)
    for _ in range(_POWERS):
        basis = units.T @ (units @ np.linalg.qr(basis)[0])
    return np.asarray(np.linalg.qr(basis)[0], np.float32)


def _distances(asking: Floats, known: NDArray[np.float16], neighbours: int) -> Doubles:
    """Return the cosine distance (N,) of rows of length 1, of which only coordinates are given, to a neighbour."""
    # What is outside of the directions makes rows as long as they are, and has no product with that of others.
    left, right = _whole(asking, 0), _whole(known.astype(np.float32), 1)
    sides = Side(len(left), lambda places: left[places]), Side(len(right), lambda places: right[places])
    found = np.empty(len(left))
    for _, rows, near in nearest([sides], neighbours, "cosine"):
        found[rows] = near.distance[:, -1]
    return found


def _whole(coordinates: Floats, side: int) -> Floats:
    rest = np.zeros((len(coordinates), 2), np.float32)
    rest[:, side] = np.sqrt(np.maximum(0, 1 - np.square(coordinates).sum(axis=1)))
    return np.concatenate([coordinates, rest], axis=1)
