"""What probabilities say of rows, in a few numbers each, against the matrices that they stand for."""

import tracemalloc

import numpy as np
import pytest
from cases import random_case
from hypothesis import given
from hypothesis import strategies as st

from heads.metrics import outcomes
from heads.metrics.estimates import estimates
from heads.metrics.outcomes import Confusion, Outcomes, blocks


def dense_f1_error(matrix):
    """The formula of :func:`heads.metrics.estimates._macro_f1`, on the whole table."""
    occurs = matrix.sum(axis=0) + matrix.sum(axis=1) > 0
    counts = matrix[np.ix_(occurs, occurs)].astype(float)
    classes, rows = len(counts), counts.sum()
    right = (np.trace(counts) + 2) / (rows + 4)
    spread = np.full_like(counts, (1 - right) / (classes - 1))
    np.fill_diagonal(spread, right)
    cells = counts + spread * (counts.sum(axis=1) > 0)[:, None]
    cells /= cells.sum()
    both = cells.sum(axis=0) + cells.sum(axis=1)
    f1 = 2 * np.diag(cells) / both
    influence = np.diag(2 / both) - (f1 / both)[:, None] - (f1 / both)
    return np.sqrt((cells * influence**2).sum() / classes**2 / rows)


@given(st.integers(2, 6), st.integers(1, 60), st.integers(0, 1000))
def test_outcomes_are_those_of_the_probabilities(classes, rows, seed):
    y, proba = random_case(classes, rows, seed)
    found, own = Outcomes.of(y, proba), (np.arange(rows), y)
    np.testing.assert_array_equal(found.predicted, proba.argmax(axis=1))
    np.testing.assert_array_equal(np.stack([found.second, found.greatest]), np.sort(proba, axis=1)[:, -2:].T)
    np.testing.assert_array_equal(found.true, proba[own])
    rest = np.where(np.arange(classes) == y[:, None], 0, proba)
    np.testing.assert_array_equal(found.others, rest.sum(axis=1))
    if classes == 2:
        np.testing.assert_array_equal(found.two_columns, proba)


@given(st.integers(2, 6), st.integers(1, 60), st.integers(0, 1000))
def test_blocks_of_rows_make_no_difference(classes, rows, seed):
    y, proba = random_case(classes, rows, seed)
    with pytest.MonkeyPatch.context() as patch:
        whole = Outcomes.of(y, proba)
        patch.setattr(outcomes, "_CELLS", 3 * classes)
        assert [part.stop - part.start for part in blocks(rows, classes)][:-1] == [3] * ((rows - 1) // 3)
        for one, other in zip(whole, Outcomes.of(y, proba), strict=True):
            np.testing.assert_array_equal(one, other)


def test_classes_without_a_column_have_probability_0():
    proba = np.array([[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]])
    few = Outcomes.of(np.array([1, 2, 4]), proba, np.array([1, 4]), 6)
    spread = np.zeros((3, 6))
    spread[:, [1, 4]] = proba
    for one, other in zip(few, Outcomes.of(np.array([1, 2, 4]), spread), strict=True):
        np.testing.assert_array_equal(one, other)


@given(st.integers(2, 6), st.integers(1, 60), st.integers(0, 1000))
def test_the_pairs_that_occur_are_the_matrix(classes, rows, seed):
    y, proba = random_case(classes, rows, seed)
    matrix = np.zeros((classes, classes), int)
    np.add.at(matrix, (y, proba.argmax(axis=1)), 1)
    found = Confusion.of(Outcomes.of(y, proba))
    np.testing.assert_array_equal(found.matrix(), matrix)
    np.testing.assert_array_equal(found.support, matrix.sum(axis=1))
    np.testing.assert_array_equal(found.answered, matrix.sum(axis=0))
    np.testing.assert_array_equal(found.hits, np.diag(matrix))
    wrong = sorted((matrix * ~np.eye(classes, dtype=bool)).ravel().tolist(), reverse=True)
    assert [rows for *_, rows in found.mistakes(4)] == [rows for rows in wrong[:4] if rows]
    error = estimates(y, proba)["macro_f1"].error
    if ((matrix.sum(axis=0) + matrix.sum(axis=1)) > 0).sum() > 1:
        assert error == pytest.approx(dense_f1_error(matrix), rel=1e-9)


def test_metrics_of_twenty_thousand_classes_need_no_matrix_of_them():
    """It would take 3.2 GB."""
    y, proba = np.arange(0, 20_000, 100, dtype=np.int32), np.zeros((200, 20_000), np.float32)
    proba[np.arange(200), y] = 1
    proba[:20] = np.roll(proba[:20], 1, axis=1)
    tracemalloc.start()
    found = estimates(y, proba)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
    assert found["accuracy"].value == found["balanced_accuracy"].value == 0.9


def test_classes_of_a_file_do_not_overflow():
    y = np.array([59_999, 3], np.int32)
    found = Confusion.of(Outcomes.of(y, np.eye(2), np.array([3, 59_999]), 60_000))
    assert (found.true.tolist(), found.predicted.tolist()) == ([3, 59_999], [59_999, 3])
