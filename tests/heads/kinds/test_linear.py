"""Linear heads against plain scikit-learn."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from heads import HeadDesign, fit_head, load_features, load_head
from heads.kinds.linear import LinearSVMHead, LogisticHead
from heads.search.judge_discriminant import judge_discriminant
from heads.search.judge_linear import judge_linear
from heads.search.judging import Judging
from heads.solvers.folds import Division


@pytest.fixture(params=[10, 2], ids=["ten classes", "two classes"])
def rows(request, digits):
    X, y = digits
    keep = y < request.param
    return X[keep], y[keep]


def test_logistic_head_is_scikit_learns(rows):
    X, y = rows
    head = LogisticHead(C=0.01, tol=1e-8).fit(X, y, temperature=1.0)
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, tol=1e-6, max_iter=300)).fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X), plain.predict_proba(X), atol=1e-3)
    np.testing.assert_array_equal(head.predict(X), plain.predict(X))
    assert head.coef_.dtype == np.float32


def test_linear_svm_is_scikit_learns(rows):
    X, y = rows
    head = LinearSVMHead(C=1e-3, tol=1e-9).fit(X, y)
    plain = make_pipeline(StandardScaler(), LinearSVC(C=1e-3, tol=1e-8, max_iter=100_000, random_state=0)).fit(X, y)
    scores, expected = head.scores(X), plain.decision_function(X)
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


@pytest.mark.parametrize("kind", ["logreg", "linear-svm", "ridge", "lda", "centroid"])
@pytest.mark.parametrize("balanced", [False, True])
def test_a_head_is_what_a_sweep_judged(digits, kind, balanced):
    X, y = digits
    closed = kind in ("lda", "centroid")
    params = {"class_weight": "balanced"} if balanced and not closed else {"standardize": not balanced}
    design = HeadDesign(kind, params)
    fold = np.where(np.arange(600) % 4, -1, 0)
    division = Division(X, y, fold, np.arange(600), np.ones(600, np.bool_))
    found = []
    judge = judge_discriminant if closed else judge_linear
    judge([design], Judging(division, 0, lambda i, judged: found.append(judged.scores)))
    head = design.build().fit(X[fold < 0], y[fold < 0])
    expected = head.scores(X[fold == 0])
    np.testing.assert_allclose(found[0], expected, atol=0.01 * np.ptp(expected))
    np.testing.assert_array_equal(found[0].argmax(axis=1), expected.argmax(axis=1))


@pytest.mark.parametrize("kind", ["logreg", "linear-svm"])
def test_a_head_saved_before_there_were_class_weights(digits_file, tmp_path, kind):
    fitted = fit_head(digits_file, kind, out=tmp_path / "head")
    file = tmp_path / "head" / "head.json"
    values = json.loads(file.read_text())
    values["params"] = {"standardize": True, "C": values["params"]["C"], "max_iter": 300, "tol": 1e-4}
    file.write_text(json.dumps(values))
    X = load_features(digits_file).X
    head = load_head(tmp_path / "head")
    np.testing.assert_array_equal(head.predict_proba(X), fitted.predict_proba(X))
    assert head.design.params["class_weight"] == "none"
