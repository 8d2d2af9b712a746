"""Shifts of log-odds: the right ones from many rows, small ones from few, and balances against closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heads.solvers.recalibration import Shift, estimated_balance, fit_shift, shift_of_balance
from heads.solvers.scores import softmax


def drawn(rng, rows, scale, offset):
    """Probabilities of a head, and classes that are drawn from what they are at another place."""
    proba = softmax(2 * rng.normal(size=(rows, len(offset))))
    true = Shift(scale, np.array(offset)).of(proba)
    return proba, (true.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1)


@pytest.mark.parametrize(("scale", "offset"), [(0.6, [1.0, -1.0]), (1.5, [0.5, 0.5, -1.0]), (1.0, [0.0, 0.0])])
def test_many_rows_give_the_true_shift(scale, offset):
    found = fit_shift(*drawn(np.random.default_rng(0), 20_000, scale, offset))
    assert found.scale == pytest.approx(scale, rel=0.06)
    np.testing.assert_allclose(found.offset, offset, atol=0.06)


def test_few_rows_gain_on_average_and_none_change_nothing():
    before, after = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        proba, codes = drawn(rng, 520, 0.6, [1.0, -1.0])
        found = fit_shift(proba[:20], codes[:20]).of(proba[20:])
        own = np.arange(500), codes[20:]
        before.append(-np.log(proba[20:][own]).mean())
        after.append(-np.log(found[own]).mean())
    assert np.mean(after) < np.mean(before) - 0.1
    nothing = fit_shift(np.zeros((0, 3)), np.zeros(0, np.intp))
    assert nothing.scale == 1 and not nothing.offset.any()


def test_a_class_without_rows_moves_only_as_far_as_the_prior_allows():
    proba = softmax(np.random.default_rng(0).normal(size=(30, 3)))
    found = fit_shift(proba, np.arange(30) % 2)
    assert found.offset[2] < found.offset[:2].min() and found.offset[2] > -3
    fixed = fit_shift(proba, np.arange(30) % 2, scaled=False)
    assert fixed.scale == 1 and fixed.offset[2] < 0


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.05, 1), min_size=2, max_size=5), st.integers(0, 1000))
def test_the_shift_of_a_balance_is_bayes_rule(weights, seed):
    before = np.full(len(weights), 1 / len(weights))
    after = np.array(weights) / sum(weights)
    proba = softmax(np.random.default_rng(seed).normal(size=(20, len(weights))))
    expected = proba * after / before
    found = shift_of_balance(before, after).of(proba)
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), atol=1e-9)
    back = shift_of_balance(after, before).of(found)
    np.testing.assert_allclose(back, proba, atol=1e-9)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_balance_is_estimated_where_nothing_else_differs(share):
    rng = np.random.default_rng(0)
    second = rng.random(20_000) < share
    x = rng.normal(size=20_000) + 2 * second
    at_even = 1 / (1 + np.exp(-(2 * x - 2)))
    found = estimated_balance(np.stack([1 - at_even, at_even], axis=1), np.array([0.5, 0.5]))
    assert found.sum() == pytest.approx(1) and found[1] == pytest.approx(share, abs=0.015)


def test_votes_of_nobody_leave_shares_above_nothing():
    found = estimated_balance(np.tile([1.0, 0.0, 0.0], (50, 1)), np.array([0.2, 0.3, 0.5]))
    assert (found > 0).all() and found[0] > 0.95
