"""Fit probabilities to another place: one temperature, and for each class a shift of its log-odds.

If only the balance of classes differs, Bayes' rule shifts log-odds by the logarithms of the quotients of the shares (M.
Saerens, P. Latinne & C. Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities: a simple
procedure", Neural Computation 2002). The same form, fitted to labelled rows, also follows a camera that makes one class
look like another (A. Alexandari, A. Kundaje & A. Shrikumar, "Maximum likelihood with bias-corrected calibration is
hard-to-beat at label shift adaptation", ICML 2020).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Labels
from heads.solvers.lbfgs import Doubles

_SHIFT, _SCALE = 1.0, 0.5
"""Standard deviations of what is expected before any row is seen: of the shifts, and of the scale's logarithm."""
_LEAST = 1e-12
"""Probabilities are raised to it, so that their logarithm is finite: votes may be 0."""
_STEPS, _PRECISE = 1000, 1e-7
"""The most steps of an estimate of shares, and the largest change of one that ends it."""


class Shift(NamedTuple):
    """How log-probabilities become those of another place: ``scale * log p + offset``, normalised.

    Attributes:
        scale: 1 / temperature.
        offset: of each class, with mean 0 (C,).
    """

    scale: float
    offset: Doubles

    def of(self, proba: NDArray[np.floating[Any]]) -> Doubles:
        """Return probabilities (N, C) as they are at the other place."""
        return _normalised(self.scale * logarithms(proba) + self.offset)


def logarithms(proba: NDArray[np.floating[Any]]) -> Doubles:
    """Return the logarithms of probabilities (N, C), which are finite."""
    return np.asarray(np.log(np.maximum(np.asarray(proba, np.float64), _LEAST)))


def fit_shift(proba: NDArray[np.floating[Any]], codes: Labels, *, scaled: bool = True) -> Shift:
    """Fit a shift to labelled rows, of which there may be few.

    It is the most probable one where shifts are normal before any row is seen, with a deviation of 1, and the logarithm
    of the scale with one of 0.5: so a few rows move it little, and a class without rows only as far as that allows.

    Args:
        proba: the probabilities of the rows (N, C).
        codes: the column of each row's true class (N,).
        scaled: whether to fit the scale; else it is 1.

    Example:
        >>> import numpy as np
        >>> from heads.solvers.recalibration import fit_shift
        >>> rng = np.random.default_rng(0)
        >>> second = rng.random(1000)
        >>> codes = (rng.random(1000) < second / (second + 3 * (1 - second))).astype(int)  # the first: 3 times the odds
        >>> found = fit_shift(np.stack([1 - second, second], axis=1), codes)
        >>> bool(abs(np.ptp(found.offset) - np.log(3)) < 0.2), bool(abs(found.scale - 1) < 0.2)
        (True, True)
    """
    from scipy.optimize import minimize

    known, own = logarithms(proba), (np.arange(len(codes)), codes)

    def loss(at: Doubles) -> tuple[float, Doubles]:
        scale, offset = np.exp(at[0]), at[1:]
        scores = scale * known + offset
        found = _normalised(scores)
        value = -np.log(found[own]).sum() + (at[0] / _SCALE) ** 2 / 2 + (offset @ offset) / _SHIFT**2 / 2
        found[own] -= 1
        slope = np.concatenate([[scale * (found * known).sum()], found.sum(axis=0)])
        slope += np.concatenate([[at[0] / _SCALE**2], offset / _SHIFT**2])
        slope[0] *= scaled
        return float(value), slope

    best = minimize(loss, np.zeros(1 + known.shape[1]), jac=True, method="L-BFGS-B").x
    return Shift(float(np.exp(best[0])), best[1:] - best[1:].mean())


def shift_of_balance(before: Doubles, after: Doubles) -> Shift:
    """Return the shift from one class balance to another, shares above 0 with the sum 1 (C,)."""
    offset = np.log(after) - np.log(before)
    return Shift(1.0, offset - offset.mean())


def estimated_balance(proba: NDArray[np.floating[Any]], before: Doubles) -> Doubles:
    """Estimate the class balance of rows without labels, from their probabilities, by expectation maximisation.

    It takes for granted that the rows differ from the training rows in their balance alone. One row more, with the
    balance of the training rows, keeps shares above 0.

    Args:
        proba: the probabilities of the rows (N, C).
        before: the class balance that these were calibrated to (C,).

    Example:
        >>> import numpy as np
        >>> from heads.solvers.recalibration import estimated_balance
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=5000) + 2 * (rng.random(5000) < 0.1)  # one in ten is of the second class
        >>> second = 1 / (1 + np.exp(-(2 * x - 2)))  # the posterior where classes are even
        >>> estimated_balance(np.stack([1 - second, second], axis=1), np.array([0.5, 0.5])).round(1).tolist()
        [0.9, 0.1]
    """
    known, shares = np.maximum(np.asarray(proba, np.float64), _LEAST), before
    for _ in range(_STEPS):
        found = known * (shares / before)
        found /= found.sum(axis=1, keepdims=True)
        new = (found.sum(axis=0) + before) / (len(known) + 1)
        if np.abs(new - shares).max() < _PRECISE:
            return np.asarray(new)
        shares = new
    return np.asarray(shares)


def _normalised(scores: Doubles) -> Doubles:
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
