"""Curves of a head's probabilities: their reliability, and the rates of two classes at each threshold."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.system.results import Result
from heads.feature_table import Labels
from heads.metrics.estimates import log_odds, wilson
from heads.metrics.outcomes import Outcomes

Doubles = NDArray[np.float64]

_CERTAIN = 1000.0
"""Log-odds of a probability of 1: greater than that of any number below it, and finite, as scikit-learn wants it."""


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
