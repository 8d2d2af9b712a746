"""Rows of features that stay in their files, and are read a block at a time wherever a solver asks for some."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from featurestore.system.machine import memory_limit

Floats = NDArray[np.float32]
Labels = NDArray[np.intp]
Features = NDArray[np.floating[Any]]
Codes = NDArray[Any]
"""What the scores of rows are to be: classes (N,), signs of labels (N, K) or numbers (N, K), see
:mod:`heads.solvers.goals`."""

_SHARE = 2
"""Features in memory take at most one part of so many of what may be used: a fit needs some too."""
_CONSTANT = 1e-6
"""Numbers whose deviation is below this share of their mean are constant to rounding."""
BLOCK = 1024
"""Number of rows that are read and multiplied at a time."""


@dataclass(frozen=True, eq=False)
class NumericScaling:
    """How the last C columns of rows, which are numbers such as an age, become features beside those of the image.

    They are standardised, whatever the head does with features, since their units say nothing; and a missing value
    becomes the mean, which is 0 then.

    Attributes:
        mean, scale: of the values that are there, float32 (C,).

    Example:
        >>> import numpy as np
        >>> from heads.rows import NumericScaling
        >>> scaling = NumericScaling.of(np.array([[30.0], [np.nan], [50.0]]))
        >>> scaling.apply(np.array([[0.5, 60.0], [0.7, np.nan]])).tolist()
        [[0.5, 2.0], [0.699999988079071, 0.0]]
    """

    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, numbers: Features) -> "NumericScaling":
        """Take the scaling from the numbers (n, C) of training rows; NaN is a missing value."""
        values = np.asarray(numbers, np.float64)
        there = np.isfinite(values)
        count = np.maximum(there.sum(axis=0), 1)
        mean = np.where(there, values, 0).sum(axis=0) / count
        scale = np.sqrt((np.where(there, values - mean, 0) ** 2).sum(axis=0) / count)
        constant = scale <= _CONSTANT * np.maximum(np.abs(mean), 1e-20)
        return cls(mean.astype(np.float32), np.where(constant, 1, scale).astype(np.float32))

    @classmethod
    def none(cls, columns: int) -> "NumericScaling":
        """Make the scaling that leaves numbers as they are, but for missing ones, which become 0."""
        return cls(np.zeros(columns, np.float32), np.ones(columns, np.float32))

    def of_numbers(self, numbers: Features) -> Floats:
        """Return numbers (N, C) standardised, in a new array."""
        found: Floats = (np.asarray(numbers, np.float32) - self.mean) / self.scale
        return np.where(np.isnan(found), np.float32(0), found)

    def apply(self, rows: ArrayLike) -> Floats:
        """Return rows (N, D) with their last C columns standardised, in a new array."""
        found = np.array(rows, np.float32)
        first = found.shape[1] - len(self.mean)
        found[:, first:] = self.of_numbers(found[:, first:])
        return found


@dataclass(frozen=True, eq=False)
class StreamedRows:
    """Rows (N, D) that stay on disk. A slice, a mask or indices read the rows that they name, as float32.

    The files are memory-mapped: what was read stays in the page cache for as long as the kernel has room for it, and is
    no memory of the process. What is read is a new array, which may be changed.

    Attributes:
        parts: arrays that stand side by side, each with that of the augmented views (N', d) and (M', d).
        source: the place of each row in the parts (N,): an index of a row, or N' and an index of a view.
        scaling: mean and deviation, float32 (D,), by which rows are standardised as they are read; None for none.
        basis: float32 (D, k), by which they are multiplied then; None for none.
        numeric: how the last columns are scaled before all that; None where they are features as others are.

    Example:
        >>> import numpy as np
        >>> from heads.rows import StreamedRows
        >>> features, views = np.arange(8, dtype=np.float16).reshape(4, 2), np.zeros((1, 2), np.float16)
        >>> rows = StreamedRows(((features, views),), np.array([3, 4, 0]))
        >>> rows.shape, rows[:2].tolist()
        ((3, 2), [[6.0, 7.0], [0.0, 0.0]])
    """

    parts: Sequence[tuple[Features, Features]]
    source: Labels
    scaling: tuple[Floats, Floats] | None = None
    basis: Floats | None = None
    numeric: NumericScaling | None = None

    def __len__(self) -> int:
        return len(self.source)

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows N and of columns D."""
        columns = sum(plain.shape[1] for plain, _ in self.parts)
        return len(self.source), columns if self.basis is None else self.basis.shape[1]

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """The type of what is read."""
        return np.dtype(np.float32)

    def __getitem__(self, rows: Any) -> Floats:
        if isinstance(rows, tuple):  # some rows, and some columns of these
            rows, columns = rows
            blocks = self.taken(rows).blocks()
            return np.concatenate([block[:, columns] for block in blocks])
        raw = _beside([_read(*part, self.source[rows]) for part in self.parts])
        read = self._scaled(raw if self.numeric is None else self.numeric.apply(raw))
        return read if self.basis is None else read @ self.basis

    def _scaled(self, raw: Features) -> Floats:
        if self.scaling is None:
            return raw.astype(np.float32)
        mean, scale = self.scaling
        read: Floats = np.subtract(raw, mean, dtype=np.float32)
        read /= scale
        return read

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Features:
        """Read all rows into memory."""
        whole = np.empty(self.shape, dtype or np.float32)
        for start in range(0, len(whole), BLOCK):
            whole[start : start + BLOCK] = self[start : start + BLOCK]
        return whole

    def blocks(self) -> Any:
        """Yield all rows in order, a thousand at a time."""
        for start in range(0, max(len(self), 1), BLOCK):
            yield self[start : start + BLOCK]

    def taken(self, rows: Any) -> "StreamedRows":
        """Return the rows that a slice, a mask or indices name, without reading them."""
        return replace(self, source=self.source[rows])

    def scaled(self, mean: Floats, scale: Floats) -> "StreamedRows":
        """Return the rows as they are when they are standardised, without reading them.

        Raises:
            ValueError: they are scaled already.
        """
        if self.scaling is not None:
            raise ValueError("these rows are scaled already")
        return replace(self, scaling=(mean, scale))

    def followed_by(self, others: "StreamedRows") -> "StreamedRows":
        """Return these rows and others of the same files, without reading them."""
        return replace(self, source=np.concatenate([self.source, others.source]))


