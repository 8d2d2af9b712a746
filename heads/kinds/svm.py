"""Support vector machine with a Gaussian kernel: scikit-learn's, and of many rows one on an approximated kernel."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError
from heads.feature_table import Floats, LabelledRows, Labels
from heads.kinds.base import STANDARDIZE, STREAMING, HeldOut, Spaces, State, too_large, too_many_classes
from heads.kinds.estimator import EstimatorHead
from heads.kinds.linear import LinearSVMHead, solve_heads
from heads.kinds.parameters import parameter
from heads.metrics.outcomes import blocks
from heads.solvers.arrays import Extent, Scaling, check_array, check_arrays
from heads.solvers.folds import Division
from heads.solvers.gram_matrix import EACH, SHARED
from heads.solvers.nystroem import Landmarks, approximated, memory
from heads.solvers.scores import two_columns
from heads.solvers.training import Training

_ALONE, _SCALED = 32, 4
"""Bytes for each feature: float32, float64, and support vectors as they are and as they are saved; float32 alone."""

EXACT = 8000
"""The kernel of so many rows, and no more, is exact: one of 50,000 takes 10 GB, and its SVM a pass for each pair."""

_COMPARED, _PAIRWISE = 1000, 2**25
"""The most classes of an SVM, and how many scores of pairs of classes are computed at a time: 256 MiB."""


@dataclass(kw_only=True, eq=False, repr=False)
class SVMHead(EstimatorHead):
    """Support vector machine with the Gaussian kernel exp(-gamma·|x - z|²).

    Up to :data:`EXACT` training rows it is scikit-learn's ``SVC``. Of more rows the kernel is approximated from
    `landmarks` of them, see :mod:`heads.solvers.nystroem`, and a linear support vector machine separates each class
    from the rest by the squared hinge loss. Its accuracy is that of the exact one where both can be fitted (8,000 rows
    of CIFAR-10), and 2,000 landmarks predict faster than 30,000 support vectors, from a file a fortieth of the size.

    Fitted attributes: those of :class:`EstimatorHead`, and ``landmarks_``. This is None if the kernel is exact; else
    ``model_`` is, and there are ``coef_``, float32 (M, C), and ``intercept_``, float32 (C,).

    Example:
        >>> from heads.kinds.svm import SVMHead
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> SVMHead(C=1.0).fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > 0.9
        True
    """

    family = "kernel"
    spaces: ClassVar[Spaces] = {
        "standard": {"C": [1.0, 10.0, 100.0], "standardize": [False, True]},
        "thorough": {"C": {"log": [0.1, 1000.0], "num": 5}, "standardize": [False, True]},
    }
    weaker = ("C", 1)

    # Accuracy on validation rows, features of lite0: flowers 0.893 without and 0.853 with, dog breeds 0.857 and 0.810.
    standardize: bool = parameter(False, STANDARDIZE)
    C: float = parameter(10.0, "inverse strength of the penalty", low=1e-10, high=1e10)
    gamma: float | str = parameter(
        "scale", "width of the kernel; scale: 1 / (features × their variance)", low=1e-12, high=1e12, choices=("scale",)
    )
    tol: float = parameter(1e-3, "precision at which the solver stops", low=1e-12, high=1.0)
    landmarks: int = parameter(
        2000, f"of more than {EXACT:,} rows, so many give the kernel of all; 0: it is exact", low=0, high=20_000
    )

    @property
    def trusted_types(self) -> frozenset[str]:
        """See :attr:`Head.trusted_types`."""
        return frozenset({"sklearn.svm._classes.SVC"})

    def estimator(self) -> Any:
        """See :meth:`EstimatorHead.estimator`."""
        from sklearn.svm import SVC

        return SVC(C=self.C, gamma=self.gamma, tol=self.tol)

    def approximates(self, rows: int) -> bool:
        """Return whether the kernel of so many rows is approximated."""
        return bool(self.landmarks) and rows > EXACT

    def linear(self) -> LinearSVMHead:
        """Make the linear head that is fitted to the features of an approximated kernel."""
        # More of the objective than usual may be left: on CIFAR-10 the rest changed no accuracy, and took four fifths.
        return LinearSVMHead(C=self.C, tol=self.tol, standardize=False)

    def _fit(
        self, training: Training, scaling: Scaling, validation: LabelledRows | None, folds: Labels | None
    ) -> HeldOut | None:
        self.landmarks_: Landmarks | None = None
        if self.approximates(len(training.Z)):
            return self._fit_landmarks(training, scaling, folds)
        if why := _too_many_pairs(len(self.classes_)):
            raise HeadError(f"the head 'svm': {why}")
        super()._fit(training, scaling, validation, folds)
        return None if folds is None else out_of_fold(self.estimator, training, folds)

    def _fit_landmarks(self, training: Training, scaling: Scaling, folds: Labels | None) -> HeldOut | None:
        division, none = Division.of(training, folds), Scaling.none(self.n_features_in_)
        held = np.empty((len(division.judged), len(self.classes_)), np.float32)
        every = range(division.folds + 1)
        for fold, landmarks, features in approximated(division, none, self.gamma, self.landmarks, every, self._seed):
            [(_, coef, intercept)] = separated([self.linear()], replace(division, X=features), fold)
            if fold < division.folds:
                held[division.places(fold)] = features[division.held(fold)] @ coef + intercept
            else:
                self.landmarks_, self.coef_, self.intercept_ = landmarks, landmarks.whitening @ coef, intercept
        self.model_, self.scaling_ = None, scaling
        return (held, division.codes[division.judged]) if division.folds else None

    def obstacle(self, extent: Extent, max_memory: int | None) -> str | None:
        """See :meth:`Head.obstacle`: pairs of classes, and the memory for the kernel of all rows."""
        if self.approximates(extent.rows):
            needed = memory(extent.rows, self.landmarks)
            what = f"{extent.rows:,} rows: their kernel with {self.landmarks:,} landmarks takes"
            return too_many_classes(extent) or too_large(needed, max_memory, what, "fewer landmarks")
        if why := _too_many_pairs(extent.classes):
            return why
        needed = (SHARED + EACH) * extent.rows**2
        return too_large(needed, max_memory, f"{extent.rows:,} rows: their kernel takes", "fewer rows")

    def obstacle_alone(self, extent: Extent, max_memory: int | None) -> str | None:
        """See :meth:`Head.obstacle_alone`: the rows, for scikit-learn in float64, and what is kept of them."""
        needed = _ALONE * extent.rows * extent.columns
        if self.approximates(extent.rows):
            needed = _SCALED * extent.rows * extent.columns + memory(extent.rows, self.landmarks)
        return too_large(needed, max_memory, f"{extent.rows:,} rows, which it needs in memory, take", STREAMING)

    def size(self, extent: Extent) -> int:
        """See :meth:`Head.size`: at most all rows are kept, of an approximated kernel the landmarks."""
        if self.approximates(extent.rows):
            return min(self.landmarks, extent.rows) * (extent.columns + extent.classes) + extent.classes
        return super().size(extent)

    @property
    def approximation(self) -> str | None:
        """See :attr:`Head.approximation`."""
        return f"kernel from {len(self.landmarks_.rows):,} landmarks (Nyström)" if self.landmarks_ else None

    def _scores(self, X: Floats) -> NDArray[np.floating[Any]]:
        if self.landmarks_ is None:
            return decisions(self.model_, self.scaling_.apply(X), len(self.classes_))
        scores = np.empty((len(X), len(self.classes_)), np.float32)
        for part in blocks(len(X), len(self.landmarks_.rows)):
            scores[part] = self.landmarks_.kernel(self.scaling_.apply(X[part])) @ self.coef_ + self.intercept_
        return scores

    def state(self) -> State:
        """See :meth:`Head.state`."""
        if self.landmarks_ is None:
            return super().state()
        own = {"landmarks": self.landmarks_.rows, "coef": self.coef_, "intercept": self.intercept_}
        return {**own, "gamma": np.array([self.landmarks_.gamma]), **self.scaling_._asdict()}

    def restore(self, state: State) -> None:
        """See :meth:`Head.restore`."""
        self.landmarks_ = None
        if "model" in state:
            super().restore(state)
            return
        gamma, rest = state["gamma"], {name: state[name] for name in state if name != "gamma"}
        count, classes = len(state["landmarks"]), len(self.classes_)
        check_array("gamma", gamma, np.float64, (1,))
        check_arrays(rest, {
            "landmarks": (count, self.n_features_in_), "coef": (count, classes), "intercept": (classes,),
            **self.shapes(),
        })  # fmt: skip
        if not (gamma[0] > 0 and count and (state["scale"] > 0).all()):
            raise ValueError("its gamma or a scale is not above 0, or it has no landmarks")
        self.model_, self.scaling_ = None, Scaling(state["mean"], state["scale"])
        self.landmarks_ = Landmarks(state["landmarks"], float(gamma[0]))
        self.coef_, self.intercept_ = state["coef"], state["intercept"]

    def _layout(self, given: Mapping[str, Any]) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
        vectors, classes = len(given["support_vectors_"]), len(self.classes_)
        pairs, real, whole = classes * (classes - 1) // 2, np.float64, np.int32
        return {
            "classes_": (np.int64, (classes,)),
            "support_": (whole, (vectors,)),
            "support_vectors_": (real, (vectors, self.n_features_in_)),
            "_n_support": (whole, (classes,)),
            "dual_coef_": (real, (classes - 1, vectors)),
            "_dual_coef_": (real, (classes - 1, vectors)),
            "intercept_": (real, (pairs,)),
            "_intercept_": (real, (pairs,)),
            "_probA": (real, (0,)),
            "_probB": (real, (0,)),
        }

    def _complete(self, model: Any, given: Mapping[str, Any]) -> None:
        counts, gamma = model._n_support, given["_gamma"]
        if given["_sparse"] or counts.min() < 0 or counts.sum(dtype=np.int64) != len(model.support_vectors_):
            raise ValueError("its support vectors are not those of its classes")
        if not isinstance(gamma, float) or not 0 < gamma < np.inf:
            raise ValueError("its gamma is no number above 0")
        model._sparse, model._gamma, model.fit_status_ = False, float(gamma), 0
        model.n_features_in_ = self.n_features_in_


def _too_many_pairs(classes: int) -> str | None:
    if classes <= _COMPARED:
        return None
    return (
        f"it compares each two of {classes:,} classes, {classes * (classes - 1) // 2:,} pairs, and takes at most "
        f"{_COMPARED:,} classes: take lda, centroid or knn"
    )


def separated(
    heads: Sequence[LinearSVMHead], mapped: Division, fold: int, **options: Any
) -> Iterator[tuple[float, Floats, Floats]]:
    """Yield each C of some heads with the weights (M, C) and intercepts (C,) for a fold's features."""
    for C, solution in solve_heads(heads, mapped, [fold], standardize=False, **options):
        coef, intercept = (part[0] for part in solution.by_fold(1))
        heads[0]._take(coef, intercept, Scaling.none(coef.shape[1]))
        yield C, heads[0].coef_, heads[0].intercept_


def decisions(model: Any, X: NDArray[np.floating[Any]], classes: int) -> NDArray[np.float64]:
    """Return the scores (N, C) of an SVC, which compares every two classes, computed some rows at a time."""
    size = max(1, _PAIRWISE // (classes * (classes - 1) // 2))
    parts = [two_columns(model.decision_function(X[start : start + size])) for start in range(0, len(X), size)]
    return np.concatenate(parts) if parts else np.empty((0, classes))


def out_of_fold(make: Callable[[], Any], training: Training, folds: Labels) -> HeldOut:
    """Return scores of the plain rows that are held out, each by an estimator fitted without the row and its views."""
    Z, codes = training.plain
    scores = np.empty((len(codes), codes.max() + 1))
    for fold in range(folds.max() + 1):
        held = folds == fold
        scores[held] = decisions(training.of(~held).fit(make()), Z[held], scores.shape[1])
    return scores[folds >= 0], codes[folds >= 0]
