"""Mean and deviation of columns, of many sets of rows in one pass."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Floats

_FLOOR = 10 * float(np.finfo(np.float32).eps)
"""A deviation below this share of the mean is rounding."""
_BLOCK = 1024
"""Rows that are summed at a time."""


def moments(X: NDArray[np.floating[Any]], weights: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Mean and deviation of each column of X (N, D), for each of some sets of weights of the rows (K, N).

    Sums are float64, so that a set of rows has the same moments to the bit of a float32 (but for the rarest cases),
    whatever other rows stand between them.

    Returns:
        Means and deviations, float32 (K, D); the deviation of a column that is constant to rounding is given as 1.
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
    # The floor keeps weights that are divided by it within float32.
    floor = _FLOOR * np.maximum(np.abs(mean), np.abs(mean + shift))
    scale[scale <= np.maximum(floor, 1e-20)] = 1.0
    return (mean + shift).astype(np.float32), scale.astype(np.float32)
