"""One Gram matrix of all rows, from which any distance and Gaussian kernel is read without touching the features."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heads.base import Scaling
from heads.data import Labels
from heads.division import BLOCK, Division

Doubles = NDArray[np.float64]

_STRIP = 256
"""Rows of a kernel that are computed at a time: they stay in the cache of a core."""


def strips(rows: int) -> Iterator[slice]:
    """Runs of a few rows, in order."""
    for start in range(0, rows, _STRIP):
        yield slice(start, min(start + _STRIP, rows))


@dataclass(frozen=True, eq=False)
class Gram:
    """Inner products of all rows of a division, scaled as in one fold.

    Attributes:
        centred: float64 (N, N), of the rows less their mean, so that the distance of near rows keeps its digits.
        offset: float64 (N,): ``centred[i, j] + offset[i] + offset[j]`` is the product of the rows themselves.
        square: float64 (N,), products of the rows with themselves.
        total: float64 (N,), sums over the columns.
        columns: how many.
    """

    centred: Doubles
    offset: Doubles
    square: Doubles
    total: Doubles
    columns: int

    @classmethod
    def of(cls, division: Division, scaling: Scaling) -> "Gram":
        """Read the features once, some columns at a time."""
        rows, columns = division.X.shape
        centred, (offset, square, total) = np.zeros((rows, rows)), np.zeros((3, rows))
        for start in range(0, columns, BLOCK):
            part = slice(start, start + BLOCK)
            X = Scaling(scaling.mean[part], scaling.scale[part]).apply(division.X[:, part]).astype(np.float64)
            square += np.einsum("nd,nd->n", X, X)
            total += X.sum(axis=1)
            mean = X.mean(axis=0)
            X -= mean
            offset += X @ mean + mean @ mean / 2
            for block in division.blocks():
                centred[block, : block.stop] += X[block] @ X[: block.stop].T
        for block in division.blocks():
            centred[: block.start, block] = centred[block, : block.start].T
        return cls(centred, offset, square, total, columns)

    def euclidean(self, rows: Labels, others: Labels) -> Doubles:
        """Distances (R, M)."""
        squared = self._squared(rows, others)
        return np.sqrt(squared, out=squared)

    def cosine(self, rows: Labels, others: Labels) -> Doubles:
        """1 - cosine of the angle between rows (R, M)."""
        length = np.sqrt(np.where(self.square > 0, self.square, 1))
        near = self.centred[rows].take(others, axis=1)
        near += self.offset[rows, None] + self.offset[others]
        near /= length[rows, None] * length[others]
        return np.clip(np.subtract(1, near, out=near), 0, 2, out=near)

    def gaussian(self, rows: Labels, others: Labels, gamma: float) -> Doubles:
        """Kernel exp(-gamma·distance²) (R, M)."""
        kernel = np.empty((len(rows), len(others)))
        for strip in strips(len(rows)):
            exponent = self._squared(rows[strip], others)
            exponent *= -gamma
            np.exp(exponent, out=kernel[strip])
        return kernel

    def gamma(self, value: float | str, rows: Labels) -> float:
        """The number that ``SVC(gamma=value)`` takes when it is fitted on these rows."""
        if value != "scale":
            return float(value)
        variance = self.square[rows].mean() / self.columns - (self.total[rows].mean() / self.columns) ** 2
        return float(1 / (self.columns * variance)) if variance > 0 else 1.0

    def _squared(self, rows: Labels, others: Labels) -> Doubles:
        size = self.centred.diagonal()
        squared = self.centred[rows].take(others, axis=1)
        squared *= -2
        squared += size[rows, None] + size[others]
        return np.maximum(squared, 0, out=squared)
