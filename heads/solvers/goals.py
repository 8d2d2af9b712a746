"""What the scores of a fit are to be. The form of the codes of its rows tells, and nothing else does:

- whole numbers (N,): classes 0..C-1. Each has a score, and the loss is the cross-entropy of their softmax.
- int8 (N, K): labels, 1 for a row that has one and -1 for one that has not. Each has a score, its log-odds, and the
  loss is the mean of their cross-entropies.
- float32 (N, K): numbers, each with a score that is to be equal to it. The loss is half the square of the difference.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heads.rows import Codes, Floats
from heads.solvers.scores import logsumexp

Doubles = NDArray[np.float64]


def width_of(codes: Codes) -> int:
    """Return the number of scores of a row: classes, labels or numbers.

    Example:
        >>> width_of(np.array([0, 2, 1])), width_of(np.array([[1, -1]], np.int8))
        (3, 2)
    """
    return int(codes.shape[1]) if codes.ndim == 2 else int(codes.max()) + 1


def is_classes(codes: Codes) -> bool:
    """Tell whether codes are classes, of which each row has one."""
    return codes.ndim == 1


class Goal(NamedTuple):
    """The loss of one form of codes.

    Attributes:
        target: from codes, the number of scores and a label smoothing to what the activation is to be, float32 (N, K).
        activation: from scores (N, K) to what is compared with the target; their difference is the gradient of the
            loss, which of labels is here the sum.
        losses: from scores (N, K) and codes to the loss of each row, float64 (N,).
    """

    target: Callable[[Codes, int, float], Floats]
    activation: Callable[[Any], Any]
    losses: Callable[[NDArray[np.floating[Any]], Codes], Doubles]


def goal_of(codes: Codes) -> Goal:
    """Return the loss of these codes."""
    if is_classes(codes):
        return CLASSES
    return _LABELS if codes.dtype == np.int8 else _NUMBERS


def mean_loss(scores: NDArray[np.floating[Any]], codes: Codes) -> float:
    """Return the mean loss of rows by their scores (N, K): of classes and labels the log loss, in nats."""
    return float(goal_of(codes).losses(scores, codes).mean())


def _one_hot(codes: Codes, classes: int, smoothing: float) -> Floats:
    target = np.zeros((len(codes), classes), np.float32)
    target[np.arange(len(codes)), codes] = 1
    return target * np.float32(1 - smoothing) + np.float32(smoothing / classes)


def _softmax32(scores: Any) -> Any:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _class_losses(scores: NDArray[np.floating[Any]], codes: Codes) -> Doubles:
    return logsumexp(scores) - scores[np.arange(len(scores)), codes]


def _shares(codes: Codes, labels: int, smoothing: float) -> Floats:
    return ((1 + codes * np.float32(1 - smoothing)) / 2).astype(np.float32)


def sigmoid(scores: Any) -> Any:
    """Return the probabilities of log-odds, of the same type, without overflow."""
    small = np.exp(-np.abs(scores))
    return np.where(scores > 0, 1, small) / (1 + small)


def _label_losses(scores: NDArray[np.floating[Any]], codes: Codes) -> Doubles:
    margin = np.asarray(scores, np.float64) * codes
    return np.asarray((np.log1p(np.exp(-np.abs(margin))) - np.minimum(margin, 0)).mean(axis=1))


def _numbers(codes: Codes, numbers: int, smoothing: float) -> Floats:
    return np.asarray(codes, np.float32)


def _number_losses(scores: NDArray[np.floating[Any]], codes: Codes) -> Doubles:
    return np.asarray(((scores - codes.astype(np.float64)) ** 2).sum(axis=1) / 2)


CLASSES = Goal(_one_hot, _softmax32, _class_losses)
"""Of classes."""
_LABELS = Goal(_shares, sigmoid, _label_losses)
_NUMBERS = Goal(_numbers, lambda scores: scores, _number_losses)
