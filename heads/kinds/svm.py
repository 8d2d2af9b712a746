"""Support vector machine with a Gaussian kernel, fitted by scikit-learn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError
from heads.feature_table import Floats, LabelledRows, Labels
from heads.kinds.base import STANDARDIZE, HeldOut, Spaces, too_large
from heads.kinds.estimator import EstimatorHead
from heads.kinds.parameters import parameter
from heads.solvers.arrays import Extent, Scaling
from heads.solvers.gram_matrix import EACH, SHARED
from heads.solvers.scores import two_columns
from heads.solvers.training import Training

_COMPARED, _PAIRWISE = 1000, 2**25
"""The most classes of an SVM, and how many scores of pairs of classes are computed at a time: 256 MiB."""


@dataclass(kw_only=True, eq=False, repr=False)
class SVMHead(EstimatorHead):
    """Support vector machine with the Gaussian kernel exp(-gamma·|x - z|²)."""

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

    @property
    def trusted_types(self) -> frozenset[str]:
        """See :attr:`Head.trusted_types`."""
        return frozenset({"sklearn.svm._classes.SVC"})

    def estimator(self) -> Any:
        """See :meth:`EstimatorHead.estimator`."""
        from sklearn.svm import SVC

        return SVC(C=self.C, gamma=self.gamma, tol=self.tol)

    def _fit(
        self, training: Training, scaling: Scaling, validation: LabelledRows | None, folds: Labels | None
    ) -> HeldOut | None:
        if why := _too_many_pairs(len(self.classes_)):
            raise HeadError(f"the head 'svm': {why}")
        super()._fit(training, scaling, validation, folds)
        return None if folds is None else out_of_fold(self.estimator, training, folds)

    def obstacle(self, extent: Extent, max_memory: int | None) -> str | None:
        """See :meth:`Head.obstacle`: pairs of classes, and the memory for the Gram matrix of all rows."""
        if why := _too_many_pairs(extent.classes):
            return why
        needed = (SHARED + EACH) * extent.rows**2
        return too_large(needed, max_memory, f"{extent.rows:,} rows: their kernel takes", "fewer rows")

    def _scores(self, X: Floats) -> NDArray[np.float64]:
        return decisions(self.model_, self.scaling_.apply(X), len(self.classes_))

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
