"""Linear heads: scores are ``X @ coef_ + intercept_``. A path solver fits them; NumPy alone uses them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from featurestore.errors import InputError
from featurestore.system.machine import memory_limit
from heads.feature_table import Floats, LabelledRows, Labels
from heads.kinds.base import Head, HeldOut, Spaces, too_large, too_many_classes
from heads.kinds.parameters import Parameter, parameter
from heads.metrics.outcomes import blocks
from heads.rows import BLOCK, StreamedRows
from heads.solvers.arrays import Extent, Layers, Scaling
from heads.solvers.calibration import held_most
from heads.solvers.folds import Division
from heads.solvers.goals import is_classes
from heads.solvers.lbfgs import Doubles
from heads.solvers.linear_losses import LOGISTIC, SOFTMAX, SQUARED, SQUARED_HINGE, Loss
from heads.solvers.linear_path import MAX_ITER, TOL, Solution, Variant, solve_in_turn, solve_path
from heads.solvers.ridge import bytes_of, is_faster, solve_ridge
from heads.solvers.scores import two_columns
from heads.solvers.training import Training
from heads.tasks.registry import CLASSIFICATION, Task

_STRENGTH = "inverse strength of the L2 penalty"
CLASS_WEIGHT = Parameter(
    "none", "weights of rows: equal, or so that classes weigh the same", choices=("none", "balanced")
)
"""What a design may say. The constructor also takes None, which means "none", and a dict as in scikit-learn."""
_LARGE = 2**34
"""Rows × columns × classes from which on a pass over the rows costs more than to read them for each problem anew."""
_EACH = 4 * 42
"""Bytes for each coefficient while it is solved: eight steps and changes of gradient, twice, and ten arrays more."""
_SHARE = 4
"""The matrices of a closed form take one part of so many of what may be used, beside the features and coefficients."""
_NAMED = 10
"""A message names so many classes at most."""


@dataclass(kw_only=True, eq=False, repr=False)
class LinearHead(Head):
    """The base class of linear heads.

    Fitted attributes: ``coef_``, float32 (D, C), and ``intercept_``, float32 (C,), for features as they are: the
    standardisation is part of them.
    """

    def _scores(self, X: Floats) -> Floats:
        return np.asarray(X @ self.coef_ + self.intercept_)

    def _take(self, coef: Floats, intercept: Floats, scaling: Scaling) -> None:
        """Set coefficients (C, D) and intercepts (C,) for standardised rows; of two classes there may be one row."""
        if len(coef) == 1 and self.link_ is None:  # as in scores.two_columns
            sides = np.array([-0.5, 0.5], np.float32)
            coef, intercept = np.outer(sides, coef), sides * intercept
        self.coef_, self.intercept_ = scaling.fold(coef.T, intercept)

    def as_layers(self) -> Layers:
        """See :meth:`Head.as_layers`."""
        return [(self.coef_, self.intercept_)]

    def _add(self, scale: float, offset: Doubles) -> None:
        self.intercept_ = (self.intercept_ + offset * self.temperature_).astype(np.float32)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See :meth:`Head.shapes`."""
        classes = len(self.classes_)
        return {"coef": (self.n_features_in_, classes), "intercept": (classes,)}


