"""What probabilities and features show of a data set and a head: curves, doubtful labels, near-duplicates, a map."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Features, FeatureTable, Floats, Labels
from heads.metrics.estimates import log_odds, wilson
from heads.metrics.outcomes import Outcomes
from heads.solvers.arrays import as_features, standardise

Doubles = NDArray[np.float64]

LARGEST = 10_000
"""Rows that are compared with each other; of larger files, those with the least digests."""

MAPPED = 2_000
"""Rows of these that the map shows."""

NEIGHBOURS = 10

_VALUES = 2**27
"""Features that are held in memory to compare rows: half a gigabyte."""
_BLOCK = 512
_ALIKE, _NEARER, _SAME = 0.8, 0.5, 0.98
"""Two images are near-duplicates if the cosine of their standardised features is `_ALIKE`, and their distance
(1 - cosine) at most `_NEARER` of that of either's tenth neighbour; or if the cosine is `_SAME`. Of copies of 60 among
500 flowers this found all that were mirrored, brightened or a little cropped, 9 of 10 that were recompressed, and
nothing else but two photographs of one series."""
_DOUBT = 0.7
"""Share of its neighbours that must be of one other class for a label to be suspect."""


def reliability(outcomes: Outcomes, bins: int = 10) -> dict[str, Any]:
    """How often predictions of each confidence are right.

    (Guo et al., "On calibration of modern neural networks", ICML 2017.)

    Args:
        outcomes: of probabilities.
        bins: of equal width.

    Returns:
        ``bins``, those that have rows: ``confidence`` (mean probability of the predicted class), ``accuracy``,
        ``interval`` (95 %, Wilson's) and ``rows``; ``error``: the expected calibration error, the mean difference of
        confidence and accuracy over all rows.
    """
    confidence, right = outcomes.greatest, outcomes.right
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    found = []
    for i in np.unique(place):
        inside = place == i
        rows, hits = int(inside.sum()), int(right[inside].sum())
        found.append({
            "confidence": float(confidence[inside].mean()), "accuracy": hits / rows,
            "interval": wilson(hits, rows), "rows": rows,
        })  # fmt: skip
    gaps = np.bincount(place, confidence - right)
    return {"bins": found, "error": float(np.abs(gaps).sum() / len(right))}


def thresholds(y: Labels, proba: Doubles) -> dict[str, list[float]]:
    """Rates at each threshold of two classes' probabilities (N, 2), for labels 0 and 1 (N,), both of which occur.

    Returns:
        ``threshold`` (a probability of the second class, descending; rows whose probabilities are 1 to rounding are
        told apart by their log-odds, and several thresholds are 1 then), ``recall`` (true positive rate),
        ``false_positive_rate``, ``precision``: of the rows from that threshold on.
    """
    score = log_odds(proba)
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(score[order][1:] != score[order][:-1]), len(y) - 1)
    positive = np.cumsum(y[order])[ends]
    chosen = ends + 1
    return {
        "threshold": proba[order, 1][ends].tolist(),
        "recall": (positive / positive[-1]).tolist(),
        "false_positive_rate": ((chosen - positive) / (len(y) - positive[-1])).tolist(),
        "precision": (positive / chosen).tolist(),
    }


class Audit(NamedTuple):
    """What rows of features show of each other. Rows are indices in the table.

    Attributes:
        rows: those that were compared (n,).
        alike: pairs of near-duplicates and their similarity, the most alike first.
        suspects: rows that stand among rows of one other class: row, that class, its share of the neighbours; the
            most doubtful first.
        plane: the first rows of `rows` on their first two principal axes (m, 2).
        explained: share of the variance that these show.
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
    none = np.arange(0)
    most = min(LARGEST, _VALUES // max(1, table.read(none, none).shape[1]))
    rows = np.argsort(table.digests, kind="stable")[:most]
    Z, _ = standardise(as_features(table.read(rows, none)))
    plane, explained = principal_plane(Z[:MAPPED])
    Z /= np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-12)
    near, cosine = _neighbours(Z)
    return Audit(
        rows,
        [(int(rows[i]), int(rows[j]), s) for i, j, s in near_duplicates(near, cosine)],
        [(int(rows[i]), label, share) for i, label, share in suspects(table.y[rows].astype(np.intp), near)],
        plane,
        explained,
    )


def _neighbours(Z: Floats) -> tuple[Labels, Floats]:
    """The nearest others of each row (N, D) of length 1, the nearest first (N, k), and their cosines."""
    k = min(NEIGHBOURS, len(Z) - 1)
    near, cosines = np.empty((len(Z), k), np.intp), np.empty((len(Z), k), np.float32)
    for start in range(0, len(Z) if k else 0, _BLOCK):
        block = slice(start, start + _BLOCK)
        cosine = Z[block] @ Z.T
        own = np.arange(len(cosine))
        cosine[own, start + own] = -np.inf
        found = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(cosine, found, axis=1), axis=1, kind="stable")
        near[block] = np.take_along_axis(found, order, axis=1)
        cosines[block] = np.take_along_axis(cosine, near[block], axis=1)
    return near, np.minimum(cosines, 1)


def near_duplicates(near: Labels, cosine: Floats) -> list[tuple[int, int, float]]:
    """Pairs of rows that are much nearer to each other than to others, and their cosine; the most alike first.

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
    """Rows whose label their neighbours contradict: row, the neighbours' class, its share; the most doubtful first.

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
    """Rows (N, D) on their first two principal axes (N, 2), and the share of the variance that these show."""
    centred = np.asarray(X, np.float64) - np.mean(X, axis=0, dtype=np.float64)
    wide = centred.shape[1] > len(centred)
    values, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1][:, :2]
    places = vectors * np.sqrt(values[: vectors.shape[1]]) if wide else centred @ vectors
    places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))  # of a single feature
    places *= np.where(places[np.abs(places).argmax(axis=0), [0, 1]] < 0, -1, 1)  # an axis has no direction
    return places, float(values[:2].sum() / max(values.sum(), 1e-300))
