"""What every kind of head promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler

from featurestore.errors import HeadError
from heads import HeadDesign
from heads.kinds.design import KINDS
from heads.kinds.svm import out_of_fold
from heads.solvers.arrays import Scaling, as_features, standardise
from heads.solvers.training import Training

QUICK = {"dense": {"hidden": "32", "epochs": 15, "learning_rate": 0.01}, "linear-svm": {"C": 0.01}}
"""Hyperparameters that make a fit on a few digits short."""


def build(kind, **params):
    return HeadDesign(kind, QUICK.get(kind, {}) | params).build(seed=1)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(kind, digits):
    X, y = digits
    return build(kind).fit(X[:400], y[:400])


@pytest.fixture(scope="module")
def fitted_pair(kind, digits):
    """Fitted on two of three classes, with labels that are not 0 and 1."""
    X, y = digits
    keep = np.isin(y, (3, 8))
    return build(kind).fit(X[keep], y[keep])


def test_learns_digits(fitted, digits):
    X, y = digits
    assert fitted.score(X[400:], y[400:]) > 0.83
    assert fitted.classes_.tolist() == list(range(10))
    assert fitted.n_features_in_ == 64


def test_predict_is_argmax_of_scores_and_of_probabilities(fitted, digits):
    X, _ = digits
    scores, proba = fitted.scores(X), fitted.predict_proba(X)
    assert scores.shape == proba.shape == (600, 10)
    np.testing.assert_array_equal(fitted.predict(X), scores.argmax(axis=1))
    np.testing.assert_array_equal(fitted.predict(X), proba.argmax(axis=1))
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
    assert proba.min() >= 0


def test_two_classes_have_two_columns_and_keep_their_labels(fitted_pair, digits):
    X, y = digits
    rows = X[np.isin(y, (3, 8))]
    assert fitted_pair.scores(rows).shape == (len(rows), 2)
    assert set(fitted_pair.predict(rows)) == {3, 8}
    assert fitted_pair.score(rows, y[np.isin(y, (3, 8))]) > 0.9


def test_same_seed_gives_the_same_head(kind, fitted, digits):
    X, y = digits
    again = build(kind).fit(X[:400], y[:400])
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


def test_float16_and_constant_columns_are_fine(kind, digits):
    X, y = digits
    padded = np.hstack([X, np.full((600, 3), 0.1)]).astype(np.float16)
    padded[:, 0] = 1000
    head = build(kind, standardize=True).fit(padded[:400], y[:400])
    assert head.score(padded[400:], y[400:]) > 0.83


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(kind, fitted, digits, value):
    X, y = digits
    broken = X.astype(np.float64)
    broken[7, 3] = value
    for use in (lambda: build(kind).fit(broken, y), lambda: fitted.predict(broken)):
        with pytest.raises(HeadError, match="1 of 600 rows, the first is row 7"):
            use()


def test_misuse_has_clear_errors(kind, fitted, digits):
    X, y = digits
    for message, use in {
        "not fitted": lambda: build(kind).predict(X),
        "rows of 63 features, but the head takes 64": lambda: fitted.predict(X[:, 1:]),
        "at least two": lambda: build(kind).fit(X[:9], np.zeros(9)),
        "600 rows of features, but 5 labels": lambda: build(kind).fit(X, y[:5]),
        "give a matrix": lambda: fitted.predict(X[0]),
    }.items():
        with pytest.raises(HeadError, match=message):
            use()


def test_heads_are_scikit_learn_classifiers(digits):
    X, y = digits
    head = build("logreg", C=0.02)
    assert clone(head).get_params() == head.get_params()
    scores = cross_val_score(head.set_params(C=0.03), X, y, cv=3)
    assert scores.min() > 0.85
    with pytest.raises(ValueError, match="gamma"):
        head.set_params(gamma=1)


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(2, 30), st.integers(1, 5)),
        elements=st.floats(-1e6, 1e6, width=32),
        fill=st.nothing(),
    )
)
def test_standardised_columns_have_mean_0_and_deviation_1_or_are_constant(X):
    Z, scaling = standardise(X)
    np.testing.assert_allclose(Z, scaling.apply(X))
    spread = X.std(axis=0, dtype=np.float64)
    wide = spread > np.maximum(1e-4 * np.abs(X).max(axis=0), 1e-15)
    np.testing.assert_allclose(Z[:, wide].std(axis=0, dtype=np.float64), 1, rtol=1e-4)
    np.testing.assert_allclose(Z[:, wide].mean(axis=0, dtype=np.float64), 0, atol=1e-2)
    assert np.isfinite(Z).all()


def test_standardise_is_scikit_learns(digits):
    X, _ = digits
    np.testing.assert_allclose(standardise(X)[0], StandardScaler().fit_transform(X.astype(np.float64)), atol=1e-5)


def test_folding_a_scaling_changes_no_score(digits):
    X, _ = digits
    rng = np.random.default_rng(0)
    weights, bias = rng.normal(size=(64, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    Z, scaling = standardise(X)
    folded, offset = scaling.fold(weights, bias)
    np.testing.assert_allclose(X @ folded + offset, Z @ weights + bias, atol=1e-4)
    np.testing.assert_array_equal(Scaling.none(64).fold(weights, bias)[0], weights)


def test_float32_features_are_not_copied(digits):
    X, _ = digits
    assert np.shares_memory(as_features(X), X)


def test_temperature_is_1_when_no_row_can_be_held_out():
    X, y = np.random.default_rng(0).normal(size=(2, 2)), np.array([0, 1])
    kinds = ("logreg", "linear-svm", "ridge", "lda", "centroid", "svm")
    assert [build(kind).fit(X, y).temperature_ for kind in kinds] == [1] * 6


@pytest.mark.parametrize("kind", ["logreg", "linear-svm", "ridge", "lda", "centroid", "svm"])
def test_copies_of_an_image_tell_nothing_of_its_label(kind):
    """Labels are coins; rows stand twice, and only heads that see a row's copy know its label."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(100, 300)).astype(np.float32), rng.integers(2, size=100)
    twice, image = np.concatenate([X, X]), np.tile(np.arange(100), 2)
    scores, labels = build(kind).fit(twice, y[image], groups=image).held_out_
    assert (scores.argmax(axis=1) == labels).mean() < 0.65
    scores, labels = build(kind).fit(twice, y[image]).held_out_
    assert (scores.argmax(axis=1) == labels).mean() > 0.75


