"""L-BFGS for many problems at once: all take their steps together, and each stops by its own criterion.

Liu & Nocedal, "On the limited memory BFGS method for large scale optimization", Mathematical Programming, 1989.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Floats, Labels

Doubles = NDArray[np.float64]
Pair = tuple[Floats, Floats, Floats]
"""Differences of parameters and of gradients (M, K, D), and 1 / their inner product (M,), or 0 for unusable pairs."""
Memory = list[Pair]
"""Pairs, oldest first."""

_MEMORY = 8
_TRUSTED = 4
"""The expected decrease is right while steps show a part of so many of the preconditioner's curvature, or more."""
_ARMIJO, _BACKTRACK, _SMALLEST_STEP = 1e-4, 0.4, 1e-6


class Objective(Protocol):
    """The objectives of problems `which` (M,), each with its own penalty C (M,), which are minimised.

    Attributes:
        null: the objective of each problem at parameters of 0.
    """

    null: Doubles

    def evaluate(self, P: Floats, which: Labels, C: Doubles) -> tuple[Doubles, Floats, Doubles]:
        """Return objective (M,), gradient (M, K, D) and mean curvature of the loss (M,) at P (M, K, D)."""

    def precondition(self, q: Floats, which: Labels, C: Doubles, curvature: Doubles) -> Floats:
        """Return gradients (M, K, D) multiplied by an approximate inverse of the second derivative."""


class Result(NamedTuple):
    """The parameters (M, K, D) at the minimum, the number of iterations (M,), and the last pairs of all problems."""

    P: Floats
    iterations: Labels
    memory: Memory


def pair(s: Floats, y: Floats) -> Pair:
    """Make a pair of differences of parameters and of gradients."""
    product = _dot(s, y)
    good = product > 1e-10 * _dot(s, s)
    return s, y, np.where(good, 1 / np.where(good, product, 1), 0).astype(np.float32)


def _dot(a: Floats, b: Floats) -> Floats:
    """Return the inner product of each problem (M,)."""
    found: Floats = np.vecdot(a.reshape(len(a), -1), b.reshape(len(b), -1))
    return found


def _each(factors: NDArray[np.floating]) -> Floats:
    """Return factors (M,), one for each problem, in a shape that multiplies (M, K, D)."""
    return factors.astype(np.float32)[:, None, None]


class _State:
    """The problems that are not solved yet, with their parameters and their recent steps."""

    def __init__(self, objective: Objective, which: Labels, C: Doubles, P: Floats, memory: Memory) -> None:
        self.objective, self.which, self.C, self.P, self.memory = objective, which, C, P, memory
        self.value, self.gradient, self.curvature = objective.evaluate(P, which, C)
        self.step, self.gain = np.ones((2, len(C)))
        if memory:
            self._measure(memory[-1])

    def keep(self, those: NDArray[np.bool_]) -> None:
        """Keep only these problems."""
        for name in ("which", "C", "P", "value", "gradient", "curvature", "step", "gain"):
            setattr(self, name, getattr(self, name)[those])
        self.memory = [(s[those], y[those], r[those]) for s, y, r in self.memory]

    def direction(self) -> Floats:
        """Return the search direction (M, K, D)."""
        q, factors = -self.gradient, []
        for s, y, r in reversed(self.memory):
            factors.append(r * _dot(s, q))
            q -= _each(factors[-1]) * y
        q = self._preconditioned(q) * _each(self.gain)
        for (s, y, r), factor in zip(self.memory, reversed(factors), strict=True):
            q += _each(factor - r * _dot(y, q)) * s
        return q

    def _preconditioned(self, q: Floats) -> Floats:
        return self.objective.precondition(q, self.which, self.C, self.curvature)

    def _measure(self, last: Pair) -> None:
        """Set the factor by which the last steps showed less curvature than the preconditioner assumes.

        It differs from one step to the next, and what one alone showed often led to a step that was too long: it is the
        geometric mean of the last one's and of that before.
        """
        _, y, r = last
        size = _dot(y, self._preconditioned(y))
        good = (r > 0) & (size > 0)
        self.gain = np.where(good, np.sqrt(self.gain / np.where(good, r * size, 1)), self.gain)

    def advance(self, ahead: Floats, slope: Floats) -> None:
        """Take a step in all problems.

        A problem whose objective does not decrease enough stays where it is. Its next direction knows the curvature
        that this one met, and the step is shorter.
        """
        target = self.P + _each(self.step) * ahead
        value, gradient, curvature = self.objective.evaluate(target, self.which, self.C)
        moved = value <= self.value + _ARMIJO * self.step * slope + 1e-7 * np.abs(self.value)
        last = pair(target - self.P, gradient - self.gradient)
        self.memory = [*self.memory[1 - _MEMORY :], last]
        wide = moved[:, None, None]
        self.P, self.gradient = np.where(wide, target, self.P), np.where(wide, gradient, self.gradient)
        self.value, self.curvature = np.where(moved, value, self.value), np.where(moved, curvature, self.curvature)
        self.step = np.where(moved, 1.0, self.step * _BACKTRACK)
        self._measure(last)


def minimise(
    objective: Objective, which: Labels, C: Doubles, first: Floats, memory: Memory, tol: float, max_iter: int
) -> Result:
    """Minimise all problems.

    Args:
        objective: the objectives of the problems.
        which, C: the number and the penalty of each problem (M,).
        first: the parameters to start from (M, K, D).
        memory: pairs that describe the curvature there; may be empty.
        tol: a problem stops when the decrease that can still be expected is below this share of its objective, or of
            the decrease so far if that is smaller.
        max_iter: the most steps.
    """
    state = _State(objective, which, C, first, memory)
    place = np.arange(len(C))
    found, iterations = np.empty_like(first), np.zeros(len(C), np.intp)
    kept: Memory = []
    for _ in range(_MEMORY):
        kept.append((np.zeros_like(first), np.zeros_like(first), np.zeros(len(C), np.float32)))
    for iteration in range(max_iter + 1):
        ahead = state.direction()
        slope = _dot(state.gradient, ahead)
        # Under a strong penalty the objective can decrease only a little: the share of that decrease counts then.
        scale = np.minimum(state.value, np.abs(objective.null[state.which] - state.value))
        # Where steps show little of the curvature that the preconditioner assumes, the slope promises too little.
        scale *= np.minimum(1, _TRUSTED * state.gain)
        done = (-slope / 2 <= tol * scale) | (state.step < _SMALLEST_STEP) | (iteration == max_iter)
        if done.any():
            found[place[done]], iterations[place[done]] = state.P[done], iteration
            for old, new in zip(reversed(kept), reversed(state.memory), strict=False):
                for to, part in zip(old, new, strict=True):
                    to[place[done]] = part[done]
            on = ~done
            if not on.any():
                break
            state.keep(on)
            place, ahead, slope = place[on], ahead[on], slope[on]
        state.advance(ahead, slope)
    return Result(found, iterations, kept)
