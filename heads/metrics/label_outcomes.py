"""Metrics of rows that have any number of labels at once, each with its standard error and a 95 % interval.

Every label is a question of its own about a row, answered by a probability and a threshold. Answers about one row may
be wrong together: they count as the group that they are.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Floats, Labels
from heads.metrics.clustered import effect_of, widened
from heads.metrics.estimates import NORMAL_95, Estimate, Interval, skewed_mean, wilson
from heads.metrics.outcomes import blocks
from heads.metrics.ranking import Part, average_precision, mean_of, roc_auc
from heads.metrics.thresholds import HALF, chosen_threshold

Doubles = NDArray[np.float64]
Bits = NDArray[np.uint8]

_EPSILON = float(np.finfo(np.float32).eps)
"""Probabilities are clipped by so much, as scikit-learn clips those of this type."""


class LabelOutcomes(NamedTuple):
    """The labels of rows, and their probabilities.

    Attributes:
        y: 1 where a row has a label, uint8 (N, L).
        proba: the probability of each label, float32 (N, L).
    """

    y: Bits
    proba: Floats

    @classmethod
    def joined(cls, parts: Sequence["LabelOutcomes"]) -> "LabelOutcomes":
        """Put the rows of several outcomes one after the other."""
        return cls(np.concatenate([part.y for part in parts]), np.concatenate([part.proba for part in parts]))

    def rows(self, some: NDArray[Any]) -> "LabelOutcomes":
        """Return the outcomes of some rows, by a mask or indices."""
        return LabelOutcomes(self.y[some], self.proba[some])

    def answers(self, thresholds: Doubles | None = None) -> Bits:
        """Return 1 where a label's probability is at least its threshold, uint8 (N, L); by default one half (L,)."""
        return (self.proba >= (HALF if thresholds is None else thresholds)).astype(np.uint8)


def estimates_of_labels(
    outcomes: LabelOutcomes, groups: Labels | None = None, thresholds: Doubles | None = None
) -> dict[str, Estimate]:
    """Estimate each metric of some rows, as scikit-learn defines it.

    Args:
        outcomes: of the rows, N > 0, L > 0.
        groups: number of each row's group (N,); None where each row is its own.
        thresholds: of each label (L,), see :meth:`LabelOutcomes.answers`.

    Returns:
        ``average_precision`` (mAP: the mean over labels that some row has), ``roc_auc`` (the mean over labels that some
        rows have and others not; both are left out where there is no such label), ``micro_f1`` (of all answers
        together; 0 where there is neither a label nor a positive answer), ``macro_f1`` (the mean over labels that occur
        as true or as predicted ones), and ``log_loss`` (the mean over labels and rows, natural logarithms). Without
        intervals for fewer than ten groups, the log loss also for fewer than ten rows.

    Example:
        >>> import numpy as np
        >>> from heads.metrics.label_outcomes import LabelOutcomes, estimates_of_labels
        >>> y = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], np.uint8)
        >>> proba = np.array([[0.9, 0.2], [0.7, 0.4], [0.8, 0.6], [0.1, 0.3]], np.float32)
        >>> found = estimates_of_labels(LabelOutcomes(y, proba))
        >>> {name: round(each.value, 3) for name, each in found.items()}
        {'average_precision': 0.917, 'roc_auc': 0.875, 'micro_f1': 0.75, 'macro_f1': 0.733, 'log_loss': 0.523}
    """
    y, answers = outcomes.y, outcomes.answers(thresholds)
    positive = y.sum(axis=0, dtype=np.int64)
    mixed = (positive > 0) & (positive < len(y))
    found = {
        "average_precision": mean_of(_ranked(average_precision, outcomes, positive > 0), groups),
        "roc_auc": mean_of(_ranked(roc_auc, outcomes, mixed), groups),
        "micro_f1": _f1(y, answers).of_groups(groups),
        "macro_f1": mean_of((_f1(*pair) for pair in _columns(y, answers) if pair[0].any() or pair[1].any()), groups),
        "log_loss": _log_loss(outcomes, groups),
    }
    return {name: each for name, each in found.items() if each is not None}


def per_label(
    outcomes: LabelOutcomes,
    names: Sequence[str],
    thresholds: Doubles | None = None,
    groups: Labels | None = None,
) -> list[dict[str, Any]]:
    """Measure each label alone.

    Args:
        outcomes: of the rows, N > 0.
        names: of the labels (L,).
        thresholds, groups: see :func:`estimates_of_labels`.

    Returns:
        For each label ``label``, ``support`` (rows that have it), ``precision``, ``recall``, ``f1``, ``threshold``, and
        where they exist ``average_precision`` and ``roc_auc``; a share of nothing is 0. For each metric that is a share
        of something also its 95 % interval, ``recall_interval`` and so on; none for fewer than ten groups.
    """
    found = []
    answers, cuts = outcomes.answers(thresholds), np.full(len(names), HALF) if thresholds is None else thresholds
    for name, cut, proba, (y, said) in zip(
        names, cuts.tolist(), outcomes.proba.T, _columns(outcomes.y, answers), strict=True
    ):
        have, right = int(y.sum()), np.asarray(y == said)[:, 0]
        measured: dict[str, Any] = {"label": name, "support": have, "threshold": cut}
        estimates = {
            "precision": _share(right, said[:, 0] > 0, groups),
            "recall": _share(right, y[:, 0] > 0, groups),
            "f1": _f1(y, said).of_groups(groups),
        }
        if have:
            estimates["average_precision"] = average_precision(y[:, 0], proba).of_groups(groups)
        if 0 < have < len(y):
            estimates["roc_auc"] = roc_auc(y[:, 0], proba).of_groups(groups)
        for metric, each in estimates.items():
            measured[metric] = each.value
            if each.interval:
                measured[f"{metric}_interval"] = list(each.interval)
        found.append(measured)
    return found