def test_a_temperature_may_be_given(digits):
    X, y = digits
    head = build("logreg").fit(X, y, temperature=2.0)
    assert head.temperature_ == 2 and head.held_out_ is None


def test_no_version_of_a_row_is_in_the_fit_that_gives_its_scores():
    seen = []

    class Spy:
        def fit(self, X, y, sample_weight):
            seen.append((set(X[:, 0]), sample_weight))
            return self

        def decision_function(self, X):
            assert not seen[-1][0] & set(X[:, 0])
            return np.zeros((len(X), 2))

    Z = np.arange(30.0)[:, None].repeat(2, axis=1)
    image = np.concatenate([np.arange(30), np.arange(30)[::-1]])
    folds = np.where(np.arange(30) == 7, -1, np.arange(30) % 3)
    scores, codes = out_of_fold(Spy, Training(Z[image], image % 2, image, np.full(60, 0.5)), folds)
    assert len(scores) == len(codes) == 29
    assert len(seen) == 3 and sorted(len(weights) for _, weights in seen) == [40, 40, 42]


def test_views_that_are_copies_change_nothing(kind, digits):
    """Of the weighted kinds; a neighbour's vote counts as often as it is there, and dense heads draw."""
    X, y = digits
    copies = (np.concatenate([X[:300], X[:300]]), np.tile(np.arange(300), 2))
    same = build(kind).fit(X[:300], y[:300], views=copies)
    if kind in ("knn", "dense"):
        assert same.score(X[300:], y[300:]) > 0.85
    else:
        plain = build(kind).fit(X[:300], y[:300])
        # The SVM's solver stops at scores that are right to 1e-3, and its temperature multiplies them.
        tolerance = 2e-2 if kind == "svm" else 1e-3
        np.testing.assert_allclose(same.predict_proba(X), plain.predict_proba(X), atol=tolerance)


def test_an_image_weighs_1_however_many_views_it_has():
    """One row of class 0 with 99 views against ten rows of class 1 at the same place."""
    X, y = np.zeros((11, 2)), np.array([0] + [1] * 10)
    head = build("logreg", standardize=False).fit(X, y, views=(np.zeros((99, 2)), np.zeros(99, int)), temperature=1.0)
    np.testing.assert_allclose(head.predict_proba(X[:1]), [[1 / 11, 10 / 11]], atol=1e-3)


@pytest.mark.parametrize("owners", [[0], [0, 600], [0, -1]])
def test_views_of_no_row_are_refused(digits, owners):
    X, y = digits
    with pytest.raises(HeadError, match="2 views: name for each of them one of the 600 rows"):
        build("logreg").fit(X, y, views=(X[:2], owners))


def test_standardisation_is_weighted(digits):
    X, _ = digits
    weights = np.arange(600) % 3 / 1.0
    Z, _ = standardise(X, weights)
    np.testing.assert_allclose(np.average(Z, axis=0, weights=weights), 0, atol=1e-5)
    spread = np.average(Z**2, axis=0, weights=weights)
    np.testing.assert_allclose(spread[spread > 1e-20], 1, rtol=1e-4)
