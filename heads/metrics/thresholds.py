"""Where to part two answers: the probability from which on a row is given the second one.

The threshold that is best on a few rows is mostly one of luck, and often worse on others than one half. But where
probabilities are right, theory says which threshold is best: one half for the accuracy, the share of the second answer
for the balanced accuracy, and half of the greatest F1 for F1 (Z. C. Lipton, C. Elkan & B. Naryanaswamy, "Optimal
thresholding of classifiers to maximize F1 measure", ECML PKDD 2014), which is known better than where it is reached.
So a threshold lies between both, by their log-odds: the more rows there are of the rarer answer, the nearer to what is
best on the rows.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

HALF = 0.5
"""The threshold where none is chosen."""
_TRUSTED = {"accuracy": 30, "balanced_accuracy": 30, "f1": 10}
"""The best threshold on rows of which so many have the rarer answer counts as much as what theory says. (Of F1, theory
says less.)"""
_EPSILON = 1e-12
"""Probabilities are clipped by so much, so that their log-odds are finite."""


def _accuracy(right: Doubles, said: Doubles, have: int, rows: int) -> Doubles:
    return (rows - have + 2 * right - said) / rows


def _balanced_accuracy(right: Doubles, said: Doubles, have: int, rows: int) -> Doubles:
    return (right / have + 1 - (said - right) / (rows - have)) / 2


def _f1(right: Doubles, said: Doubles, have: int, rows: int) -> Doubles:
    return 2 * right / (said + have)


_VALUES: dict[str, Callable[[Doubles, Doubles, int, int], Doubles]] = {
    "accuracy": _accuracy, "balanced_accuracy": _balanced_accuracy, "f1": _f1,
}  # fmt: skip
CRITERIA = tuple(_VALUES)
"""What a threshold can be chosen by; F1 is that of the second answer."""


def chosen_threshold(has: NDArray[Any], proba: NDArray[np.floating[Any]], by: str) -> float:
    """Return the threshold that is likely to be the best on other rows.

    Args:
        has: whether a row has the second answer (N,); of rows that no head was fitted to.
        proba: its probability (N,), calibrated.
        by: one of :data:`CRITERIA`.

    Returns:
        The probability from which on a row is given the second answer; one half where all rows have one answer.

    Example:
        >>> import numpy as np
        >>> from heads.metrics.thresholds import chosen_threshold
        >>> proba = np.linspace(0, 0.6, 1001)
        >>> has = np.random.default_rng(0).random(1001) < proba
        >>> [round(chosen_threshold(has, proba, by), 1) for by in ("accuracy", "balanced_accuracy", "f1")]
        [0.5, 0.3, 0.3]
    """
    has = np.asarray(has) > 0
    have, rows = int(has.sum()), len(has)
    if not 0 < have < rows:
        return HALF
    unique, place, counts = np.unique(_log_odds(proba), return_inverse=True, return_counts=True)
    # For each value as the least that is given the answer, and for none: the metric, and the middle to the value below.
    right, said = (np.append(each[::-1].cumsum()[::-1], 0.0) for each in (np.bincount(place, has), counts))
    values = _VALUES[by](right, said, have, rows)
    cuts = np.concatenate([unique[:1], (unique[1:] + unique[:-1]) / 2, unique[-1:] + 1])
    theory = {"accuracy": HALF, "balanced_accuracy": have / rows, "f1": float(values.max()) / 2}[by]
    expected = float(_log_odds(np.array([theory]))[0])
    best = cuts[values == values.max()]
    seen, fewer, trusted = float(best[np.abs(best - expected).argmin()]), min(have, rows - have), _TRUSTED[by]
    return float(1 / (1 + np.exp(-(fewer * seen + trusted * expected) / (fewer + trusted))))


def _log_odds(proba: NDArray[np.floating[Any]]) -> Doubles:
    clipped = np.clip(np.asarray(proba, np.float64), _EPSILON, 1 - _EPSILON)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
