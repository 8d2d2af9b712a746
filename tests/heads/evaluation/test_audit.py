"""What probabilities and features show, against scikit-learn and against what was put there."""

import numpy as np
import pytest
from cases import random_case
from feature_files import write_features
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.metrics import precision_recall_curve, roc_curve

from featurestore.errors import HeadError
from heads import load_features
from heads.evaluation.audit import audit, near_duplicates, principal_plane, rates, reliability, suspects
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


@pytest.mark.parametrize(("rows", "columns"), [(60, 9), (9, 60), (5, 1)])
def test_the_plane_is_that_of_principal_component_analysis(rows, columns):
    X = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32) * np.arange(1, columns + 1)
    places, explained = principal_plane(X)
    known = PCA(min(2, columns)).fit(X)
    expected = np.abs(known.transform(X))
    np.testing.assert_allclose(np.abs(places[:, : expected.shape[1]]), expected, rtol=1e-3, atol=1e-4)
    assert explained == pytest.approx(known.explained_variance_ratio_.sum(), rel=1e-5)


def test_a_suspect_stands_among_rows_of_one_other_class():
    y = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2])
    near = np.array([[j for j in range(12) if j != i] for i in range(12)])
    near[0, :4], near[10, :1] = [5, 6, 7, 1], [0]
    near[5, :4] = [6, 7, 8, 9]
    found = {row: (label, share) for row, label, share in suspects(y, near)}
    assert found[0] == (1, 0.75) and 5 not in found
    assert 10 not in found  # of a class too small to be asked


def test_near_duplicates_are_much_nearer_than_others():
    near = np.array([[1, 2, 3], [0, 2, 3], [3, 0, 1], [2, 0, 1], [2, 3, 0]])
    cosine = np.array([[0.9, 0.6, 0.5], [0.9, 0.6, 0.5], [0.9, 0.85, 0.84], [0.9, 0.85, 0.84], [0.99, 0.99, 0.98]])
    assert [pair[:2] for pair in near_duplicates(near, cosine)] == [(2, 4), (3, 4), (0, 4), (0, 1)]


def test_an_audit_finds_what_was_put_there(digits, tmp_path):
    X, y = digits[0].copy(), digits[1].copy()
    X[7] = X[3] * 1.0001
    wrong = int(np.flatnonzero(y == 0)[4])
    y[wrong] = 1
    file = write_features(tmp_path / "d.h5", X, y, ["train", "test"] * 300, class_names=list("0123456789"))
    found = audit(load_features(file))
    assert next({i, j} for i, j, _ in found.alike) == {3, 7} and found.alike[0][2] == pytest.approx(1, abs=1e-4)
    assert (wrong, 0) in [(row, label) for row, label, _ in found.suspects]
    assert sorted(found.rows) == list(range(600)) and found.plane.shape == (600, 2)


def test_features_that_hold_nan_are_refused(digits, tmp_path):
    X = digits[0].copy()
    X[5, 5] = np.nan
    file = write_features(tmp_path / "d.h5", X, digits[1], ["train"] * 600, class_names=list("0123456789"))
    with pytest.raises(HeadError, match="NaN"):
        audit(load_features(file))