@dataclass(kw_only=True, eq=False, repr=False)
class PathHead(LinearHead):
    """The base class of linear heads that minimise a loss with an L2 penalty, see :mod:`heads.solvers.linear_path`.

    Fitted attributes: those of :class:`LinearHead`, and ``n_iter_``, the most iterations of the solver.
    """

    family, streams = "linear", True
    weaker = ("C", 1)
    joint: ClassVar[Loss | None] = None
    """The loss over more than two classes at once; None if each class is separated from the rest by itself."""
    single: ClassVar[Loss]
    """The loss that separates one class from the rest."""

    weigh_target_only: ClassVar[bool] = False
    """Whether, with more than two classes, only the class that is separated from the rest gets its class weight."""

    class_weight: Any = field(default=None, metadata={"parameter": CLASS_WEIGHT})
    max_iter: int = parameter(MAX_ITER, "most iterations of the solver", low=1, high=1_000_000)
    tol: float = parameter(TOL, "share of the objective that may be left to gain", low=1e-12, high=1.0)

    def obstacle(self, extent: Extent, max_memory: int | None) -> str | None:
        """See :meth:`Head.obstacle`: of many classes, the time of steps; and the solver's memory for all folds."""
        many = None if self.is_closed(extent, 1, room_for(max_memory)) else too_many_classes(extent)
        return many or self._too_large(extent, extent.folds, max_memory)

    def obstacle_alone(self, extent: Extent, max_memory: int | None) -> str | None:
        """See :meth:`Head.obstacle_alone`: the memory of the solver for all rows, and for a temperature's folds."""
        large = extent.rows * extent.columns * extent.classes >= _LARGE
        return self._too_large(extent, 1 if large else 4, max_memory)

    def _too_large(self, extent: Extent, problems: int, max_memory: int | None) -> str | None:
        numbers = problems * extent.classes * (extent.columns + 1)
        needed = self._needed(extent, problems)
        return too_large(needed, max_memory, f"{numbers:,} coefficients and their last steps take", "fewer columns")

    def _needed(self, extent: Extent, problems: int) -> int:
        """Return the bytes that the solver by steps takes, with the scores that a temperature is fitted to."""
        held = 4 * extent.classes * min(extent.rows, held_most(extent.classes) // 4)
        return _EACH * problems * extent.classes * (extent.columns + 1) + held

    def class_weights(self, division: Division, fold: int) -> Doubles | None:
        """Return the weight of each class (C,) among the training rows of a fold; None for equal ones.

        Raises:
            InputError: the parameter ``class_weight`` names a class that is not there, or a weight below 0.
        """
        if self.class_weight is None or self.class_weight == "none":
            return None
        if self.class_weight == "balanced":
            counts = division.class_weight(fold)
            return np.asarray(counts.sum() / (len(counts) * np.maximum(counts, 1)), np.float64)
        labels = self.classes_.tolist()
        if not isinstance(self.class_weight, Mapping) or (self.class_weight.keys() - set(labels)):
            raise InputError(
                f"class_weight={self.class_weight!r}: give None, 'balanced', or a dict with a weight for each of the "
                f"classes {', '.join(map(repr, labels[:_NAMED]))}{' …' * (len(labels) > _NAMED)}"
            )
        weights = np.array([self.class_weight.get(label, 1.0) for label in labels], np.float64)
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise InputError(f"class_weight={self.class_weight!r}: give finite weights that are not below 0")
        return weights

    def unfit_for(self, task: Task) -> str | None:
        """See :meth:`Head.unfit_for`: only classes have weights."""
        weighted = task is not CLASSIFICATION and self.class_weight not in (None, "none")
        return super().unfit_for(task) or ("class_weight is of one class of each image" if weighted else None)

    @property
    def evens_classes(self) -> bool:
        """See :attr:`Head.evens_classes`."""
        return bool(self.class_weight == "balanced")

    @property
    def inverse_penalty(self) -> float:
        """The number C in the objective ``sum of losses + |W|² / 2C``."""
        return float(getattr(self, "C"))  # noqa: B009

    def _fit(
        self, training: Training, scaling: Scaling, validation: LabelledRows | None, folds: Labels | None
    ) -> HeldOut | None:
        division = Division.of(training, folds)
        solution = self._solution(division)
        self.n_iter_ = int(solution.iterations.max())
        coef, intercept = solution.by_fold(division.folds + 1)
        self._take(coef[-1], intercept[-1], scaling)
        return held_out(division, coef, intercept)

    def _solution(self, division: Division) -> Solution:
        """Solve the problems of each fold, and that of all rows: side by side, or in turn if there is much to do."""
        folds, extent = range(division.folds + 1), Extent.of(division.fold, division.X.shape[1], division.classes)
        # Rows are on disk where there is little memory: no more of it is used then than a solver by steps would take.
        room = self._needed(extent, len(folds)) if isinstance(division.X, StreamedRows) else room_for()
        small = np.prod(division.X.shape, dtype=np.int64) * division.classes < _LARGE
        if small or self.is_closed(extent, 1, room):
            [(_, solution)] = solve_heads([self], division, folds, standardize=False, room=room)
            return solution
        loss, variants = problems_of([self], division, folds, standardize=False)
        return solve_in_turn(division, variants, loss, self.inverse_penalty, tol=self.tol, max_iter=self.max_iter)

    def is_closed(self, extent: Extent, penalties: int, room: int) -> bool:
        """Return whether the problem is solved in closed form: it can be, that is faster, and fits so many bytes."""
        return (
            self.single is SQUARED
            and self.class_weight in (None, "none")
            and bytes_of(extent) <= room
            and is_faster(extent, penalties)
        )


def room_for(max_memory: int | None = None) -> int:
    """Return the bytes that a closed form may take, of those that may be used; None for half of the machine's."""
    return memory_limit(max_memory) // _SHARE


def solve_heads(
    heads: Sequence[PathHead],
    division: Division,
    folds: Sequence[int],
    standardize: bool,
    *,
    deadline: float | None = None,
    room: int = 0,
) -> Iterator[tuple[float, Solution]]:
    """Yield each C with the solution of heads that differ in C and class weight, see :func:`problems_of`.

    Args:
        heads, division, folds, standardize: the problems.
        deadline: ``time.monotonic()`` after which no further value of C is begun.
        room: bytes that a closed form may take beside the coefficients.
    """
    first, values = heads[0], sorted({head.inverse_penalty for head in heads})
    loss, variants = problems_of(heads, division, folds, standardize)
    extent = Extent.of(division.fold, division.X.shape[1], division.classes)
    if all(head.is_closed(extent, len(values), room) for head in heads):
        return solve_ridge(division, variants, values, deadline=deadline)
    return solve_path(division, variants, loss, values, tol=first.tol, max_iter=first.max_iter, deadline=deadline)


def problems_of(
    heads: Sequence[PathHead], division: Division, folds: Sequence[int], standardize: bool
) -> tuple[Loss, list[Variant]]:
    """Return the loss of heads that differ in C and class weight, and their variants: by class weight, fold, target."""
    first, classes = heads[0], division.classes
    joint = first.joint if classes > 2 and is_classes(division.codes) else None
    all_targets = classes > 2 or not is_classes(division.codes)
    targets = [-1] if joint else range(classes) if all_targets else [1]
    weighted = {str(head.class_weight): head for head in heads}
    variants = [
        Variant(fold, scaling, weights, target, first.weigh_target_only and classes > 2 and is_classes(division.codes))
        for name in sorted(weighted)
        for fold in folds
        for scaling, weights in [(division.scaling(fold, standardize), weighted[name].class_weights(division, fold))]
        for target in targets
    ]
    return joint or first.single, variants


@dataclass(kw_only=True, eq=False, repr=False)
class LogisticHead(PathHead):
    """Multinomial logistic regression with an L2 penalty."""

    spaces: ClassVar[Spaces] = {
        "quick": {"C": {"log": [1e-4, 1.0], "num": 9}},
        "standard": {"C": {"log": [1e-5, 10.0], "num": 13}, "standardize": [True, False]},
        "thorough": {
            "C": {"log": [1e-6, 100.0], "num": 25},
            "standardize": [True, False],
            "class_weight": ["none", "balanced"],
        },
    }
    joint, single = SOFTMAX, LOGISTIC
    tasks = frozenset({"classification", "multilabel"})

    C: float = parameter(0.01, _STRENGTH, low=1e-10, high=1e10)


@dataclass(kw_only=True, eq=False, repr=False)
class LinearSVMHead(PathHead):
    """Linear support vector machines with squared hinge loss, one class against the rest."""

    spaces: ClassVar[Spaces] = {
        "quick": {"C": {"log": [1e-5, 1e-2], "num": 4}},
        "standard": {"C": {"log": [1e-6, 1e-1], "num": 11}},
        "thorough": {"C": {"log": [1e-7, 1.0], "num": 22}, "standardize": [True, False]},
    }
    single = SQUARED_HINGE
    tasks = frozenset({"classification", "multilabel"})
    weigh_target_only = True  # as liblinear does

    C: float = parameter(1e-4, _STRENGTH, low=1e-10, high=1e10)


@dataclass(kw_only=True, eq=False, repr=False)
class RidgeHead(PathHead):
    """Least squares with an L2 penalty: to numbers, or to targets of 1 and -1, one class or label against the rest."""

    spaces: ClassVar[Spaces] = {
        "quick": {"alpha": {"log": [10.0, 1e4], "num": 4}},
        "standard": {"alpha": {"log": [1.0, 1e5], "num": 9}},
        "thorough": {"alpha": {"log": [0.1, 1e6], "num": 15}, "standardize": [True, False]},
    }
    single = SQUARED
    tasks = frozenset({"classification", "multilabel", "regression"})
    weaker = ("alpha", -1)

    alpha: float = parameter(1000.0, "strength of the L2 penalty", low=1e-10, high=1e10)

    @property
    def inverse_penalty(self) -> float:
        """See :class:`PathHead`."""
        return 1 / (2 * self.alpha)


def held_scores(
    division: Division, folds: Sequence[int], coef: Floats, intercept: Floats, scores: Floats | None = None
) -> Floats:
    """Return scores (J, C) of ``division.judged``, by the coefficients (F, C, D) of the fold that holds a row out.

    If `scores` are given, those of these folds are set in them.
    """
    if scores is None:
        scores = np.empty((len(division.judged), division.classes), np.float32)
    start = 0
    size = min(BLOCK, next(blocks(len(division.judged), division.classes)).stop)
    for rows in np.array_split(division.judged, -(-len(division.judged) // size)):
        X, part = np.asarray(division.X[rows], np.float32), scores[start : start + len(rows)]
        for i, fold in enumerate(folds):
            held = division.fold[rows] == fold
            values = X[held] @ coef[i].T + intercept[i]
            part[held] = two_columns(values[:, 0]) if values.shape[1] < division.classes else values
        start += len(rows)
    return scores


def held_out(division: Division, coef: Floats, intercept: Floats) -> HeldOut | None:
    """Return held-out scores and labels as :meth:`Head._fit` does; None if no row is held out."""
    if not division.folds:
        return None
    return held_scores(division, range(division.folds), coef, intercept), division.codes[division.judged]
