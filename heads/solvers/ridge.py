"""Ridge heads in closed form: one factorisation for each fold and penalty serves any number of classes.

The problem is that of :mod:`heads.solvers.linear_path` with squared loss. Its normal equations need two sums over the
rows: their products column by column, (D, D), and the sum of each class's rows. Both are summed once for each group of
rows that a fold holds out, in one pass, and a fold's own are those of all other groups (Golub, Heath & Wahba,
"Generalized cross-validation as a method for choosing a good ridge parameter", 1979, use the same sums for all
penalties).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from featurestore.system.machine import cores
from heads.feature_table import Floats
from heads.solvers.arrays import Extent, Scaling
from heads.solvers.folds import Division
from heads.solvers.goals import is_classes
from heads.solvers.lbfgs import Doubles
from heads.solvers.linear_path import Solution, Variant

_PRODUCTS = 160
"""Products of all rows with a column, and of a column with all rows, that steps take for one penalty: 10 where it is
strong, and 300 where it is weak. Each takes twice the time of as many operations in a factorisation."""
_NARROW = 4
"""Products with fewer columns take as long as with so many."""
_FLOOR = 1e-10
"""The least penalty, as a share of the mean eigenvalue: the matrix of normal equations stays positive definite."""


def bytes_of(extent: Extent) -> int:
    """Return the memory that the matrices of the normal equations take."""
    return 8 * (extent.folds + 2 + cores()) * extent.columns**2


def is_faster(extent: Extent, penalties: int) -> bool:
    """Whether the closed form takes less time than steps would, for so many values of the penalty."""
    N, D, each = extent.rows, extent.columns, extent.folds * penalties
    # Operations in float64 take twice the time of those in float32, and a matrix times itself takes half of them.
    closed = N * D**2 + each * D**2 * (2 * D / 3 + 4 * extent.classes)
    return closed <= _PRODUCTS * each * N * D * max(extent.classes, _NARROW)


def solve_ridge(
    division: Division, variants: Sequence[Variant], values: Sequence[float], *, deadline: float | None = None
) -> Iterator[tuple[float, Solution]]:
    """Yield each value of C, ascending, with its solution, like :func:`heads.solvers.linear_path.solve_path`.

    Args:
        division: the rows, which are read once.
        variants: the problems at each C, without class weights, with the same targets in each fold, ordered by fold.
        values: the values of C.
        deadline: ``time.monotonic()`` after which no further value of C is begun.

    Example:
        >>> import numpy as np
        >>> from heads.solvers.arrays import Scaling
        >>> from heads.solvers.folds import Division
        >>> from heads.solvers.linear_path import Variant
        >>> from heads.solvers.ridge import solve_ridge
        >>> X, one = np.array([[0], [1], [2], [3]], np.float32), np.ones(4, bool)
        >>> division = Division(X, np.array([0, 0, 1, 1]), np.full(4, -1), np.arange(4), one)
        >>> [(_, solution)] = solve_ridge(division, [Variant(0, Scaling.none(1), target=1)], [1e6])
        >>> round(solution.coef.item(), 3), round(solution.intercept.item(), 3)  # of least squares
        (0.8, -1.2)
    """
    from threadpoolctl import threadpool_limits

    targets = sorted({variant.target for variant in variants})
    systems = _systems(division, {variant.fold: variant.scaling for variant in variants}, targets)
    for C in sorted(values):
        if deadline is not None and time.monotonic() > deadline:
            return
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(cores()) as pool:  # a thread solves for whole folds
            solved = list(pool.map(_System.solve, systems, [1 / (2 * C)] * len(systems)))
        coef, intercept = map(np.concatenate, zip(*solved, strict=True))
        yield C, Solution(coef[:, None], intercept[:, None], np.ones(len(variants), np.intp))


class _System(NamedTuple):
    """The normal equations of one fold, for centred and scaled rows.

    Attributes:
        scatter: the products of the columns, of which the lower triangle counts, float64 (D, D).
        sides: the products of the columns with the targets, float64 (K, D).
        mean, scale: of the columns, float64 (D,).
        level: the mean of the targets (K,); of classes their values are 1 and -1.
    """

    scatter: Doubles
    sides: Doubles
    mean: Doubles
    scale: Doubles
    level: Doubles

    def solve(self, alpha: float) -> tuple[Floats, Floats]:
        """Return coefficients (K, D) and intercepts (K,) for raw features, at one strength of the penalty."""
        from scipy.linalg import cho_factor, cho_solve

        matrix = self.scatter.copy(order="F")
        diagonal = np.einsum("dd->d", matrix)
        diagonal += max(alpha, _FLOOR * float(diagonal.mean()))
        factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        coef = cho_solve(factor, self.sides.T, check_finite=False).T / self.scale
        return coef.astype(np.float32), (self.level - coef @ self.mean).astype(np.float32)


def _systems(division: Division, scalings: Mapping[int, Scaling], targets: Sequence[int]) -> list[_System]:
    """Return the normal equations of some folds; ``folds`` is all rows."""
    from scipy.linalg.blas import dsyrk

    squares, sums = _summed(division)
    whole, found = np.asfortranarray(sum(squares)), []
    for fold, scaling in sorted(scalings.items()):
        if fold == division.folds:  # the last one: the sums of all rows are not needed again
            scatter, total = whole, sums.sum(axis=0)
        else:
            scatter = np.subtract(whole, squares[fold + 1], out=squares[fold + 1])
            total = sums.sum(axis=0) - sums[fold + 1]
        weight, scale = division.class_weight(fold), scaling.scale.astype(np.float64)
        n = weight.sum()
        mean = (total.sum(axis=0) if is_classes(division.codes) else total[-1]) / n
        scatter = dsyrk(-n, mean[:, None], beta=1.0, c=scatter, lower=1, overwrite_c=1)
        scatter /= scale
        scatter /= scale[:, None]
        if is_classes(division.codes):
            sides, level = 2 * (total[targets] - weight[targets, None] * mean) / scale, 2 * weight[targets] / n - 1
        else:
            level = _level(division, fold)[targets] / n
            sides = (total[targets] - n * level[:, None] * mean) / scale
        found.append(_System(scatter, sides, mean, scale, level))
    return found


def _level(division: Division, fold: int) -> Doubles:
    """Return the weighted sums of what the scores of a fold's training rows are to be (K,)."""
    rows = division.fold != fold
    weights = np.ones(int(rows.sum())) if division.weights is None else division.weights[rows]
    return np.asarray(weights @ division.codes[rows].astype(np.float64))


