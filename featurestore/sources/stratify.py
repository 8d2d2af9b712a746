"""Parts of rows that have several labels each, in which every label is as frequent as in the whole.

Where a row has one label, each label's rows are divided by themselves. Where it has several, one row serves several
labels at once, and rare labels have to be placed first: "iterative stratification" (K. Sechidis, G. Tsoumakas & I.
Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Parts = NDArray[np.intp]


def iterative_parts(
    labels: NDArray[np.integer[Any]],
    shares: Sequence[float] | NDArray[np.float64],
    groups: NDArray[np.integer[Any]] | None = None,
    seed: int = 0,
    placed: NDArray[np.integer[Any]] | None = None,
) -> Parts:
    """Divide rows into parts, so that the share of each part in the rows of each label is that in all rows.

    The label with the fewest rows that are not yet placed comes first; each of its rows goes to the part that lacks
    most of that label, of equal ones to the part that lacks most rows. A part that has all its rows gets no more, which
    the authors do not ask for: so parts have the sizes that the shares say, and rows without labels, which come last,
    are not needed to repair them.

    Rows of a group count as one row with the sum of their labels, and the largest groups of a label come first.

    Args:
        labels: uint8 (N, L), 1 where a row has a label.
        shares: of each part in all rows (K,); they sum to 1.
        groups: number of each row's group (N,), whose rows are in one part; None where each row is its own.
        seed: of the order of equal rows.
        placed: the part of each row that has one already (N,), and -1 for all others; None if none has. A group with
            such rows goes where most of them are.

    Returns:
        The part of each row (N,). Without groups, each part has its share of the rows to less than one row, unless
        `placed` says otherwise; with groups, it has at most as many more as its last group.

    Raises:
        ValueError: the shares are not a division, or the arrays do not fit each other.

    Example:
        >>> import numpy as np
        >>> from featurestore.sources.stratify import iterative_parts
        >>> labels = np.zeros((100, 2), np.uint8)
        >>> labels[:40, 0] = labels[30:50, 1] = 1
        >>> parts = iterative_parts(labels, [0.7, 0.3], seed=1)
        >>> [labels[parts == part].sum(axis=0).tolist() for part in (0, 1)]
        [[28, 14], [12, 6]]
    """
    labels, shares = np.asarray(labels), np.asarray(shares, np.float64)
    if shares.ndim != 1 or (shares < 0).any() or not np.isclose(shares.sum(), 1):
        raise ValueError(f"shares must be numbers from 0 that sum to 1, not {shares.tolist()}")
    if labels.ndim != 2 or any(each is not None and len(each) != len(labels) for each in (groups, placed)):
        raise ValueError("labels must be (N, L), groups and placed (N,)")
    if not len(labels):
        return np.zeros(0, np.intp)
    unit = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    units = int(unit.max()) + 1
    sizes = np.bincount(unit)
    counts = np.zeros((units, labels.shape[1]), np.int64)
    np.add.at(counts, unit, labels)
    return _parts_of_units(counts, sizes, shares, _fixed(unit, units, placed, len(shares)), seed)[unit]


def _fixed(unit: Parts, units: int, placed: NDArray[np.integer[Any]] | None, parts: int) -> Parts:
    """Return the part in which most placed rows of each unit are (U,), the last of equal ones; -1 for none."""
    fixed = np.full(units, -1)
    if placed is not None:
        there = np.asarray(placed) >= 0
        rows = np.bincount(unit[there] * parts + placed[there], minlength=units * parts).reshape(units, parts)
        known = rows.any(axis=1)
        fixed[known] = parts - 1 - rows[known, ::-1].argmax(axis=1)
    return fixed


def _goals(rows: int, shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Divide rows by the method of largest remainders (K,)."""
    exact = rows * shares
    goals = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(goals - exact, kind="stable")
    goals[order[: rows - int(goals.sum())]] += 1
    return goals


def _parts_of_units(
    counts: NDArray[np.int64], sizes: NDArray[np.int64], shares: NDArray[np.float64], fixed: Parts, seed: int
) -> Parts:
    """Place units of rows, one after the other: plain lists, since NumPy would be called a million times.

    Args:
        counts: the rows of each label in each unit (U, L).
        sizes: the rows of each unit (U,).
        shares: of each part (K,).
        fixed: the part of units that have one (U,), -1 for the others.
        seed: of the order of equal units.
    """
    part = fixed.copy()
    known = np.flatnonzero(fixed >= 0)
    here = np.eye(len(shares), dtype=np.int64)[fixed[known]]  # one-hot (n, K)
    lacking: list[list[float]] = (np.outer(counts.sum(axis=0), shares) - counts[known].T @ here).tolist()
    room: list[int] = (_goals(int(sizes.sum()), shares) - sizes[known] @ here).tolist()
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    unit, label = np.nonzero(counts)
    having = np.split(label, np.searchsorted(unit, np.arange(1, len(sizes))))
    rest = counts[fixed < 0].sum(axis=0)
    parts = range(len(shares))
    while rest.any():
        rarest = int(np.where(rest > 0, rest, np.iinfo(np.int64).max).argmin())
        lack = lacking[rarest]
        for each in order[(part[order] < 0) & (counts[order, rarest] > 0)].tolist():
            best = max(parts, key=lambda k: (room[k] > 0, lack[k], room[k]))
            part[each] = best
            room[best] -= int(sizes[each])
            for j in having[each].tolist():
                lacking[j][best] -= int(counts[each, j])
            rest -= counts[each]
    for each in order[part[order] < 0].tolist():
        best = max(parts, key=room.__getitem__)
        part[each] = best
        room[best] -= int(sizes[each])
    return part
