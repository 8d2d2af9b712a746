"""How well scores rank the rows of each label before all others, for one label and in the mean of several.

A mean over labels is as certain as its rows make it, whose answers for several labels may be wrong together, and no
more certain than its labels are, of which one may have a few rows. So its variance is that of the mean influence of
each row (the delta method), and for each label by how much a share of as many rows as its interval tells of varies
more; the metric of a few rows is shrunk towards the mean for that, since one of 0 or 1 seems not to vary.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Labels
from heads.metrics import estimates
from heads.metrics.clustered import effect_of, placements, widened
from heads.metrics.estimates import NORMAL_95, Estimate, Interval, log_odds, wilson
from heads.metrics.outcomes import Outcomes

Doubles = NDArray[np.float64]

_SHRUNK = 2
"""The metric of a label is shrunk towards the mean of all by the weight of so many rows, to tell how it varies."""


class Part(NamedTuple):
    """A metric between 0 and 1 of one label.

    Attributes:
        estimate: of the metric; it has an interval.
        middle: the value without the bias that few rows give it.
        worth: for how many rows a share would have this interval.
        influence: how much each row moves the metric, 0 in the mean (N,): the mean of their squares, divided by N, is
            its variance to first order.
    """

    estimate: Estimate
    middle: float
    worth: float
    influence: Doubles

    def of_groups(self, groups: Labels | None) -> Estimate:
        """Return the estimate for rows that belong together in groups (N,); None where each row is its own."""
        return widened(self.estimate, effect_of(self.influence, groups), share=True)


def average_precision(y: NDArray[np.generic], scores: NDArray[np.floating]) -> Part:
    """Estimate the average precision of one label: the area under the steps of its precision-recall curve.

    The interval is Wilson's for as many rows as there are positive ones (the binomial interval of K. Boyd, K. Eng & C.
    D. Page, "Area under the precision-recall curve: point estimates and confidence intervals", ECML PKDD 2013, but for
    its shape), or for fewer, if the delta method finds a greater variance. A positive row counts itself among the rows
    above it, which raises the metric where they are few: the interval's middle is the jackknife's (M. H. Quenouille,
    "Notes on bias in estimation", Biometrika 1956).

    Args:
        y: 0 or 1 (N,); some are 1.
        scores: numbers that are the greater the more likely a row has the label (N,).

    Example:
        >>> import numpy as np
        >>> from heads.metrics.ranking import average_precision
        >>> found = average_precision(np.array([1, 0, 1, 1, 0, 0]), np.array([0.9, 0.8, 0.7, 0.6, 0.2, 0.1])).estimate
        >>> round(found.value, 3), [round(end, 2) for end in found.interval]
        (0.806, [0.28, 0.97])
    """
    positive = np.asarray(y).astype(np.float64)
    rows, have = len(positive), float(positive.sum())
    _, place, ties = np.unique(-np.asarray(scores), return_inverse=True, return_counts=True)
    # For each score that occurs, from the greatest: positive rows that have it, and rows that have it or a greater one.
    here, above = np.bincount(place, positive), ties.cumsum()
    right = here.cumsum()
    precision = right / above
    value = min(1.0, float(here @ precision) / have)
    # A row has its own precision, and changes that of all positive rows that do not rank above it.
    own = positive * (precision[place] - value)
    moved = positive * (here / above)[::-1].cumsum()[::-1][place]
    moved -= (here * precision / above)[::-1].cumsum()[::-1][place]
    influence = rows / have * (own + moved)
    variance = float((influence**2).mean()) / rows
    worth = min(have, value * (1 - value) / variance) if variance > 0 else have
    middle = value
    if have > 1:
        fewer = np.maximum(above - 1, 1)  # by one row; summed over all rows that may be left out
        without = float(here @ ((right - 1) ** 2 / fewer + (have - right) * precision)) / (have - 1)
        wrong = above - right
        without += float(here @ (wrong * right / fewer + (rows - have - wrong) * precision)) / have
        middle = float(np.clip(rows * value - (rows - 1) / rows * without, 0, 1))
    low, high = wilson(middle * worth, worth)
    error = max(float(np.sqrt(variance)), (high - low) / 2 / NORMAL_95)
    return Part(Estimate(value, error, (min(low, value), max(high, value))), middle, worth, influence)


def roc_auc(y: NDArray[np.generic], scores: NDArray[np.floating]) -> Part:
    """Estimate the area under the ROC curve of one label, see :func:`heads.metrics.estimates.roc_auc`.

    Args:
        y: 0 or 1 (N,), both of which occur.
        scores: numbers that are the greater the more likely a row has the label (N,).
    """
    labels, ranking = np.asarray(y).astype(np.intp), np.asarray(scores, np.float64)
    found = estimates.roc_auc(labels, ranking)
    rows = len(labels) / np.bincount(labels)
    return Part(found, found.value, _worth(found), (placements(labels, ranking) - found.value) * rows[labels])


def mean_of(parts: Iterable[Part], groups: Labels | None = None) -> Estimate | None:
    """Estimate the mean of a metric over labels; None if there is none.

    Args:
        parts: one for each label, of the same rows.
        groups: number of each row's group (N,); None where each row is its own.
    """
    influence: Doubles | None = None
    found, middles, own, worth = [], [], [], []
    for part in parts:
        influence = part.influence.copy() if influence is None else influence + part.influence
        found.append(part.estimate)
        middles.append(part.middle)
        own.append(float((part.influence**2).mean()) / len(influence))
        worth.append(part.worth)
    if influence is None:
        return None
    labels, ends = len(found), np.array([each.interval for each in found])
    influence /= labels
    values, rows = np.array([each.value for each in found]), np.array(worth)
    value, middle = float(values.mean()), float(np.mean(middles))
    smooth = (values * rows + _SHRUNK * value) / (rows + _SHRUNK)
    extra = float(np.maximum(smooth * (1 - smooth) / rows - own, 0).sum())
    variance = float((influence**2).mean()) / len(influence) + extra / labels**2
    most, spread = float(rows.sum()), float(smooth.mean() * (1 - smooth.mean()))
    low, high = wilson(middle * most, most)
    if variance > spread / most:
        low, high = wilson(middle * spread / variance, spread / variance)
    # One label alone may be the doubt.
    low = min(low, value - float((values - ends[:, 0]).max()) / labels)
    high = max(high, value + float((ends[:, 1] - values).max()) / labels)
    interval: Interval = (max(0.0, low), min(1.0, high))
    error = max(float(np.sqrt(variance)), (high - low) / 2 / NORMAL_95 if variance == 0 else 0.0)
    return widened(Estimate(value, error, interval), effect_of(influence, groups), share=True)


def class_average_precision(outcomes: Outcomes, groups: Labels | None = None) -> Estimate | None:
    """Estimate the mean average precision of the classes that have rows, each against all others.

    Args:
        outcomes: of the rows; of more than two classes, with their probabilities.
        groups: number of each row's group (N,); None where each row is its own.

    Returns:
        The estimate; None where the probabilities are not kept.
    """
    scores: NDArray[np.floating] | None = outcomes.proba
    if outcomes.classes == 2:
        odds = log_odds(outcomes.two_columns)
        scores = np.stack([-odds, odds], axis=1)
    if scores is None:
        return None
    shown = np.unique(outcomes.y).tolist()
    return mean_of((average_precision(outcomes.y == label, scores[:, label]) for label in shown), groups)


def _worth(found: Estimate) -> float:
    """Return for how many rows an interval is Wilson's, by the end that says fewer."""
    assert found.interval is not None
    rows = [
        NORMAL_95**2 * end * (1 - end) / (end - found.value) ** 2
        for end in found.interval
        if end != found.value and 0 < end < 1
    ]
    return min(rows, default=1.0)
