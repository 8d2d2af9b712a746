"""Heads that compare a row with training rows: scikit-learn estimators. Neighbours are found here, by blocks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import HeadError
from heads.feature_table import Floats, Labels, Rows
from heads.kinds.base import MODEL, STANDARDIZE, Head, HeldOut, State, too_large
from heads.kinds.design import parameter
from heads.solvers.arrays import Extent, Scaling, check_array, check_arrays
from heads.solvers.gram_matrix import EACH, SHARED
from heads.solvers.neighbours import Side, nearest, votes
from heads.solvers.scores import two_columns
from heads.solvers.training import Training

_COMPARED, _PAIRWISE = 1000, 2**25
"""Classes that an SVM takes at most, and how many values of their pairs are computed at a time: 256 MiB."""


@dataclass(kw_only=True, eq=False)
class KernelHead(Head):
    """Base class of the heads that keep a scikit-learn estimator.

    Fitted attributes: ``model_``, and ``scaling_``, applied to rows before the estimator sees them.
    """

    @property
    def weights_file(self) -> str:
        """See :attr:`Head.weights_file`."""
        return MODEL

    def _fit(
        self, training: Training, scaling: Scaling, validation: Rows | None, folds: Labels | None
    ) -> HeldOut | None:
        self.model_, self.scaling_ = training.fit(self.estimator()), scaling
        return None

    def estimator(self) -> Any:
        """The unfitted scikit-learn estimator."""
        raise NotImplementedError

    def state(self) -> State:
        """See :meth:`Head.state`."""
        return {"model": self.model_, **self.scaling_._asdict()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See :meth:`Head.shapes`."""
        return dict.fromkeys(Scaling._fields, (self.n_features_in_,))

    def restore(self, state: State) -> None:
        """See :meth:`Head.restore`."""
        found, scaling = state["model"], {name: state[name] for name in state if name != "model"}
        check_arrays(scaling, self.shapes())
        if not (scaling["scale"] > 0).all():
            raise ValueError("its scale is not above 0")
        model = self.estimator()
        if type(found) is not type(model) or found.get_params() != model.get_params():
            raise ValueError(f"its model is not the {type(model).__name__} of its design")
        # What comes from the file is checked and put into an estimator of our own: whatever else it has is left behind.
        # Compiled code reads memory by the sizes of these arrays, and does not look whether they agree.
        given = vars(found)
        for name, (kind, shape) in self._layout(given).items():
            check_array(name, given[name], kind, shape)
            setattr(model, name, np.ascontiguousarray(given[name]))
        if not np.array_equal(model.classes_, np.arange(len(self.classes_))):
            raise ValueError("its model has other classes")
        self._complete(model, given)
        self.model_, self.scaling_ = model, Scaling(**scaling)

    def _layout(self, given: Mapping[str, Any]) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
        """Type and shape of each array of the estimator's attributes that it answers by.

        Raises:
            ValueError: their sizes do not fit each other.
        """
        raise NotImplementedError

    def _complete(self, model: Any, given: Mapping[str, Any]) -> None:
        """Give the estimator the attributes that are no arrays.

        Raises:
            ValueError: they, or the numbers in its arrays, do not fit the rest.
        """
        raise NotImplementedError


