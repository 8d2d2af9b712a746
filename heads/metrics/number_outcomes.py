"""Metrics of predicted numbers, each with its standard error and a 95 % interval, with NumPy alone.

Errors are skewed, and squares of errors more so: their intervals are those of :func:`heads.metrics.estimates.
skewed_mean`. For rows that belong together in groups each interval is wider by the root of the metric's design effect,
see :mod:`heads.metrics.clustered`. `docs/benchmarks.md` has the simulated coverage.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Labels
from heads.metrics.clustered import effect_of, widened
from heads.metrics.estimates import LEAST, NORMAL_95, Estimate, Interval, skewed_mean, student

Doubles = NDArray[np.float64]

_PAIRED = 1000
"""Rows of which all pairs are compared, at most: the correction that needs them is of the order of 3 / rows."""


class NumberOutcomes(NamedTuple):
    """The true numbers of rows, and the predicted ones.

    Attributes:
        y: the true numbers, float64 (N,).
        predicted: the predicted numbers, float64 (N,), in the unit of the true ones.
    """

    y: Doubles
    predicted: Doubles

    @classmethod
    def joined(cls, parts: Sequence["NumberOutcomes"]) -> "NumberOutcomes":
        """Put the rows of several outcomes one after the other."""
        return cls(np.concatenate([part.y for part in parts]), np.concatenate([part.predicted for part in parts]))

    def rows(self, some: NDArray[Any]) -> "NumberOutcomes":
        """Return the outcomes of some rows, by a mask or indices."""
        return NumberOutcomes(self.y[some], self.predicted[some])

    @property
    def residuals(self) -> Doubles:
        """The true numbers minus the predicted ones (N,)."""
        return np.asarray(self.y - self.predicted)


def estimates_of_numbers(outcomes: NumberOutcomes, groups: Labels | None = None) -> dict[str, Estimate]:
    """Estimate each metric of some rows, as scikit-learn and SciPy define it.

    Args:
        outcomes: of the rows, N > 0.
        groups: number of each row's group (N,); None where each row is its own.

    Returns:
        ``mae`` and ``rmse`` (in the unit of the numbers), ``r2`` where the true numbers differ, and ``spearman`` where
        the predicted ones do so too. Without intervals if there are fewer than ten rows, or ten groups, or if the
        errors are all of one size, so that nothing is known of their spread.

    Example:
        >>> import numpy as np
        >>> from heads.metrics.number_outcomes import NumberOutcomes, estimates_of_numbers
        >>> y = np.arange(20.0)
        >>> found = estimates_of_numbers(NumberOutcomes(y, y + np.tile([1.0, -2.0, 0.5, 0.0], 5)))
        >>> found["mae"].value, [round(end, 2) for end in found["mae"].interval]
        (0.875, [0.54, 1.26])
        >>> round(found["r2"].value, 3), [round(end, 3) for end in found["r2"].interval]
        (0.961, [0.909, 0.983])
    """
    y, predicted = (np.asarray(each, np.float64) for each in outcomes)
    errors = np.abs(y - predicted)
    found = {"mae": _mae(errors, groups), "rmse": _rmse(errors, groups)}
    varies = y.max() > y.min()
    if varies:
        found["r2"] = _r2(y, errors, groups)
    if varies and predicted.max() > predicted.min():
        found["spearman"] = _spearman(y, predicted, groups)
    return found


def conformal_quantile(residuals: Doubles, level: float = 0.9) -> float | None:
    """Return the half width of intervals around predictions that hold so large a share of new rows: split-conformal.

    The interval from the prediction minus this width to the prediction plus it holds the true number of a new row with
    at least the probability `level`, whatever the distribution, if the row is exchangeable with those of the residuals
    and none of them was fitted to. (V. Vovk, A. Gammerman & G. Shafer, "Algorithmic learning in a random world", 2005;
    J. Lei et al., "Distribution-free predictive inference for regression", Journal of the American Statistical
    Association 2018.)

    Args:
        residuals: true minus predicted numbers of held-out rows (n,); their signs do not matter.
        level: the probability, above 0 and below 1.

    Returns:
        The ⌈(n + 1) · level⌉-th smallest of the residuals' sizes; None if there are fewer than that: no width will do.

    Example:
        >>> import numpy as np
        >>> conformal_quantile(np.arange(1.0, 20.0), 0.9), conformal_quantile(np.arange(8.0), 0.9)
        (18.0, None)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be above 0 and below 1, not {level}")
    place = math.ceil((len(residuals) + 1) * level - 1e-9)  # 10 * 0.9 is not 9 to the last digit
    if place > len(residuals):
        return None
    return float(np.partition(np.abs(residuals), place - 1)[place - 1])


def _mae(errors: Doubles, groups: Labels | None) -> Estimate:
    found = skewed_mean(errors)
    if np.ptp(errors) == 0:
        return found._replace(interval=None)
    return widened(found, effect_of(errors - found.value, groups), share=False)


def _rmse(errors: Doubles, groups: Labels | None) -> Estimate:
    """Estimate the root of the mean square, by the interval of the mean square.

    With few rows that is a little narrow, even if errors are normal: so its ends are at least as far away as those of
    the logarithm of the mean square, by the delta method.
    """
    squares = errors**2
    mean = skewed_mean(squares)
    value = math.sqrt(mean.value)
    error = mean.error / 2 / value if value else 0.0
    if mean.interval is None or np.ptp(squares) == 0:
        return Estimate(value, error, None)
    effect = effect_of(squares - mean.value, groups)
    logarithmic = _logarithmic(mean.value, squares / mean.value - 1, effect)
    mean = widened(mean, effect, share=False)
    if logarithmic is None or mean.interval is None:
        return Estimate(value, error, None)
    low, high = min(logarithmic[0], mean.interval[0]), max(logarithmic[1], mean.interval[1])
    return Estimate(value, mean.error / 2 / value, (math.sqrt(low), math.sqrt(high)))


