"""Compare rows of a table by the cosine of their standardised features: exactly, a block of rows at a time."""

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import FeatureTable, Floats, Labels
from heads.solvers.arrays import Scaling, check_streamed
from heads.solvers.moments import moments
from heads.solvers.neighbours import Near, Side, nearest


class Likeness:
    """Rows of a table, with the cosine of their standardised features as their likeness.

    They stay in their file, and are read when they are compared: any number of rows will do. Numeric columns have no
    part.

    Args:
        table: the features.
        rows: indices of the rows (N,).
        max_memory: bytes that a search may use; None for half of the machine's.

    Raises:
        HeadError: NaN or infinity in the features.

    Example:
        >>> import numpy as np
        >>> from heads import load_features
        >>> near, cosine = Likeness(load_features("digits.h5"), np.arange(100)).nearest(3)
        >>> near.shape, bool((np.diff(cosine) <= 0).all())
        ((100, 3), True)
    """

    def __init__(self, table: FeatureTable, rows: Labels, max_memory: int | None = None) -> None:
        self.rows = rows
        self._streamed, self._max_memory = table.images.stream(rows), max_memory
        with table.named():
            check_streamed(self._streamed)
        mean, scale = moments(self._streamed, np.ones((1, len(rows))))
        self.scaling = Scaling(mean[0], scale[0])

    def take(self, places: Labels) -> Floats:
        """Return the standardised features of the rows at some places of `rows`, float32 (n, D)."""
        return self.scaling.apply(self._streamed[places])

    def nearest(self, k: int) -> tuple[Labels, NDArray[np.float64]]:
        """Return the places of the nearest others of each row, the nearest first, and their cosines: (N, k) each.

        Of few rows, there are as many columns as there are others.
        """
        k = min(k, len(self.rows) - 1)
        if k < 1:
            return np.empty((len(self.rows), 0), np.intp), np.empty((len(self.rows), 0))
        found = self._search(Side(len(self.rows), self.take), k + 1)
        own = found.place == np.arange(len(self.rows))[:, None]
        own[~own.any(axis=1), -1] = True  # of more equal rows than are asked for, a row need not find itself
        shape = len(self.rows), k
        return found.place[~own].reshape(shape), 1 - found.distance[~own].reshape(shape)

    def nearest_to(self, X: Floats, k: int) -> tuple[Labels, NDArray[np.float64]]:
        """Return the places of the rows that are nearest to other features (Q, D), and their cosines: (Q, k) each."""
        asking = self.scaling.apply(np.asarray(X, np.float32))
        found = self._search(Side(len(asking), lambda places: asking[places]), min(k, len(self.rows)))
        return found.place, 1 - found.distance

    def _search(self, asking: Side, k: int) -> Near:
        distance, place = np.empty((asking.count, k)), np.empty((asking.count, k), np.intp)
        others = Side(len(self.rows), self.take)
        for _, rows, near in nearest([(asking, others)], k, "cosine", max_memory=self._max_memory):
            distance[rows], place[rows] = near
        return Near(distance, place)
