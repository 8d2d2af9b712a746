"""Rows in an orthonormal basis of their own: where there are fewer rows than columns, no more columns than rows.

A linear model with an L2 penalty has its weights in the space that the rows span (the representer theorem: Kimeldorf &
Wahba, "Some results on Tchebycheffian spline functions", 1971), and so has a first layer that is penalised so. In an
orthonormal basis of that space, lengths and inner products are what they were: the problem is the same, and narrower.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.system.machine import memory_limit
from heads.feature_table import Floats, Labels, Rows
from heads.solvers.arrays import Scaling

Doubles = NDArray[np.float64]

_COLUMNS = 1024
"""Columns, or rows, that are computed at a time."""
_ROUNDING = 1e-13
"""What is left of a row's squared length when others have explained it is rounding below this share of the longest."""
_WORTH = 2
"""A basis is made for rows with at least so many times as many columns: else it saves little."""
_FEW = 256
"""So few columns are quick as they are."""
_BYTES = 40
"""Bytes for each pair of rows: 16 to find a basis, and 4 for each of six that a sweep may keep."""
_SHARE = 2
"""It takes at most one part of so many of what may be used."""


def width(rows: int, columns: int, max_memory: int | None = None) -> int:
    """Return in how many columns heads are fitted to rows (N, D): D, or N if they get a basis of their own.

    Args:
        rows: the number of rows.
        columns: the number of columns.
        max_memory: bytes that may be used; None for half of the machine's.
    """
    fits = _BYTES * rows**2 <= memory_limit(max_memory) // _SHARE
    return rows if columns > max(_FEW, _WORTH * rows) and fits else columns


@dataclass(frozen=True, eq=False)
class RowSpace:
    """Scaled rows Z (N, D) as ``rows @ basis.T``, where the basis (D, r) is orthonormal and r at most N.

    The basis itself, which may be as large as the features, is never made.

    Attributes:
        rows: the coordinates of the rows, float32 (N, r).
    """

    rows: Floats
    _X: Rows
    _scaling: Scaling
    _chosen: Labels
    _factor: Doubles

    @classmethod
    def of(cls, X: Rows, scaling: Scaling) -> "RowSpace":
        """Find the basis by Cholesky's method with pivots, from the rows' inner products.

        Args:
            X: the rows, float16 or float32 (N, D), in memory, memory-mapped, or on disk, where they are read some
                columns at a time.
            scaling: how they are scaled. Rows that another fold scales otherwise have another basis, but for the means,
                which an intercept that is not penalised takes up.

        Returns:
            The rows in the basis, to the precision of float32: a row adds no column if others explain it but for 3e-7
            of the longest row. Inner products are float64 for that, since what is small is squared in them. While it
            computes it takes 16 N² bytes, and it keeps 12 N².

        Example:
            >>> import numpy as np
            >>> from heads.solvers.arrays import Scaling
            >>> from heads.solvers.row_space import RowSpace
            >>> X = np.random.default_rng(0).normal(size=(20, 500)).astype(np.float32)
            >>> space = RowSpace.of(X, Scaling.none(500))
            >>> space.rows.shape
            (20, 20)
            >>> np.allclose(space.rows @ space.rows.T, X @ X.T, atol=1e-3)
            True
            >>> weights = np.ones((20, 1))
            >>> np.allclose(space.rows @ weights, X @ space.weights(weights), atol=1e-3)
            True
        """
        from scipy.linalg.lapack import dpstrf

        products = _inner_products(X, scaling)
        if not products.diagonal().any():  # all rows are zero, and any column will do
            products[0, 0] = 1e-30
        factor, order, rank, _ = dpstrf(products, tol=_ROUNDING * products.diagonal().max(), lower=1, overwrite_a=1)
        rank = max(int(rank), 1)
        rows = np.empty((len(X), rank), np.float32)
        order -= 1
        for part in _blocks(len(X)):
            rows[order[part]] = np.tril(factor[part, :rank], part.start)
        return cls(rows, X, scaling, order[:rank], np.tril(factor[:rank, :rank]))

    def weights(self, weights: NDArray[np.floating]) -> Floats:
        """Return for weights (r, C) of :attr:`rows` those of the scaled rows, float32 (D, C), which score them alike.

        They are as long as the given ones. The columns of the features are read once, of the r rows that the basis
        is made of.
        """
        from scipy.linalg import solve_triangular

        shares = solve_triangular(self._factor, weights, trans="T", lower=True, check_finite=False).T
        chosen = np.sort(self._chosen)
        shares = np.ascontiguousarray(shares[:, np.argsort(self._chosen)])
        found = np.empty((self._X.shape[1], len(shares)), np.float32)
        for part in _blocks(self._X.shape[1]):
            found[part] = (shares @ _scaled(self._X[chosen, part], self._scaling, part).astype(np.float64)).T
        return found


def _inner_products(X: Rows, scaling: Scaling) -> Doubles:
    """Return the inner products of scaled rows, of X float16 or float32 (N, D), which is read once.

    Only the lower triangle of the result is set, float64 (N, N), in the order of Fortran.
    """
    from scipy.linalg.blas import dsyrk

    products = np.zeros((len(X), len(X)), order="F")
    for part in _blocks(X.shape[1]):
        Z = _scaled(X[:, part], scaling, part).astype(np.float64)
        products = dsyrk(1.0, Z.T, beta=1.0, c=products, trans=1, lower=1, overwrite_c=1)
    return products


def _blocks(length: int) -> Iterator[slice]:
    """Yield slices of at most :data:`_COLUMNS` columns or rows, in order."""
    for start in range(0, length, _COLUMNS):
        yield slice(start, min(start + _COLUMNS, length))


def _scaled(X: NDArray[Any], scaling: Scaling, part: slice) -> Floats:
    return Scaling(scaling.mean[part], scaling.scale[part]).apply(np.asarray(X, np.float32))
