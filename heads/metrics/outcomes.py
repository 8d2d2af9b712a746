"""What probabilities say of each row, in a few numbers a row: with many classes, rows × classes are never held at once.

Whatever needs all classes of a row at a time goes over the rows by :func:`blocks`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Labels

Doubles = NDArray[np.float64]

_CELLS = 2**22
"""Numbers of a block: 32 MiB in float64, of which a few are alive at a time. Of ten classes, 400,000 rows."""


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Runs of rows, in order, with a bounded number of cells each; at least one, and no row in two."""
    step = max(1, _CELLS // max(columns, 1))
    for start in range(0, max(rows, 1), step):
        yield slice(start, min(start + step, rows))


class Outcomes(NamedTuple):
    """Rows with known classes, and what probabilities (N, C) say of them.

    Attributes:
        y: true classes (N,).
        classes: C.
        predicted: the most probable class (N,); of equal ones, the first.
        greatest, second: the greatest probability, and the greatest of the others (N,).
        true: that of the true class (N,).
        others: of all classes but the true one, together (N,).
    """

    y: Labels
    classes: int
    predicted: Labels
    greatest: Doubles
    second: Doubles
    true: Doubles
    others: Doubles

    @classmethod
    def of(
        cls, y: Labels, proba: NDArray[np.floating[Any]], columns: Labels | None = None, classes: int = 0
    ) -> "Outcomes":
        """From probabilities.

        Args:
            y: true classes (N,).
            proba: (N, K), K > 1; its sum over a row is 1.
            columns: the class of each column, ascending (K,), if there are more classes than columns. Those without a
                column have probability 0.
            classes: how many there are then.
        """
        y = np.asarray(y, np.intp)  # of a file's int32, the number of a cell of many classes would be too large
        parts = [cls._of(y[part], proba[part], columns, classes) for part in blocks(*proba.shape)]
        return cls.joined(parts)

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
        """Rows of several, one after the other."""
        if len(parts) == 1:
            return parts[0]
        columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in cls._fields if name != "classes"}
        return cls(classes=parts[0].classes, **columns)

    def rows(self, some: NDArray[Any]) -> "Outcomes":
        """Some of the rows."""
        return Outcomes(self.y[some], self.classes, *(each[some] for each in self[2:]))

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the most probable class is the true one (N,)."""
        return np.asarray(self.predicted == self.y)

    @property
    def two_columns(self) -> Doubles:
        """The probabilities (N, 2), where there are two classes."""
        first = np.where(self.predicted == 0, self.greatest, self.second)
        return np.stack([first, np.where(self.predicted == 0, self.second, self.greatest)], axis=1)


class Confusion(NamedTuple):
    """How many rows of a true class are predicted as a class: only the pairs that occur, by true class and predicted.

    A matrix of 20,000 × 20,000 classes takes 3 GB, and a hundred thousand rows fill 0.03 % of it at most.
    """

    classes: int
    true: Labels
    predicted: Labels
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, outcomes: Outcomes) -> "Confusion":
        """Of some rows."""
        cells, rows = np.unique(outcomes.y * outcomes.classes + outcomes.predicted, return_counts=True)
        return cls(outcomes.classes, *np.divmod(cells, outcomes.classes), rows)

    @property
    def support(self) -> NDArray[np.int64]:
        """Rows of each true class (C,)."""
        return self._counts(self.true, self.rows)

    @property
    def answered(self) -> NDArray[np.int64]:
        """Rows that are predicted as each class (C,)."""
        return self._counts(self.predicted, self.rows)

    @property
    def hits(self) -> NDArray[np.int64]:
        """Rows of each class that are predicted as it (C,)."""
        right = self.true == self.predicted
        return self._counts(self.true[right], self.rows[right])

    def _counts(self, classes: Labels, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        counts = np.zeros(self.classes, np.int64)
        np.add.at(counts, classes, rows)
        return counts

    def matrix(self) -> NDArray[np.int64]:
        """Rows of class i that are predicted as class j, at [i, j] (C, C)."""
        matrix = np.zeros((self.classes, self.classes), np.int64)
        matrix[self.true, self.predicted] = self.rows
        return matrix

    def mistakes(self, most: int) -> list[tuple[int, int, int]]:
        """The most frequent pairs of a true class and another that was predicted, and their rows."""
        wrong = np.flatnonzero(self.true != self.predicted)
        order = wrong[np.argsort(-self.rows[wrong], kind="stable")[:most]]
        return list(zip(*(each[order].tolist() for each in (self.true, self.predicted, self.rows)), strict=True))
