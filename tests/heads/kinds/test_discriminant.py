"""Closed forms against scikit-learn's."""

import time

import numpy as np
import pytest
from divisions import alike, alone, divided, two_columns
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestCentroid

from featurestore.errors import HeadError
from heads.kinds.design import HeadDesign
from heads.kinds.discriminant import LDAHead
from heads.search.judge_discriminant import judge_discriminant
from heads.search.judging import Judging
from heads.solvers import row_space
from heads.solvers.arrays import Extent
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


@given(
    rows=st.integers(20, 60), columns=st.integers(300, 1500), classes=st.integers(2, 4), views=st.booleans(),
    shrinkage=st.floats(0.01, 1.0), standardize=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_of_fewer_rows_than_columns_the_answer_is_that_of_the_covariance(
    rows, columns, classes, views, shrinkage, standardize, seed
):
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    X = (rng.normal(size=(rows, columns)) + rng.normal(size=(classes, columns))[y] + 1).astype(np.float32)
    given = (X[::2] + 0.1, np.arange(rows)[::2]) if views else None
    fitted = []
    for wide in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if wide:
                patch.setattr(row_space, "_WORTH", 10**6)
            head = LDAHead(shrinkage=shrinkage, standardize=standardize).fit(X, y, views=given)
            fitted.append((head.scores(X), *head.held_out_))
    assert head.coef_.shape == (columns, classes)
    for one, other in zip(*fitted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=4e-3 * np.ptp(other))  # in float32


def wide_division(rows=30, columns=9000):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(rows, columns)).astype(np.float32), np.arange(rows) % 3
    X[:, :50] += 2 * y[:, None]
    return Division(X, y, np.arange(rows) // 3 % 2, np.arange(rows), np.ones(rows, np.bool_))


def test_more_columns_than_a_covariance_may_have():
    found = judged(DESIGNS, wide_division())
    assert len(found) == len(DESIGNS)
    for i, design in enumerate(DESIGNS):
        if design.params.get("shrinkage", 1) > 0.1:  # little shrinkage magnifies rounding
            np.testing.assert_allclose(
                found[i].scores, alone(design, wide_division()), rtol=1e-3, atol=1e-3 * np.ptp(found[i].scores)
            )


def test_too_wide_for_a_covariance(monkeypatch):
    monkeypatch.setattr(row_space, "_WORTH", 10**6)
    with pytest.raises(HeadError, match=r"9,000 × 9,000 .* pool the features, or take 'ridge'"):
        judged([HeadDesign("lda")], wide_division())
    assert judged([HeadDesign("centroid")], wide_division()).keys() == {0}


def test_memory_is_of_rows_where_there_are_fewer():
    lda = LDAHead()
    assert lda.obstacle(Extent(5000, 4000, 25_000, 2, 5), 3 * 10**9) is None
    assert lda.obstacle_alone(Extent(5000, 5000, 25_000, 2), 3 * 10**9) is None
    assert "5,000 × 5,000" in lda.obstacle(Extent(5000, 4000, 25_000, 2, 5), 2_100_000_000)
    assert "9,000 × 9,000" in lda.obstacle(Extent(9000, 9000, 25_000, 2, 5), 10**11)
    assert "25,000 × 25,000" in lda.obstacle(Extent(20_000, 9000, 25_000, 2, 5), 10**11)


def test_nothing_is_begun_after_the_deadline(digits):
    assert judged(DESIGNS, divided(digits, 3), deadline=time.monotonic() - 1) == {}


@pytest.mark.parametrize("columns", [3, 64, 300])
def test_classes_of_one_row_each_have_no_covariance_but_an_answer(columns):
    """What is left of their covariance is rounding, and need not be positive definite."""
    X = (100 + np.random.default_rng(0).normal(size=(50, columns))).astype(np.float32)
    head = HeadDesign("lda", {"shrinkage": 0.01}).build().fit(X, np.arange(50), temperature=1.0)
    np.testing.assert_array_equal(head.predict(X), np.arange(50))
