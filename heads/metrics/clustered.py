"""Intervals of metrics of rows that belong together in groups, such as the images of one patient.

Rows of a group are right or wrong together, so that they say less than as many rows of their own. Each interval is that
of :mod:`heads.metrics.estimates` for as many rows as would give the variance between groups: its number of rows is
divided by the metric's design effect, and by the square of how much wider Student's t is than the normal distribution
for so many groups. (Korn & Graubard, "Confidence intervals for proportions with small expected number of positive
counts estimated from survey data", Survey Methodology 1998; the variance is that of the linearised metric, summed over
groups.) A bootstrap over groups would find no doubt where no row is wrong; where no row differs from the others, all
rows of a group count as one.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Labels
from heads.metrics.estimates import NORMAL_95, Estimate, clipped_loss, estimates_of, log_odds, student, wilson
from heads.metrics.outcomes import Confusion, Doubles, Outcomes

FEWEST = 10
"""With fewer groups, the variance between them is unknown."""


def clustered(outcomes: Outcomes, groups: Labels | None) -> dict[str, Estimate]:
    """Estimate the metrics of :func:`heads.metrics.estimates.estimates_of`, with intervals for rows in groups.

    Args:
        outcomes: of the rows.
        groups: number of each row's group (N,); None where each row is its own.

    Returns:
        As that function. Without intervals if there are fewer than :data:`FEWEST` groups.
    """
    found = estimates_of(outcomes)
    if groups is None or len(np.unique(groups)) == len(groups):
        return found
    effects = {name: design_effect(part, groups) for name, part in _influence(outcomes, found).items()}
    return {name: widened(each, effects[name], share=name != "log_loss") for name, each in found.items()}


def design_effect(influence: Doubles, groups: Labels) -> float:
    """Return by how much fewer independent rows would say as much, at least 1; infinity for fewer than 10 groups.

    Args:
        influence: how much each row moves the metric (N,).
        groups: number of each row's group (N,).

    Example:
        >>> import numpy as np
        >>> pairs = np.arange(100) // 2
        >>> right = (pairs % 2).astype(float)  # both of a pair, or none
        >>> 2 < design_effect(right - right.mean(), pairs) < 2.2
        True
    """
    _, place = np.unique(groups, return_inverse=True)
    count = int(place.max()) + 1
    if count < FEWEST:
        return float("inf")
    sums, squares = np.bincount(place, influence), float((influence**2).sum())
    if squares > 0:
        effect = count / (count - 1) * float((sums**2).sum()) / squares
    else:
        effect = float((np.bincount(place) ** 2).sum()) / len(groups)
    return max(1.0, effect) * float(student(count - 1) / NORMAL_95) ** 2


def recall_effects(outcomes: Outcomes, groups: Labels | None) -> list[float]:
    """Return the design effect of each class's recall, see :func:`design_effect`; 1 for a class without rows (C,)."""
    effects = [1.0] * outcomes.classes
    if groups is not None:
        order = np.argsort(outcomes.y, kind="stable")
        labels, starts = np.unique(outcomes.y[order], return_index=True)
        for label, rows in zip(labels.tolist(), np.split(order, starts[1:]), strict=True):
            right = outcomes.right[rows].astype(np.float64)
            effects[label] = design_effect(right - right.mean(), groups[rows])
    return effects


def share_interval(value: float, interval: Sequence[float], effect: float) -> tuple[float, float]:
    """Return the interval of a share that `effect` times fewer rows would have.

    Each end tells for how many rows it is Wilson's.
    """
    ends = []
    for side, end in enumerate(interval):
        rows = NORMAL_95**2 * end * (1 - end) / (end - value) ** 2 if end != value else np.inf
        fewer = rows / effect
        ends.append(end if not np.isfinite(fewer) else wilson(value * fewer, fewer)[side])
    return ends[0], ends[1]


def effect_of(influence: Doubles, groups: Labels | None) -> float:
    """Return :func:`design_effect`, or 1 where each row is its own group."""
    if groups is None or len(np.unique(groups)) == len(groups):
        return 1.0
    return design_effect(influence, groups)


def widened(found: Estimate, effect: float, *, share: bool) -> Estimate:
    """Return an estimate whose rows are worth so many times fewer.

    Args:
        found: as from rows that are each their own.
        effect: the design effect; for infinity there is no interval.
        share: whether it is one of something, from 0 to 1; else a number from 0.
    """
    if not np.isfinite(effect):
        return found._replace(interval=None)
    error = found.error * float(np.sqrt(effect))
    if found.interval is None:
        return found._replace(error=error)
    if share:
        return Estimate(found.value, error, share_interval(found.value, found.interval, effect))
    low, high = (found.value + (end - found.value) * float(np.sqrt(effect)) for end in found.interval)
    return Estimate(found.value, error, (max(0.0, low), high))


def _influence(outcomes: Outcomes, found: Mapping[str, Estimate]) -> dict[str, Doubles]:
    """Return how much each row moves each metric, but for a factor (N,)."""
    y, predicted, right = outcomes.y, outcomes.predicted, outcomes.right.astype(np.float64)
    confusion = Confusion.of(outcomes)
    support, sides = confusion.support, np.maximum(confusion.support + confusion.answered, 1)
    recall, f1 = confusion.hits / np.maximum(support, 1), 2 * confusion.hits / sides
    losses = clipped_loss(outcomes)
    parts = {
        "accuracy": right - right.mean(),
        "balanced_accuracy": (right - recall[y]) / support[y],
        "macro_f1": 2 * right / sides[y] - f1[y] / sides[y] - f1[predicted] / sides[predicted],
        "log_loss": losses - losses.mean(),
    }
    if "roc_auc" in found:
        parts["roc_auc"] = placements(y, log_odds(outcomes.two_columns)) - found["roc_auc"].value
        parts["roc_auc"] /= np.bincount(y)[y]
    return parts


def placements(y: Labels, ranking: NDArray[np.float64]) -> Doubles:
    """Return for each row the share of the rows of the other class that it is in the right order with (N,)."""
    found = np.empty(len(y))
    for mine, sign in ((0, -1), (1, 1)):
        others = np.sort(sign * ranking[y != mine])
        values = sign * ranking[y == mine]
        below, up_to = (np.searchsorted(others, values, side) for side in ("left", "right"))
        found[y == mine] = (below + up_to) / 2 / len(others)
    return found
