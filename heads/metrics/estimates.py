"""Metrics of predictions, each with its standard error and a 95 % interval, with NumPy alone and without resampling.

The percentile bootstrap, which draws from the rows that are there, finds no doubt where no row is wrong: of 75 rows at
a true accuracy of 0.995, two in three of its intervals have no width. What stands here holds what it says there too;
`docs/benchmarks.md` has the simulated coverage. The shares (accuracy, balanced accuracy, macro F1) have Wilson's
interval for as many rows as would give their variance: the effective number of rows of survey statistics (Korn &
Graubard, "Confidence intervals for proportions with small expected number of positive counts estimated from survey
data", Survey Methodology 1998). Rows that belong together would divide that number by their design effect.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Labels
from heads.metrics.outcomes import Confusion, Outcomes

Doubles = NDArray[np.float64]
Floating = NDArray[np.floating[Any]]
Interval = tuple[float, float]

NORMAL_95 = 1.959964
"""Standard deviations of a normal distribution that bound its middle 95 %."""

TOO_FEW = "too few rows"
"""Why a metric has no interval."""

_EPSILON = float(np.finfo(np.float64).eps)
_LEAST = 10
"""Rows below which the spread and the skewness of losses are guesses."""


class Estimate(NamedTuple):
    """A metric on some rows.

    Attributes:
        value: of the metric.
        error: its standard error; above 0 also where no row is wrong.
        interval: 95 %; None where there are too few rows for one.
    """

    value: float
    error: float
    interval: Interval | None


def estimates(y: Labels, proba: Floating) -> dict[str, Estimate]:
    """Each metric that these rows have, as scikit-learn defines it.

    Args:
        y: true classes (N,), N > 0.
        proba: probabilities (N, C), C > 1.

    Returns:
        ``accuracy``, ``balanced_accuracy``, ``macro_f1``, ``log_loss``, and with two classes and rows of both
        ``roc_auc``.
    """
    return estimates_of(Outcomes.of(y, proba))


def estimates_of(outcomes: Outcomes) -> dict[str, Estimate]:
    """As :func:`estimates`."""
    y, confusion = outcomes.y, Confusion.of(outcomes)
    found = {
        "accuracy": _accuracy(confusion),
        "balanced_accuracy": _balanced_accuracy(confusion),
        "macro_f1": _macro_f1(confusion),
        "log_loss": _log_loss(outcomes),
    }
    if outcomes.classes == 2 and 0 < y.sum() < len(y):
        found["roc_auc"] = _roc_auc(y, log_odds(outcomes.two_columns))
    return found


def log_odds(proba: Doubles) -> Doubles:
    """Of the second of two classes (N,), from probabilities (N, 2).

    It tells rows apart whose probability is 1 to rounding, by that of the other class. Each value depends on the
    smaller probability alone, so that it is exact, and equal for rows that are.
    """
    least = proba.min(axis=1)
    with np.errstate(divide="ignore"):
        odds = np.log(least) - np.log1p(-least)
    return np.asarray(np.where(proba[:, 1] < proba[:, 0], odds, -odds))


def wilson(hits: float, of: float) -> list[float]:
    """95 % interval of a share.

    It is sensible for a handful of rows too, where the bootstrap finds no doubt in 5 of 5. (E. B. Wilson, "Probable
    inference, the law of succession, and statistical inference", JASA 1927.)

    Args:
        hits: rows of one kind.
        of: all rows, more than 0.
    """
    share, weight = hits / of, NORMAL_95**2 / of
    centre = (share + weight / 2) / (1 + weight)
    half = NORMAL_95 / (1 + weight) * np.sqrt(share * (1 - share) / of + weight / 4 / of)
    return [max(0.0, float(centre - half)), min(1.0, float(centre + half))]


def mcnemar(right: int, wrong: int) -> float:
    """Two-sided p-value of as many rows that became right and wrong, if both were as likely: exact, by the binomial.

    (Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 1947.)
    """
    rows, term, tail = right + wrong, 1, 0
    for k in range(min(right, wrong) + 1):
        tail += term
        term = term * (rows - k) // (k + 1)
    return float(min(1.0, 2 * tail / 2**rows))  # whole numbers: no rounding before the division


def _accuracy(confusion: Confusion) -> Estimate:
    hits, rows = int(confusion.hits.sum()), int(confusion.rows.sum())
    smooth = (hits + 2) / (rows + 4)
    low, high = wilson(hits, rows)
    return Estimate(hits / rows, float(np.sqrt(smooth * (1 - smooth) / rows)), (low, high))


def _balanced_accuracy(confusion: Confusion) -> Estimate:
    """Mean recall of the classes that occur.

    The variance is that of a stratified sample. A recall of 2 of 2 says little of its class's own variance, so each is
    drawn towards the mean recall, by one row. An interval is never narrower than the doubt about any single class
    makes it, which counts where few rows are of one of a few classes.
    """
    support = confusion.support
    support, hits = support[support > 0], confusion.hits[support > 0]
    recalls, classes = hits / support, len(hits)
    value = float(recalls.mean())
    smooth = (hits + value) / (support + 1)
    shape = _share(value, float(smooth.mean()), float((smooth * (1 - smooth) / support).sum()) / classes**2,
                   classes**2 / float((1 / support).sum()))  # fmt: skip
    alone = np.array([wilson(*pair) for pair in zip(hits.tolist(), support.tolist(), strict=True)])
    below, above = (recalls - alone[:, 0]).max() / classes, (alone[:, 1] - recalls).max() / classes
    low, high = shape.interval or (0.0, 1.0)
    return shape._replace(interval=(min(low, float(value - below)), max(high, float(value + above))))


def _macro_f1(confusion: Confusion) -> Estimate:
    """Mean F1 of the classes that occur, as true or as predicted class.

    The variance is the first-order one (Takahashi et al., "Confidence interval for micro-averaged F1 and macro-averaged
    F1 scores", Applied Intelligence 2022), at a table of confusions to which each true class gives one row more, spread
    as the whole table is over right and wrong.
    """
    rows, support = int(confusion.rows.sum()), confusion.support
    sides = support + confusion.answered
    occurs = sides > 0
    hits, classes = confusion.hits[occurs], int(occurs.sum())
    value = float((2 * hits / sides[occurs]).mean())
    if classes == 1:
        return _share(value, value, 0.0, rows)
    # The table is that of the pairs that occur and one that is the same in each row of a true class, but for its
    # diagonal. So its sums follow from those of the pairs and of the classes, and it is not written down.
    right = (int(hits.sum()) + 2) / (rows + 4)
    elsewhere = (1 - right) / (classes - 1)
    shown = (support[occurs] > 0).astype(np.float64)
    total = rows + float(shown.sum())
    diagonal = (hits + shown * right) / total
    columns = confusion.answered[occurs] + elsewhere * (shown.sum() - shown) + shown * right
    both = (support[occurs] + shown + columns) / total
    f1 = 2 * diagonal / both
    # What one row more in a cell adds to the sum of F1s: at (i, j) -lost[i] - lost[j], on the diagonal own[i] more.
    lost, own = f1 / both, 2 / both
    place = np.cumsum(occurs) - 1
    i, j = place[confusion.true], place[confusion.predicted]
    squares = float((confusion.rows * ((i == j) * own[i] - lost[i] - lost[j]) ** 2).sum())
    away = classes * lost**2 + 2 * lost * lost.sum() + (lost**2).sum() - 4 * lost**2  # (lost[i] + lost[j])², j != i
    squares += float((shown * (elsewhere * away + right * (own - 2 * lost) ** 2)).sum())
    return _share(value, float(f1.mean()), squares / total / classes**2 / rows, rows)


def _share(value: float, smooth: float, variance: float, rows: float) -> Estimate:
    """A metric between 0 and 1 and its variance where the metric is `smooth`; without any variance, of so many rows."""
    rows = smooth * (1 - smooth) / variance if variance > 0 else rows
    low, high = wilson(value * rows, rows)
    # The error of a metric of exactly 0 or 1 is that of one which lies where the interval has its middle.
    error = np.sqrt(variance) if variance > 0 else (high - low) / 2 / NORMAL_95
    return Estimate(value, float(error), (low, high))


def _log_loss(outcomes: Outcomes) -> Estimate:
    """Mean negative logarithm of the true class's probability.

    Losses are skewed: the interval is Hall's ("On the removal of skewness by transformation", Journal of the Royal
    Statistical Society B 1992), with quantiles of Student's t. But confident mistakes that happen not to be among the
    rows leave no trace in it. So its upper end is at least that of rows of which as many are wrong as may be by
    Wilson's interval, each with the mean loss of a mistake: of those seen, and of one more that is as confident as the
    predictions are.
    """
    rows = len(outcomes.y)
    # Clipped as scikit-learn does, so that a single impossible row does not make the mean infinite.
    loss = -np.log(np.clip(outcomes.true, _EPSILON, 1 - _EPSILON))
    value = float(loss.mean())
    if rows < 2:
        return Estimate(value, float("nan"), None)
    spread = float(loss.std(ddof=1))
    error = spread / float(np.sqrt(rows))
    if rows < _LEAST:
        return Estimate(value, error, None)
    skewness = float(((loss - value) ** 3).mean()) / spread**3 if spread > 0 else 0.0
    low, high = (value - spread * _unskewed(t, skewness, rows) for t in (_student(rows - 1), -_student(rows - 1)))
    wrong = ~outcomes.right
    most = wilson(int(wrong.sum()), rows)[1]
    mistake = float(-np.log(np.maximum(outcomes.second, _EPSILON)).mean())
    mistake = (float(loss[wrong].sum()) + mistake) / (int(wrong.sum()) + 1)
    right = 0.0 if wrong.all() else float(loss[~wrong].mean())
    return Estimate(value, error, (max(0.0, low), max(high, (1 - most) * right + most * mistake)))


def _student(freedom: int) -> float:
    """97.5 % quantile of Student's t, for 9 degrees of freedom or more to 4e-3. (Abramowitz & Stegun 26.7.5)"""
    z = NORMAL_95
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def _unskewed(quantile: float, skewness: float, rows: int) -> float:
    """Where Hall's transformation of a mean, in standard deviations of a row, has this value."""
    if abs(skewness) < 1e-6:
        return quantile / float(np.sqrt(rows))
    shift = quantile / np.sqrt(rows) - skewness / (6 * rows)
    return float(3 / skewness * (np.cbrt(1 + skewness * shift) - 1))


def _roc_auc(y: Labels, ranking: Doubles) -> Estimate:
    """Area under the ROC curve of labels 0 and 1, both of which occur.

    The interval is the fifth of R. G. Newcombe, "Confidence intervals for an effect size measure based on the
    Mann-Whitney statistic, part 2", Statistics in Medicine 2006: all areas that this one is at most 1.96 of their own
    standard errors away from, which are not 0 where no row is in disorder.
    """
    _, place, ties = np.unique(ranking, return_inverse=True, return_counts=True)
    ranks = (ties.cumsum() - (ties - 1) / 2)[place]
    positive = int(y.sum())
    pairs = positive * (len(y) - positive)
    area = float((ranks[y == 1].sum() - positive * (positive + 1) / 2) / pairs)
    others = len(y) / 2 - 1

    def error(true: float) -> float:
        ties = others * ((1 - true) / (2 - true) + true / (1 + true))
        return float(np.sqrt(true * (1 - true) * (1 + ties) / pairs))

    def end(inside: float, outside: float) -> float:
        for _ in range(50):  # to rounding
            middle = (inside + outside) / 2
            if abs(middle - area) <= NORMAL_95 * error(middle):
                inside = middle
            else:
                outside = middle
        return outside

    low, high = end(area, 0.0), end(area, 1.0)
    return Estimate(area, (high - low) / 2 / NORMAL_95, (low, high))