def _r2(y: Doubles, errors: Doubles, groups: Labels | None) -> Estimate:
    """Estimate the share of variance that is explained: 1 minus the ratio of two mean squares.

    The interval is that of the logarithm of this ratio, by the delta method: it is less skewed than the ratio, and its
    ends are never above 1.
    """
    squares, spread = errors**2, (y - y.mean()) ** 2
    ratio = float(squares.mean() / spread.mean())
    if ratio == 0 or len(y) < 2:
        return Estimate(1 - ratio, 0.0, None)
    influence = squares / squares.mean() - spread / spread.mean()
    effect = effect_of(influence, groups)
    error = ratio * float(influence.std(ddof=1)) / math.sqrt(len(y))
    interval = _logarithmic(ratio, influence, effect) if np.ptp(errors) > 0 else None
    if interval is not None:
        interval = 1 - interval[1], 1 - interval[0]
    return Estimate(1 - ratio, error * math.sqrt(effect) if math.isfinite(effect) else error, interval)


def _logarithmic(value: float, influence: Doubles, effect: float) -> Interval | None:
    """Return the interval of a positive number, by the delta method for its logarithm; None for too few rows or groups.

    Args:
        value: the number.
        influence: how much each row moves its logarithm (N,), 0 in the mean.
        effect: the design effect.
    """
    rows = len(influence)
    if rows < LEAST or not math.isfinite(effect):
        return None
    # The kurtosis of few rows, on which this spread rests, is too low (D. G. Bonett, "Approximate confidence interval
    # for standard deviation of nonnormal distributions", Computational Statistics & Data Analysis 2006).
    error = float(influence.std(ddof=1)) * math.sqrt((1 + 6 / rows) * effect / rows)
    far = math.exp(min(student(rows - 1) * error, 300.0))
    return value / far, value * far


def _spearman(y: Doubles, predicted: Doubles, groups: Labels | None) -> Estimate:
    """Estimate the correlation of ranks; equal numbers have the mean of their ranks.

    The interval is symmetric in Fisher's z. Its variance is that of D. G. Bonett & T. A. Wright, "Sample size
    requirements for estimating Pearson, Kendall and Spearman correlations", Psychometrika 2000, or of the delta method
    if that is greater. Its middle is the correlation without the bias that few rows give it, by Kendall's τ (M. G.
    Kendall, "Rank correlation methods", 1948). Where all rows are in order, z would be infinite: it is then that of
    ranks of which two neighbours stand the wrong way round.
    """
    rows = len(y)
    first, second = _Ranks.of(y), _Ranks.of(predicted)
    value = float(np.clip((first.standard * second.standard).mean(), -1, 1))
    if rows < LEAST:
        return Estimate(value, math.nan, None)
    most = 1 - max(12 / (rows * (rows**2 - 1)), 1e-12)
    middle = value + 3 * (value - _kendall(y, predicted)) / (rows - 2)
    middle = min(max(middle, -most), most)
    influence = _rank_influence(first, second)
    effect = effect_of(influence, groups)
    variance = float((influence**2).mean()) / (1 - middle**2) ** 2 / rows
    error = math.sqrt(max(variance, (1 + middle**2 / 2) / (rows - 3)))
    slope = 1 - middle**2  # of the correlation in z
    if not math.isfinite(effect):
        return Estimate(value, slope * error, None)
    error *= math.sqrt(effect)
    low, high = (math.tanh(math.atanh(middle) + side * NORMAL_95 * error) for side in (-1, 1))
    return Estimate(value, slope * error, (min(low, value), max(high, value)))


def _kendall(first: Doubles, second: Doubles) -> float:
    """Return Kendall's τ-a, the share of pairs of rows in one order minus that in two orders, of some of the rows."""
    some = np.linspace(0, len(first) - 1, min(len(first), _PAIRED)).astype(np.intp)
    signs = [np.sign(each[some, None] - each[some]).astype(np.int8) for each in (first, second)]
    return float(np.einsum("ij,ij->", *signs, dtype=np.int64)) / (len(some) * (len(some) - 1))


class _Ranks(NamedTuple):
    """The ranks of some numbers (N,), of which equal ones have the mean of their ranks.

    Attributes:
        place: the place of each row's number among those that differ (N,).
        deviation: the standard deviation of the ranks.
        standard: the ranks with mean 0 and standard deviation 1 (N,).
    """

    place: Labels
    deviation: float
    standard: Doubles

    @classmethod
    def of(cls, values: Doubles) -> "_Ranks":
        _, place, ties = np.unique(values, return_inverse=True, return_counts=True)
        ranks = (ties.cumsum() - (ties - 1) / 2)[place] - (len(values) + 1) / 2
        deviation = float(np.sqrt((ranks**2).mean()))
        return cls(place, deviation, ranks / deviation)

    def raised(self, summed: Doubles) -> Doubles:
        """Return how much one more row at the place of each moves the mean of ranks times other numbers (N,).

        It raises the ranks of all rows above it by one, and those of its equals by one half.
        """
        sums = np.bincount(self.place, summed)
        return np.asarray((sums[::-1].cumsum()[::-1] - sums / 2)[self.place] / self.deviation)


def _rank_influence(first: _Ranks, second: _Ranks) -> Doubles:
    """Return how much each row moves the correlation of ranks (N,), 0 in the mean."""
    a, b = first.standard, second.standard
    moved = a * b + first.raised(b) + second.raised(a)
    moved -= float((a * b).mean()) * ((a**2 + b**2) / 2 + first.raised(a) + second.raised(b))
    return np.asarray(moved - moved.mean())
