"""Approximated kernels against those of the rows."""

import numpy as np
import pytest
from divisions import divided_rows
from scipy.spatial.distance import cdist
from sklearn.svm import SVC

from heads.solvers.folds import Division
from heads.solvers.nystroem import Landmarks, approximated


@pytest.fixture(scope="module")
def rows():
    """Rows far from the origin in comparison with their distances; some occur twice."""
    Z = np.random.default_rng(0).normal(20, 1, (90, 30)).astype(np.float32)
    Z[10:20] = Z[:10]
    return Z


def test_kernel_is_that_of_the_rows(rows):
    near = cdist(rows.astype(np.float64), rows[:40].astype(np.float64))
    np.testing.assert_allclose(Landmarks(rows[:40], 0.02).kernel(rows), np.exp(-0.02 * near**2), atol=1e-5)


def test_more_landmarks_give_more_of_the_kernel(rows):
    exact = np.exp(-0.02 * cdist(rows.astype(np.float64), rows.astype(np.float64)) ** 2)
    errors = []
    for count in (5, 30, 90):
        landmarks = Landmarks(rows[:count], 0.02)
        features = landmarks.features(landmarks.kernel(rows))
        np.testing.assert_allclose(features, landmarks.kernel(rows) @ landmarks.whitening, atol=1e-4)
        errors.append(np.abs(features @ features.T - exact).max())
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-3


def test_width_is_that_of_the_estimator(digits):
    division = divided_rows(digits)
    scaling = division.scaling(division.folds, False)
    [(_, landmarks, features)] = approximated(division, scaling, "scale", 7, [division.folds], 0)
    assert landmarks.gamma == pytest.approx(SVC(gamma="scale").fit(division.X, division.codes)._gamma, rel=1e-5)
    assert features.shape == (len(division.X), 7)


def test_rows_that_are_all_the_same_have_a_width():
    X, every = np.ones((6, 3), np.float32), np.arange(6)
    division = Division(X, every % 2, np.full(6, -1), every, np.ones(6, bool))
    [(_, landmarks, features)] = approximated(division, division.scaling(0, False), "scale", 4, [0], 0)
    assert landmarks.gamma == 1 and np.isfinite(features).all()
