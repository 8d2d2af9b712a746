"""Thresholds that are chosen on some rows are worth something on others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from heads.metrics.outcomes import Outcomes
from heads.metrics.thresholds import CRITERIA, chosen_threshold

SCORES = {
    "accuracy": metrics.accuracy_score,
    "balanced_accuracy": metrics.balanced_accuracy_score,
    "f1": lambda y, said: metrics.f1_score(y, said, zero_division=0),
}


def draw(rng, rows, share, signal=1.5):
    has = rng.random(rows) < share
    scores = rng.normal(size=rows) + signal * has
    odds = signal * (scores - signal / 2) + np.log(share / (1 - share))
    return has, 1 / (1 + np.exp(-odds))


def best_on(has, proba, by):
    cuts = np.append(np.unique(proba), 1.1)
    said = proba >= cuts[:, None]
    right, wrong, have = (said & has).sum(axis=1), (said & ~has).sum(axis=1), has.sum()
    values = {
        "accuracy": right - wrong,
        "balanced_accuracy": right / have - wrong / (~has).sum(),
        "f1": 2 * right / (right + wrong + have),
    }
    return cuts[values[by].argmax()]


@pytest.mark.parametrize("by", CRITERIA)
@pytest.mark.parametrize(("rows", "share"), [(40, 0.2), (40, 0.5), (150, 0.1)])
def test_fresh_rows_lose_next_to_nothing_to_one_half_and_less_than_by_luck(by, rows, share):
    rng = np.random.default_rng(0)
    has, proba = draw(rng, 5_000, share)
    found = []
    for _ in range(40):
        held = draw(rng, rows, share)
        if 0 < held[0].sum() < rows:
            kinds = chosen_threshold(*held, by), best_on(*held, by), 0.5
            found.append([SCORES[by](has, proba >= cut) for cut in kinds])
    chosen, lucky, half = np.mean(found, axis=0)
    assert chosen > lucky
    assert chosen > half - 0.01
    if by != "accuracy" and share < 0.5:
        assert chosen > half + 0.03


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=40), st.sampled_from(CRITERIA))
def test_a_threshold_is_a_probability(pairs, by):
    has, proba = np.array(pairs).T
    found = chosen_threshold(has, proba, by)
    assert 0 < found < 1
    if has.min() == has.max():
        assert found == 0.5


@pytest.mark.parametrize("by", CRITERIA)
def test_many_rows_have_the_best_threshold(by):
    held = draw(np.random.default_rng(1), 4000, 0.2)
    assert SCORES[by](held[0], held[1] >= chosen_threshold(*held, by)) > SCORES[by](*_best(held, by)) - 0.005


def _best(held, by):
    cuts = np.quantile(held[1], np.linspace(0, 1, 300))
    return held[0], held[1] >= cuts[np.argmax([SCORES[by](held[0], held[1] >= cut) for cut in cuts])]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_outcomes_at_a_threshold(chances, threshold):
    proba = np.stack([1 - np.array(chances), chances], axis=1)
    y = np.arange(len(chances)) % 2
    before = Outcomes.of(y, proba)
    found = before.at(threshold)
    np.testing.assert_array_equal(found.predicted, (before.two_columns[:, 1] >= threshold).astype(int))
    np.testing.assert_array_equal(found.two_columns, before.two_columns)
    np.testing.assert_array_equal(found.true, before.true)
    assert (found.greatest == np.take_along_axis(before.two_columns, found.predicted[:, None], 1)[:, 0]).all()
