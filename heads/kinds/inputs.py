"""Checks of the rows and labels that callers give to heads, with the same results as in scikit-learn.

Plain arrays of numbers are checked with NumPy alone, so that a fitted head answers without importing scikit-learn.
Everything else, such as data frames, sparse matrices or columns of labels, goes through scikit-learn's own function:
its users get the warnings and errors that they know.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import HeadError, InputError
from heads.feature_table import Rows
from heads.rows import StreamedRows
from heads.solvers.arrays import as_features, check_streamed
from heads.tasks.registry import CLASSIFICATION

_NUMBERS, _LABELS = "fiub", "iubU"
"""Kinds of NumPy types that need no check by scikit-learn. Labels of floats need one: they might be measures."""


def training_rows(head: Any, X: ArrayLike | StreamedRows, y: ArrayLike) -> tuple[Rows, NDArray[Any]]:
    """Return the rows to fit a head to as float32 (N, D), and their labels (N,). Rows on disk stay there.

    ``feature_names_in_`` of the head is set if the rows are a data frame.

    Raises:
        InputError: X is no matrix of finite numbers, the labels are no classes, or the lengths differ.
        TypeError: X is a sparse matrix.
    """
    if isinstance(X, StreamedRows):
        check_streamed(X)
        return X, np.asarray(y)
    rows, labels = _plain(X, _NUMBERS), _plain(y, _LABELS)
    if head.task_ is not CLASSIFICATION:  # whose answers the task checks
        rows, labels = (np.asarray(known_columns(head, X)) if rows is None else rows), np.asarray(y)
    elif rows is None or labels is None or labels.ndim != 1:
        from sklearn.utils.multiclass import check_classification_targets
        from sklearn.utils.validation import validate_data

        with _as_input_errors():
            rows, labels = validate_data(head, X, y, ensure_all_finite=False)
            check_classification_targets(labels)
    else:
        vars(head).pop("feature_names_in_", None)
    features = as_features(rows)
    if len(features) != len(labels):
        raise InputError(f"{len(features)} rows of features, but {len(labels)} labels")
    return features, labels


def known_rows(head: Any, X: ArrayLike | StreamedRows) -> Rows:
    """Return the rows that a fitted head is to judge as float32 (N, D). Rows on disk stay there.

    Raises:
        InputError: X is no matrix of finite numbers, or has another width than the training rows.
        TypeError: X is a sparse matrix.
    """
    if isinstance(X, StreamedRows):
        check_streamed(X)
        return _of_width(head, X)
    rows = _plain(X, _NUMBERS)
    if rows is None or hasattr(head, "feature_names_in_"):
        from sklearn.utils.validation import validate_data

        with _as_input_errors():
            rows = validate_data(head, X, reset=False, ensure_all_finite=False)
    return _of_width(head, as_features(rows))


def _of_width(head: Any, features: Rows) -> Rows:
    width, wanted = features.shape[1], head.n_features_in_
    if width != wanted:
        raise InputError(
            f"rows of {width} features, but the head takes {wanted} "
            f"(X has {width} features, but {type(head).__name__} is expecting {wanted} features as input)"
        )
    return features


def known_columns(head: Any, X: ArrayLike) -> NDArray[Any]:
    """Return rows that scikit-learn has to check, such as a data frame, as an array."""
    from sklearn.utils.validation import validate_data

    with _as_input_errors():
        return np.asarray(validate_data(head, X, ensure_all_finite=False))


def _plain(value: Any, kinds: str) -> NDArray[Any] | None:
    """Return a value as an array if its type is of one of these kinds; None if scikit-learn has to check it."""
    if type(value) not in (np.ndarray, np.memmap, list, tuple):
        return None
    found = np.asarray(value)
    return found if found.dtype.kind in kinds else None


@contextmanager
def _as_input_errors() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise InputError(str(error)) from error


def seed_of(random_state: Any) -> int:
    """Return the seed of a fit: the number itself, or one drawn at random or from a ``numpy.random.RandomState``.

    Raises:
        InputError: it is something else.
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    if not isinstance(random_state, int | np.integer) or random_state < 0:
        raise InputError(f"random_state={random_state!r}: give a whole number from 0, None or a RandomState")
    return int(random_state)


def not_fitted(head: Any) -> HeadError:
    """Make the error of a head that is used before it is fitted, which is scikit-learn's ``NotFittedError`` too."""
    found: HeadError = _not_fitted_type()(f"this {type(head).__name__} is not fitted: call fit first")
    return found


@cache
def _not_fitted_type() -> type[HeadError]:
    from sklearn.exceptions import NotFittedError

    return type(_NOT_FITTED, (InputError, NotFittedError), {"__module__": __name__, "__doc__": not_fitted.__doc__})


_NOT_FITTED = "NotFittedHeadError"


def __getattr__(name: str) -> Any:  # so that the error can be pickled, and sent by another process
    if name == _NOT_FITTED:
        return _not_fitted_type()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
