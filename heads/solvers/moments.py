"""Means and standard deviations of columns, for many sets of rows in one pass."""

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Floats, Rows

_FLOOR = 10 * float(np.finfo(np.float32).eps)
"""A standard deviation below this share of the mean is a rounding error."""
_BLOCK = 1024
"""Rows that are summed at a time."""


def moments(X: Rows, weights: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Compute the mean and the standard deviation of each column, for several sets of weights.

    Sums are float64, so that (but for the rarest cases) a set of rows has the same moments to the last bit of float32,
    whatever other rows lie between its rows.

    Args:
        X: rows (N, D), in memory or not.
        weights: the weight of each row in each set (K, N).

    Returns:
        Means and standard deviations, float32 (K, D); the deviation of a column that is constant to rounding is 1.
    """
    shift = np.asarray(X[:_BLOCK], np.float64).mean(axis=0)
    mean, square = np.zeros((2, len(weights), len(shift)))
    for start in range(0, len(X), _BLOCK):
        rows = slice(start, start + _BLOCK)
        Z = X[rows] - shift
        mean += weights[:, rows] @ Z
        square += weights[:, rows] @ np.square(Z, out=Z)
    total = weights.sum(axis=1)[:, None]
    mean /= total
    scale = np.sqrt(np.maximum(square / total - mean**2, 0))
    # The floor is above 0, so that weights that are divided by it stay finite in float32.
    floor = _FLOOR * np.maximum(np.abs(mean), np.abs(mean + shift))
    scale[scale <= np.maximum(floor, 1e-20)] = 1.0
    return (mean + shift).astype(np.float32), scale.astype(np.float32)