def decisions(model: Any, X: NDArray[np.floating[Any]], classes: int) -> NDArray[np.float64]:
    """Scores (N, C) that an SVC gives, which compares each two classes: some rows at a time."""
    size = max(1, _PAIRWISE // (classes * (classes - 1) // 2))
    parts = [two_columns(model.decision_function(X[start : start + size])) for start in range(0, len(X), size)]
    return np.concatenate(parts) if parts else np.empty((0, classes))


def out_of_fold(make: Callable[[], Any], training: Training, folds: Labels) -> HeldOut:
    """Scores of the plain rows that are held out, each from an estimator that saw neither the row nor a view of it."""
    Z, codes = training.plain
    scores = np.empty((len(codes), codes.max() + 1))
    for fold in range(folds.max() + 1):
        held = folds == fold
        scores[held] = decisions(training.of(~held).fit(make()), Z[held], scores.shape[1])
    return scores[folds >= 0], codes[folds >= 0]


@dataclass(kw_only=True, eq=False)
class SVMHead(KernelHead):
    """Support vector machine with the Gaussian kernel exp(-gamma·|x - z|²)."""

    family = "kernel"

    # Accuracy on validation rows, features of lite0: flowers 0.893 without and 0.853 with, dog breeds 0.857 and 0.810.
    standardize: bool = parameter(False, STANDARDIZE)
    C: float = parameter(10.0, "inverse strength of the penalty", low=1e-10, high=1e10)
    gamma: float | str = parameter(
        "scale", "width of the kernel; scale: 1 / (features × their variance)", low=1e-12, high=1e12, choices=("scale",)
    )
    tol: float = parameter(1e-3, "precision at which the solver stops", low=1e-12, high=1.0)

    def estimator(self) -> Any:
        """See :meth:`KernelHead.estimator`."""
        from sklearn.svm import SVC

        return SVC(C=self.C, gamma=self.gamma, tol=self.tol)

    def _fit(
        self, training: Training, scaling: Scaling, validation: Rows | None, folds: Labels | None
    ) -> HeldOut | None:
        if why := _too_many_pairs(len(self.classes_)):
            raise HeadError(f"the head 'svm': {why}")
        super()._fit(training, scaling, validation, folds)
        return None if folds is None else out_of_fold(self.estimator, training, folds)

    def obstacle(self, extent: Extent, max_memory: int | None) -> str | None:
        """See :meth:`Head.obstacle`: the Gram matrix of all rows."""
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


@dataclass(kw_only=True, eq=False)
class KNNHead(KernelHead):
    """Vote of the nearest training rows. Scores are the votes, and so are probabilities."""

    family = "neighbours"
    votes = True

    n_neighbors: int = parameter(10, "rows that vote", low=1, high=1_000_000)
    metric: str = parameter("cosine", "distance between rows", choices=("cosine", "euclidean"))
    weights: str = parameter("distance", "weight of a vote: equal, or 1 / distance", choices=("uniform", "distance"))

    def estimator(self) -> Any:
        """See :meth:`KernelHead.estimator`."""
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(self.n_neighbors, weights=self.weights, metric=self.metric, algorithm="brute")

    def obstacle(self, extent: Extent, max_memory: int | None) -> str | None:
        """See :meth:`Head.obstacle`: as many rows to fit to as vote."""
        few = self.n_neighbors > extent.fewest
        return f"there are only {extent.fewest:,} training rows: give n_neighbors no more" if few else None

    def _fit(
        self, training: Training, scaling: Scaling, validation: Rows | None, folds: Labels | None
    ) -> HeldOut | None:
        rows = len(training.Z)
        if why := self.obstacle(Extent(rows, rows, self.n_features_in_, len(self.classes_)), None):
            raise HeadError(f"n_neighbors={self.n_neighbors}, but {why}")
        return super()._fit(training._replace(weights=None), scaling, validation, folds)  # votes have no weights

    def _scores(self, X: Floats) -> NDArray[np.float64]:
        # Not by the estimator, whose cosine distances of equal rows are not 0, and which takes twice the time.
        known, codes = self.model_._fit_X, self.model_._y
        asking = Side(len(X), lambda places: self.scaling_.apply(X[places]))
        others = Side(len(known), lambda places: np.asarray(known[places], np.float32))
        scores = np.empty((len(X), len(self.classes_)))
        for _, rows, near in nearest([(asking, others)], self.n_neighbors, self.metric):
            scores[rows] = votes(codes[near.place], near.distance, self.weights, scores.shape[1])
        return scores

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """The votes (N, C)."""
        return np.asarray(self.decision_function(X), np.float64)

    def _layout(self, given: Mapping[str, Any]) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
        rows, real = len(given["_fit_X"]), np.asarray(given["_fit_X"]).dtype
        return {
            "classes_": (np.int64, (len(self.classes_),)),
            "_fit_X": (np.float64 if real == np.float64 else np.float32, (rows, self.n_features_in_)),
            "_y": (np.int64, (rows,)),
        }

    def _complete(self, model: Any, given: Mapping[str, Any]) -> None:
        labels = model._y
        if given["_tree"] is not None or labels.min() < 0 or labels.max() >= len(self.classes_):
            raise ValueError("its rows are not those of its classes")
        if len(labels) < self.n_neighbors:
            raise ValueError(f"it has {len(labels)} rows, but {self.n_neighbors} are to vote")
        model._tree, model._fit_method, model.outputs_2d_ = None, "brute", False
        model.n_features_in_, model.n_samples_fit_ = self.n_features_in_, len(labels)