def stay_on_disk(rows: int, columns: int, copies: int, max_memory: int | None) -> bool:
    """Whether rows are to be streamed, since in memory they would take more than their share of it.

    Args:
        rows: the number of rows.
        columns: the number of columns.
        copies: the number of float32 copies that would be held.
        max_memory: bytes that may be used; None for half of the machine's.
    """
    return 4 * copies * rows * columns > memory_limit(max_memory) // _SHARE


Rows = Features | StreamedRows
"""Rows (N, D) in memory or not: what a slice, a mask or indices of rows name is an array."""


def taken(X: Any, rows: Any) -> Any:
    """Return some rows, by a slice, a mask or indices; those that stay on disk are not read."""
    return X.taken(rows) if isinstance(X, StreamedRows) else X[rows]


def followed(X: Any, others: Any) -> Any:
    """Return rows and others below them; those that stay on disk are not read, if both do."""
    return X.followed_by(others) if isinstance(X, StreamedRows) else np.concatenate([X, others])


def _read(plain: Features, views: Features, source: Labels) -> Features:
    """Return the rows of one part at these places: in one piece where they follow each other."""
    if not len(source):
        return np.empty((0, plain.shape[1]), plain.dtype)
    first, last = int(source[0]), int(source[-1])
    if last < len(plain):
        if last - first + 1 == len(source) and (np.diff(source) == 1).all():
            return plain[first : last + 1]
        if source.max() < len(plain):
            return plain[source]
    read, shown = np.empty((len(source), plain.shape[1]), plain.dtype), source >= len(plain)
    read[~shown] = plain[source[~shown]]
    read[shown] = views[source[shown] - len(plain)]
    return read


def _beside(parts: list[Features]) -> Features:
    return np.asarray(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))