def _summed(division: Division) -> tuple[list[Doubles], Doubles]:
    """Return sums over the rows that no fold holds out, and over those of each fold, of which there are F.

    They are the weighted products of the columns (D, D), of which the lower triangle is set, for each of F + 1 groups;
    and the weighted sums of each class's rows (F + 1, C, D), or of the rows times their labels or numbers, and of the
    rows themselves (F + 1, K + 1, D). All are float64, since what is small is squared in them.
    """
    from scipy.linalg.blas import dsyrk

    D, groups = division.X.shape[1], division.fold + 1
    squares = [np.zeros((D, D), order="F") for _ in range(division.folds + 1)]
    classes = is_classes(division.codes)
    sums = np.zeros((division.folds + 1, division.classes + (not classes), D))
    for block in division.blocks():
        X = np.asarray(division.X[block], np.float64)
        root = np.ones(len(X)) if division.weights is None else np.sqrt(division.weights[block])
        X *= root[:, None]
        for group in np.unique(groups[block]):
            mine = np.flatnonzero(groups[block] == group)
            if classes:
                mine = mine[np.argsort(division.codes[block][mine], kind="stable")]
            rows, codes = X[mine], division.codes[block][mine]
            squares[group] = dsyrk(1.0, rows.T, beta=1.0, c=squares[group], lower=1, overwrite_c=1)
            if not classes:
                sums[group] += np.column_stack([codes, np.ones(len(codes))]).T @ (rows * root[mine, None])
                continue
            shown, first = np.unique(codes, return_index=True)
            sums[group, shown] += np.add.reduceat(rows * root[mine, None], first)
    return squares, sums
