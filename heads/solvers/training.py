"""The training rows of one fit."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Labels
from heads.rows import Codes, Rows, taken


class Training(NamedTuple):
    """Standardised training rows: the plain rows, followed by augmented versions of them.

    Attributes:
        Z: the rows, float32 (N, D); on disk if the head takes such rows, see :class:`heads.rows.StreamedRows`.
        codes: what their scores are to be, see :mod:`heads.solvers.goals`; of one label classes 0..C-1 (N,).
        image: the index of the plain row that each row is a version of (N,); a plain row is a version of itself.
        weights: float64 (N,), with sum 1 for each image; None if all rows are plain.
        groups: the number of each plain row's group, whose rows are held out together; None if each row is a group.
    """

    Z: Rows
    codes: Codes
    image: Labels
    weights: NDArray[np.float64] | None
    groups: Labels | None = None

    @property
    def plain(self) -> tuple[Rows, Codes]:
        """The plain rows (n, D), which are not read if they are on disk, and their labels (n,)."""
        images = int(self.image.max()) + 1
        return taken(self.Z, slice(images)), self.codes[:images]

    def of(self, keep: NDArray[np.bool_]) -> "Training":
        """Return all versions of some images, which a mask of the plain rows selects."""
        rows = keep[self.image]
        weights = None if self.weights is None else self.weights[rows]
        groups = None if self.groups is None else self.groups[keep]
        return Training(taken(self.Z, rows), self.codes[rows], (keep.cumsum() - 1)[self.image[rows]], weights, groups)

    def fit(self, estimator: Any) -> Any:
        """Fit a scikit-learn estimator to the rows, with their weights, and return it."""
        weights = {} if self.weights is None else {"sample_weight": self.weights}
        return estimator.fit(np.asarray(self.Z), self.codes, **weights)
