"""Audit a data set and a head by probabilities and features: curves, doubtful labels, near-duplicates, a map."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.system.results import Result
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
_SMALL = 100
"""Rows or features up to which all principal axes are computed, to take the first two."""
_ALIKE, _NEARER, _SAME = 0.8, 0.5, 0.98
"""Two images are near-duplicates if the cosine of their standardised features is `_ALIKE`, and their distance
(1 - cosine) at most `_NEARER` of that of either's tenth neighbour; or if the cosine is `_SAME`. Of copies of 60 among
500 flowers this found all that were mirrored, brightened or a little cropped, 9 of 10 that were recompressed, and
nothing else but two photographs of one series."""
_CERTAIN = 1000.0
"""Log-odds of a probability of 1: greater than that of any number below it, and finite, as scikit-learn wants it."""
_DOUBT = 0.7
"""Share of its neighbours that must be of one other class for a label to be suspect."""


@dataclass(frozen=True, repr=False)
class Bin(Result):
    """Predictions of about the same confidence.

    Attributes:
        confidence: mean probability of the predicted class.
        accuracy: share of them that is right.
        interval: 95 % interval of that share, Wilson's.
        rows: how many they are.
    """

    confidence: float
    accuracy: float
    interval: list[float]
    rows: int


@dataclass(frozen=True, repr=False)
class Reliability(Result):
    """How often predictions of each confidence are right.

    Attributes:
        bins: those that have rows, by confidence.
        error: the expected calibration error: the mean difference of confidence and accuracy over all rows.
    """

    bins: list[Bin]
    error: float


def reliability(outcomes: Outcomes, bins: int = 10) -> Reliability:
    """Compare the confidence of predictions with how often they are right.

    (Guo et al., "On calibration of modern neural networks", ICML 2017.) scikit-learn's ``calibration_curve`` does not
    say how many rows a bin has, which its interval and the error need.

    Args:
        outcomes: of probabilities.
        bins: how many, of equal width.
    """
    confidence, right = outcomes.greatest, outcomes.right
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    found = []
    for i in np.unique(place):
        inside = place == i
        rows, hits = int(inside.sum()), int(right[inside].sum())
        found.append(Bin(float(confidence[inside].mean()), hits / rows, wilson(hits, rows), rows))
    gaps = np.bincount(place, confidence - right)
    return Reliability(found, float(np.abs(gaps).sum() / len(right)))


@dataclass(frozen=True, repr=False)
class Rates(Result):
    """Rates of two classes' predictions at each threshold, the highest threshold first.

    Attributes:
        threshold: a probability of the second class. Rows whose probabilities are 1 to rounding are told apart by their
            log-odds, and several thresholds are 1 then.
        recall: share of the second class's rows that are from there on (true positive rate).
        false_positive_rate: share of the first class's rows that are.
        precision: share of the second class among the rows from there on.
    """

    threshold: list[float]
    recall: list[float]
    false_positive_rate: list[float]
    precision: list[float]


def rates(y: Labels, proba: Doubles) -> Rates:
    """Measure two classes' probabilities (N, 2) at each threshold, for labels 0 and 1 (N,), both of which occur."""
    from scipy.special import expit
    from sklearn.metrics import precision_recall_curve, roc_curve

    score = np.clip(log_odds(proba), -_CERTAIN, _CERTAIN)
    wrong, right, at = roc_curve(y, score, drop_intermediate=False)
    precision, _, _ = precision_recall_curve(y, score)
    return Rates(
        threshold=expit(at[1:]).tolist(),
        recall=right[1:].tolist(),
        false_positive_rate=wrong[1:].tolist(),
        precision=precision[-2::-1].tolist(),
    )


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
    none = np.arange(0)
    table = table.images
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


def _neighbours(Z: Floats) -> tuple[Labels, Doubles]:
    """Return the nearest others of each row (N, D) of length 1, the nearest first (N, k), and their cosines."""
    from sklearn.neighbors import NearestNeighbors

    k = min(NEIGHBOURS, len(Z) - 1)
    if not k:
        return np.empty((len(Z), 0), np.intp), np.empty((len(Z), 0))
    # By length of the difference, which scikit-learn finds by blocks; for its own cosine it holds all pairs in memory.
    distance, near = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(Z).kneighbors()
    return near, 1 - distance**2 / 2


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
