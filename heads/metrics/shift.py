"""Dataset shift: a comparison of rows with training rows, by their classes and by the scores that a head gives them.

Test rows may come from another hospital, camera or processing than training rows. A head may then rank them well and
yet separate the classes at the wrong threshold, and its accuracy does not say why. So the scores of held-out training
rows are kept with the head, in a few numbers for each class, and those of other rows are compared with them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.system.tensors import Layout
from heads.feature_table import Floats, Labels
from heads.metrics.estimates import log_odds
from heads.metrics.outcomes import Outcomes, blocks

Doubles = NDArray[np.float64]

_LEVELS = np.linspace(0, 1, 101)
_LIMIT = 700.0
"""Log-odds are clipped to this size, at which a probability is 0 or 1 to rounding."""
_MOST_ROWS = 2**40
"""The most rows of a class in a file: far more than any data set has, and few enough that sums are exact."""
_FAR = 1e30
"""A number that is greater than all scores."""
_CHANCE = 0.001
"""A difference with a greater p-value is not reported."""
_BALANCE, _DISTANCE = 0.1, 0.2
"""Smaller differences do not matter: the total variation between two class balances, and the distance between two
distributions of log-odds, which is the greatest difference of their distribution functions."""
_ONE_SIDED = 3.09
"""By chance, a share is lower by so many standard errors in one of a thousand cases."""
_FEW = 10
"""The scores of a class with fewer held-out rows are not compared."""
_EXPECTED = 5.0
"""The chi-square test counts classes for which fewer rows are expected as one class."""
_NAMED = 3
"""A sentence names so many classes at most."""


@dataclass(frozen=True, eq=False)
class Reference:
    """The distribution of a head's scores on training rows that were held out.

    Attributes:
        counts: the number of rows of each class, int64 (C,).
        margins: for each class, the quantiles 0, 1, … 100 % of the log-odds of the true class (natural logarithms) over
            its rows: float32 (C, 101); NaN for a class without rows.
    """

    counts: NDArray[np.int64]
    margins: Floats

    @classmethod
    def of(
        cls,
        scores: NDArray[np.floating[Any]],
        codes: Labels,
        temperature: float = 1.0,
        columns: Labels | None = None,
        classes: int = 0,
    ) -> "Reference":
        """Compute the distribution from out-of-fold scores.

        Args:
            scores: scores (N, K); their softmax, after division by the temperature, gives the probabilities.
            codes: the column of the true class of each row (N,).
            temperature: the number that scores are divided by.
            columns: the class of each column (K,), if some classes have none.
            classes: the number of classes in that case.
        """
        margins = np.concatenate(
            [_score_margins(scores[part] / temperature, codes[part]) for part in blocks(*scores.shape)]
        )
        if columns is not None:
            codes = columns[codes]
        counts = np.bincount(codes, minlength=classes or scores.shape[1]).astype(np.int64)
        found = np.full((len(counts), len(_LEVELS)), np.nan, np.float32)
        for code, values in _by_class(codes, margins):
            found[code] = np.quantile(values, _LEVELS)
        return cls(counts, found)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, to be saved."""
        return {"counts": self.counts, "margins": self.margins}

    @staticmethod
    def layout(classes: int) -> Layout:
        """Return the types and shapes of the arrays that :meth:`to_arrays` returns."""
        return {"counts": (np.int64, (classes,)), "margins": (np.float32, (classes, len(_LEVELS)))}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> "Reference":
        """Read arrays that :meth:`to_arrays` returned, and that have the form of :meth:`layout`.

        Raises:
            ValueError: their numbers are impossible.
        """
        counts, margins = arrays["counts"], arrays["margins"]
        known = margins[counts > 0]
        damaged = not np.isfinite(known).all() or (np.diff(known, axis=1) < 0).any() or (np.abs(known) > _LIMIT).any()
        if damaged or not len(known) or (counts < 0).any() or (counts > _MOST_ROWS).any():
            raise ValueError("a reference's counts or margins are damaged")
        return cls(counts, margins)


def differences(reference: Reference, outcomes: Outcomes, class_names: Sequence[str]) -> list[str]:
    """Describe in sentences how rows differ from training rows; none if they do not, or are too few to tell.

    Class balances are compared by the chi-square test, and the log-odds of the true class by the test of Kolmogorov and
    Smirnov, for each class and for all together. A difference is reported if it is significant (p < 0.001, divided by
    the number of classes) and matters: 10 % of the rows would have to change their class, or 20 % score lower.

    Args:
        reference: the distribution of the head's scores on held-out training rows.
        outcomes: the outcomes of the rows, N > 0, from calibrated probabilities.
        class_names: the names of the C classes.
    """
    return [*_balance(reference.counts, outcomes.y, class_names), *_scores(reference, outcomes, class_names)]


