"""Sets of classes that hold the true one as often as a user asks: split-conformal prediction.

A class is in the set of an image if its probability reaches what the true class had in so large a share of held-out
rows (the score of M. Sadinle, J. Lei & L. Wasserman, "Least ambiguous set-valued classifiers with bounded error
levels", Journal of the American Statistical Association 2019, whose sets are the smallest on average). The likeliest
class is always in it, so that no set is empty, and coverage is rather above the level.

The share is one over all images that are like the held-out rows: not of each class, and not of another place. The rows
are held out fold by fold, from heads of fewer rows than the one that predicts: `docs/benchmarks.md` has how near the
coverage comes to the level.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Labels
from heads.metrics.clustered import effect_of, share_interval
from heads.metrics.estimates import wilson
from heads.metrics.number_outcomes import conformal_quantile
from heads.metrics.outcomes import Outcomes, blocks

Doubles = NDArray[np.float64]

_KEPT, _DIGITS = 2000, 9
"""Probabilities that a head keeps at most (of more, that many quantiles), and the digits after the point."""


def conformity_of(scores: NDArray[np.floating[Any]], codes: Labels, temperature: float = 1.0) -> tuple[float, ...]:
    """Return the probabilities of the true class of held-out rows, ascending (R,).

    Args:
        scores: of the rows (J, C); their softmax, after division by the temperature, gives the probabilities.
        codes: the column of each row's true class (J,).
        temperature: the number that scores are divided by.
    """
    parts = [_true(np.asarray(scores[part] / temperature, np.float64), codes[part]) for part in blocks(*scores.shape)]
    found = np.sort(np.concatenate(parts))
    if len(found) > _KEPT:
        found = np.quantile(found, np.linspace(0, 1, _KEPT), method="lower")
    shift = 10.0**_DIGITS
    return tuple((np.floor(found * shift) / shift).clip(0, 1).tolist())  # down: a set is rather a little too large


def least_probability(conformity: NDArray[Any], level: float) -> float | None:
    """Return the probability from which on a class is in the sets of a level.

    Args:
        conformity: the probabilities of the true class of held-out rows (R,).
        level: the share of images whose set shall hold the true class, above 0 and below 1.

    Returns:
        The probability; None if there are too few rows for such a level.

    Example:
        >>> import numpy as np
        >>> from heads.metrics.conformal import least_probability, set_members
        >>> cut = least_probability(np.linspace(0.05, 1, 39), 0.9)
        >>> round(cut, 3)
        0.125
        >>> set_members(np.array([[0.5, 0.3, 0.15, 0.05], [0.1, 0.1, 0.1, 0.7]]), cut).sum(axis=1).tolist()
        [3, 1]
    """
    found = conformal_quantile(1 - np.asarray(conformity, np.float64), level)
    return None if found is None else 1 - found


def set_members(proba: NDArray[np.floating[Any]], least: float) -> NDArray[np.bool_]:
    """Return which classes are in the set of each row, bool (N, C), from probabilities (N, C)."""
    return np.asarray(proba >= np.minimum(least, proba.max(axis=1, keepdims=True)) - 1e-12)


def set_fields(outcomes: Outcomes, level: float, least: float, groups: Labels | None) -> dict[str, Any]:
    """Measure the sets of some rows: fields of :class:`heads.metrics.evaluation.Evaluation`, and their interval.

    Args:
        outcomes: of the rows; the mean size of the sets is known where these keep all probabilities.
        level, least: see :func:`least_probability`.
        groups: the number of each row's group (N,); None where each row is its own.
    """
    top = np.maximum(outcomes.greatest, outcomes.second)
    held = outcomes.true >= np.minimum(least, top) - 1e-12
    share = float(held.mean())
    effect = effect_of(np.asarray(held - share, np.float64), groups)
    interval = share_interval(share, wilson(int(held.sum()), len(held)), effect) if np.isfinite(effect) else None
    found: dict[str, Any] = {"level": level, "coverage": share, "coverage_interval": interval}
    if outcomes.proba is not None:
        found["set_size"] = float(set_members(outcomes.proba, least).sum(axis=1).mean())
    return found


def _true(scores: Doubles, codes: Labels) -> Doubles:
    """Return the probability of the true class (N,) from scores (N, C)."""
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shares[np.arange(len(codes)), codes] / shares.sum(axis=1))
