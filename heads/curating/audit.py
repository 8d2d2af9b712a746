"""Audit a data set by its features: near-duplicates, labels that neighbours contradict, and a map."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.system.results import Result
from heads.curating.likeness import Likeness
from heads.feature_table import Features, FeatureTable, Labels

Doubles = NDArray[np.float64]

LARGEST = 10_000
"""Rows that a report compares with each other; of larger files, those with the least digests."""

MAPPED = 2_000
"""Rows of these that the map shows."""

NEIGHBOURS = 10

_VALUES = 2**27
"""Features of the rows that a report compares, at most."""
_SMALL = 100
"""Rows or features up to which all principal axes are computed, to take the first two."""
_ALIKE, _NEARER, _SAME = 0.8, 0.5, 0.98
"""Two images are near-duplicates if the cosine of their standardised features is `_ALIKE`, and their distance
(1 - cosine) at most `_NEARER` of that of either's tenth neighbour; or if the cosine is `_SAME`. Of copies of 60 among
500 flowers this found all that were mirrored, brightened or a little cropped, 9 of 10 that were recompressed, and
nothing else but two photographs of one series."""
_DOUBT = 0.7
"""Share of its neighbours that must be of one other class for a label to be suspect."""


@dataclass(frozen=True, repr=False, eq=False)
class Audit(Result):
    """What rows of features show of each other. Rows are indices in the table.

    Attributes:
        rows: those that were compared, int (n,).
        alike: pairs of near-duplicates and their similarity, the most alike first.
        suspects: rows that lie among rows of one other class: row, that class, its share of the neighbours; the most
            doubtful first.
        plane: the first rows of `rows` on their first two principal axes, float64 (m, 2).
        explained: share of the variance that these axes show.
    """

    rows: Labels
    alike: list[tuple[int, int, float]]
    suspects: list[tuple[int, int, float]]
    plane: Doubles
    explained: float


def audit(table: FeatureTable) -> Audit:
    """Compare rows of all splits by the cosine of their standardised features. Nothing is fitted to or chosen by them.

    A label is suspect if most of the row's nearest neighbours are of one other class. (D. L. Wilson, "Asymptotic
    properties of nearest neighbor rules using edited data", IEEE Transactions on Systems, Man, and Cybernetics 1972.)

    Raises:
        HeadError: NaN or infinity in the features.
    """
    most = min(LARGEST, _VALUES // max(1, table.images.columns))
    rows = np.argsort(table.digests, kind="stable")[:most]
    likeness = Likeness(table, rows)
    plane, explained = principal_plane(likeness.take(np.arange(min(len(rows), MAPPED))))
    near, cosine = likeness.nearest(NEIGHBOURS)
    return Audit(
        rows,
        [(int(rows[i]), int(rows[j]), s) for i, j, s in near_duplicates(near, cosine)],
        [(int(rows[i]), label, share) for i, label, share in suspects(table.y[rows].astype(np.intp), near)],
        plane,
        explained,
    )


def near_duplicates(near: Labels, cosine: Doubles) -> list[tuple[int, int, float]]:
    """Find pairs of rows that are much nearer to each other than to others; the most alike first, with their cosine.

    (After the ratio test of Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004.)

    Args:
        near: rows nearest to each row (N, k), the nearest first.
        cosine: of each with its row (N, k).
    """
    found: dict[tuple[int, int], float] = {}
    for row, place in np.argwhere(cosine >= _ALIKE).tolist():
        other, value = int(near[row, place]), float(cosine[row, place])
        apart = 1 - max(cosine[row, -1], cosine[other, -1])
        if value >= _SAME or 1 - value <= _NEARER * apart:
            found[min(row, other), max(row, other)] = value
    return sorted(((*pair, value) for pair, value in found.items()), key=lambda each: (-each[2], each[:2]))


def suspects(y: Labels, near: Labels) -> list[tuple[int, int, float]]:
    """Find rows whose label their neighbours contradict: row, the neighbours' class, its share; most doubtful first.

    Args:
        y: labels (N,).
        near: rows nearest to each row (N, k), the nearest first. Of a small class, fewer are asked than it has rows.
    """
    others = np.bincount(y)[y] - 1
    found = []
    for row in np.flatnonzero(others >= 3).tolist():
        asked = y[near[row, : others[row]]]
        votes = np.bincount(asked)
        other = int(votes.argmax())
        if other != y[row] and votes[other] >= _DOUBT * len(asked):
            found.append((row, other, votes[other] / len(asked)))
    return [(row, other, float(share)) for row, other, share in sorted(found, key=lambda each: -each[2])]


def principal_plane(X: Features) -> tuple[Doubles, float]:
    """Return rows (N, D) on their first two principal axes (N, 2), and the share of the variance that these show."""
    from sklearn.decomposition import PCA

    if len(X) < 2:
        return np.zeros((len(X), 2)), 0.0
    solver = "arpack" if min(X.shape) > _SMALL else "full"
    analysis = PCA(min(2, *X.shape), svd_solver=solver, random_state=0)
    with np.errstate(invalid="ignore"):  # equal rows have no variance to take shares of
        places = analysis.fit_transform(np.asarray(X, np.float64))
    places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))  # of a single feature
    places *= np.where(places[np.abs(places).argmax(axis=0), [0, 1]] < 0, -1, 1)  # an axis has no direction
    return places, float(np.nan_to_num(analysis.explained_variance_ratio_).sum())


def described(table: FeatureTable, row: int) -> dict[str, Any]:
    """Describe a row: ``row, id, class, split``."""
    name = table.answer(row)
    return {"row": row, "id": str(table.ids[row]), "class": name, "split": str(table.splits[row])}


def alike_pairs(table: FeatureTable, pairs: list[tuple[int, int, float]]) -> list[dict[str, Any]]:
    """Describe near-duplicates, first those under two classes, then those in two splits.

    Returns:
        For each pair ``images`` (two of :func:`described`), ``similarity``, whether ``classes differ`` and
        ``splits differ``.
    """
    found: list[dict[str, Any]] = [
        {"images": [described(table, i), described(table, j)], "similarity": cosine,
         "classes differ": bool(np.any(table.y[i] != table.y[j])),
         "splits differ": bool(table.splits[i] != table.splits[j])}
        for i, j, cosine in pairs
    ]  # fmt: skip
    return sorted(found, key=lambda pair: (not pair["classes differ"], not pair["splits differ"]))


def contradicted(table: FeatureTable, found: list[tuple[int, int, float]]) -> list[dict[str, Any]]:
    """Describe rows whose label their neighbours contradict: those of :func:`described`, ``neighbours``, ``share``."""
    return [
        described(table, row) | {"neighbours": table.class_names[label], "share": share} for row, label, share in found
    ]
