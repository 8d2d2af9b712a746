"""The leading components of rows, which dense nets are trained in where there are fewer rows than columns.

The first layer of a net has most of its weights, and its steps take most of the time. In the few hundred directions in
which few rows vary most (found by a random projection and power iterations: Halko, Martinsson & Tropp, "Finding
structure with randomness", SIAM Review 2011) it is a fraction of its size, and generalises as well or better.

AdamW, whose steps have the same length in each column, is another one in other coordinates. Here each coordinate mixes
all components by random signs and a cosine transform (Ailon & Chazelle, "The fast Johnson-Lindenstrauss transform",
2009), so that all are alike.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from heads.feature_table import Floats, Rows
from heads.rows import BLOCK, StreamedRows
from heads.solvers.arrays import Scaling

MOST = 512
"""The most components. Rows of no more columns stay as they are, and so do more rows than columns: on 2,000 and 40,000
images of CIFAR-10 some nets lost 0.4 to 1.3 points of accuracy."""
_ENOUGH = 8192
"""The components are those of so many rows, which are drawn."""
_POWERS = 2
"""Iterations of the power method."""


def width(rows: int, columns: int) -> int:
    """Return in how many columns nets are trained that are fitted to rows (N, D)."""
    return min(rows, MOST) if columns > max(rows, MOST) else columns


def components(X: Rows, scaling: Scaling, features: int) -> Floats:
    """Return a basis, float32 (D, k), of what rows X (N, D) vary in most.

    It is orthogonal, and longer than 1: coordinates of a row add up to about as much as its columns, so that a step of
    AdamW, whose length in each column does not depend on the gradient's, moves a unit's input as far.

    Args:
        X: the rows, in memory or not.
        scaling: how they are scaled.
        features: the number of columns of the features, of which X may be coordinates. Rows have leading components
            where :func:`width` is smaller.

    Example:
        >>> import numpy as np
        >>> from heads.solvers.arrays import Scaling
        >>> from heads.solvers.components import components
        >>> X = np.random.default_rng(0).normal(size=(20, 800)).astype(np.float32)
        >>> basis = components(X, Scaling.none(800), 800)
        >>> basis.shape
        (800, 20)
        >>> np.allclose(X @ basis @ basis.T, X * 800 / 20, atol=1e-2)
        True
    """
    from scipy.fft import dct

    count, columns = X.shape
    most = width(count, features)
    rng = np.random.default_rng(0)
    drawn = np.sort(rng.permutation(count)[:_ENOUGH])

    def multiplied(by: Callable[[Floats], Floats]) -> Floats:
        total = np.zeros((columns, most), np.float32)
        for start in range(0, len(drawn), BLOCK):
            Z = scaling.apply(np.asarray(X[drawn[start : start + BLOCK]], np.float32))
            total += Z.T @ by(Z)
        return _orthonormal(total)

    basis = multiplied(lambda Z: rng.standard_normal((len(Z), most), np.float32))
    for _ in range(_POWERS):
        basis = multiplied(partial(_product, basis))
    stretched = basis * np.float32(np.sqrt(features / most))
    return np.asarray(dct(stretched * rng.choice([-1, 1], most), norm="ortho", axis=1), np.float32, order="C")


def projected(X: Rows, scaling: Scaling, basis: Floats) -> Rows:
    """Return the coordinates (N, k) of scaled rows X (N, D): in memory, or computed as rows on disk are read."""
    if isinstance(X, StreamedRows):
        return replace(X if X.scaling else X.scaled(*scaling), basis=basis)
    found = np.empty((len(X), basis.shape[1]), np.float32)
    for start in range(0, len(X), BLOCK):
        found[start : start + BLOCK] = scaling.apply(np.asarray(X[start : start + BLOCK], np.float32)) @ basis
    return found


def _orthonormal(total: Floats) -> Floats:
    """Return an orthonormal basis (D, k) of the columns: of all there are, the one that turns when they turn."""
    from scipy.linalg import qr

    basis, upper = qr(total, mode="economic", overwrite_a=True, check_finite=False)
    return np.asarray(basis * np.where(np.diag(upper) < 0, np.float32(-1), np.float32(1)))


def _product(basis: Floats, Z: Floats) -> Floats:
    return Z @ basis
