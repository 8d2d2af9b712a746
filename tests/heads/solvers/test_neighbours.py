"""Nearest rows by blocks against all distances at once, and the heads that vote by them against the same ones alone."""

import time

import numpy as np
import pytest
from divisions import alone, check_close, divided_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsClassifier

import heads.search.judge_neighbours
import heads.solvers.neighbours
from featurestore.errors import HeadError
from heads.kinds.design import HeadDesign
from heads.search.judge_neighbours import judge_neighbours
from heads.search.judging import Judging
from heads.solvers.folds import Division
from heads.solvers.neighbours import Side, nearest

DESIGNS = [
    HeadDesign("knn", {"n_neighbors": k, "metric": metric, "weights": weights, "standardize": standardize})
    for standardize in (True, False)
    for metric in ("cosine", "euclidean")
    for k in (1, 7)
    for weights in ("uniform", "distance")
]
SMALL = 10_000
"""Bytes in which rows are looked at a few at a time."""


def side(X):
    return Side(len(X), lambda places: np.asarray(X[places], np.float32))


def found(Q, X, k, metric, **options):
    """Distances and places of the neighbours of all rows."""
    distance, place = np.empty((len(Q), k)), np.empty((len(Q), k), np.intp)
    for i, rows, near in nearest([(side(Q), side(X))], k, metric, **options):
        assert i == 0
        distance[rows], place[rows] = near
    return distance, place


def distances(Q, X, metric):
    """All of them; 1 from and to a row without a direction."""
    far = cdist(Q.astype(np.float64), X.astype(np.float64), metric)
    return np.where(np.isnan(far), 1, far)


@given(
    st.integers(0, 2**32),
    st.integers(1, 40),
    st.integers(1, 300),
    st.sampled_from([1, 2, 30]),
    st.sampled_from(["cosine", "euclidean"]),
    st.sampled_from(["normal", "far from the origin", "few values", "outliers", "large", "tiny", "half"]),
    st.sampled_from([SMALL, None]),
)
@settings(deadline=None, max_examples=200)
def test_neighbours_are_those_by_all_distances(seed, asking, others, columns, metric, kind, max_memory):
    rng = np.random.default_rng(seed)
    X = rng.normal(0, 1, (asking + others, columns))
    if kind == "far from the origin":
        X += 1000
    elif kind == "few values":  # equal rows, and rows of zeros
        X = X.round() * rng.integers(0, 2, (len(X), 1))
    elif kind == "outliers":
        X[rng.integers(len(X))] *= 1e6
    else:
        X *= {"normal": 1, "large": 1e30, "tiny": 1e-30, "half": 100}[kind]
    X = X.astype(np.float16 if kind == "half" else np.float32)
    Q, X = X[:asking], X[asking:]
    k = int(rng.integers(1, others + 1))
    distance, place = found(Q, X, k, metric, max_memory=max_memory)
    far = distances(Q, X, metric)
    scale = far.max() if metric == "euclidean" else 1
    np.testing.assert_allclose(distance, np.sort(far, axis=1)[:, :k], rtol=1e-9, atol=1e-13 * scale)
    np.testing.assert_allclose(distance, np.take_along_axis(far, place, axis=1), rtol=1e-9, atol=1e-13 * scale)
    assert all(len(set(row)) == k for row in place.tolist())


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equal_rows_are_at_distance_zero(metric):
    """More of them than candidates, in several blocks."""
    rng = np.random.default_rng(0)
    X = rng.normal(5, 3, (1500, 70)).astype(np.float32)
    X[::50] = X[0]
    distance, place = found(X[:3], X, 20, metric, max_memory=500_000)
    assert (distance[0] == 0).all() and (place[0] % 50 == 0).all()
    assert (distance[1:, 0] == 0).all() and place[1:, 0].tolist() == [1, 2]
    assert (distance[1:, 1:] > 0).all()


def test_products_that_round_too_much_are_computed_again(monkeypatch):
    """Neighbours that float32 cannot tell apart, in a crowd of them."""
    rng = np.random.default_rng(0)
    X = (1 + rng.normal(0, 1e-5, (400, 500))).astype(np.float32)
    X[0] = 300  # no row is near the centre
    types = []
    search = heads.solvers.neighbours._search
    monkeypatch.setattr(heads.solvers.neighbours, "_search", lambda *args: types.append(args[5:]) or search(*args))
    distance, _ = found(X[:50], X, 5, "euclidean", max_memory=10**9)
    np.testing.assert_allclose(distance, np.sort(distances(X[:50], X, "euclidean"), axis=1)[:, :5], rtol=1e-9)
    assert (np.float64,) in types


