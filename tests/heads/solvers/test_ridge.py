"""Ridge heads in closed form against scikit-learn's, and against those that are fitted in steps."""

import time

import numpy as np
import pytest
from divisions import alike, divided, two_columns
from sklearn.linear_model import RidgeClassifier

from heads.kinds.design import HeadDesign
from heads.kinds.linear import held_scores, problems_of, solve_heads
from heads.rows import StreamedRows
from heads.solvers.arrays import Extent
from heads.solvers.linear_losses import SQUARED
from heads.solvers.linear_path import solve_path
from heads.solvers.ridge import bytes_of, is_faster, solve_ridge

ALPHAS = [0.1, 10.0, 1000.0]


def heads_of(*alphas, **params):
    return [HeadDesign("ridge", {"alpha": alpha, **params}).build() for alpha in alphas]


def closed(division, standardize=True, folds=None):
    folds = range(division.folds) if folds is None else folds
    variants = problems_of(heads_of(*ALPHAS), division, folds, standardize)[1]
    return {round(1 / (2 * C), 6): found for C, found in solve_ridge(division, variants, [1 / (2 * a) for a in ALPHAS])}


@pytest.mark.parametrize(
    ("classes", "folds", "order", "views", "standardize"),
    [(10, 3, "mixed", True, True), (10, 1, "sorted", False, False), (2, 3, "sorted", True, True)],
)
def test_scores_are_scikit_learns(digits, classes, folds, order, views, standardize):
    division = divided(digits, classes, folds, order, views)
    for alpha, solution in closed(division, standardize).items():
        found = held_scores(division, range(division.folds), *solution.by_fold(division.folds))
        for fold in range(division.folds):
            rows, scaling = division.fold != fold, division.scaling(fold, standardize)
            rival = RidgeClassifier(alpha=alpha)
            weights = None if division.weights is None else division.weights[rows]
            rival.fit(scaling.apply(division.X[rows]).astype(np.float64), division.codes[rows], weights)
            expected = rival.decision_function(scaling.apply(division.X[division.held(fold)]).astype(np.float64))
            np.testing.assert_allclose(found[division.places(fold)], two_columns(expected), atol=2e-4)


def test_steps_find_the_same(digits):
    division = divided(digits, views=True)
    heads, every = heads_of(*ALPHAS), range(division.folds + 1)  # all rows as well
    steps = solve_path(division, problems_of(heads, division, every, True)[1], SQUARED, [5.0, 0.05, 5e-4], tol=1e-9)
    exact = closed(division, folds=every)
    for C, one in steps:
        found = exact[round(1 / (2 * C), 6)]
        assert found.coef.shape == one.coef.shape
        assert found.intercept.shape == one.intercept.shape
        scores = (np.einsum("vkd,nd->nvk", each.coef, division.X) + each.intercept for each in (found, one))
        alike(*(each[:, -division.classes :, 0] for each in scores))


def test_rows_on_disk_are_rows_in_memory(digits):
    division = divided(digits)
    views = np.empty((0, division.X.shape[1]), np.float32)
    disk = type(division)(
        StreamedRows(((division.X, views),), np.arange(len(division.X))),
        division.codes, division.fold, division.image, division.plain,
    )  # fmt: skip
    for one, other in zip(closed(disk).values(), closed(division).values(), strict=True):
        np.testing.assert_array_equal(one.coef, other.coef)


def test_columns_that_tell_nothing(digits):
    """More columns than rows, some constant and some twice: the matrix of the normal equations is singular."""
    division = divided(digits)
    X = np.hstack([np.tile(division.X, 12), np.full((len(division.X), 3), 7, np.float32)])
    wide = type(division)(X, division.codes, division.fold, division.image, division.plain)
    variants = problems_of(heads_of(1e-10), wide, [0], True)[1]
    [(_, found)] = solve_ridge(wide, variants, [5e9])
    scores = X @ found.coef[:, 0].T + found.intercept[:, 0]
    train = wide.fold != 0
    assert (scores.argmax(axis=1)[train] == wide.codes[train]).mean() > 0.95


def test_what_the_deadline_leaves_out_is_not_solved(digits):
    division = divided(digits)
    variants = problems_of(heads_of(1.0), division, [0], True)[1]
    assert not list(solve_ridge(division, variants, [0.5], deadline=time.monotonic() - 1))


def test_the_closed_form_is_left_where_it_does_not_serve(digits):
    division, extent = divided(digits), Extent(50_000, 40_000, 1280, 10, 5)
    [plain], [weighted] = heads_of(1.0), heads_of(1.0, class_weight="balanced")
    assert plain.is_closed(extent, 9, bytes_of(extent))
    assert not plain.is_closed(extent, 9, bytes_of(extent) - 1)
    assert not weighted.is_closed(extent, 9, bytes_of(extent))
    assert not HeadDesign("logreg", {}).build().is_closed(extent, 9, bytes_of(extent))
    assert not is_faster(Extent(400, 300, 25_088, 2, 5), 9)
    exact, steps = (next(solve_heads([plain], division, [0], True, room=room))[1] for room in (10**9, 0))
    assert exact.iterations.max() == 1 < steps.iterations.max()


def test_a_sweep_judges_ridge_of_twenty_thousand_classes():
    extent = Extent(100_000, 80_000, 256, 20_000)
    [plain], [weighted] = heads_of(1.0), heads_of(1.0, class_weight="balanced")
    assert plain.obstacle(extent, 10**10) is None
    assert "20,000 classes" in weighted.obstacle(extent, 10**10)
    assert "coefficients" in plain.obstacle(extent, 10**8)
