"""The rows of a sweep and its folds, against what each fold's training rows give alone."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heads.rows import BLOCK
from heads.solvers import row_space
from heads.solvers.arrays import standardise
from heads.solvers.folds import Division
from heads.solvers.training import Training


@st.composite
def divisions(draw):
    """Odd columns, in any order of rows, with augmented views or without."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows, folds = draw(st.integers(8, 40)), draw(st.integers(1, 4))
    fold = np.concatenate([np.arange(folds), rng.integers(-1, folds, rows - folds)])
    fold[-2:] = -1  # rows to train on in every fold
    rng.shuffle(fold)
    X = rng.normal(0, 1, (rows, 6))
    X[:, 1] += draw(st.sampled_from([0, -300, 1e4]))
    X[:, 2] = draw(st.sampled_from([0, 0.1, -7e4]))
    X[:, 3] = np.where(fold == 0, X[:, 3], 0.3)  # constant in the training rows of fold 0 alone
    X[:, 4] *= draw(st.sampled_from([1e-8, 1e-3, 1e4]))
    X[:, 5] = np.where(fold == folds - 1, 50 + X[:, 5], X[:, 5] / 10)
    X = X.astype(draw(st.sampled_from([np.float32, np.float16])) if abs(X).max() < 6e4 else np.float32)
    image, plain, weights = np.arange(rows), np.ones(rows, np.bool_), None
    if draw(st.booleans()):
        image = np.concatenate([image, rng.integers(rows, size=rows)])
        plain = np.arange(2 * rows) < rows
        X = np.concatenate([X, (X[image[rows:]] * 1.25).astype(X.dtype)])
        weights, fold = 1 / np.bincount(image)[image], fold[image]
    order = rng.permutation(len(image))
    codes = image % 3
    weights = None if weights is None else weights[order]
    return Division(X[order], codes[order], fold[order], image[order], plain[order], weights)


@given(divisions())
@settings(deadline=None)
def test_a_fold_is_scaled_as_its_training_rows_alone(division):
    for fold in range(division.folds + 1):
        rows = division.fold != fold
        weights = None if division.weights is None else division.weights[rows]
        _, expected = standardise(division.X[rows].astype(np.float32), weights)
        found = division.scaling(fold, True)
        np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-4)
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6, atol=1e-6 * found.scale.max())
        assert (division.scaling(fold, False).scale == 1).all()


@given(divisions(), st.integers(1, 5))
@settings(deadline=None)
def test_each_row_is_held_out_once_and_lies_in_one_block(division, parts):
    rows = np.arange(len(division.codes))
    np.testing.assert_array_equal(np.concatenate([rows[block] for block in division.blocks()]), rows)
    covered = [rows[block] for part in division.parts(parts) for block in part]
    np.testing.assert_array_equal(np.sort(np.concatenate(covered)), rows)
    assert max(map(len, covered)) <= BLOCK
    held = np.concatenate([division.held(fold) for fold in range(division.folds)])
    np.testing.assert_array_equal(np.sort(held), division.judged)
    np.testing.assert_array_equal(division.judged, rows[division.plain & (division.fold >= 0)])
    for fold in range(division.folds):
        train = division.training_rows(fold)
        assert not np.isin(division.image[train], division.image[division.held(fold)]).any()
        assert (np.diff(division.plain[train].astype(int)) <= 0).all()


@pytest.mark.parametrize("order", ["by fold", "mixed"])
def test_blocks_lie_within_a_fold_where_rows_are_in_that_order(order):
    fold = np.random.default_rng(0).integers(-1, 3, 5000)
    fold = np.sort(fold) if order == "by fold" else fold
    division = Division(np.zeros((5000, 1), np.float32), fold % 2, fold, np.arange(5000), np.ones(5000, np.bool_))
    blocks = [block for part in division.parts(2) for block in part]
    sizes = [sum(block.stop - block.start for block in part) for part in division.parts(2)]
    assert abs(sizes[0] - sizes[1]) <= 4
    pure = all(len(np.unique(fold[block])) == 1 for block in blocks)
    assert pure == (order == "by fold")


@given(divisions(), st.booleans())
@settings(deadline=None)
def test_training_rows_of_a_fold_stand_alone(division, standardize):
    fold = division.folds - 1
    training = division.training(fold, standardize)
    plain, codes = training.plain
    kept = division.plain & (division.fold != fold)
    np.testing.assert_array_equal(codes, division.codes[kept])
    np.testing.assert_allclose(
        plain, division.scaling(fold, standardize).apply(division.X[kept].astype(np.float32)), rtol=1e-6
    )
    if training.weights is not None:
        np.testing.assert_allclose(np.bincount(training.image, training.weights), 1)


@given(divisions())
@settings(deadline=None)
def test_a_division_of_training_rows(division):
    training = division.training(division.folds, False)
    images = len(training.plain[1])
    none = Division.of(training)
    assert (none.folds, len(none.judged)) == (0, 0)
    folds = np.arange(images) % 2
    halves = Division.of(training, folds)
    assert halves.folds == 2
    np.testing.assert_array_equal(halves.fold, folds[training.image])
    np.testing.assert_array_equal(halves.judged, np.arange(images))
    again = halves.training(0, False)
    expected: Training = training.of(folds != 0)
    for name in Training._fields:
        np.testing.assert_array_equal(getattr(again, name), getattr(expected, name))


def wide():
    X = np.random.default_rng(0).normal(1, 2, (40, 600)).astype(np.float32)
    return Division(X, np.arange(40) % 2, np.arange(40) % 5, np.arange(40), np.ones(40, np.bool_))


@pytest.mark.parametrize("standardize", [True, False])
def test_rows_of_many_columns_stand_in_a_basis_of_their_own(standardize):
    division = wide()
    spaces = [*division.spaces(standardize)]
    assert [[*folds] for _, folds in spaces] == ([[0], [1], [2], [3], [4]] if standardize else [[0, 1, 2, 3, 4]])
    assert [narrow for narrow, _ in division.spaces(standardize)] == [narrow for narrow, _ in spaces]  # kept
    for narrow, folds in spaces:
        assert [*narrow.spaces(not standardize)] == [(narrow, range(5))]
        assert narrow.X.shape[1] <= 40 and narrow.columns == 600
        Z = division.scaling(folds[0], standardize).apply(division.X)
        products = narrow.X.astype(np.float64) @ narrow.X.T
        np.testing.assert_allclose(products, Z.astype(np.float64) @ Z.T, atol=1e-3)
        np.testing.assert_array_equal(narrow.scaling(0, True).scale, 1)  # they are scaled already


def test_rows_keep_their_columns_where_a_basis_would_not_be_narrow(monkeypatch):
    division = wide()
    assert [*division.spaces(True, max_memory=10_000)] == [(division, range(5))]
    fewer = replace(division, X=division.X[:, :200])
    assert [*fewer.spaces(True)] == [(fewer, range(5))]
    monkeypatch.setattr(row_space, "_WORTH", 15)
    assert [*division.spaces(True)] == [(division, range(5))]


@pytest.mark.parametrize("standardize", [True, False])
def test_what_a_fold_holds_out_has_no_part_in_its_components(standardize):
    division = wide()
    held = division.held(2)
    other = replace(division, X=division.X.copy())
    other.X[held] = 100
    one, two = (each.leading(2, standardize).X for each in (division, other))
    np.testing.assert_allclose(np.delete(one, held, axis=0), np.delete(two, held, axis=0), atol=2e-2)
    assert one.shape == (40, 32)
