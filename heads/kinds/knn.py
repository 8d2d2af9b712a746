"""Vote of the nearest training rows, which are found here, by blocks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError
from heads.feature_table import Floats, LabelledRows, Labels
from heads.kinds.base import HeldOut, Spaces
from heads.kinds.estimator import EstimatorHead
from heads.kinds.parameters import parameter
from heads.solvers.arrays import Extent, Scaling
from heads.solvers.neighbours import Side, nearest, votes
from heads.solvers.training import Training


@dataclass(kw_only=True, eq=False, repr=False)
class KNNHead(EstimatorHead):
    """Classifier by the vote of the nearest training rows. Its scores and its probabilities are shares of the votes.

    Of several labels each has its own share; of a number the scores are the weighted mean of the nearest rows' numbers.

    (Cover & Hart, "Nearest neighbor pattern classification", IEEE Transactions on Information Theory 1967.)
    """

    family = "neighbours"
    spaces: ClassVar[Spaces] = {
        "quick": {"n_neighbors": [5, 20]},
        "standard": {"n_neighbors": [1, 5, 10, 20], "metric": ["cosine", "euclidean"]},
        "thorough": {
            "n_neighbors": [1, 3, 5, 10, 20, 50],
            "metric": ["cosine", "euclidean"],
            "weights": ["uniform", "distance"],
        },
    }
    scores_are_probabilities = True
    tasks = frozenset({"classification", "multilabel", "regression"})

    n_neighbors: int = parameter(10, "rows that vote", low=1, high=1_000_000)
    metric: str = parameter("cosine", "distance between rows", choices=("cosine", "euclidean"))
    weights: str = parameter("distance", "weight of a vote: equal, or 1 / distance", choices=("uniform", "distance"))

    @property
    def trusted_types(self) -> frozenset[str]:
        """See :attr:`Head.trusted_types`."""
        if self.link_ is not None:
            return frozenset({"sklearn.neighbors._regression.KNeighborsRegressor"})
        return frozenset({"sklearn.neighbors._classification.KNeighborsClassifier"})

    def estimator(self) -> Any:
        """See :meth:`EstimatorHead.estimator`."""
        from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

        kind = KNeighborsClassifier if self.link_ is None else KNeighborsRegressor
        return kind(self.n_neighbors, weights=self.weights, metric=self.metric, algorithm="brute")

    def obstacle(self, extent: Extent, max_memory: int | None) -> str | None:
        """See :meth:`Head.obstacle`: there must be as many training rows as vote."""
        few = self.n_neighbors > extent.fewest
        return f"there are only {extent.fewest:,} training rows: give n_neighbors no more" if few else None

    def _fit(
        self, training: Training, scaling: Scaling, validation: LabelledRows | None, folds: Labels | None
    ) -> HeldOut | None:
        rows = len(training.Z)
        if why := self.obstacle(Extent(rows, rows, self.n_features_in_, len(self.classes_)), None):
            raise HeadError(f"n_neighbors={self.n_neighbors}, but {why}")
        return super()._fit(training._replace(weights=None), scaling, validation, folds)  # each row has one vote

    def _scores(self, X: Floats) -> NDArray[np.float64]:
        # The estimator takes twice the time, and its cosine distances of equal rows are not 0.
        known, codes = self.model_._fit_X, self.model_._y
        asking = Side(len(X), lambda places: self.scaling_.apply(X[places]))
        others = Side(len(known), lambda places: np.asarray(known[places], np.float32))
        scores = np.empty((len(X), len(self.classes_)))
        for _, rows, near in nearest([(asking, others)], self.n_neighbors, self.metric):
            scores[rows] = votes(codes[near.place], near.distance, self.weights, scores.shape[1])
        return scores

    def _layout(self, given: Mapping[str, Any]) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
        rows, real = len(given["_fit_X"]), np.asarray(given["_fit_X"]).dtype
        known = {"_fit_X": (np.float64 if real == np.float64 else np.float32, (rows, self.n_features_in_))}
        if self.link_ is not None:
            signs = np.asarray(given["_y"]).dtype == np.int8
            return {**known, "_y": (np.int8 if signs else np.float32, (rows, len(self.classes_)))}
        return {"classes_": (np.int64, (len(self.classes_),)), **known, "_y": (np.int64, (rows,))}

    def _complete(self, model: Any, given: Mapping[str, Any]) -> None:
        labels = model._y
        wrong = self.link_ is None and (labels.min() < 0 or labels.max() >= len(self.classes_))
        if given["_tree"] is not None or wrong or not np.isfinite(labels).all():
            raise ValueError("its rows are not those of its classes")
        if len(labels) < self.n_neighbors:
            raise ValueError(f"it has {len(labels)} rows, but {self.n_neighbors} are to vote")
        model._tree, model._fit_method, model.outputs_2d_ = None, "brute", self.link_ is not None
        model.n_features_in_, model.n_samples_fit_ = self.n_features_in_, len(labels)