def _balance(counts: NDArray[np.int64], y: Labels, class_names: Sequence[str]) -> list[str]:
    here = np.bincount(y, minlength=len(counts))
    there_share, share = counts / counts.sum(), here / len(y)
    if np.abs(there_share - share).sum() / 2 <= _BALANCE:  # total variation
        return []
    pooled = (counts + here) / (counts.sum() + len(y))
    small = pooled * min(len(y), int(counts.sum())) < _EXPECTED
    table = np.stack([counts, here]).astype(np.float64)
    table = np.column_stack([table[:, ~small], table[:, small].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    freedom = table.shape[1] - 1
    if not freedom or _chi_square(freedom, float(((table - expected) ** 2 / expected).sum())) >= _CHANCE:
        return []
    largest = np.argsort(-np.abs(share - there_share), kind="stable")[:_NAMED].tolist()
    named = "; ".join(f"{class_names[i]} {share[i]:.0%} of these rows, {there_share[i]:.0%} there" for i in largest)
    return [
        f"The classes are not as frequent as among the training rows ({named}). Precision, accuracy and the best "
        "threshold depend on that balance."
    ]


def _chi_square(freedom: int, value: float) -> float:
    """Return the p-value of a chi-square statistic, to a relative error of some percent, without SciPy.

    (Wilson & Hilferty, "The distribution of chi-square", PNAS 1931.)
    """
    part = 2 / (9 * freedom)
    return math.erfc(((value / freedom) ** (1 / 3) - 1 + part) / math.sqrt(2 * part)) / 2


class _Compared(NamedTuple):
    """A comparison of the log-odds of the true class of some rows with those of held-out training rows.

    Attributes:
        distance: the greatest amount by which more of these rows are below some value; 0 if that does not matter or may
            be chance.
        middle, middle_there: the median of these rows, and of the training rows; of several classes, its mean.
        right, right_there: the share of rows that give their class more than half of the probability, here and among
            training rows of the same class balance.
    """

    distance: float
    middle: float
    middle_there: float
    right: float
    right_there: float


def _scores(reference: Reference, outcomes: Outcomes, class_names: Sequence[str]) -> list[str]:
    enough = reference.counts >= _FEW
    margins = {k: found for k, found in _by_class(outcomes.y, _margins(outcomes)) if enough[k]}
    known = list(margins)
    if not known:
        return []
    alone = {k: _compare(reference, {k: margins[k]}, _CHANCE / len(known)) for k in known}
    every = _compare(reference, margins, _CHANCE)
    told = sorted((k for k in known if alone[k].distance), key=lambda k: -alone[k].distance)
    if not told and not every.distance:
        return []
    named = [(f"Rows of class {class_names[k]}", alone[k]) for k in told[:_NAMED]]
    two = len(reference.counts) == 2
    verb = "are right" if two else "give it more than half of the probability"
    sentences = [
        f"{whose} score lower than training rows that were held out: half of them have log-odds of their class below "
        f"{found.middle:.1f}, there below {found.middle_there:.1f}; {found.right:.0%} of them {verb}, there "
        f"{found.right_there:.0%}."
        for whose, found in named or [("The rows of all classes together", every)]
    ]
    if len(told) > _NAMED:
        sentences.append(f"So do rows of {len(told) - _NAMED} more of the classes.")
    what = "the accuracy is" if two else "the share of rows that give their class that much is"
    return [
        *sentences,
        f"These images may come from another place (camera, hospital, processing): {what} {every.right:.3f} here, and "
        f"{every.right_there:.3f} on held-out training rows of the same balance.",
    ]


def _compare(reference: Reference, margins: dict[int, Floats], chance: float) -> _Compared:
    """Compare rows of some classes with held-out training rows of the same classes.

    Only lower scores count, and only if more of the rows are wrong too (p < 0.001). The held-out rows were scored by
    heads that were fitted to fewer rows. Such a head is mostly less certain than the final one, so that higher scores
    are expected; but some (discriminant analysis of fewer rows than features) are more certain without being better.
    """
    known = list(margins)
    rows, counts = np.array([len(values) for values in margins.values()]), reference.counts[known]
    weights = rows / rows.sum()
    doubt = float((weights**2 * (1 / rows + 1 / counts)).sum())  # both sides are samples
    quantiles = reference.margins[known]
    right = float(weights @ [(values > 0).mean() for values in margins.values()])
    there = float(weights @ [1 - np.interp(0, each, _LEVELS) for each in quantiles])
    levels = [_levels(q, int(n), v) for q, n, v in zip(quantiles, counts, margins.values(), strict=True)]
    both = (right * (doubt - 1 / rows.sum()) + there / rows.sum()) / doubt  # in all rows, here and there
    wrong = there - right > _ONE_SIDED * np.sqrt(both * (1 - both) * doubt)
    return _Compared(
        _distance(np.concatenate(levels), doubt, chance) if wrong else 0.0,
        float(weights @ [np.median(values) for values in margins.values()]),
        float(weights @ quantiles[:, len(_LEVELS) // 2]),
        right,
        there,
    )


def _by_class(y: Labels, margins: Floats) -> Iterator[tuple[int, Floats]]:
    """Yield each class that has rows, ascending, with the margins of its rows."""
    order = np.argsort(y, kind="stable")
    shown, first = np.unique(y[order], return_index=True)
    yield from zip(shown.tolist(), np.split(margins[order], first[1:]), strict=True)


def _score_margins(scores: NDArray[np.floating[Any]], codes: Labels) -> Floats:
    """Return the log-odds of the true class (N,), from scores (N, C)."""
    scores = np.asarray(scores, np.float64)
    own = np.arange(len(codes)), codes
    others = scores.copy()
    others[own] = -np.inf
    greatest = others.max(axis=1, initial=-_FAR)  # finite even if all other classes have minus infinity
    with np.errstate(divide="ignore"):
        rest = greatest + np.log(np.exp(others - greatest[:, None]).sum(axis=1))
    return _tidy(scores[own] - rest)


def _margins(outcomes: Outcomes) -> Floats:
    """Return the log-odds of the true class (N,), which are exact even if its probability is 1 to rounding."""
    with np.errstate(divide="ignore"):
        return _tidy(np.log(outcomes.true) - np.log(outcomes.others))


def _tidy(margins: Doubles) -> Floats:
    """Clip and round margins, so that values that differ by rounding errors are ties: votes have few values."""
    return np.round(np.clip(margins, -_LIMIT, _LIMIT), 3).astype(np.float32)


def _levels(quantiles: Floats, rows: int, values: Floats) -> Doubles:
    """Return the levels of values in a distribution, ascending: uniform between 0 and 1 if they are drawn from it.

    Equal values are spread over their part of the distribution. (Rüschendorf, "On the distributional transform, Sklar's
    theorem, and the empirical copula process", Journal of Statistical Planning and Inference 2009.)

    Args:
        quantiles: the quantiles of a sample of the distribution, float32 (101,).
        rows: the size of that sample.
        values: the values, float32 (n,).
    """
    # The least of a sample stands at 1 / (rows + 1) of what it was drawn from, on average.
    levels = (_LEVELS * (rows - 1) + 1) / (rows + 1)
    unique, counts = np.unique(values, return_counts=True)
    first, last = np.searchsorted(quantiles, unique, "left"), np.searchsorted(quantiles, unique, "right")
    between = np.interp(unique, quantiles, levels, left=levels[0] / 2, right=1 - levels[0] / 2)
    low = np.where(first < last, np.append(levels, 1)[first], between)
    high = np.where(first < last, levels[last - 1], between)
    place = np.arange(len(values)) - np.repeat(counts.cumsum() - counts, counts) + 0.5
    return np.asarray(np.repeat(low, counts) + np.repeat(high - low, counts) * place / np.repeat(counts, counts))


def _distance(levels: Doubles, doubt: float, chance: float) -> float:
    """Return how far the levels lie below uniform ones; 0 if the distance does not matter, or may be chance.

    (The one-sided test of N. Smirnov, "Table for estimating the goodness of fit of empirical distributions", Annals of
    Mathematical Statistics 1948.)

    Args:
        levels: the levels (n,).
        doubt: 1 / n, plus the same of the sample that the distribution is known from.
        chance: the p-value above which the distance may be chance.
    """
    distance = float((np.arange(1, len(levels) + 1) / len(levels) - np.sort(levels)).max())
    return distance if distance > _DISTANCE and np.exp(-2 * distance**2 / doubt) < chance else 0.0


def best_threshold(y: Labels, proba: Doubles) -> dict[str, Any] | None:
    """Find the threshold between two classes that is best on these very rows; None unless both classes have rows.

    Args:
        y: true classes (N,), 0 or 1.
        proba: probabilities (N, 2).

    Returns:
        For ``accuracy`` and ``balanced_accuracy``: ``threshold`` (a row with at least this probability of the second
        class is assigned to it), ``log_odds`` (the same threshold, in natural logarithms), ``value`` of the metric at
        the threshold, and ``at_half``, its value at 0.5; and ``optimistic``, which is True, since the threshold was
        chosen on these rows and the metric will be lower on others.
    """
    if proba.shape[1] != 2 or not 0 < y.sum() < len(y):
        return None
    odds = np.round(np.clip(log_odds(proba), -_LIMIT, _LIMIT), 9)  # rows that are equal but for rounding stay together
    unique = np.unique(odds)
    cuts = np.concatenate([[-_LIMIT], (unique[1:] + unique[:-1]) / 2, [_LIMIT]])
    negative, positive = len(y) - int(y.sum()), int(y.sum())
    half = proba[:, 1] <= proba[:, 0]
    below, lost = (
        np.append(np.searchsorted(np.sort(odds[y == label]), cuts, "right"), half[y == label].sum()) for label in (0, 1)
    )
    above = positive - lost
    found: dict[str, Any] = {}
    for name, values in (
        ("accuracy", (below + above) / len(y)),
        ("balanced_accuracy", (below / negative + above / positive) / 2),
    ):
        best = np.flatnonzero(values[:-1] == values[:-1].max())
        cut = float(cuts[best[np.abs(cuts[best]).argmin()]])
        found[name] = {
            "threshold": float(1 / (1 + np.exp(-cut))), "log_odds": cut, "value": float(values[:-1].max()),
            "at_half": float(values[-1]),
        }  # fmt: skip
    return found | {"optimistic": True}
