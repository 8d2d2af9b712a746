"""From scores to probabilities and losses."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Labels
from heads.metrics.outcomes import blocks


def two_columns(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores (N, C) from those of scikit-learn, which for two classes are (N,), above 0 for the second."""
    return np.stack([-scores, scores], axis=1) / 2 if scores.ndim == 1 else scores


def softmax(scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the softmax over the last axis, in float64 so that different scores do not become equal."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True).astype(np.float64))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def logsumexp(scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the logarithm of the sum of exponentials over the last axis, in float64."""
    most = scores.max(axis=-1, keepdims=True).astype(np.float64)
    return np.asarray(most[..., 0] + np.log(np.exp(scores - most).sum(axis=-1)))


def log_loss(scores: NDArray[np.floating[Any]], codes: Labels, temperature: float = 1.0) -> float:
    """Return the mean cross-entropy, in natural logarithms, of scores (N, C) that are divided by a temperature."""
    losses = np.empty(len(codes))
    for part in blocks(*scores.shape):
        some = scores[part] / temperature
        losses[part] = logsumexp(some) - some[np.arange(len(some)), codes[part]]
    return float(losses.mean())
