"""Folds of rows that are held out of fits, and the temperature that turns their scores into probabilities."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.sources.stratify import iterative_parts
from heads.feature_table import Labels
from heads.metrics.outcomes import blocks
from heads.rows import Codes
from heads.solvers.goals import width_of
from heads.solvers.scores import log_loss, softmax

TEMPERATURE_FOLDS = 3
"""The number of folds for the out-of-fold scores that a temperature is fitted to."""
_ENOUGH = 1000
"""A temperature needs no more rows than this."""
_SCORES = 2**26
"""The most out-of-fold scores of a head: 256 MiB. They are of 67,000 rows with a thousand classes, and of 3,355 rows
with 20,000, whose accuracy is known to 0.9 % or better."""
_COLDEST, _STEPS, _PRECISE = 7.0, 60, 1e-7
"""The largest absolute logarithm of a temperature, the most steps of its search, and the step size that ends it."""


def stratified_folds(labels: Codes, folds: int, seed: int, groups: Labels | None = None) -> Labels:
    """Return the fold in which each row is held out (N,); each class is spread evenly over the folds.

    Rows of one group are in one fold, so that no row is judged by a head that was fitted to another of its group. A
    fold never holds out all rows of a class: if that cannot be avoided, the rows get -1 and are never held out.
    Rows with several labels are divided by iterative stratification, and numbers by their size.

    Args:
        labels: classes (N,), or labels or numbers (N, K) as :mod:`heads.solvers.goals` describes them.
        folds: the number of folds, at least 2.
        seed: of the order in which rows are assigned to folds.
        groups: the number of each row's group (N,), such as its image or its person; by default each row is a group.
    """
    if labels.ndim == 2 and labels.dtype == np.int8:
        return iterative_parts((labels > 0).astype(np.uint8), np.full(folds, 1 / folds), groups, seed)
    labels = strata_of(labels)
    rng = np.random.default_rng(seed)
    codes = np.unique(labels, return_inverse=True)[1]
    groups = np.arange(len(codes)) if groups is None else np.unique(groups, return_inverse=True)[1]
    size, first = np.bincount(groups), rng.permutation(len(codes))
    held = np.zeros((int(codes.max(initial=-1)) + 1, folds), np.intp)
    numbers = np.empty(len(codes), np.intp)
    # Large groups come first, since smaller ones can balance the folds after them.
    shared = first[size[groups[first]] > 1]
    members, ends = np.argsort(groups, kind="stable"), size.cumsum()
    for group in sorted(dict.fromkeys(groups[shared].tolist()), key=lambda group: -size[group]):
        rows = members[ends[group] - size[group] : ends[group]]
        shown, counts = np.unique(codes[rows], return_counts=True)
        fold = int(np.argmin(counts @ held[shown]))
        numbers[rows] = fold
        held[shown, fold] += counts
    single = first[size[groups[first]] == 1]
    single = single[np.argsort(codes[single], kind="stable")]
    for code, alone in enumerate(np.split(single, np.bincount(codes[single], minlength=len(held)).cumsum()[:-1])):
        level = held[code] + np.arange(len(alone))[:, None]
        numbers[alone] = np.argsort(level, axis=None, kind="stable")[: len(alone)] % folds
        held[code] += np.bincount(numbers[alone], minlength=folds)
    whole = held.max(axis=1) == held.sum(axis=1)
    numbers[np.isin(groups, groups[whole[codes]])] = -1
    used = np.unique(numbers[numbers >= 0])  # a fold may have no rows left
    return np.where(numbers < 0, -1, np.searchsorted(used, numbers))


def strata_of(codes: Codes) -> Labels:
    """Return the stratum of each row (N,): its class, the rarest of its labels, or the tenth that its number is in."""
    if codes.ndim == 1:
        return codes
    if codes.dtype == np.int8:
        rank = np.argsort(np.argsort((codes > 0).sum(axis=0), kind="stable"))
        return np.asarray(np.where(codes > 0, rank, len(rank)).min(axis=1))
    numbers = codes[:, 0]
    return np.searchsorted(np.quantile(numbers, np.arange(1, 10) / 10), numbers, "right")


def held_out_tenth(labels: Codes, seed: int, groups: Labels | None = None) -> NDArray[np.bool_]:
    """Whether each row (N,) is in the tenth that tells when to stop, and is not learnt from.

    Args:
        labels, seed, groups: see :func:`stratified_folds`.
    """
    return np.equal(stratified_folds(labels, 10, seed, groups), 0)


def temperature_folds(codes: Codes, seed: int, groups: Labels | None = None) -> Labels | None:
    """Return a fold for each row (N,), to fit a temperature to out-of-fold scores; None if no row can be held out.

    Of many rows only one fold is held out, and the others get -1: a thousand rows are enough to fit one number; of
    labels, each of which has few rows, ten thousand.
    """
    enough = _ENOUGH if codes.ndim == 1 or codes.dtype != np.int8 else 10 * _ENOUGH
    many = len(codes) >= TEMPERATURE_FOLDS * enough
    numbers = stratified_folds(codes, min(10, len(codes) // enough) if many else TEMPERATURE_FOLDS, seed, groups)
    if many:
        numbers = np.where(numbers == 0, 0, -1)
    numbers = thinned(numbers, max(enough, held_most(width_of(codes)) // 4), seed, groups)
    return numbers if numbers.max() >= 0 else None


def held_most(classes: int) -> int:
    """Return the most rows whose out-of-fold scores fit in memory; the limit matters with thousands of classes."""
    return max(_SCORES // classes, 1)


def thinned(numbers: Labels, most: int, seed: int, groups: Labels | None = None) -> Labels:
    """Return folds (N,) that hold out at most so many rows, drawn by `seed`; the other rows get -1.

    Groups stay whole, and at least one group is held out.
    """
    held = np.flatnonzero(numbers >= 0)
    if len(held) <= most:
        return numbers
    owners = np.arange(len(held)) if groups is None else np.unique(groups[held], return_inverse=True)[1]
    rank = np.random.default_rng(seed).permutation(int(owners.max()) + 1)[owners]
    keep = max(1, np.sort(rank)[most])  # rank of the first group that is not held out
    kept = np.full_like(numbers, -1)
    kept[held[rank < keep]] = numbers[held[rank < keep]]
    used = np.unique(kept[kept >= 0])
    return np.where(kept < 0, -1, np.searchsorted(used, kept))


class Calibration(NamedTuple):
    """A temperature, and the log loss of held-out rows without and with it.

    Attributes:
        temperature: the number that scores are divided by; 1 if no other makes the log loss smaller.
        before: the log loss of the scores as they are.
        after: the log loss with temperatures that were fitted to other rows; `before` if the temperature is 1.
    """

    temperature: float
    before: float
    after: float


def calibrate(scores: NDArray[np.floating[Any]], codes: Labels) -> Calibration:
    """Fit a temperature to scores (N, C) of held-out rows, and keep it if it makes the log loss of other rows smaller.

    To test that, temperatures are fitted to four fifths of the rows and applied to the rest.

    Example:
        >>> import numpy as np
        >>> from heads.solvers.calibration import calibrate
        >>> codes = np.arange(1000) % 2
        >>> scores = np.where(np.arange(1000) % 5 > 0, 9.0, -9.0)[:, None] * np.eye(2)[codes]  # 80 % are right
        >>> found = calibrate(scores, codes)
        >>> round(9 / found.temperature, 1)  # the log-odds of 80 %
        1.4
        >>> found.after < found.before
        True
    """
    order = np.random.default_rng(0).permutation(len(codes))
    total = 0.0
    for part in np.array_split(order, min(5, len(codes))):
        rest = np.setdiff1d(order, part)
        temperature = fit_temperature(scores[rest], codes[rest]) if len(rest) else 1.0
        total += log_loss(scores[part], codes[part], temperature) * len(part)
    before, after = log_loss(scores, codes), total / len(codes)
    if after < before:
        return Calibration(fit_temperature(scores, codes), before, after)
    return Calibration(1.0, before, before)


def fit_temperature(scores: NDArray[np.floating[Any]], codes: Labels) -> float:
    """Return the temperature by which scores (N, C) of held-out rows become the best probabilities.

    It is the divisor whose softmax has the least cross-entropy to smoothed labels. One temperature for all classes is
    from Guo et al., "On calibration of modern neural networks", ICML 2017; smoothed labels are from Platt,
    "Probabilistic outputs for support vector machines", 1999, here with one uncertain row for all classes together,
    since they share the temperature: the target probability of the true class is (N + 1) / (N + 2) for N rows, and the
    rest is spread evenly. Otherwise a few rows that are all right would lead to probabilities of 1. The scores must be
    of rows that the head was not fitted to: with out-of-fold scores, all rows are still used for the fit.
    """
    rows, classes = scores.shape
    off = 1 / ((rows + 2) * (classes - 1))
    true = scores[np.arange(rows), codes].sum(dtype=np.float64)
    wanted = (off * scores.sum(dtype=np.float64) + ((rows + 1) / (rows + 2) - off) * true) / rows
    # Newton's method for the logarithm of 1 / temperature, in which the cross-entropy has one minimum. A step that
    # would leave the known bounds is replaced by a bisection of them.
    low, high, at = -_COLDEST, _COLDEST, 0.0
    for _ in range(_STEPS):
        expected, squares = np.empty(rows), 0.0
        for part in blocks(rows, classes):
            proba = softmax(scores[part] * np.exp(at))
            expected[part] = np.einsum("nc,nc->n", proba, scores[part])
            squares += np.einsum("nc,nc,nc->", proba, scores[part], scores[part])
        missing = wanted - expected.mean()
        low, high = (at, high) if missing > 0 else (low, at)
        slope = np.exp(at) * (squares / rows - np.square(expected).mean())
        step = missing / slope if slope > 0 else np.inf
        if not low < at + step < high:
            step = (low + high) / 2 - at
        at += step
        if abs(step) < _PRECISE:
            break
    return float(np.exp(-at))
