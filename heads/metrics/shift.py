"""Whether rows are like those that a head was fitted on, by their classes and by the scores that the head gives them.

Test rows may come from another place than training rows: another hospital, camera or processing. A head then ranks them
well and yet parts them at the wrong place, and nothing in its accuracy says why. Here its scores of held-out training
rows are kept, in a few numbers for each class, and those of other rows are compared with them.
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
"""Log-odds beyond which a probability is 0 or 1 to rounding: those of all such rows are the same."""
_MOST_ROWS = 2**40
"""Of a class: far more than there are anywhere, and so that sums are exact."""
_FAR = 1e30
"""Beyond all scores."""
_CHANCE = 0.001
"""P-value above which a difference is not told."""
_BALANCE, _DISTANCE = 0.1, 0.2
"""Differences that matter: total variation between two balances of classes; distance between two distributions of
log-odds, the greatest difference of their shares below any value."""
_ONE_SIDED = 3.09
"""Standard errors that a share is lower by in one of a thousand cases, by chance."""
_FEW = 10
"""Held-out rows of a class below which nothing is said of its scores."""
_EXPECTED = 5.0
"""Rows of a class that are to be expected for the chi-square test; classes with fewer are counted as one."""
_NAMED = 3
"""Classes that a sentence names, at most."""


@dataclass(frozen=True, eq=False)
class Reference:
    """How a head scores rows that it was not fitted on, of the same place as those that it was fitted on.

    Attributes:
        counts: rows of each class (C,), int64.
        margins: quantiles 0, 1, … 100 % of the log-odds of the true class, natural logarithms, of the rows of each
            class: float32 (C, 101); NaN for a class without rows.
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
        """From out-of-fold scores, such as a temperature is fitted on.

        Args:
            scores: (N, K); the softmax of them, divided by the temperature, is what the head says.
            codes: the columns of the true classes (N,).
            temperature: see there.
            columns: the class of each column (K,), if the head does not know all classes.
            classes: how many there are then.
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
        """By name, to be saved."""
        return {"counts": self.counts, "margins": self.margins}

    @staticmethod
    def layout(classes: int) -> Layout:
        """Types and shapes of :meth:`to_arrays`."""
        return {"counts": (np.int64, (classes,)), "margins": (np.float32, (classes, len(_LEVELS)))}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> "Reference":
        """Inverse of :meth:`to_arrays`, from arrays of :meth:`layout`.

        Raises:
            ValueError: their numbers are not such.
        """
        counts, margins = arrays["counts"], arrays["margins"]
        known = margins[counts > 0]
        damaged = not np.isfinite(known).all() or (np.diff(known, axis=1) < 0).any() or (np.abs(known) > _LIMIT).any()
        if damaged or not len(known) or (counts < 0).any() or (counts > _MOST_ROWS).any():
            raise ValueError("a reference's counts or margins are damaged")
        return cls(counts, margins)


def differences(reference: Reference, outcomes: Outcomes, class_names: Sequence[str]) -> list[str]:
    """How rows differ from those that a head was fitted on, in sentences; none if they do not, or are too few to tell.

    Class balances are compared by the chi-square test, log-odds of the true class by that of Kolmogorov and Smirnov, of
    each class and of all together. What is said is beyond chance (p < 0.001, divided by the number of classes) and
    matters: 10 % of the rows are of another class than they would be, 20 % score lower.

    Args:
        reference: of the head.
        outcomes: of the rows, N > 0, by the head's probabilities, calibrated.
        class_names: of the C classes.
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
    """Probability of a greater value than this, to some percent of itself, which does without SciPy.

    (Wilson & Hilferty, "The distribution of chi-square", PNAS 1931.)
    """
    part = 2 / (9 * freedom)
    return math.erfc(((value / freedom) ** (1 / 3) - 1 + part) / math.sqrt(2 * part)) / 2


class _Compared(NamedTuple):
    """Log-odds of the true class of some rows, and of held-out training rows of the same balance.

    Attributes:
        distance: how much more of the rows here are below some value; 0 where that does not matter or may be chance.
        middle, middle_there: half of the rows have less; of several classes their mean.
        right, right_there: share of rows that give their class more than half of the probability.
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
    """Rows of some classes with held-out training rows of these.

    Only lower scores count, and only if more of the rows are wrong too (p < 0.001). The held-out rows were scored by
    heads that were fitted on fewer rows: such a head is mostly less certain than the final one, so that higher scores
    are to be expected; and of some kinds (discriminant analysis of fewer rows than features) it is more certain, and no
    better.
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
    """Each class that has rows, ascending, and the margins of these."""
    order = np.argsort(y, kind="stable")
    shown, first = np.unique(y[order], return_index=True)
    yield from zip(shown.tolist(), np.split(margins[order], first[1:]), strict=True)


def _score_margins(scores: NDArray[np.floating[Any]], codes: Labels) -> Floats:
    """Log-odds of the true class (N,), from scores (N, C)."""
    scores = np.asarray(scores, np.float64)
    own = np.arange(len(codes)), codes
    others = scores.copy()
    others[own] = -np.inf
    greatest = others.max(axis=1, initial=-_FAR)  # finite, where the head rules all others out
    with np.errstate(divide="ignore"):
        rest = greatest + np.log(np.exp(others - greatest[:, None]).sum(axis=1))
    return _tidy(scores[own] - rest)


def _margins(outcomes: Outcomes) -> Floats:
    """Log-odds of the true class (N,), exact also where its probability is 1 to rounding."""
    with np.errstate(divide="ignore"):
        return _tidy(np.log(outcomes.true) - np.log(outcomes.others))


def _tidy(margins: Doubles) -> Floats:
    """Rounded, so that those that are equal but for rounding count as ties: votes of neighbours have few values."""
    return np.round(np.clip(margins, -_LIMIT, _LIMIT), 3).astype(np.float32)


def _levels(quantiles: Floats, rows: int, values: Floats) -> Doubles:
    """Where values stand in a distribution, ascending: evenly between 0 and 1 if they are of it.

    Equal values are spread over their part of the distribution. (Rüschendorf, "On the distributional transform, Sklar's
    theorem, and the empirical copula process", Journal of Statistical Planning and Inference 2009.)

    Args:
        quantiles: float32 (101,) of the distribution, which are those of a sample.
        rows: of that sample.
        values: float32 (n,).
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
    """How much more of the levels are low than evenly spread ones; 0 where it does not matter, or may be chance.

    (The one-sided test of N. Smirnov, "Table for estimating the goodness of fit of empirical distributions", Annals of
    Mathematical Statistics 1948.)

    Args:
        levels: (n,).
        doubt: 1 / n, and what the distribution that they were taken from adds to it.
        chance: p-value above which it may be chance.
    """
    distance = float((np.arange(1, len(levels) + 1) / len(levels) - np.sort(levels)).max())
    return distance if distance > _DISTANCE and np.exp(-2 * distance**2 / doubt) < chance else 0.0


def best_threshold(y: Labels, proba: Doubles) -> dict[str, Any] | None:
    """Where two classes would best be parted on these very rows; None unless there are two, and rows of both.

    Args:
        y: true classes (N,), 0 or 1.
        proba: probabilities (N, 2).

    Returns:
        For ``accuracy`` and ``balanced_accuracy``: ``threshold`` (the probability of the second class from which on a
        row is of it), ``log_odds`` (the same, which tells thresholds near 1 apart), ``value`` of the metric there, and
        ``at_half``, its value at 0.5; and ``optimistic``, which is True: chosen on these rows, it is worth less on
        others.
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
