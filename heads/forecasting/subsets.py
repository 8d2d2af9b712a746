"""Subsets of training rows for a learning curve: each holds the smaller ones, and has the classes in their shares."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Labels

_WIDEST = 64
"""The smallest size is at least one part of so many of the greatest: far below, a power law is another one."""
_FEWEST = 10
_STEP = 2**0.5
"""Sizes grow by this factor or more."""
_EACH = 2
"""Groups of each class that the smallest subset has, so that folds of it can hold one out."""


class Nested(NamedTuple):
    """Subsets of rows, each within the next.

    Attributes:
        size: the number of rows of the smallest subset that holds each row (N,).
        fewest: the number of rows of the smallest subset in which each class has two groups, if it has as many.
    """

    size: Labels
    fewest: int

    def mask(self, rows: int) -> NDArray[np.bool_]:
        """Return which rows are in the largest subset of at most so many rows, but in the smallest one at least."""
        sizes = np.unique(self.size)
        fitting = sizes[sizes <= rows]
        return np.asarray(self.size <= (fitting[-1] if len(fitting) else sizes[0]))


def nested(y: Labels, groups: Labels, seed: int) -> Nested:
    """Order rows so that each beginning of the order is a stratified subset, in which groups are whole.

    Args:
        y: classes (N,).
        groups: number of each row's group (N,).
        seed: of the order.

    Example:
        >>> import numpy as np
        >>> found = nested(np.array([0, 0, 0, 0, 1, 1]), np.arange(6), seed=0)
        >>> found.fewest, np.bincount(np.array([0, 0, 0, 0, 1, 1])[found.mask(4)]).tolist()
        (4, [2, 2])
    """
    groups = np.unique(groups, return_inverse=True)[1]
    rank = np.random.default_rng(seed).permutation(int(groups.max()) + 1)
    pairs = np.unique(np.stack([y, rank[groups]], axis=1), axis=0)  # a class and the rank of one of its groups
    count = np.bincount(pairs[:, 0])
    place = np.arange(len(pairs)) - (count.cumsum() - count)[pairs[:, 0]]
    # Each class has its first two groups before any has a third; from there on, all grow in step.
    key = np.where(place < _EACH, place - float(_EACH), (place + 0.5) / count[pairs[:, 0]])
    first = np.full(len(rank), np.inf)
    np.minimum.at(first, pairs[:, 1], key)
    order = np.argsort(first, kind="stable")  # ranks, and so groups, in the order in which they are taken
    rows = np.bincount(rank[groups])[order].cumsum()
    size = np.empty(len(rank), np.intp)
    size[order] = rows
    return Nested(size[rank[groups]], int(rows[(first < 0).sum() - 1]))


def sizes_of(fewest: int, most: int, steps: int) -> list[int]:
    """Return sizes at equal steps of their logarithm, at most so many, from `fewest` or a 64th of `most` on."""
    low = min(max(fewest, _FEWEST, most // _WIDEST), most)
    number = min(steps, 1 + int(np.log(most / low) / np.log(_STEP)))
    return np.unique(np.round(np.geomspace(low, most, number)).astype(int)).tolist() if number > 1 else [most]


def shots_of(y: Labels, groups: Labels, seed: int) -> Labels:
    """Return the place of each row among those of its class (N,): the first k places are a training set of k shots.

    Another group comes before a second row of the same group.

    Args:
        y, groups, seed: see :func:`nested`.
    """
    rng = np.random.default_rng(seed)
    groups = np.unique(groups, return_inverse=True)[1]
    shuffled = rng.permutation(len(y))
    turn = np.empty(len(y), np.intp)
    turn[shuffled] = _places(np.stack([y, groups], axis=1)[shuffled])
    order = np.lexsort((rng.permutation(len(y)), turn))
    found = np.empty(len(y), np.intp)
    found[order] = _places(y[order, None])
    return found


def _places(keys: NDArray[np.intp]) -> Labels:
    """Return how many rows before each have the same keys (N, K)."""
    number = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(number, kind="stable")
    count = np.bincount(number)
    found = np.empty(len(number), np.intp)
    found[order] = np.arange(len(number)) - (count.cumsum() - count)[number[order]]
    return found
