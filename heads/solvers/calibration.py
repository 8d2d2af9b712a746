"""Rows held out of a fit, and the temperature that their scores ask for."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Labels
from heads.metrics.outcomes import blocks
from heads.solvers.scores import log_loss, softmax

_FOLDS = 3
"""Folds of the out-of-fold scores that a temperature is fitted on."""
_ENOUGH = 1000
"""Scores that a temperature needs, at most."""
_SCORES = 2**26
"""Scores of rows held out that are kept of one head, at most: 256 MiB. Of a thousand classes, 67,000 rows; of 20,000,
3,355, whose accuracy is known to 0.9 % or better."""
_COLDEST, _STEPS, _PRECISE = 7.0, 60, 1e-7
"""Greatest size of a temperature's logarithm, most steps of the search for it, and the step that ends it."""


def stratified_folds(labels: Labels, folds: int, seed: int, groups: Labels | None = None) -> Labels:
    """The fold in which each row is held out (N,); each class is spread evenly over the folds.

    Rows of one group stand in one fold, so that no row is judged by a head that was fitted on another of its group. A
    fold never holds out all rows of a class: where that cannot be avoided, the rows get -1 and are never held out.

    Args:
        labels: classes (N,).
        folds: how many, at least 2.
        seed: of the order in which rows are dealt out.
        groups: number of each row's group (N,), such as its image or its person; by default each row is its own.
    """
    rng = np.random.default_rng(seed)
    codes = np.unique(labels, return_inverse=True)[1]
    groups = np.arange(len(codes)) if groups is None else np.unique(groups, return_inverse=True)[1]
    size, first = np.bincount(groups), rng.permutation(len(codes))
    held = np.zeros((int(codes.max(initial=-1)) + 1, folds), np.intp)
    numbers = np.empty(len(codes), np.intp)
    # Large groups first, as long as there is room to make up for them.
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
    used = np.unique(numbers[numbers >= 0])  # a fold may have lost all its rows
    return np.where(numbers < 0, -1, np.searchsorted(used, numbers))


def held_out_tenth(labels: Labels, seed: int, groups: Labels | None = None) -> NDArray[np.bool_]:
    """Whether each row (N,) is in the tenth that tells when to stop, and is not learnt from.

    Args:
        labels, seed, groups: see :func:`stratified_folds`.
    """
    return np.equal(stratified_folds(labels, 10, seed, groups), 0)


def temperature_folds(codes: Labels, seed: int, groups: Labels | None = None) -> Labels | None:
    """A fold for each row, to fit a temperature on out-of-fold scores; None if no row can be held out.

    Of many rows only one fold is held out, and the others get -1: a thousand scores are enough for one number.
    """
    many = len(codes) >= _FOLDS * _ENOUGH
    numbers = stratified_folds(codes, min(10, len(codes) // _ENOUGH) if many else _FOLDS, seed, groups)
    if many:
        numbers = np.where(numbers == 0, 0, -1)
    numbers = thinned(numbers, max(_ENOUGH, held_most(int(codes.max()) + 1) // 4), seed, groups)
    return numbers if numbers.max() >= 0 else None


def held_most(classes: int) -> int:
    """Rows held out whose scores fit in memory: more than anybody has, unless there are thousands of classes."""
    return max(_SCORES // classes, 1)


def thinned(numbers: Labels, most: int, seed: int, groups: Labels | None = None) -> Labels:
    """Folds (N,) in which no more than so many rows are held out, drawn by `seed`; the others get -1.

    Groups stay whole, and one is always left.
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
    """A temperature, and the log loss of held-out rows before and after.

    Attributes:
        temperature: by which scores are divided; 1 where any other made the log loss worse.
        before: log loss of the scores as they are.
        after: log loss with a temperature that was fitted on the other rows; `before` where none is applied.
    """

    temperature: float
    before: float
    after: float


def calibrate(scores: NDArray[np.floating[Any]], codes: Labels) -> Calibration:
    """The temperature for scores (N, C) of rows that were not fitted on, if one makes them better on other rows.

    That is judged by temperatures which are fitted on four fifths of the rows and used on the rest.
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
    """The number by which to divide scores (N, C) so that their softmax has the least cross-entropy to smoothed labels.

    One temperature: Guo et al., "On calibration of modern neural networks", ICML 2017. Smoothed labels: Platt,
    "Probabilistic outputs for support vector machines", 1999, with one doubtful row for all classes together, since
    they share the temperature: labels of N rows ask for the probability (N + 1) / (N + 2) of their class, and the rest
    is spread evenly. A few rows that are all right would else ask for certainty. The scores must be of rows that were
    not fitted on: heads give out-of-fold scores, so that no rows are lost to calibration.
    """
    rows, classes = scores.shape
    off = 1 / ((rows + 2) * (classes - 1))
    true = scores[np.arange(rows), codes].sum(dtype=np.float64)
    wanted = (off * scores.sum(dtype=np.float64) + ((rows + 1) / (rows + 2) - off) * true) / rows
    # Newton's method for the logarithm of 1 / temperature, in which the cross-entropy has one minimum; where it would
    # leave the bounds that are known, they are halved.
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