def best_label_thresholds(y: Bits, proba: NDArray[np.floating[Any]]) -> Doubles:
    """Return the threshold of each label that is likely to have the greatest F1 on other rows, float64 (L,).

    See :mod:`heads.metrics.thresholds`.

    Args:
        y: 1 where a row has a label, uint8 (N, L); of rows that no head was fitted to.
        proba: the probability of each label (N, L), calibrated.

    Returns:
        The probability from which on a row is said to have the label; one half where all rows have it, or none.

    Example:
        >>> import numpy as np
        >>> from heads.metrics.label_outcomes import best_label_thresholds
        >>> proba = np.linspace(0, 1, 1001)[:, None]
        >>> y = (np.random.default_rng(2).random((1001, 1)) < proba).astype(np.uint8)
        >>> best_label_thresholds(y, proba).round(1)
        array([0.4])
    """
    return np.array([chosen_threshold(*pair, "f1") for pair in zip(y.T, proba.T, strict=True)], np.float64)


def _columns(*tables: Bits) -> Iterator[tuple[Bits, ...]]:
    """Yield the columns of some tables, each as a table (N, 1)."""
    for column in range(tables[0].shape[1]):
        yield tuple(table[:, column : column + 1] for table in tables)


def _ranked(metric: Any, outcomes: LabelOutcomes, some: NDArray[np.bool_]) -> Iterator[Part]:
    for column in np.flatnonzero(some).tolist():
        yield metric(outcomes.y[:, column], outcomes.proba[:, column])


def _share(right: NDArray[np.bool_], of: NDArray[np.bool_], groups: Labels | None) -> Estimate:
    """Estimate the share of right answers of some rows; 0 without an interval if there are none."""
    hits, rows = int(right[of].sum()), int(of.sum())
    if not rows:
        return Estimate(0.0, float("nan"), None)
    share = hits / rows
    low, high = wilson(hits, rows)
    found = Estimate(share, (high - low) / 2 / NORMAL_95, (low, high))
    influence = right[of].astype(np.float64) - share
    return widened(found, effect_of(influence, None if groups is None else groups[of]), share=True)


def _f1(y: Bits, answers: Bits) -> Part:
    """Estimate F1 of all answers (N, L) together, of which those about one row count as a group.

    The variance is the first-order one, see :func:`heads.metrics.estimates.estimates_of`: of single answers it is F1 (1
    - F1) (1 - F1 / 2) / m, where m is the mean of the numbers of true and of predicted labels.
    """
    hits, sides = (y & answers).sum(axis=1, dtype=np.int64), (y + answers).sum(axis=1, dtype=np.int64)
    total = int(sides.sum())
    if not total:
        return Part(Estimate(0.0, float("nan"), None), 0.0, 0.0, np.zeros(len(y)))
    right = int(hits.sum())
    value = 2 * right / total
    moved = 2 * hits - value * sides
    worth = total / 2 / (1 - value / 2)
    squares = right * (2 - 2 * value) ** 2 + (total - 2 * right) * value**2
    effect = (
        float((moved**2).sum()) / squares if squares > 0 else float((sides**2).sum()) / float((y + answers > 0).sum())
    )
    worth /= max(1.0, effect)
    low, high = wilson(value * worth, worth)
    interval: Interval = (low, high)
    return Part(Estimate(value, (high - low) / 2 / NORMAL_95, interval), value, worth, moved * len(y) / total)


def _log_loss(outcomes: LabelOutcomes, groups: Labels | None) -> Estimate:
    """Estimate the mean loss of all answers.

    As for one label (see :func:`heads.metrics.estimates.estimates_of`), the upper end is at least that of rows with as
    many wrong answers as there may be, each with the mean loss of a mistake.
    """
    rows, labels = outcomes.y.shape
    losses, wrong, sums = np.empty(rows), np.empty(rows), np.zeros(2)
    for part in blocks(rows, labels):
        proba = np.clip(outcomes.proba[part].astype(np.float64), _EPSILON, 1 - _EPSILON)
        has = outcomes.y[part] > 0
        loss = -np.log(np.where(has, proba, 1 - proba))
        false = (proba >= HALF) != has
        losses[part], wrong[part] = loss.mean(axis=1), false.sum(axis=1)
        sums += loss[false].sum(), -np.log(np.minimum(proba, 1 - proba)).sum()
    found = skewed_mean(losses)
    if found.interval is not None:
        cells, count = rows * labels, float(wrong.sum())
        spread = count * (1 - count / cells)
        effect = max(1.0, float(((wrong - count / rows) ** 2).sum()) / spread) if spread > 0 else labels
        most = wilson(count / effect, cells / effect)[1]
        mistake = (sums[0] + sums[1] / cells) / (count + 1)
        right = 0.0 if count == cells else float(losses.sum() * labels - sums[0]) / (cells - count)
        low, high = found.interval
        found = found._replace(interval=(low, max(high, (1 - most) * right + most * float(mistake))))
    return widened(found, effect_of(losses - losses.mean(), groups), share=False)
