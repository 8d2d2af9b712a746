"""Rows held out of a fit, and temperatures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heads.metrics import outcomes
from heads.solvers.calibration import calibrate, fit_temperature, stratified_folds, temperature_folds, thinned
from heads.solvers.scores import log_loss, softmax

LABELS = hnp.arrays(np.intp, st.integers(1, 60), elements=st.integers(0, 3))


@given(LABELS, st.integers(2, 10), st.integers(0, 5))
def test_folds_spread_each_class_evenly(labels, folds, seed):
    numbers = stratified_folds(labels, folds, seed)
    for label in np.unique(labels):
        mine = numbers[labels == label]
        if len(mine) == 1:
            assert mine[0] == -1  # held out, it would leave no row of its class
            continue
        counts = np.bincount(mine, minlength=folds)
        assert counts.max() - counts.min() <= 1
        assert (np.diff(counts) <= 0).all()


@given(LABELS, st.integers(2, 10), st.integers(0, 5), st.data())
def test_rows_of_one_group_are_held_out_together_and_no_class_as_a_whole(labels, folds, seed, data):
    groups = data.draw(hnp.arrays(np.intp, len(labels), elements=st.integers(0, len(labels))))
    numbers = stratified_folds(labels, folds, seed, groups)
    assert all(len(set(numbers[groups == group])) == 1 for group in groups)
    used = set(numbers) - {-1}
    assert used == set(range(len(used)))
    for fold in used:
        assert set(labels[numbers != fold]) == set(labels)


def test_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, 3))
    labels = (softmax(scores).cumsum(axis=1) > rng.random((4000, 1))).argmax(axis=1)
    assert fit_temperature(5 * scores, labels) == pytest.approx(5, rel=0.1)
    assert fit_temperature(scores / 5, labels) == pytest.approx(1 / 5, rel=0.1)


@pytest.mark.parametrize("rows", [10, 40, 400])
def test_rows_that_are_all_right_ask_for_no_certainty(rows):
    scores = np.eye(2)[np.arange(rows) % 2] * 3
    temperature = fit_temperature(scores, np.arange(rows) % 2)
    confidence = softmax(scores / temperature)[0, 0]
    assert confidence == pytest.approx((rows + 1) / (rows + 2), abs=1e-6)


def test_a_calibration_that_makes_held_out_rows_worse_is_not_applied():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(30, 3))
    labels = (softmax(scores).cumsum(axis=1) > rng.random((30, 1))).argmax(axis=1)
    assert calibrate(scores, labels) == (1.0, log_loss(scores, labels), log_loss(scores, labels))
    found = calibrate(8 * scores, labels)
    assert found.temperature > 4 and found.after < found.before


def test_of_many_rows_one_fold_is_enough_for_a_temperature():
    codes = np.arange(12_000) % 3
    held = temperature_folds(codes, 0)
    assert np.unique(held).tolist() == [-1, 0] and np.bincount(codes[held == 0]).tolist() == [400] * 3
    assert np.unique(temperature_folds(codes[:600], 0)).tolist() == [0, 1, 2]


def folds_class_by_class(labels, folds, seed, groups):
    """How folds of lone rows were dealt out when each class searched all rows for its own."""
    codes = np.unique(labels, return_inverse=True)[1]
    size, first = np.bincount(groups), np.random.default_rng(seed).permutation(len(codes))
    numbers = np.full(len(codes), -1)
    for code in range(codes.max() + 1):
        alone = first[(codes[first] == code) & (size[groups[first]] == 1)]
        if len(alone) > 1:
            numbers[alone] = np.arange(len(alone)) % folds
    return np.where(numbers < 0, -1, np.searchsorted(np.unique(numbers[numbers >= 0]), numbers))


@given(LABELS, st.integers(2, 10), st.integers(0, 5))
def test_folds_are_those_that_saved_sweeps_were_judged_on(labels, folds, seed):
    expected = folds_class_by_class(labels, folds, seed, np.arange(len(labels)))
    np.testing.assert_array_equal(stratified_folds(labels, folds, seed), expected)


@given(LABELS, st.integers(1, 60), st.integers(0, 5), st.data())
def test_of_too_many_rows_to_hold_out_whole_groups_are_left(labels, most, seed, data):
    groups = data.draw(hnp.arrays(np.intp, len(labels), elements=st.integers(0, len(labels))))
    before = stratified_folds(labels, 3, seed, groups)
    after = thinned(before, most, seed, groups)
    assert all(len(set(after[groups == group])) == 1 for group in groups)
    assert (after[before < 0] < 0).all() and after.max() < 3
    held, largest = int((after >= 0).sum()), np.bincount(groups[before >= 0], minlength=1).max()
    assert held <= max(most, largest) and (held > 0) == (before >= 0).any()
    if (before >= 0).sum() <= most:
        np.testing.assert_array_equal(after, before)
    elif largest == 1:
        assert held == most


def test_scores_are_taken_block_by_block(monkeypatch):
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(500, 7)).astype(np.float32), rng.integers(7, size=500)
    scores[np.arange(500), labels] += 1
    whole = calibrate(scores, labels)
    monkeypatch.setattr(outcomes, "_CELLS", 7 * 64)
    assert calibrate(scores, labels) == pytest.approx(whole, rel=1e-9)


def test_a_temperature_of_thousands_of_classes_is_fitted_on_a_thousand_rows():
    numbers = temperature_folds(np.arange(60_000) % 20_000, 0)
    assert (numbers == 0).sum() == 1000 and set(numbers) == {-1, 0}