def test_no_more_memory_than_allowed(monkeypatch):
    """Rows are taken a few at a time."""
    X = np.random.default_rng(0).normal(0, 1, (2000, 300)).astype(np.float32)
    taken = []

    def take(places):
        taken.append(len(places))
        return X[places]

    monkeypatch.setattr(heads.solvers.neighbours, "cores", lambda: 2)
    list(nearest([(Side(len(X), take), Side(len(X), take))], 5, "cosine", max_memory=4_000_000))
    assert max(taken) * 300 * 8 < 2_000_000
    assert len(taken) > 20


@pytest.mark.parametrize(
    ("classes", "folds", "views", "memory"),
    [(10, 5, False, None), (10, 1, True, SMALL), (2, 5, True, None), (2, 1, False, SMALL)],
)
def test_answers_are_those_of_the_heads_alone_and_scikit_learns(digits, classes, folds, views, memory):
    division = divided_rows(digits, classes, folds, views)
    answers = judged(DESIGNS, division, max_memory=memory)
    assert sorted(answers) == list(range(len(DESIGNS)))
    for i, design in enumerate(DESIGNS):
        assert answers[i].scores.dtype == np.float32
        np.testing.assert_allclose(answers[i].scores, alone(design, division), atol=1e-6, err_msg=design.to_json())
        rival = np.empty(answers[i].scores.shape)
        for fold in range(folds):
            scaling = division.scaling(fold, design.params["standardize"])
            train = division.training_rows(fold)
            head = design.build()
            plain = KNeighborsClassifier(
                head.n_neighbors, weights=head.weights, metric=head.metric, algorithm="brute"
            ).fit(scaling.apply(division.X[train]).astype(np.float64), division.codes[train])
            seen = scaling.apply(division.X[division.held(fold)]).astype(np.float64)
            rival[division.places(fold)] = plain.predict_proba(seen)
        check_close(answers[i].scores, rival, design.to_json())


def judged(designs, division, **options):
    answers = {}
    judge_neighbours(designs, Judging(division, 1, answers.__setitem__, **options))
    return answers


def test_rows_in_a_file(digits, tmp_path):
    division = divided_rows(digits)
    np.save(tmp_path / "rows.npy", division.X.astype(np.float16))
    mapped = Division(
        np.load(tmp_path / "rows.npy", mmap_mode="r"), division.codes, division.fold, division.image, division.plain
    )
    there, here = judged(DESIGNS, mapped, max_memory=SMALL), judged(DESIGNS, division)
    for i in range(len(DESIGNS)):  # pixels are whole numbers, which float16 holds
        np.testing.assert_allclose(there[i].scores, here[i].scores, atol=1e-6)


def test_order_and_company_of_designs_change_nothing(digits):
    division = divided_rows(digits, folds=1)
    together, backwards = judged(DESIGNS, division), judged(DESIGNS[::-1], division)
    for i, design in enumerate(DESIGNS):
        check_close(together[i].scores, backwards[len(DESIGNS) - 1 - i].scores)
        check_close(together[i].scores, judged([design], division)[0].scores)
        assert together[i].seconds > 0
        assert together[i].stopped == "exact"


def test_nothing_half_judged_is_reported(digits, monkeypatch):
    division, clock = divided_rows(digits), iter(range(1000))
    assert not judged(DESIGNS, division, deadline=time.monotonic())
    monkeypatch.setattr(heads.solvers.neighbours.time, "monotonic", lambda: next(clock))
    tasks = division.folds  # of a group of designs
    assert sorted(judged(DESIGNS, division, deadline=tasks)) == [0, 1, 2, 3]
    clock = iter(range(1000))
    assert not judged(DESIGNS, division, deadline=tasks - 1)


def test_more_neighbours_than_training_rows(digits):
    assert judged([HeadDesign("knn", {"n_neighbors": 240})], divided_rows(digits)).keys() == {0}
    with pytest.raises(HeadError, match="there are only 240 training rows"):
        judged([HeadDesign("knn", {"n_neighbors": 241})], divided_rows(digits))


def test_of_thousands_of_classes_fewer_designs_are_judged_together(digits, monkeypatch):
    division = divided_rows(digits, 4, 2)
    together = judged(DESIGNS, division)
    monkeypatch.setattr(heads.search.judge_neighbours, "_SCORES", 1)
    alone = judged(DESIGNS, division)
    for i in range(len(DESIGNS)):
        np.testing.assert_array_equal(alone[i].scores, together[i].scores)
