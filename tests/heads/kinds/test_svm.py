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
