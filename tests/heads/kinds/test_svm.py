"""Support vector machines against plain scikit-learn."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from featurestore.errors import HeadError
from heads.kinds import svm
from heads.kinds.svm import SVMHead
from heads.solvers.arrays import Extent


@pytest.mark.parametrize("gamma", ["scale", 0.01])
def test_svm_is_scikit_learns(digits, gamma):
    X, y = digits
    head = SVMHead(gamma=gamma, standardize=True).fit(X[:400], y[:400])
    scaler = StandardScaler().fit(X[:400])
    plain = SVC(C=head.C, gamma=gamma).fit(scaler.transform(X[:400]), y[:400])
    expected = plain.decision_function(scaler.transform(X[400:]))
    np.testing.assert_allclose(head.scores(X[400:]), expected, atol=1e-2)
    assert head.temperature_ != 1


def test_an_svm_of_too_many_classes_is_refused_at_once():
    X = np.random.default_rng(0).normal(size=(2002, 2))
    with pytest.raises(HeadError, match=r"each two of 1,001 classes, 500,500 pairs, and takes at most 1,000.*centroid"):
        SVMHead().fit(X, np.arange(2002) % 1001)
    assert "1,001 classes" in SVMHead().obstacle(Extent(2002, 2002, 2, 1001), None)


@pytest.mark.parametrize("classes", [2, 10])
def test_pairs_of_classes_are_compared_some_rows_at_a_time(digits, classes, monkeypatch):
    X, y = digits[0][digits[1] < classes], digits[1][digits[1] < classes]
    head = SVMHead().fit(X, y)
    whole = head.scores(X)
    monkeypatch.setattr(svm, "_PAIRWISE", 7 * classes * (classes - 1) // 2)
    np.testing.assert_allclose(head.scores(X), whole, atol=1e-9)


@pytest.fixture
def many(monkeypatch):
    """As if 50 rows were too many for an exact kernel."""
    monkeypatch.setattr(svm, "EXACT", 50)


@pytest.mark.parametrize("classes", [2, 10])
def test_many_rows_are_separated_by_landmarks_as_well_as_exactly(digits, classes, many):
    X, y = digits[0][digits[1] < classes], digits[1][digits[1] < classes]
    half = len(X) // 2
    exact = SVMHead(C=1.0, landmarks=0).fit(X[:half], y[:half])
    head = SVMHead(C=1.0, landmarks=40).fit(X[:half], y[:half])
    assert exact.approximation is None and head.approximation == "kernel from 40 landmarks (Nyström)"
    assert head.score(X[half:], y[half:]) > exact.score(X[half:], y[half:]) - 0.03
    assert head.temperature_ != 1
    np.testing.assert_array_equal(
        SVMHead(C=1.0, landmarks=40).fit(X[:half], y[:half]).scores(X), head.scores(X)
    )  # the seed decides alone


def test_a_head_of_landmarks_is_small_and_survives(digits, many):
    X, y = digits
    head = SVMHead(landmarks=50, standardize=True, random_state=3).fit(X, y, temperature=2.0)
    again = SVMHead(landmarks=50, standardize=True).with_width(X.shape[1], 10)
    again.restore(head.state())
    np.testing.assert_array_equal(again.scores(X), head.scores(X))
    assert sum(array.size for array in head.state().values()) < head.size(Extent(len(X), len(X), X.shape[1], 10)) + 500
    for name, wrong in {"gamma": np.zeros(1), "coef": np.zeros((50, 3), np.float32)}.items():
        with pytest.raises(ValueError, match=r"gamma|coef"):
            again.restore(head.state() | {name: wrong})


def test_the_memory_of_landmarks_is_known_before():
    extent = Extent(50_000, 40_000, 1280, 10)
    assert SVMHead().obstacle(extent, 2_000_000_000) is None
    assert "50,000 rows: their kernel with 2,000 landmarks takes 1.7 GB" in SVMHead().obstacle(extent, 10**9)
    assert "their kernel takes 50 GB" in SVMHead(landmarks=0).obstacle(extent, 10**9)


def test_an_svm_that_was_fitted_again_to_fewer_rows_is_exact(digits, many):
    X, y = digits
    head = SVMHead(landmarks=50).fit(X, y, temperature=1.0)
    head.fit(X[:50], y[:50], temperature=1.0)
    assert head.approximation is None and head.model_ is not None
