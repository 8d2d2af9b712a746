"""The rows that one fit learns from."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Floats, LabelledRows, Labels


class Training(NamedTuple):
    """Standardised training rows: plain ones first, then augmented versions of them.

    Attributes:
        Z: float32 (N, D).
        codes: labels 0..C-1 (N,).
        image: index of the plain row that each is a version of (N,); plain rows are versions of themselves.
        weights: float64 (N,), 1 in total for each image; None when all rows are plain.
        groups: number of each plain row's group, whose rows are held out together; None where each is its own.
    """

    Z: Floats
    codes: Labels
    image: Labels
    weights: NDArray[np.float64] | None
    groups: Labels | None = None

    @property
    def plain(self) -> LabelledRows:
        """The plain rows and their labels."""
        images = int(self.image.max()) + 1
        return self.Z[:images], self.codes[:images]

    def of(self, keep: NDArray[np.bool_]) -> "Training":
        """All versions of some images: bool, one per plain row."""
        rows = keep[self.image]
        weights = None if self.weights is None else self.weights[rows]
        groups = None if self.groups is None else self.groups[keep]
        return Training(self.Z[rows], self.codes[rows], (keep.cumsum() - 1)[self.image[rows]], weights, groups)

    def fit(self, estimator: Any) -> Any:
        """Fit a scikit-learn estimator to them."""
        weights = {} if self.weights is None else {"sample_weight": self.weights}
        return estimator.fit(self.Z, self.codes, **weights)
