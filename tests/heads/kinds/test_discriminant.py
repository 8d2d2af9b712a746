"""Closed forms against scikit-learn's."""

import time

import numpy as np
import pytest
from divisions import alike, divided, two_columns
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestCentroid

from featurestore.errors import HeadError
from heads.kinds.design import HeadDesign
from heads.search.judge_discriminant import judge_discriminant
from heads.search.judging import Judging
from heads.solvers.folds import Division

DESIGNS = [
    HeadDesign(kind, {**params, "standardize": standardize})
    for standardize in (True, False)
    for kind, params in (("lda", {"shrinkage": 0.01}), ("lda", {"shrinkage": 0.4}), ("centroid", {}))
]


def judged(designs, division, **options):
    found = {}
    judge_discriminant(designs, Judging(division, 0, found.__setitem__, **options))
    return found


@pytest.mark.parametrize(("classes", "folds", "order"), [(10, 3, "mixed"), (3, 1, "sorted"), (2, 3, "sorted")])
def test_answers_are_scikit_learns(digits, classes, folds, order):
    division = divided(digits, classes, folds, order)
    found = judged(DESIGNS, division)
    for i, design in enumerate(DESIGNS):
        expected = np.empty((len(division.judged), classes))
        for fold in range(division.folds):
            rows, held = division.fold != fold, division.held(fold)
            scaling = division.scaling(fold, design.params["standardize"])
            Z, y = scaling.apply(division.X[rows]).astype(np.float64), division.codes[rows]
            seen = scaling.apply(division.X[held]).astype(np.float64)
            if design.kind == "lda":
                rival = LinearDiscriminantAnalysis("lsqr", shrinkage=design.params["shrinkage"]).fit(Z, y)
                scores = two_columns(rival.decision_function(seen))
            else:
                means = NearestCentroid().fit(Z, y).centroids_
                scores = -((seen[:, None] - means) ** 2).sum(axis=2) / 2 / Z.shape[1]
            expected[np.searchsorted(division.judged, held)] = scores
        scores = found[i].scores - found[i].scores.mean(axis=1, keepdims=True)
        alike(scores, expected - expected.mean(axis=1, keepdims=True))
        np.testing.assert_allclose(scores, expected - expected.mean(axis=1, keepdims=True), rtol=1e-3, atol=1e-3)


def test_views_weigh_as_one_row(digits):
    """A row and two views that are the same as it are that row."""
    division = divided(digits, 5)
    image = np.tile(division.image, 3)
    rows = len(division.codes)
    X, codes, fold = (np.concatenate([part] * 3) for part in (division.X, division.codes, division.fold))
    thrice = Division(X, codes, fold, image, np.arange(3 * rows) < rows, np.full(3 * rows, 1 / 3))
    once = judged(DESIGNS, division)
    for i, answer in judged(DESIGNS, thrice).items():
        np.testing.assert_allclose(answer.scores, once[i].scores, rtol=1e-3, atol=1e-3)


def test_a_feature_without_spread(digits):
    division = divided(digits, 4)
    division.X[:, 0] = 5
    for answer in judged(DESIGNS, division).values():
        assert np.isfinite(answer.scores).all()


def test_too_wide_for_a_covariance():
    X = np.zeros((8, 9000), np.float32)
    division = Division(X, np.arange(8) % 2, np.arange(8) // 2 % 2, np.arange(8), np.ones(8, np.bool_))
    with pytest.raises(HeadError, match=r"9000 × 9000 .* pool the features, or take 'ridge'"):
        judged([HeadDesign("lda")], division)
    assert judged([HeadDesign("centroid")], division).keys() == {0}


def test_nothing_is_begun_after_the_deadline(digits):
    assert judged(DESIGNS, divided(digits, 3), deadline=time.monotonic() - 1) == {}


@pytest.mark.parametrize("columns", [3, 64, 300])
def test_classes_of_one_row_each_have_no_covariance_but_an_answer(columns):
    """What is left of their covariance is rounding, and need not be positive definite."""
    X = (100 + np.random.default_rng(0).normal(size=(50, columns))).astype(np.float32)
    head = HeadDesign("lda", {"shrinkage": 0.01}).build().fit(X, np.arange(50), temperature=1.0)
    np.testing.assert_array_equal(head.predict(X), np.arange(50))
