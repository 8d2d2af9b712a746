"""Metrics of predictions, each with its standard error and a 95 % interval, with NumPy alone and without resampling.

The percentile bootstrap, which draws from the rows that are there, finds no doubt where no row is wrong: of 75 rows at
a true accuracy of 0.995, two in three of its intervals have no width. The intervals of this module cover the true value
as often as they claim in that case too; `docs/benchmarks.md` has the simulated coverage. The shares (accuracy, balanced
accuracy, macro F1) have Wilson's interval for as many rows as would give their variance: the effective number of rows
of survey statistics (Korn & Graubard, "Confidence intervals for proportions with small expected number of positive
counts estimated from survey data", Survey Methodology 1998). For rows that belong together,
:mod:`heads.metrics.clustered` divides that number by their design effect.
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
LEAST = 10
"""With fewer rows, the spread and the skewness of the losses are unknown."""


class Estimate(NamedTuple):
    """The value of a metric on some rows, and how certain it is.

    Attributes:
        value: the metric.
        error: its standard error, which is above 0 even if no row is wrong.
        interval: its 95 % interval; None if there are too few rows.
    """

    value: float
    error: float
    interval: Interval | None


def estimates(y: Labels, proba: Floating) -> dict[str, Estimate]:
    """Estimate each metric of some rows, as scikit-learn defines it.

    Args:
        y: true classes (N,), whole numbers, N > 0.
        proba: probabilities (N, C), C > 1.

    Returns:
        ``accuracy``, ``balanced_accuracy``, ``macro_f1`` and ``log_loss``; of two classes with rows of both also
        ``roc_auc``.

    Example:
        >>> import numpy as np
        >>> from heads.metrics.estimates import estimates
        >>> proba = np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2], [0.3, 0.7]])
        >>> found = estimates(np.array([0, 1, 1, 1]), proba)
        >>> found["accuracy"].value
        0.75
        >>> [round(end, 2) for end in found["accuracy"].interval]
        [0.3, 0.95]
    """
    return estimates_of(Outcomes.of(y, proba))


def estimates_of(outcomes: Outcomes) -> dict[str, Estimate]:
    """Estimate the metrics of :func:`estimates` from outcomes."""
    y, confusion = outcomes.y, Confusion.of(outcomes)
    found = {
        "accuracy": _accuracy(confusion),
        "balanced_accuracy": _balanced_accuracy(confusion),
        "macro_f1": _macro_f1(confusion),
        "log_loss": _log_loss(outcomes),
    }
    if outcomes.classes == 2 and 0 < y.sum() < len(y):
        found["roc_auc"] = roc_auc(y, log_odds(outcomes.two_columns))
    return found


def log_odds(proba: Doubles) -> Doubles:
    """Return the log-odds of the second of two classes (N,), natural logarithms, from probabilities (N, 2).

    Each value is computed from the smaller of the two probabilities, so that it is exact, and differs between rows
    whose greater probability is 1 to rounding. Equal rows have equal values.
    """
    least = proba.min(axis=1)
    with np.errstate(divide="ignore"):
        odds = np.log(least) - np.log1p(-least)
    return np.asarray(np.where(proba[:, 1] < proba[:, 0], odds, -odds))


def wilson(hits: float, of: float) -> list[float]:
    """Return the 95 % interval of a share.

    It has a width even for 5 hits of 5, where that of the bootstrap has none. (E. B. Wilson, "Probable
    inference, the law of succession, and statistical inference", JASA 1927.)

    Args:
        hits: the number of rows with some property.
        of: the number of all rows, more than 0.
    """
    share, weight = hits / of, NORMAL_95**2 / of
    centre = (share + weight / 2) / (1 + weight)
    half = NORMAL_95 / (1 + weight) * np.sqrt(share * (1 - share) / of + weight / 4 / of)
    return [max(0.0, float(centre - half)), min(1.0, float(centre + half))]


def mcnemar(right: int, wrong: int) -> float:
    """Return the two-sided p-value of McNemar's test, exact, by the binomial distribution.

    Under the null hypothesis, each of these rows is as likely to have become right as to have become wrong.

    (Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 1947.)
    """
    rows, term, tail = right + wrong, 1, 0
    for k in range(min(right, wrong) + 1):
        tail += term
        term = term * (rows - k) // (k + 1)
    return float(min(1.0, 2 * tail / 2**rows))  # whole numbers: no rounding before the division


def sign_flips(changes: NDArray[np.intp]) -> float:
    """Return the two-sided p-value of changes that may have been the other way round, exact: McNemar's test of groups.

    Under the null hypothesis each group of rows, such as the images of one patient, is as likely to have changed by the
    same number the other way, whatever its rows have in common; for groups of one row that is McNemar's test. (R. A.
    Fisher, "The design of experiments", 1935, section 21.)

    Args:
        changes: for each group (G,) the rows that became right minus those that became wrong.

    Example:
        >>> import numpy as np
        >>> sign_flips(np.array([1, 1, 1, 1])), sign_flips(np.array([4])), sign_flips(np.array([2, 2, -1, 0]))
        (0.125, 1.0, 0.5)
    """
    sizes, counts = np.unique(np.abs(changes[changes != 0]), return_counts=True)
    most = int(sizes @ counts)
    chance = np.ones(1)  # of each sum from -s to s, where s is the sum of the groups so far; only every second occurs
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        for _ in range(count):
            longer = np.zeros(len(chance) + size)
            longer[:-size] += chance / 2
            longer[size:] += chance / 2
            chance = longer
    sums = 2 * np.arange(most + 1) - most
    return float(min(1.0, chance[np.abs(sums) >= abs(int(changes.sum()))].sum()))


def _accuracy(confusion: Confusion) -> Estimate:
    hits, rows = int(confusion.hits.sum()), int(confusion.rows.sum())
    smooth = (hits + 2) / (rows + 4)
    low, high = wilson(hits, rows)
    return Estimate(hits / rows, float(np.sqrt(smooth * (1 - smooth) / rows)), (low, high))


def _balanced_accuracy(confusion: Confusion) -> Estimate:
    """Estimate the mean recall of the classes that occur.

    The variance is that of a stratified sample. A recall of 2 of 2 says little about the variance of its class, so each
    recall is shrunk towards the mean recall, by the weight of one row. The interval is at least as wide as the interval
    of any single class makes it, which matters if one of a few classes has few rows.
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
    """Estimate the mean F1 of the classes that occur, as true or as predicted class.

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
    """Estimate a metric between 0 and 1 from its variance at the value `smooth`; `rows` counts if that is 0."""
    rows = smooth * (1 - smooth) / variance if variance > 0 else rows
    low, high = wilson(value * rows, rows)
    # The error of a metric of exactly 0 or 1 is that of one which lies where the interval has its middle.
    error = np.sqrt(variance) if variance > 0 else (high - low) / 2 / NORMAL_95
    return Estimate(value, float(error), (low, high))


def _log_loss(outcomes: Outcomes) -> Estimate:
    """Estimate the mean negative logarithm of the probability of the true class.

    Losses are skewed, see :func:`skewed_mean`. But confident mistakes that happen not to be among the rows leave no
    trace in that interval. So its upper end is at least that of rows of which as many are wrong as may be by Wilson's
    interval, each with the mean loss of a mistake: of those seen, and of one more that is as confident as the
    predictions are.
    """
    loss = clipped_loss(outcomes)
    found = skewed_mean(loss)
    if found.interval is None:
        return found
    low, high = found.interval
    wrong = ~outcomes.right
    most = wilson(int(wrong.sum()), len(loss))[1]
    mistake = float(-np.log(np.maximum(outcomes.second, _EPSILON)).mean())
    mistake = (float(loss[wrong].sum()) + mistake) / (int(wrong.sum()) + 1)
    right = 0.0 if wrong.all() else float(loss[~wrong].mean())
    return found._replace(interval=(low, max(high, (1 - most) * right + most * mistake)))


def skewed_mean(values: Doubles) -> Estimate:
    """Estimate the mean of numbers from 0, such as losses, that may be skewed.

    The interval is Hall's ("On the removal of skewness by transformation", Journal of the Royal Statistical Society B
    1992), with quantiles of Student's t; None for fewer than ten numbers.

    Args:
        values: the numbers (N,), N > 0.

    Example:
        >>> import numpy as np
        >>> from heads.metrics.estimates import skewed_mean
        >>> found = skewed_mean(np.array([0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.5, 0.9, 2.0]))
        >>> round(found.value, 2), [round(end, 2) for end in found.interval]
        (0.5, [0.2, 2.18])
    """
    rows, value = len(values), float(values.mean())
    if rows < 2:
        return Estimate(value, float("nan"), None)
    spread = float(values.std(ddof=1))
    error = spread / float(np.sqrt(rows))
    if rows < LEAST:
        return Estimate(value, error, None)
    skewness = float(((values - value) ** 3).mean()) / spread**3 if spread > 0 else 0.0
    low, high = (value - spread * _unskewed(t, skewness, rows) for t in (student(rows - 1), -student(rows - 1)))
    return Estimate(value, error, (max(0.0, low), high))


def clipped_loss(outcomes: Outcomes) -> Doubles:
    """Return the loss of each row (N,), natural logarithms.

    Probabilities are clipped as scikit-learn does, so that a single impossible row does not make the mean infinite.
    """
    return -np.log(np.clip(outcomes.true, _EPSILON, 1 - _EPSILON))


def student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t, to 4e-3 for 9 degrees of freedom or more.

    (Abramowitz & Stegun, "Handbook of mathematical functions", 26.7.5.)
    """
    z = NORMAL_95
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def _unskewed(quantile: float, skewness: float, rows: int) -> float:
    """Return the mean, in standard deviations of a row, for which Hall's transformation has this value."""
    if abs(skewness) < 1e-6:
        return quantile / float(np.sqrt(rows))
    shift = quantile / np.sqrt(rows) - skewness / (6 * rows)
    return float(3 / skewness * (np.cbrt(1 + skewness * shift) - 1))


def roc_auc(y: Labels, ranking: Doubles) -> Estimate:
    """Estimate the area under the ROC curve of labels 0 and 1, both of which occur.

    The interval is the fifth of R. G. Newcombe, "Confidence intervals for an effect size measure based on the
    Mann-Whitney statistic, part 2", Statistics in Medicine 2006: all areas whose distance from this one is at most
    1.96 of their own standard errors, which are not 0 even if all rows are in order.

    Args:
        y: 0 or 1 (N,), both of which occur.
        ranking: numbers that are the greater the more likely a row is of label 1 (N,).
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
