"""Kernel heads against plain scikit-learn."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from featurestore.errors import HeadError
from heads.kinds import kernel
from heads.kinds.kernel import KNNHead, SVMHead
from heads.solvers.arrays import Extent


@pytest.mark.parametrize("gamma", ["scale", 0.01])
def test_svm_is_scikit_learns(digits, gamma):
    X, y = digits
    head = SVMHead(gamma=gamma, standardize=True).fit(X[:400], y[:400])
    scaler = StandardScaler().fit(X[:400])
    plain = SVC(C=head.C, gamma=gamma).fit(scaler.transform(X[:400]), y[:400])
    expected = plain.decision_function(scaler.transform(X[400:]))
    np.testing.assert_allclose(head.decision_function(X[400:]), expected, atol=1e-2)
    assert head.temperature_ != 1


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_knn_is_scikit_learns(digits, metric, weights):
    X, y = digits
    head = KNNHead(n_neighbors=3, metric=metric, weights=weights, standardize=False).fit(X[:400], y[:400])
    plain = KNeighborsClassifier(3, metric=metric, weights=weights).fit(X[:400], y[:400])
    np.testing.assert_allclose(head.predict_proba(X[400:]), plain.predict_proba(X[400:]), atol=1e-5)


def test_more_neighbours_than_rows(digits):
    X, y = digits
    with pytest.raises(HeadError, match="only 20 training rows"):
        KNNHead(n_neighbors=21).fit(X[:20], y[:20])


def test_an_svm_of_too_many_classes_is_refused_at_once():
    X = np.random.default_rng(0).normal(size=(2002, 2))
    with pytest.raises(HeadError, match=r"each two of 1,001 classes, 500,500 pairs, and takes at most 1,000.*centroid"):
        SVMHead().fit(X, np.arange(2002) % 1001)
    assert "1,001 classes" in SVMHead().obstacle(Extent(2002, 2002, 2, 1001), None)


@pytest.mark.parametrize("classes", [2, 10])
def test_pairs_of_classes_are_compared_some_rows_at_a_time(digits, classes, monkeypatch):
    X, y = digits[0][digits[1] < classes], digits[1][digits[1] < classes]
    head = SVMHead().fit(X, y)
    whole = head.decision_function(X)
    monkeypatch.setattr(kernel, "_PAIRWISE", 7 * classes * (classes - 1) // 2)
    np.testing.assert_allclose(head.decision_function(X), whole, atol=1e-9)
