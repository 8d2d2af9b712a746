"""Linear heads along their regularisation path: all folds, classes and class weights in one batched solver.

A problem is ``min  sum of w_i loss(y_i, W z_i + b) + |W|² / 2C``  over the rows of one fold, scaled as that fold is.
Problems differ by fold, class weight, target and C (see :class:`Variant`), and share the features: one wide product
per block of rows serves all of them, where fits one by one each read the features again for a narrow one.

The method is L-BFGS (Liu & Nocedal, "On the limited memory BFGS method", 1989), with

- a preconditioner of the curvature's form, from the leading eigenvectors of the features' covariance (Halko,
  Martinsson & Tropp, "Finding structure with randomness", 2011);
- starts extrapolated along log C from the two values solved before: a solution is smooth in it;
- an end for each problem by itself, when the gain still to be expected is below ``tol`` of the objective.

Features, weights and gradients are float32, sums of losses and step decisions float64.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heads.base import Scaling
from heads.data import Floats, Labels
from heads.division import Division

Doubles = NDArray[np.float64]
Losses = tuple[Floats, Floats]
"""Loss and curvature of each row (M, n); the residual replaces the scores that they were computed from."""

TOL, MAX_ITER = 1e-6, 300
"""Share of the objective that may be left to gain, and most steps."""

_MEMORY = 8
"""Pairs of steps and gradients that L-BFGS keeps."""
_RANK = 64
"""Eigenvectors of the preconditioner."""
_SAMPLE = 4096
"""Rows that they are computed from."""
_COLUMNS = 48
"""Narrower products than this waste the processor: so many columns are solved at a time, if there are."""
_ARMIJO, _BACKTRACK, _SMALLEST_STEP = 1e-4, 0.4, 1e-6


class Variant(NamedTuple):
    """What one problem differs in from the others, beside C.

    Attributes:
        fold: rows of this fold are left out.
        scaling: of the others.
        class_weight: float64 (C,), or None for equal ones.
        target: the class that is told from all others; -1 where all classes are told apart at once.
    """

    fold: int
    scaling: Scaling
    class_weight: Doubles | None = None
    target: int = -1


class Loss(NamedTuple):
    """A loss as a function of scores (M, K, n), codes (n,) and signs (M, n); and is the intercept penalised?"""

    rows: Callable[[Floats, Labels, Floats], Losses]
    penalized_intercept: bool = False


def _softmax(L: Floats, codes: Labels, signs: Floats) -> Losses:
    L -= L.max(axis=1, keepdims=True)
    each = np.arange(len(codes))
    true = L[:, codes, each]
    np.exp(L, out=L)
    total = L.sum(axis=1)
    L /= total[:, None]
    curvature = (1 - np.einsum("mkn,mkn->mn", L, L)) / L.shape[1]
    L[:, codes, each] -= 1
    return np.log(total) - true, curvature


def _logistic(L: Floats, codes: Labels, signs: Floats) -> Losses:
    margin = L[:, 0] * signs
    small = np.exp(-np.abs(margin))
    wrong = np.where(margin > 0, small, 1) / (1 + small)
    L[:, 0] = -signs * wrong
    return np.log1p(small) - np.minimum(margin, 0), wrong * (1 - wrong)


def _squared_hinge(L: Floats, codes: Labels, signs: Floats) -> Losses:
    short = np.maximum(1 - L[:, 0] * signs, 0)
    L[:, 0] = -2 * signs * short
    return short**2, 2 * (short > 0).astype(np.float32)


def _squared(L: Floats, codes: Labels, signs: Floats) -> Losses:
    error = L[:, 0] - signs
    L[:, 0] = 2 * error
    return error**2, np.full_like(error, 2)


SOFTMAX, LOGISTIC, SQUARED = Loss(_softmax), Loss(_logistic), Loss(_squared)
SQUARED_HINGE = Loss(_squared_hinge, penalized_intercept=True)


class Solution(NamedTuple):
    """Coefficients (V, K, D) and intercepts (V, K) of all variants at one C, for raw features, and iterations (V,)."""

    coef: Floats
    intercept: Floats
    iterations: Labels

    def part(self, index: int, count: int) -> "Solution":
        """One of `count` equal parts of the variants."""
        n = len(self.iterations) // count
        rows = slice(index * n, (index + 1) * n)
        return Solution(self.coef[rows], self.intercept[rows], self.iterations[rows])

    def by_fold(self, folds: int) -> tuple[Floats, Floats]:
        """Coefficients (F, C, D) and intercepts (F, C) of variants that are ordered by fold and target."""
        return self.coef.reshape(folds, -1, self.coef.shape[-1]), self.intercept.reshape(folds, -1)


def solve_path(
    division: Division,
    variants: Sequence[Variant],
    loss: Loss,
    values: Sequence[float],
    *,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    deadline: float | None = None,
) -> Iterator[tuple[float, Solution]]:
    """Each value of C, ascending, with its solution.

    Args:
        division: rows.
        variants: the problems at each C.
        loss: :data:`SOFTMAX` for all classes at once, the others for one target each.
        values: of C.
        tol: share of the objective that may be left to gain.
        max_iter: most steps.
        deadline: ``time.monotonic()`` after which no further value of C is begun.
    """
    values = sorted(values)
    with _Problems(division, variants, loss) as problems:
        V, shape = len(variants), problems.shape
        at_once = max(1, -(-_COLUMNS // (V * shape[0])))
        known: list[tuple[float, Floats]] = []
        for start in range(0, len(values), at_once):
            if deadline is not None and time.monotonic() > deadline:
                return
            some = values[start : start + at_once]
            first = np.concatenate([_extrapolated(known, C, (V, *shape)) for C in some])
            state = _State(problems, np.tile(np.arange(V), len(some)), np.repeat(some, V), first)
            found, iterations = _minimise(state, tol, max_iter)
            for i, C in enumerate(some):
                part = slice(i * V, (i + 1) * V)
                known = [*known[-1:], (np.log(C), found[part])]
                yield C, Solution(*problems.raw(found[part], np.arange(V)), iterations[part])


def _extrapolated(known: list[tuple[float, Floats]], C: float, shape: tuple[int, ...]) -> Floats:
    if len(known) < 2:
        return known[0][1] if known else np.zeros(shape, np.float32)
    (x0, P0), (x1, P1) = known
    step = min((np.log(C) - x1) / (x1 - x0), 2.0)
    return P1 + np.float32(step) * (P1 - P0)


class _Problems:
    """Objectives and gradients of many problems over the same rows. Parameters are (M, K, D + 1), intercepts last."""

    def __init__(self, division: Division, variants: Sequence[Variant], loss: Loss) -> None:
        self._rows, self._loss = division, loss
        self.fold = np.array([v.fold for v in variants])
        self._mean, self._scale = (np.stack([v.scaling[i] for v in variants]) for i in (0, 1))
        self._targets = np.array([v.target for v in variants])
        self.shape = (division.classes if self._targets[0] < 0 else 1, division.X.shape[1] + 1)
        self._table = None
        if any(v.class_weight is not None for v in variants):
            ones = np.ones(division.classes)
            self._table = np.stack([ones if v.class_weight is None else v.class_weight for v in variants])
        counts = np.stack([np.bincount(division.codes[division.fold != f], self._share(f)) for f in self.fold])
        self.weight = (counts if self._table is None else counts * self._table).sum(axis=1)
        self._threads = os.cpu_count() or 1
        self._parts = division.parts(self._threads)
        self.eigen = _leading(division, variants[0].scaling)

    def _share(self, fold: int) -> Doubles | None:
        weights = self._rows.weights
        return None if weights is None else weights[self._rows.fold != fold]

    def __enter__(self) -> "_Problems":
        from threadpoolctl import threadpool_limits

        self._pool = ThreadPoolExecutor(self._threads)
        self._limits = threadpool_limits(1, "blas")  # each thread multiplies its own rows
        return self

    def __exit__(self, *_: object) -> None:
        self._limits.restore_original_limits()
        self._pool.shutdown()

    def raw(self, P: Floats, which: Labels) -> tuple[Floats, Floats]:
        """Coefficients and intercepts for features as they are."""
        coef = P[..., :-1] / self._scale[which][:, None]
        return coef, P[..., -1] - np.einsum("mkd,md->mk", coef, self._mean[which])

    def evaluate(self, P: Floats, which: Labels, C: Doubles) -> tuple[Doubles, Floats, Doubles]:
        """Objective (M,), gradient (M, K, D + 1) and mean curvature (M,) of problems `which` at P."""
        coef, intercept = self.raw(P, which)
        parts = self._pool.map(lambda rows: self._sum(rows, coef, intercept, which), self._parts)
        value, gradient, residual, curvature = (sum(each[1:], each[0]) for each in zip(*parts, strict=True))
        out = np.empty_like(P)
        out[..., :-1] = (gradient - self._mean[which][:, None] * residual[..., None]) / self._scale[which][:, None]
        out[..., -1] = residual
        penalised = P if self._loss.penalized_intercept else P[..., :-1]
        value += np.einsum("mkd,mkd->m", penalised, penalised) / (2 * C)
        out[..., : penalised.shape[-1]] += penalised / C.astype(np.float32)[:, None, None]
        return value, out, curvature / self.weight[which]

    def _sum(self, rows: Sequence[slice], coef: Floats, intercept: Floats, which: Labels) -> tuple[Any, ...]:
        """Sums over some blocks of rows: of losses, gradients, residuals and curvatures."""
        M, K, D = coef.shape
        value, curvature = np.zeros(M), np.zeros(M)
        gradient, residual = np.zeros((M, K, D), np.float32), np.zeros((M, K), np.float32)
        for block in rows:
            # Rows that are all held out of a problem are not even multiplied.
            folds = np.unique(self._rows.fold[block])
            on = np.flatnonzero(self.fold[which] != folds[0]) if len(folds) == 1 else np.arange(M)
            if not len(on):
                continue
            part = slice(None) if len(on) == M else on
            X = np.asarray(self._rows.X[block], np.float32)
            scores = (coef[part].reshape(-1, D) @ X.T).reshape(len(on), K, -1)
            scores += intercept[part][..., None]
            codes = self._rows.codes[block]
            signs = np.where(codes == self._targets[which[part]][:, None], np.float32(1), np.float32(-1))
            losses = self._loss.rows(scores, codes, signs)
            weights = self._weights(block, which[part], mixed=len(folds) > 1)
            if weights is not None:
                scores *= weights[:, None]
                losses = losses[0] * weights, losses[1] * weights
            value[part] += losses[0].sum(axis=1, dtype=np.float64)
            curvature[part] += losses[1].sum(axis=1, dtype=np.float64)
            residual[part] += scores.sum(axis=2)
            gradient[part] += (scores.reshape(-1, len(X)) @ X).reshape(-1, K, D)
        return value, gradient, residual, curvature

    def _weights(self, block: slice, which: Labels, mixed: bool) -> Floats | None:
        """Weights of rows (M, n) in each problem, or None when all are 1."""
        factors: list[Any] = []
        if mixed:
            factors.append(self._rows.fold[block] != self.fold[which][:, None])
        if self._table is not None:
            factors.append(self._table[which][:, self._rows.codes[block]])
        if self._rows.weights is not None:
            factors.append(self._rows.weights[block][None])
        if not factors:
            return None
        shape = (len(which), block.stop - block.start)
        return np.broadcast_to(np.prod(np.broadcast_arrays(*factors), axis=0), shape).astype(np.float32)


def _leading(division: Division, scaling: Scaling) -> tuple[Doubles, Floats, float]:
    """Leading eigenvalues (r,) and eigenvectors (D, r) of the scaled rows' covariance, and the mean of the others."""
    step = -(-len(division.codes) // _SAMPLE)
    Z = scaling.apply(np.asarray(division.X[::step], np.float32))
    rank = min(_RANK, *Z.shape)
    Q = np.random.default_rng(0).standard_normal((Z.shape[1], rank), np.float32)
    for _ in range(3):
        Q = np.linalg.qr(Z.T @ (Z @ Q))[0]
    _, singular, axes = np.linalg.svd(Z @ Q, full_matrices=False)
    values = np.square(singular, dtype=np.float64) / len(Z)
    rest = float(np.vdot(Z, Z)) / len(Z) - values.sum()
    return values, np.ascontiguousarray(Q @ axes.T), max(rest, 0.0) / max(Z.shape[1] - rank, 1)


class _State:
    """Problems that are still being solved: where each stands, and its recent steps."""

    def __init__(self, problems: _Problems, which: Labels, C: Doubles, P: Floats) -> None:
        self.problems, self.which, self.C, self.P = problems, which, C, P
        self.value, self.gradient, self.curvature = problems.evaluate(P, which, C)
        self.step = np.ones(len(C))
        self.gain = np.ones(len(C), np.float32)
        self.steps: list[tuple[Floats, Floats, Floats]] = []
        """Differences of parameters and gradients (M, K (D + 1)) and 1 / their product, or 0 for none; oldest first."""

    def keep(self, those: NDArray[np.bool_]) -> None:
        """Drop the other problems."""
        for name in ("which", "C", "P", "value", "gradient", "curvature", "step", "gain"):
            setattr(self, name, getattr(self, name)[those])
        self.steps = [(s[those], y[those], r[those]) for s, y, r in self.steps]

    def direction(self) -> Floats:
        """Where L-BFGS goes from here."""
        M = len(self.C)
        q, factors = -self.gradient.reshape(M, -1), []
        for s, y, r in reversed(self.steps):
            factors.append(r * np.vecdot(s, q))
            q -= factors[-1][:, None] * y
        q = self._precondition(q) * self.gain[:, None]
        for (s, y, r), factor in zip(self.steps, reversed(factors), strict=True):
            q += (factor - r * np.vecdot(y, q))[:, None] * s
        found: Floats = q.reshape(self.P.shape)
        return found

    def _precondition(self, q: Floats) -> Floats:
        """Divide by the curvature that the problem would have if all rows had its mean."""
        values, axes, rest = self.problems.eigen
        M, K, D = len(self.C), *self.P.shape[1:]
        q = q.reshape(M, K, D)
        weight = np.maximum(self.curvature, 1e-6) * self.problems.weight[self.which]
        tail = 1 / (weight * rest + 1 / self.C)
        lead = 1 / (weight[:, None] * values + 1 / self.C[:, None]) - tail[:, None]
        out = q * tail[:, None, None].astype(np.float32)
        along = (np.ascontiguousarray(q[..., :-1]).reshape(M * K, -1) @ axes).reshape(M, K, -1)
        along *= lead[:, None].astype(np.float32)
        out[..., :-1] += (along.reshape(M * K, -1) @ axes.T).reshape(M, K, -1)
        out[..., -1] = q[..., -1] / weight[:, None]
        flat: Floats = out.reshape(M, -1)
        return flat

    def remember(self, s: Floats, y: Floats, moved: NDArray[np.bool_]) -> None:
        """Take a step into account, and the size of the curvature that it showed."""
        product = np.vecdot(s, y)
        good = moved & (product > 1e-10 * np.vecdot(s, s))
        r = np.where(good, 1 / np.where(good, product, 1), 0).astype(np.float32)
        self.steps = [*self.steps[1 - _MEMORY :], (s, y, r)]
        size = np.vecdot(y, self._precondition(y))
        self.gain = np.where(good & (size > 0), product / np.where(size > 0, size, 1), self.gain)


def _minimise(state: _State, tol: float, max_iter: int) -> tuple[Floats, Labels]:
    """Parameters (M, K, D + 1) at the minimum, and the iterations that each problem took."""
    found, iterations = np.empty_like(state.P), np.zeros(len(state.C), np.intp)
    place = np.arange(len(state.C))
    fresh = np.ones(len(state.C), np.bool_)
    ahead, slope = state.P, state.value
    for iteration in range(max_iter + 1):
        new = state.direction()
        ahead = np.where(fresh[:, None, None], new, ahead)
        slope = np.where(fresh, np.vecdot(state.gradient.reshape(len(new), -1), ahead.reshape(len(new), -1)), slope)
        done = (-slope / 2 <= tol * np.abs(state.value)) | (state.step < _SMALLEST_STEP)
        if iteration == max_iter:
            done[:] = True
        if done.any():
            found[place[done]], iterations[place[done]] = state.P[done], iteration
            on = ~done
            if not on.any():
                break
            state.keep(on)
            place, fresh, ahead, slope = place[on], fresh[on], ahead[on], slope[on]
        fresh = _advance(state, ahead, slope)
    return found, iterations


def _advance(state: _State, ahead: Floats, slope: Doubles) -> NDArray[np.bool_]:
    """One step of all problems; those whose objective did not decrease enough stay, to try a shorter one."""
    target = state.P + (state.step.astype(np.float32)[:, None, None] * ahead)
    value, gradient, curvature = state.problems.evaluate(target, state.which, state.C)
    moved = value <= state.value + _ARMIJO * state.step * slope + 1e-7 * np.abs(state.value)
    M = len(value)
    state.remember((target - state.P).reshape(M, -1), (gradient - state.gradient).reshape(M, -1), moved)
    wide = moved[:, None, None]
    state.P, state.gradient = np.where(wide, target, state.P), np.where(wide, gradient, state.gradient)
    state.value, state.curvature = np.where(moved, value, state.value), np.where(moved, curvature, state.curvature)
    state.step = np.where(moved, 1.0, state.step * _BACKTRACK)
    return moved
