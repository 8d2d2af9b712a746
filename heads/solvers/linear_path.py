"""Linear heads along their regularisation path: all folds, classes and class weights in one batched solver.

A problem is ``min  sum of w_i loss(y_i, W z_i + b) + |W|² / 2C``  over the rows of one fold, scaled as that fold is.
Problems differ by fold, class weight, target and C (see :class:`Variant`), and share the features: one wide product
per block of rows serves all of them, where fits one by one each read the features again for a narrow one.

The method is L-BFGS (:mod:`heads.solvers.lbfgs`) with

- a preconditioner of the curvature's form, from the leading eigenvectors of the features' covariance (Halko,
  Martinsson & Tropp, "Finding structure with randomness", 2011);
- starts extrapolated along log C from the two values solved before, in which a solution is smooth, and the curvature
  that was seen there.

Features, weights and gradients are float32, sums of losses and step decisions float64.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from featurestore.system.machine import cores
from heads.feature_table import Floats, Labels
from heads.rows import BLOCK
from heads.solvers.arrays import Scaling
from heads.solvers.folds import Division
from heads.solvers.goals import is_classes
from heads.solvers.lbfgs import Doubles, Memory, minimise, pair
from heads.solvers.linear_losses import Loss

TOL, MAX_ITER = 1e-6, 300
"""The share of the objective by which it may still decrease at the end, and the most steps."""

_ROUGH = 1e-4
"""The tolerance of folds that others follow. It moves the log loss of held-out rows by less than a thousandth."""
_RANK = 64
"""The number of eigenvectors of the preconditioner."""
_SAMPLE = 2048
"""The number of rows that these are computed from."""
_KNOWN = 2
"""The number of solutions that the next one is extrapolated from."""
_COLUMNS = 24
"""So many columns are solved at a time, if there are as many, since narrower matrix products are slow."""
_CELLS, _FEWEST = 2**23, 64
"""The most scores of a block of rows, and its fewest rows: with thousands of classes, larger blocks are slower."""


class Variant(NamedTuple):
    """The settings of one problem, beside C, that may differ between problems.

    Attributes:
        fold: the rows of this fold are left out.
        scaling: the scaling of the other rows.
        class_weight: the weight of each class, float64 (C,); None for equal weights.
        target: the class that is separated from all others; -1 if all classes are separated at once.
        target_only: whether only the target has its class weight, and the other classes have 1.
    """

    fold: int
    scaling: Scaling
    class_weight: Doubles | None = None
    target: int = -1
    target_only: bool = False


class Solution(NamedTuple):
    """The coefficients (V, K, D) and intercepts (V, K) of all variants at one C, for raw features; iterations (V,)."""

    coef: Floats
    intercept: Floats
    iterations: Labels

    def part(self, index: int, count: int) -> "Solution":
        """Return the solution of one of `count` equal parts of the variants."""
        n = len(self.iterations) // count
        rows = slice(index * n, (index + 1) * n)
        return Solution(self.coef[rows], self.intercept[rows], self.iterations[rows])

    def by_fold(self, folds: int) -> tuple[Floats, Floats]:
        """Return coefficients (F, C, D) and intercepts (F, C) of variants that are ordered by fold and target."""
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
    """Yield each value of C, ascending, with its solution.

    Args:
        division: the rows.
        variants: the problems at each C.
        loss: :data:`SOFTMAX` for all classes at once; the other losses are for one target each.
        values: the values of C.
        tol: the share of the objective by which it may still decrease at the end.
        max_iter: the most steps.
        deadline: ``time.monotonic()`` after which no further value of C is begun.
    """
    values = sorted(values)
    with _Problems(division, variants, loss) as problems:
        V, shape = len(variants), problems.shape
        at_once = max(1, -(-_COLUMNS // (V * shape[0])))
        known: list[tuple[float, Floats]] = []
        memory: Memory = []
        for start in range(0, len(values), at_once):
            if deadline is not None and time.monotonic() > deadline:
                return
            some = values[start : start + at_once]
            first = np.concatenate([_extrapolated(known, C, (V, *shape)) for C in some])
            near = _joined([problems.moved(memory, values[start - 1], C) for C in some])
            which = np.tile(np.arange(V), len(some))
            result = minimise(problems, which, np.repeat(some, V), first, near, tol, max_iter)
            for i, C in enumerate(some):
                part = slice(i * V, (i + 1) * V)
                known = [*known[1 - _KNOWN :], (np.log(C), result.P[part])]
                yield C, Solution(*problems.raw(result.P[part], np.arange(V)), result.iterations[part])
            memory = [(s[-V:], y[-V:], r[-V:]) for s, y, r in result.memory]


def solve_in_turn(
    division: Division,
    variants: Sequence[Variant],
    loss: Loss,
    C: float,
    *,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
) -> Solution:
    """Solve the problems of one fold after those of another, each from the solution and the curvature of the last.

    Folds that hold out few of many rows have nearly the same solution: together they take about as many passes over the
    rows as one of them alone. The steps up to the last fold are the earlier ones' too, to a rougher tolerance.

    Args:
        division: the rows.
        variants: the problems, with as many of each fold; those of the last fold get the tolerance `tol`.
        loss, C, tol, max_iter: see :func:`solve_path`.
    """
    folds = len({variant.fold for variant in variants})
    found: list[Solution] = []
    with _Problems(division, variants, loss) as problems:
        P = np.zeros((len(variants) // folds, *problems.shape), np.float32)
        memory: Memory = []
        for number, which in enumerate(np.split(np.arange(len(variants)), folds), 1):
            goal = tol if number == folds else max(tol, _ROUGH)
            P, iterations, memory = minimise(problems, which, np.full(len(which), C), P, memory, goal, max_iter)
            found.append(Solution(*problems.raw(P, which), iterations))
    return Solution(*map(np.concatenate, zip(*found, strict=True)))


def _extrapolated(known: Sequence[tuple[float, Floats]], C: float, shape: tuple[int, ...]) -> Floats:
    """Return the value at another C of the polynomial in log C through the last solutions."""
    at = np.log(C)
    found = np.zeros(shape, np.float32)
    for x, P in known:
        others = [other for other, _ in known if other != x]
        found += np.float32(np.prod([(at - other) / (x - other) for other in others])) * P
    return found


def _joined(memories: list[Memory]) -> Memory:
    """Join the pairs of several sets of problems into pairs of all problems."""
    return [
        (np.concatenate(s), np.concatenate(y), np.concatenate(r))
        for s, y, r in (zip(*pairs, strict=True) for pairs in zip(*memories, strict=True))
    ]


class _Problems:
    """The objectives of many problems over the same rows. Parameters are (M, K, D + 1), with the intercepts last."""

    def __init__(self, division: Division, variants: Sequence[Variant], loss: Loss) -> None:
        self._rows, self._loss = division, loss
        self.fold = np.array([v.fold for v in variants])
        self._mean, self._scale = (np.stack([v.scaling[i] for v in variants]) for i in (0, 1))
        self._targets = np.array([v.target for v in variants])
        self.shape = (division.classes if self._targets[0] < 0 else 1, division.X.shape[1] + 1)
        self._weigh(variants)
        self._threads = cores()
        block = min(BLOCK, max(_FEWEST, _CELLS // (len(variants) * self.shape[0])))
        parts = division.parts(self._threads, block)
        self._parts = [[(rows, self._same_fold(rows)) for rows in part] for part in parts]
        zero = np.zeros((1, self.shape[0], 1), np.float32)
        first = np.zeros(1, np.intp) if is_classes(division.codes) else np.ones((1, division.classes), np.float32)
        self.null = self.weight * loss.rows(zero, first, np.zeros(1, np.intp))[0].item()

    def _weigh(self, variants: Sequence[Variant]) -> None:
        """Set the tables of class weights, the table of each problem, and the total weight of its rows.

        Problems that differ in their target share a table, since one for each would be classes × classes.
        """
        tables = {id(v.class_weight): v.class_weight for v in variants}
        place = {key: i for i, key in enumerate(tables)}
        ones = np.ones(self._rows.classes if is_classes(self._rows.codes) else 1)
        self._tables = np.stack([ones if table is None else table for table in tables.values()])
        self._table = np.array([place[id(v.class_weight)] for v in variants])
        self._weighted, self._target_only = tables.keys() != {id(None)}, variants[0].target_only
        counts = {fold: self._rows.class_weight(fold) for fold in set(self.fold.tolist())}
        if self._target_only:
            sums = {fold: each.sum() for fold, each in counts.items()}
            rows = np.array([(sums[v.fold], counts[v.fold][v.target]) for v in variants])
            self.weight = rows[:, 0] + rows[:, 1] * (self._tables[self._table, self._targets] - 1)
        else:
            whole = {fold: (self._tables * each).sum(axis=1) for fold, each in counts.items()}
            self.weight = np.array([whole[v.fold][table] for v, table in zip(variants, self._table, strict=True)])

    def _same_fold(self, block: slice) -> int | None:
        """Return the fold of the rows of a block, if all are in one."""
        folds = np.unique(self._rows.fold[block])
        return int(folds[0]) if len(folds) == 1 else None

    def __enter__(self) -> "_Problems":
        from threadpoolctl import threadpool_limits

        self._pool = ThreadPoolExecutor(self._threads)
        self._limits = threadpool_limits(1, "blas")  # each thread multiplies its own rows
        self.eigen = _leading(self._rows, Scaling(self._mean[0], self._scale[0]))
        return self

    def __exit__(self, *_: object) -> None:
        self._limits.restore_original_limits()
        self._pool.shutdown()

    def raw(self, P: Floats, which: Labels) -> tuple[Floats, Floats]:
        """Return coefficients and intercepts for features that are not scaled."""
        coef = P[..., :-1] / self._scale[which][:, None]
        return coef, P[..., -1] - np.einsum("mkd,md->mk", coef, self._mean[which])

    def evaluate(self, P: Floats, which: Labels, C: Doubles) -> tuple[Doubles, Floats, Doubles]:
        """Return objective (M,), gradient (M, K, D + 1) and mean curvature (M,) of problems `which` at P."""
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

    def precondition(self, q: Floats, which: Labels, C: Doubles, curvature: Doubles) -> Floats:
        """Return gradients (M, K, D + 1) divided by the curvature, as if it were the same for all rows."""
        values, axes, rest = self.eigen
        M, K, _ = q.shape
        weight = np.maximum(curvature, 1e-6) * self.weight[which]
        tail = 1 / (weight * rest + 1 / C)
        lead = 1 / (weight[:, None] * values + 1 / C[:, None]) - tail[:, None]
        out = q * tail[:, None, None].astype(np.float32)
        along = (np.ascontiguousarray(q[..., :-1]).reshape(M * K, -1) @ axes).reshape(M, K, -1)
        along *= lead[:, None].astype(np.float32)
        out[..., :-1] += (along.reshape(M * K, -1) @ axes.T).reshape(M, K, -1)
        out[..., -1] = q[..., -1] / (weight + self._loss.penalized_intercept / C)[:, None]
        return np.asarray(out)

    def moved(self, memory: Memory, C: float, to: float) -> Memory:
        """Return pairs of one C as they would be at another, since the part of the penalty is known."""
        change = np.float32(1 / to - 1 / C)
        found = []
        for s, y, _ in memory:
            penalised = s.copy()
            if not self._loss.penalized_intercept:
                penalised[..., -1] = 0
            found.append(pair(s, y + change * penalised))
        return found

    def _sum(
        self, rows: Sequence[tuple[slice, int | None]], coef: Floats, intercept: Floats, which: Labels
    ) -> tuple[Any, ...]:
        """Return the sums of losses, gradients, residuals and curvatures over some blocks of rows."""
        M, K, D = coef.shape
        value, curvature = np.zeros(M), np.zeros(M)
        gradient, residual = np.zeros((M, K, D), np.float32), np.zeros((M, K), np.float32)
        folds = self.fold[which]
        for block, fold in rows:
            # A block of rows that are all held out of a problem is not multiplied.
            on = np.arange(M) if fold is None else np.flatnonzero(folds != fold)
            if not len(on):
                continue
            part = slice(None) if len(on) == M else on
            X = np.asarray(self._rows.X[block], np.float32)
            # Narrow products are twice as fast with the factors in this order.
            scores = np.ascontiguousarray((X @ coef[part].reshape(-1, D).T).T).reshape(len(on), K, -1)
            scores += intercept[part][..., None]
            codes = self._rows.codes[block]
            losses = self._loss.rows(scores, codes, self._targets[which[part]])
            weights = self._weights(block, which[part], mixed=fold is None)
            if weights is not None:
                scores *= weights[:, None]
                losses = losses[0] * weights, losses[1] * weights
            value[part] += losses[0].sum(axis=1, dtype=np.float64)
            curvature[part] += losses[1].sum(axis=1, dtype=np.float64)
            residual[part] += scores.sum(axis=2)
            gradient[part] += (scores.reshape(-1, len(X)) @ X).reshape(-1, K, D)
        return value, gradient, residual, curvature

    def _weights(self, block: slice, which: Labels, mixed: bool) -> Floats | None:
        """Return the weights of rows in each problem, float32 (M, n); None if all are 1."""
        factors: list[Any] = []
        if mixed:
            factors.append(self._rows.fold[block] != self.fold[which][:, None])
        if self._weighted:
            factors.append(self._class_weights(which, self._rows.codes[block]))
        if self._rows.weights is not None:
            factors.append(self._rows.weights[block][None])
        if not factors:
            return None
        shape = (len(which), block.stop - block.start)
        return np.broadcast_to(np.prod(np.broadcast_arrays(*factors), axis=0), shape).astype(np.float32)

    def _class_weights(self, which: Labels, codes: Labels) -> Doubles:
        """Return the class weights of rows (n,) in each problem (M, n)."""
        weights = self._tables[:, codes][self._table[which]]
        if self._target_only:
            weights = np.where(codes == self._targets[which][:, None], weights, 1.0)
        return np.asarray(weights)


def _leading(division: Division, scaling: Scaling) -> tuple[Doubles, Floats, float]:
    """Return the leading eigenvalues (r,) and eigenvectors (D, r) of the covariance, and the mean of the others."""
    step = -(-len(division.codes) // _SAMPLE)
    Z = scaling.apply(np.asarray(division.X[::step], np.float32))
    rank = min(_RANK, *Z.shape)
    Q = np.random.default_rng(0).standard_normal((Z.shape[1], rank), np.float32)
    for _ in range(2):
        Q = np.linalg.qr(Z.T @ (Z @ Q))[0]
    along = Z @ Q
    values, axes = np.linalg.eigh(np.asarray(along.T @ along, np.float64))
    values = np.maximum(values, 0) / len(Z)
    rest = float(np.vdot(Z, Z)) / len(Z) - values.sum()
    return values, Q @ axes.astype(np.float32), max(rest, 0.0) / max(Z.shape[1] - rank, 1)
