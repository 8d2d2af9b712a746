"""What probabilities show, against scikit-learn."""

import numpy as np
import pytest
from cases import random_case
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve, roc_curve

from heads.evaluation.curves import rates, reliability
from heads.metrics.estimates import log_odds
from heads.metrics.outcomes import Outcomes
from heads.solvers.scores import softmax


@given(st.integers(2, 60), st.integers(0, 1000))
def test_rates_are_scikit_learns(rows, seed):
    y, proba = random_case(2, rows, seed)
    y[:2] = 0, 1
    found = rates(y, proba)
    score = log_odds(proba)
    wrong, right, at = roc_curve(y, score, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positive_rate, wrong[1:])
    np.testing.assert_allclose(found.recall, right[1:])
    np.testing.assert_allclose(found.threshold, 1 / (1 + np.exp(-at[1:])))
    precision, recall, _ = precision_recall_curve(y, score)
    np.testing.assert_allclose(found.precision, precision[-2::-1])
    np.testing.assert_allclose(found.recall, recall[-2::-1])


def test_the_curve_tells_rows_apart_whose_probability_is_1():
    scores = np.array([40.0, 50.0, 60.0, 70.0])
    proba = softmax(np.stack([np.zeros(4), scores], axis=1))
    found = rates(np.array([0, 1, 0, 1]), proba)
    assert found.threshold == [1, 1, 1, 1] and found.recall == [0.5, 0.5, 1, 1]


def test_rates_of_rows_that_are_certain():
    found = rates(np.array([0, 1, 0, 1]), np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.4, 0.6]]))
    assert found.threshold == [1, pytest.approx(0.6), 0] and found.recall == [0.5, 1, 1]
    assert found.precision == [0.5, pytest.approx(2 / 3), 0.5] and found.false_positive_rate == [0.5, 0.5, 1]


@given(st.integers(2, 4), st.integers(1, 60), st.integers(0, 1000))
def test_reliability_accounts_for_every_row(classes, rows, seed):
    y, proba = random_case(classes, rows, seed)
    found = reliability(Outcomes.of(y, proba))
    right = (proba.argmax(axis=1) == y).mean()
    assert sum(each.rows for each in found.bins) == rows
    assert sum(each.rows * each.accuracy for each in found.bins) / rows == pytest.approx(right)
    assert abs(proba.max(axis=1).mean() - right) - 1e-9 <= found.error <= 1
    assert all(low - 1e-9 <= each.accuracy <= high + 1e-9 for each in found.bins for low, high in [each.interval])


def test_probabilities_that_are_what_they_say_have_no_calibration_error():
    proba = np.tile([[0.75, 0.25]], (400, 1))
    assert reliability(Outcomes.of(np.arange(400) % 4 // 3, proba)).error == 0
