"""The losses of linear heads: of many problems at once, with their gradients and curvatures."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from heads.rows import Codes, Floats, Labels
from heads.solvers.goals import is_classes

Losses = tuple[Floats, Floats]
"""Loss and curvature of each row (M, n); the residual replaces the scores that they were computed from."""


class Loss(NamedTuple):
    """A loss.

    Attributes:
        rows: the function of scores (M, K, n), codes (n,) and targets (M,) that computes the losses of the rows.
        penalized_intercept: whether the penalty includes the intercept.
    """

    rows: Callable[[Floats, Codes, Labels], Losses]
    penalized_intercept: bool = False


def _softmax(L: Floats, codes: Codes, targets: Labels) -> Losses:
    L -= L.max(axis=1, keepdims=True)
    each = np.arange(len(codes))
    true = L[:, codes, each]
    np.exp(L, out=L)
    own = L[:, codes, each]
    # What a row lacks of certainty is summed from the other classes: 1 - p would be rounding where p is nearly 1.
    L[:, codes, each] = 0
    others = L.sum(axis=1)
    total = own + others
    L /= total[:, None]
    wrong = others / total
    curvature = (wrong * (2 - wrong) - np.einsum("mkn,mkn->mn", L, L)) / L.shape[1]
    L[:, codes, each] = -wrong
    return np.where(own > others, np.log1p(-np.minimum(wrong, 0.5)) * -1, np.log(total) - true), curvature


def _goals(codes: Codes, targets: Labels) -> Floats:
    """Return what the scores of rows for some targets (M,) are to be, float32 (M, n).

    Of classes (n,) 1 for rows of the target and -1 for others; of labels and numbers (n, K) what they are.
    """
    if not is_classes(codes):
        return np.ascontiguousarray(codes[:, targets].T, np.float32)
    return np.where(codes == targets[:, None], np.float32(1), np.float32(-1))


def _logistic(L: Floats, codes: Codes, targets: Labels) -> Losses:
    signs = _goals(codes, targets)
    margin = L[:, 0] * signs
    small = np.exp(-np.abs(margin))
    wrong = np.where(margin > 0, small, 1) / (1 + small)
    L[:, 0] = -signs * wrong
    return np.log1p(small) - np.minimum(margin, 0), wrong * (1 - wrong)


def _squared_hinge(L: Floats, codes: Codes, targets: Labels) -> Losses:
    signs = _goals(codes, targets)
    short = np.maximum(1 - L[:, 0] * signs, 0)
    L[:, 0] = -2 * signs * short
    return short**2, 2 * (short > 0).astype(np.float32)


def _squared(L: Floats, codes: Codes, targets: Labels) -> Losses:
    error = L[:, 0] - _goals(codes, targets)
    L[:, 0] = 2 * error
    return error**2, np.full_like(error, 2)


SOFTMAX, LOGISTIC, SQUARED = Loss(_softmax), Loss(_logistic), Loss(_squared)
SQUARED_HINGE = Loss(_squared_hinge, penalized_intercept=True)
