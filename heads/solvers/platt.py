"""Lines through scores that make them log-odds, one for each label."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.rows import Codes
from heads.solvers.goals import sigmoid

Doubles = NDArray[np.float64]

_STEPS, _PRECISE = 100, 1e-9
"""Most steps of Newton's method, and the gain of the loss that ends it."""
_RIDGE = 1e-9
"""A curvature that is 0, as of scores that are all the same, becomes this."""


def fit_lines(scores: NDArray[np.floating[Any]], codes: Codes) -> tuple[Doubles, Doubles]:
    """Return slope and shift of each label (K,): the sigmoid of ``slope * score + shift`` is its probability.

    Targets are Platt's: (P + 1) / (P + 2) for the P rows of a label, 1 / (N + 2) for the N others, so that a few rows
    that are all right do not become certain. (Platt, "Probabilistic outputs for support vector machines", 1999; the
    method is that of Lin, Lin & Weng, "A note on Platt's probabilistic outputs", Machine Learning 2007.) A slope is
    never below 0: a label whose scores say the opposite of what is true is said to be as frequent as it is.

    Args:
        scores: of rows that were held out (N, K).
        codes: 1 and -1 (N, K).

    Example:
        >>> import numpy as np
        >>> from heads.solvers.platt import fit_lines
        >>> scores = np.where(np.arange(1000) % 5 > 0, 9.0, -9.0)[:, None]
        >>> codes = np.where(np.arange(1000) % 25 > 0, np.sign(scores[:, 0]), -1)[:, None].astype(np.int8)
        >>> slope, shift = fit_lines(scores, codes)
        >>> 0 < slope.item() < 1
        True
    """
    pairs = [_line(np.asarray(column, np.float64), signs > 0) for column, signs in zip(scores.T, codes.T, strict=True)]
    slope, shift = zip(*pairs, strict=True)
    return np.array(slope), np.array(shift)


def _line(scores: Doubles, has: NDArray[np.bool_]) -> tuple[float, float]:
    there, absent = int(has.sum()), int((~has).sum())
    target = np.where(has, (there + 1) / (there + 2), 1 / (absent + 2))
    size = float(np.abs(scores).max(initial=0)) or 1.0
    X = np.stack([scores / size, np.ones(len(scores))], axis=1)  # so that both curvatures are of one size
    base = float(np.log((there + 1) / (absent + 1)))
    line = np.array([0.0, base])
    loss = _loss(X @ line, target)
    for _ in range(_STEPS):
        share = sigmoid(X @ line)
        gradient, weight = X.T @ (share - target), share * (1 - share)
        step = np.linalg.solve((X * weight[:, None]).T @ X + _RIDGE * np.eye(2), gradient)
        length = 1.0
        while (found := _loss(X @ (line - length * step), target)) > loss and length > _PRECISE:
            length /= 2
        if found >= loss - _PRECISE * loss:
            break
        line, loss = line - length * step, found
    return (float(line[0] / size), float(line[1])) if line[0] > 0 else (0.0, base)


def _loss(odds: Doubles, target: Doubles) -> float:
    """Return the cross-entropy of log-odds."""
    return float((np.log1p(np.exp(-np.abs(odds))) + np.maximum(odds, 0) - target * odds).sum())
