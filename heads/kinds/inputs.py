"""What heads take from their callers: rows of features and labels, checked as scikit-learn checks them.

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
from heads.feature_table import Floats
from heads.solvers.arrays import as_features

_NUMBERS, _LABELS = "fiub", "iubU"
"""Kinds of NumPy types that need no look by scikit-learn. Labels that are floats might be measures, and do."""


def training_rows(head: Any, X: ArrayLike, y: ArrayLike) -> tuple[Floats, NDArray[Any]]:
    """Rows to fit a head to, float32 (N, D), and their labels (N,).

    Sets ``feature_names_in_`` of the head where the rows are a data frame.

    Raises:
        InputError: no matrix of finite numbers, labels that are no classes, or another number of them.
        TypeError: a sparse matrix.
    """
    rows, labels = _plain(X, _NUMBERS), _plain(y, _LABELS)
    if rows is None or labels is None or labels.ndim != 1:
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


def known_rows(head: Any, X: ArrayLike) -> Floats:
    """Rows for a fitted head, float32 (N, D).

    Raises:
        InputError: no matrix of finite numbers, or one of another width than the head was fitted to.
        TypeError: a sparse matrix.
    """
    rows = _plain(X, _NUMBERS)
    if rows is None or hasattr(head, "feature_names_in_"):
        from sklearn.utils.validation import validate_data

        with _as_input_errors():
            rows = validate_data(head, X, reset=False, ensure_all_finite=False)
    features = as_features(rows)
    width, wanted = features.shape[1], head.n_features_in_
    if width != wanted:
        raise InputError(
            f"rows of {width} features, but the head takes {wanted} "
            f"(X has {width} features, but {type(head).__name__} is expecting {wanted} features as input)"
        )
    return features


def _plain(value: Any, kinds: str) -> NDArray[Any] | None:
    """An array of one of these kinds of types; None where scikit-learn has to look."""
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


def not_fitted(head: Any) -> HeadError:
    """The error of a head that is used before it is fitted; scikit-learn's ``NotFittedError`` as well."""
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
