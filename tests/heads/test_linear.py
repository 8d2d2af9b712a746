"""Linear heads against plain scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from heads.linear import LinearSVMHead, LogisticHead


@pytest.fixture(params=[10, 2], ids=["ten classes", "two classes"])
def rows(request, digits):
    X, y = digits
    keep = y < request.param
    return X[keep], y[keep]


def test_logistic_head_is_scikit_learns(rows):
    X, y = rows
    head = LogisticHead(C=0.01, tol=1e-6).fit(X, y)
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, tol=1e-6, max_iter=300)).fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X), plain.predict_proba(X), atol=1e-3)
    np.testing.assert_array_equal(head.predict(X), plain.predict(X))
    assert head.coef_.dtype == np.float32


def test_linear_svm_is_scikit_learns(rows):
    X, y = rows
    head = LinearSVMHead(C=1e-3, tol=1e-9).fit(X, y)
    plain = make_pipeline(StandardScaler(), LinearSVC(C=1e-3, tol=1e-8, max_iter=100_000, random_state=0)).fit(X, y)
    scores, expected = head.decision_function(X), plain.decision_function(X)
    np.testing.assert_allclose(scores if expected.ndim == 2 else scores[:, 1] * 2, expected, atol=1e-3)
    assert (head.predict(X) == plain.predict(X)).mean() > 0.999


def test_temperature_makes_margins_probabilities(digits):
    X, y = digits
    head = LinearSVMHead(C=1e-3).fit(X[:400], y[:400])
    calibrated = log_loss(y[400:], head.predict_proba(X[400:]))
    head.temperature_ = 1.0
    assert calibrated < log_loss(y[400:], head.predict_proba(X[400:]))


def test_without_standardisation(digits):
    X, y = digits
    head = LogisticHead(standardize=False, C=1.0).fit(X, y)
    plain = LogisticRegression(C=1.0, max_iter=300).fit(X, y)
    np.testing.assert_array_equal(head.predict(X), plain.predict(X))
