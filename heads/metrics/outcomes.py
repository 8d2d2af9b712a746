"""The outcome of each row in a few numbers, from which metrics are computed without the probabilities of all classes.

With many classes, a matrix of rows × classes does not fit in memory. Code that needs all classes of a row goes over
the rows in :func:`blocks`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Floats, Labels

Doubles = NDArray[np.float64]

_CELLS = 2**20
"""The most numbers of a block: 8 MiB in float64, a few of which exist at a time; 100,000 rows of 10 classes."""
KEPT = 2**22
"""The most probabilities that are kept with outcomes, 16 MiB, for metrics that rank the rows of each class."""


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices that divide some rows into blocks of a bounded number of cells, at least one, in order."""
    step = max(1, _CELLS // max(columns, 1))
    for start in range(0, max(rows, 1), step):
        yield slice(start, min(start + step, rows))


class Outcomes(NamedTuple):
    """The true classes of rows, and their probabilities (N, C) in a few numbers a row.

    Attributes:
        y: the true classes (N,).
        classes: the number of classes C.
        predicted: the most probable class (N,); of equally probable ones, the first. (But see :meth:`at`.)
        greatest, second: the greatest probability, and the second greatest (N,).
        true: the probability of the true class (N,).
        others: the sum of the probabilities of all other classes (N,).
        proba: the probabilities, float32 (N, C), where they are kept; else None.
    """

    y: Labels
    classes: int
    predicted: Labels
    greatest: Doubles
    second: Doubles
    true: Doubles
    others: Doubles
    proba: Floats | None = None

    @classmethod
    def of(
        cls,
        y: Labels,
        proba: NDArray[np.floating[Any]],
        columns: Labels | None = None,
        classes: int = 0,
        *,
        keep: bool = False,
    ) -> "Outcomes":
        """Compute outcomes from probabilities.

        Args:
            y: true classes (N,).
            proba: probabilities (N, K), K > 1; each row has the sum 1.
            columns: the class of each column, ascending (K,), if there are more classes than columns; the others have
                probability 0.
            classes: the number of classes in that case.
            keep: whether to keep the probabilities.
        """
        y = np.asarray(y, np.intp)  # the index of a cell of many classes is too large for the int32 of a file
        parts = [cls._of(y[part], proba[part], columns, classes) for part in blocks(*proba.shape)]
        found = cls.joined(parts)
        if not keep:
            return found
        kept = np.zeros((len(y), found.classes), np.float32)
        kept[:, slice(None) if columns is None else columns] = proba
        return found._replace(proba=kept)

    @classmethod
    def _of(cls, y: Labels, proba: NDArray[np.floating[Any]], columns: Labels | None, classes: int) -> "Outcomes":
        left, each = np.array(proba, np.float64), np.arange(len(y))
        best = left.argmax(axis=1)
        greatest = left[each, best]
        left[each, best] = -1
        second = left.max(axis=1)
        left[each, best] = greatest
        place = y if columns is None else np.minimum(np.searchsorted(columns, y), len(columns) - 1)
        known = np.ones(len(y), np.bool_) if columns is None else columns[place] == y
        true = np.where(known, left[each, place], 0.0)
        left[each[known], place[known]] = 0
        if columns is not None:
            best = columns[best]
        return cls(y, classes or proba.shape[1], best, greatest, second, true, left.sum(axis=1))

    @classmethod
    def joined(cls, parts: Sequence["Outcomes"]) -> "Outcomes":
        """Put the rows of several outcomes one after the other."""
        if len(parts) == 1:
            return parts[0]
        columns = {
            name: np.concatenate([getattr(p, name) for p in parts]) for name in cls._fields if name not in _WHOLE
        }
        kept = [part.proba for part in parts if part.proba is not None]
        proba = np.concatenate(kept) if len(kept) == len(parts) else None
        return cls(classes=parts[0].classes, proba=proba, **columns)

    def rows(self, some: NDArray[Any]) -> "Outcomes":
        """Return the outcomes of some rows, by a mask or indices."""
        columns = {name: getattr(self, name)[some] for name in self._fields if name not in _WHOLE}
        return Outcomes(classes=self.classes, proba=None if self.proba is None else self.proba[some], **columns)

    def at(self, threshold: float) -> "Outcomes":
        """Return the outcomes of two classes where rows from this probability on are said to be of the second one.

        ``greatest`` is then the probability of the predicted class, and ``second`` that of the other.
        """
        predicted = (self.two_columns[:, 1] >= threshold).astype(self.predicted.dtype)
        same = predicted == self.predicted
        greatest, second = np.where(same, [self.greatest, self.second], [self.second, self.greatest])
        return self._replace(predicted=predicted, greatest=greatest, second=second)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the predicted class is the true one, bool (N,)."""
        return np.asarray(self.predicted == self.y)

    @property
    def two_columns(self) -> Doubles:
        """The probabilities (N, 2), if there are two classes."""
        first = np.where(self.predicted == 0, self.greatest, self.second)
        return np.stack([first, np.where(self.predicted == 0, self.second, self.greatest)], axis=1)


_WHOLE = ("classes", "proba")
"""Fields that are not one number a row."""


class Confusion(NamedTuple):
    """A sparse confusion matrix: the pairs of true and predicted class that occur, and their numbers of rows.

    A matrix of 20,000 × 20,000 classes takes 3 GB, of which a hundred thousand rows fill 0.03 % at most.

    Attributes:
        classes: the number of classes C.
        true, predicted: the classes of each pair (P,), ordered by true class, then by predicted class.
        rows: the number of rows of each pair (P,).
    """

    classes: int
    true: Labels
    predicted: Labels
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, outcomes: Outcomes) -> "Confusion":
        """Count the pairs of some rows."""
        cells, rows = np.unique(outcomes.y * outcomes.classes + outcomes.predicted, return_counts=True)
        return cls(outcomes.classes, *np.divmod(cells, outcomes.classes), rows)

    @property
    def support(self) -> NDArray[np.int64]:
        """The number of rows of each true class (C,)."""
        return self._counts(self.true, self.rows)

    @property
    def answered(self) -> NDArray[np.int64]:
        """The number of rows that are predicted as each class (C,)."""
        return self._counts(self.predicted, self.rows)

    @property
    def hits(self) -> NDArray[np.int64]:
        """The number of rows of each class that are predicted right (C,)."""
        right = self.true == self.predicted
        return self._counts(self.true[right], self.rows[right])

    def _counts(self, classes: Labels, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        counts = np.zeros(self.classes, np.int64)
        np.add.at(counts, classes, rows)
        return counts

    def matrix(self) -> NDArray[np.int64]:
        """Return the whole matrix (C, C): at [i, j] the number of rows of class i that are predicted as class j."""
        matrix = np.zeros((self.classes, self.classes), np.int64)
        matrix[self.true, self.predicted] = self.rows
        return matrix

    def mistakes(self, most: int) -> list[tuple[int, int, int]]:
        """Return the most frequent mistakes: the true class, the predicted one, and the number of rows."""
        wrong = np.flatnonzero(self.true != self.predicted)
        order = wrong[np.argsort(-self.rows[wrong], kind="stable")[:most]]
        return list(zip(*(each[order].tolist() for each in (self.true, self.predicted, self.rows)), strict=True))
