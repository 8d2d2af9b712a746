"""A kind of head in one file, as somebody would add it: Gaussian naive Bayes."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from featurestore.errors import HeadError
from heads.kinds.base import Head, Spaces
from heads.kinds.parameters import parameter


@dataclass(kw_only=True, eq=False, repr=False)
class BayesHead(Head):
    """Gaussian naive Bayes: mean and variance of each column in each class."""

    spaces: ClassVar[Spaces] = {"quick": {"smoothing": [1e-3, 0.1]}}

    smoothing: float = parameter(0.1, "share of the greatest variance that is added to all", low=0.0, high=1e3)

    def _fit(self, training, scaling, validation, folds):
        if self.smoothing == 0:
            raise HeadError("a column without variance: give smoothing above 0")
        weights = np.ones(len(training.codes)) if training.weights is None else training.weights
        member = (training.codes == np.arange(len(self.classes_))[:, None]) * weights
        counts = member.sum(axis=1, keepdims=True)
        mean = member @ training.Z / counts
        variance = member @ training.Z**2 / counts - mean**2
        variance += self.smoothing * variance.max()
        # For rows that are not standardised.
        self.mean_ = (mean * scaling.scale + scaling.mean).astype(np.float32)
        self.variance_ = (variance * scaling.scale**2).astype(np.float32)
        self.prior_ = np.log(counts[:, 0] / counts.sum()).astype(np.float32)

    def _scores(self, X):
        parts = zip(self.mean_, self.variance_, self.prior_, strict=True)
        return np.stack([p - ((X - m) ** 2 / v + np.log(v)).sum(axis=1) / 2 for m, v, p in parts], axis=1)

    def shapes(self):
        size = len(self.classes_), self.n_features_in_
        return {"mean": size, "variance": size, "prior": size[:1]}
