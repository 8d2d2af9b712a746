"""Arrays: checks of features and of arrays from files, and standardisation."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import HeadError, InputError
from heads.feature_table import Floats, Labels
from heads.rows import Rows, StreamedRows
from heads.solvers.moments import moments

F = TypeVar("F", bound=np.floating[Any])

Layers = list[tuple[Floats, Floats]]
"""The weights (in, out) and the bias (out,) of each layer of a net."""

_LARGEST = 1e15
"""The largest feature: sums of squares over millions of rows are still finite in float32."""
UNUSABLE = f"features hold NaN, infinity or numbers beyond {_LARGEST:g}"


class Scaling(NamedTuple):
    """The mean and the standard deviation of each column, float32 (D,), by which rows are standardised."""

    mean: Floats
    scale: Floats

    @classmethod
    def none(cls, columns: int) -> "Scaling":
        """Make the scaling that leaves rows as they are."""
        return cls(np.zeros(columns, np.float32), np.ones(columns, np.float32))

    def apply(self, X: Floats) -> Floats:
        """Return standardised rows (N, D) in a new array."""
        Z = X - self.mean
        Z /= self.scale
        return Z

    def of(self, X: Rows) -> Rows:
        """Return standardised rows (N, D): in a new array, or on disk as they were, to be scaled when they are read."""
        return X.scaled(*self) if isinstance(X, StreamedRows) else self.apply(X)

    def fold(self, weights: Floats, bias: Floats) -> tuple[Floats, Floats]:
        """Return weights (D, C) and bias (C,) that compute on raw rows what these compute on standardised rows."""
        folded = weights / self.scale[:, None].astype(np.float64)
        return folded.astype(np.float32, order="C"), (bias - self.mean @ folded).astype(np.float32)


class Extent(NamedTuple):
    """The size of the data that heads are judged on.

    Attributes:
        rows: the number of all rows.
        fewest: the number of rows of the smallest training set.
        columns: the number of features D.
        classes: the number of classes C.
        folds: the number of folds that are fitted side by side.
        task: what is asked of a row, see :data:`heads.tasks.registry.TASKS`.
    """

    rows: int
    fewest: int
    columns: int
    classes: int
    folds: int = 1
    task: str = "classification"

    @classmethod
    def of(cls, fold: Labels, columns: int, classes: int) -> "Extent":
        """Compute the size from the fold in which each row is held out (N,); -1 is never held out."""
        held = np.bincount(fold + 1)[1:]
        return cls(len(fold), len(fold) - int(held.max(initial=0)), columns, classes, max(len(held), 1))


def standardise(X: Rows, weights: NDArray[np.float64] | None = None) -> tuple[Rows, Scaling]:
    """Return standardised rows, and their scaling, see :meth:`Scaling.of`. Constant columns become zero.

    The weights of the rows (N,) are equal by default.
    """
    means, scales = moments(X, (np.ones(len(X)) if weights is None else weights)[None])
    scaling = Scaling(means[0], scales[0])
    return scaling.of(X), scaling


def check_streamed(X: StreamedRows) -> None:
    """Check rows on disk as :func:`as_features` checks those in memory, reading each once.

    Raises:
        InputError: see there.
    """
    bad = np.concatenate([unusable(block) for block in X.blocks()])
    _check(bad)


def _check(bad: NDArray[np.bool_]) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        raise InputError(
            f"{UNUSABLE} in {rows.size} of {len(bad)} rows, the first is row {rows[0]}: "
            "leave these rows out, or extract them again"
        )


def as_features(X: ArrayLike) -> Floats:
    """Return rows as float32 (N, D), without a copy if they are that already.

    Raises:
        InputError: X is no matrix, has no columns, or holds NaN, infinity or huge numbers.
    """
    raw = np.asarray(X)
    if raw.ndim != 2:
        raise InputError(
            f"features have shape {raw.shape}: give a matrix of one row per sample "
            "(Reshape your data with X.reshape(1, -1) if it is one sample)"
        )
    with np.errstate(over="ignore"):  # the check below names rows that become infinite
        features = raw.astype(np.float32, copy=False)
    _check(unusable(features))
    return features


def unusable(features: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return a mask (N,) of the rows that hold NaN, infinity or huge numbers, see :data:`UNUSABLE`.

    Raises:
        InputError: the rows have no columns.
    """
    if not features.shape[1]:
        raise InputError(
            f"features have no columns, 0 feature(s) (shape={features.shape}) while a minimum of 1 is required: "
            "extract them again"
        )
    # Both comparisons are false for NaN.
    return np.asarray(~((features.max(axis=1) <= _LARGEST) & (features.min(axis=1) >= -_LARGEST)))


def finite(answers: NDArray[F]) -> NDArray[F]:
    """Return scores or probabilities (N, C) as they are, if all are finite.

    Raises:
        HeadError: some are not, since weights can be so large that their sums are infinite.
    """
    if bad := int((~np.isfinite(answers).all(axis=1)).sum()):
        raise HeadError(f"its answers to {bad} of {len(answers)} rows are no numbers")
    return answers


def check_arrays(state: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that a state holds finite float32 arrays of these names and shapes.

    Raises:
        ValueError: it holds something else.
    """
    if state.keys() != shapes.keys():
        raise ValueError(f"it holds {', '.join(sorted(state))}, not {', '.join(sorted(shapes))}")
    for name, shape in shapes.items():
        value = state[name]
        check_array(name, value, np.float32, shape)


def check_array(name: str, value: Any, kind: type[np.generic], shape: tuple[int, ...]) -> None:
    """Check that a value from a file is an array of this type and shape, of finite numbers.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{name} is a {type(value).__name__}, not an array")
    if value.dtype != kind or value.shape != shape or not np.isfinite(value).all():
        raise ValueError(f"{name} is {value.dtype} {value.shape}, not finite {np.dtype(kind).name} {shape}")
