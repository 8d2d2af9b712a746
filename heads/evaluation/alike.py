"""Near-duplicates as groups: images whose features are alike, such as frames of one film, are kept together.

Two rows are alike if the cosine of their features, each standardised over all rows, is a similarity or more: the number
that ``featurestore report`` shows for its near-duplicates. Rows that are alike, and those that are alike to these, are
one group.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError
from featurestore.sources.splits import SPLITS
from heads.feature_table import FeatureTable, Floats, Labels
from heads.rows import StreamedRows
from heads.solvers.arrays import Scaling, check_streamed
from heads.solvers.moments import moments

_BLOCK = 2048
"""Rows that are compared with as many others at a time, which takes 16 MB and the features of both."""
_MOST = 0.5
"""A group of more than this share of the rows is no set of near-duplicates."""


@dataclass(frozen=True, eq=False)
class Alike:
    """What :func:`find_alike` found.

    Attributes:
        names: name of each row's group, str (N,); "" for a row that no other is alike to.
        notes: sentences on how many there are, and on groups that the splits divide.
    """

    names: NDArray[np.str_]
    notes: list[str]


@dataclass
class _Found:
    """The group of each row so far, groups that are one, and the most alike pair that splits divide."""

    group: Labels
    across: tuple[float, int, int] = (-1.0, 0, 0)
    edges: list[NDArray[np.intp]] = field(default_factory=list)


def grouped_by_likeness(
    table: FeatureTable, similarity: float | None, note: Callable[[str], None] | None = None
) -> FeatureTable:
    """Return a table whose near-duplicates are groups beside those of the source, see :func:`find_alike`.

    Args:
        table: the features.
        similarity: None leaves the table as it is.
        note: is called with each note.
    """
    return table if similarity is None else table.grouped_by(find_alike(table, similarity, note).names)


def find_alike(table: FeatureTable, similarity: float, note: Callable[[str], None] | None = None) -> Alike:
    """Find groups of near-duplicates among the rows of all splits. Nothing is fitted to or chosen by them.

    Each row is compared with each other, some thousand at a time: of 50,000 rows that takes a minute or two, and memory
    for a few blocks of them.

    Args:
        table: the features; numeric columns have no part.
        similarity: least cosine of the features of two rows that are alike, above 0 and below 1.
        note: is called with each note.

    Raises:
        HeadError: another similarity; NaN or infinity in the features; or most rows would be one group.

    Example:
        >>> from heads import load_features
        >>> from heads.evaluation.alike import find_alike
        >>> print(find_alike(load_features("digits.h5"), 0.97).notes[0])
        near-duplicates: ... rows are in ... groups at a similarity of 0.97, the largest has ...
    """
    if not 0 < similarity < 1:
        raise HeadError(f"--group-near-duplicates {similarity:g}: give a similarity above 0 and below 1, such as 0.8")
    images = table.images
    rows = images.stream(np.flatnonzero(np.isin(table.splits, SPLITS)))
    with table.named():
        check_streamed(rows)
        found = _pairs(rows, table.splits[rows.source], similarity)
    found.group = _merged(found)
    sizes = np.bincount(found.group, minlength=1)
    if len(rows) and sizes.max() > max(_MOST * len(rows), 2):
        raise HeadError(
            f"{table.path}: at a similarity of {similarity:g}, {sizes.max():,} of {len(rows):,} rows are one group: "
            "give --group-near-duplicates a greater one"
        )
    several = sizes[found.group] > 1
    names = np.full(len(table.y), "", f"U{len(str(len(table.y)))}")
    names[rows.source[several]] = found.group[several].astype(str)
    notes = [
        f"near-duplicates: {int(several.sum()):,} rows are in {int((sizes > 1).sum()):,} groups at a similarity of "
        f"{similarity:g}" + (f", the largest has {sizes.max():,} rows" if several.any() else "")
    ]
    notes += _divided(table, rows, found)
    if note is not None:
        for each in notes:
            note(each)
    return Alike(names, notes)


def _pairs(rows: StreamedRows, splits: NDArray[np.str_], similarity: float) -> _Found:
    found = _Found(np.arange(len(rows)))
    scaling = Scaling(*(each[0] for each in moments(rows, np.ones((1, len(rows)))))) if len(rows) else None
    for start, one in _unit(rows, scaling, 0):
        for place, other in _unit(rows, scaling, start):
            cosine = one @ other.T
            if place == start:
                cosine[np.tril_indices(len(one))] = -1
            first, second = np.nonzero(cosine >= similarity)
            if not len(first):
                continue
            values = cosine[first, second]
            found.edges.append(_forest(found.group, first + start, second + place))
            apart = np.flatnonzero(splits[first + start] != splits[second + place])
            if len(apart):
                best = apart[values[apart].argmax()]
                pair = (float(values[best]), int(first[best]) + start, int(second[best]) + place)
                found.across = max(found.across, pair, key=lambda each: each[0])
            if sum(map(len, found.edges)) > 2 * len(rows):
                found.group = _merged(found)
                found.edges.clear()
    return found


def _unit(rows: StreamedRows, scaling: Scaling | None, start: int) -> Iterator[tuple[int, Floats]]:
    """Yield blocks of rows from one on, standardised and of length 1, with the place of their first row."""
    for first in range(start, len(rows), _BLOCK):
        assert scaling is not None
        block = scaling.apply(rows[first : first + _BLOCK])
        block /= np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
        yield first, block


def _forest(group: Labels, first: Labels, second: Labels) -> NDArray[np.intp]:
    """Return pairs (n, 2) of groups that are one, each once: of a block there may be millions of pairs."""
    return np.unique(np.stack([group[first], group[second]], axis=1), axis=0)


def _merged(found: _Found) -> Labels:
    """Return the group of each row, numbered from 0, once the groups of its pairs are one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = np.concatenate([*found.edges, np.empty((0, 2), np.intp)])
    count = len(found.group)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    group: Labels = connected_components(graph, directed=False)[1][found.group]
    return group


def _divided(table: FeatureTable, rows: StreamedRows, found: _Found) -> list[str]:
    """Return a note about the groups whose rows stand in several splits; none if there are none."""
    cosine, *pair = found.across
    if cosine < 0:
        return []
    splits = np.unique(table.splits[rows.source], return_inverse=True)[1]
    both = np.unique(np.stack([found.group, splits], axis=1), axis=0)[:, 0]
    groups = int((np.bincount(both) > 1).sum())
    one, other = (f"{str(table.ids[row])!r} in {table.splits[row]}" for row in rows.source[pair])
    what = "1 group of near-duplicates stands" if groups == 1 else f"{groups:,} groups of near-duplicates stand"
    return [
        f"{what} in several splits as they are (first: {one}, {other}, similarity {cosine:.3f}): figures on held-out "
        "rows may be too good"
    ]
