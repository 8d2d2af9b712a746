"""The Gram matrix of all rows, from which any Gaussian kernel is computed without reading the features again."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Floats, Labels
from heads.rows import BLOCK
from heads.solvers.arrays import Scaling
from heads.solvers.folds import Division

Doubles = NDArray[np.float64]

SHARED, EACH = 4, 12
"""Bytes for each pair of rows: 4 for the matrix in float32, and 12 for each task that reads it, whose kernel the solver
asks for in float64, and copies in float32."""

_STRIP = 256
"""Rows of a kernel that are computed at a time: they stay in the cache of a core."""


def strips(rows: int) -> Iterator[slice]:
    """Yield slices of a few rows, in order."""
    for start in range(0, rows, _STRIP):
        yield slice(start, min(start + _STRIP, rows))


@dataclass(frozen=True, eq=False)
class Gram:
    """Inner products of all rows of a division, scaled as in one fold; see :data:`SHARED` for its memory.

    Attributes:
        centred: products of the rows minus their mean, float32 (N, N), which keeps the digits of small distances.
        square: products of the rows with themselves, not centred, float64 (N,).
        total: sums of the rows over the columns, float64 (N,).
        columns: the number of columns.
    """

    centred: Floats
    square: Doubles
    total: Doubles
    columns: int

    @classmethod
    def of(cls, division: Division, scaling: Scaling, space: Division) -> "Gram":
        """Compute the products, reading the features once, some columns at a time.

        Args:
            division: the rows.
            scaling: how they are scaled.
            space: the division in which their inner products are taken, see :meth:`Division.space`.
        """
        rows, columns = division.X.shape
        centred, (square, total) = np.zeros((rows, rows), np.float32), np.zeros((2, rows))
        for start in range(0, columns, BLOCK):
            part = slice(start, start + BLOCK)
            X = Scaling(scaling.mean[part], scaling.scale[part]).apply(np.asarray(division.X[:, part], np.float32))
            square += np.einsum("nd,nd->n", X, X, dtype=np.float64)
            total += X.sum(axis=1, dtype=np.float64)
            if space is division:
                _add_products(centred, X)
        for start in range(0, space.X.shape[1] if space is not division else 0, BLOCK):
            _add_products(centred, space.X[:, start : start + BLOCK])
        for block in division.blocks():
            centred[: block.start, block] = centred[block, : block.start].T
        return cls(centred, square, total, columns)

    def gaussian(self, rows: Labels, others: Labels, gamma: float) -> Doubles:
        """Return the kernel exp(-gamma·distance²), float64 (R, M), of some rows (R,) with others (M,)."""
        kernel, size = np.empty((len(rows), len(others))), self.centred.diagonal()
        for strip in strips(len(rows)):
            exponent = self.centred[rows[strip]].take(others, axis=1)
            exponent *= -2
            exponent += size[rows[strip], None] + size[others]
            np.maximum(exponent, 0, out=exponent)
            exponent *= -gamma
            np.exp(exponent, out=kernel[strip])
        return kernel

    def gamma(self, value: float | str, rows: Labels) -> float:
        """Return the number that ``SVC(gamma=value)`` uses when it is fitted to these rows."""
        if value != "scale":
            return float(value)
        return scale_gamma(
            self.square[rows].mean() / self.columns, self.total[rows].mean() / self.columns, self.columns
        )


def _add_products(centred: Floats, X: Floats) -> None:
    """Add the inner products of rows (N, D), less their mean, to the lower blocks of a matrix (N, N)."""
    X = X - X.mean(axis=0, dtype=np.float64).astype(np.float32)
    for start in range(0, len(X), BLOCK):
        centred[start : start + BLOCK, : start + BLOCK] += X[start : start + BLOCK] @ X[: start + BLOCK].T


def scale_gamma(square: float, mean: float, columns: int) -> float:
    """Return what ``SVC(gamma="scale")`` takes for features with this mean, and this mean of their squares."""
    variance = square - mean**2
    return float(1 / (columns * variance)) if variance > 0 else 1.0
