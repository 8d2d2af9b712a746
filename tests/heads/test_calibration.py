"""Rows held out of a fit, and temperatures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heads.calibration import calibrate, fit_temperature, stratified_folds, temperature_folds
from heads.scores import log_loss, softmax

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
