"""Sets of classes hold the true one as often as they claim, and are told as they are."""

import numpy as np
import pytest
from cases import random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from heads.metrics.conformal import conformity_of, least_probability, set_fields, set_members
from heads.metrics.outcomes import Outcomes
from heads.solvers.scores import softmax


def drawn(rng, rows, classes, signal=1.5):
    y = rng.integers(classes, size=rows)
    scores = rng.normal(size=(rows, classes))
    scores[np.arange(rows), y] += signal
    return y, scores


@pytest.mark.parametrize(("classes", "rows", "level"), [(2, 60, 0.9), (5, 200, 0.95), (20, 100, 0.8)])
def test_sets_hold_the_true_class_as_often_as_asked(classes, rows, level):
    """The mean over 400 calibrations, each with its own rows, is known to less than 0.01."""
    rng, covered, sizes = np.random.default_rng(classes), [], []
    for _ in range(400):
        y, scores = drawn(rng, rows, classes)
        least = least_probability(conformity_of(scores, y), level)
        y, scores = drawn(rng, 300, classes)
        inside = set_members(softmax(scores), least)
        covered.append(inside[np.arange(300), y].mean())
        sizes.append(inside.sum(axis=1).mean())
    right = (softmax(scores).argmax(axis=1) == y).mean()
    # Where the likeliest class alone is right more often than asked for, coverage cannot be lower.
    assert max(level, right) - 0.012 < np.mean(covered) < max(level, right) + 0.03
    assert 1 <= np.mean(sizes) < classes


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 1000), st.floats(0, 1))
def test_each_set_holds_the_likeliest_class_and_all_that_are_likelier_than_a_member(classes, rows, seed, least):
    _, proba = random_case(classes, rows, seed)
    inside = set_members(proba, least)
    assert inside[np.arange(rows), proba.argmax(axis=1)].all()
    for row, member in zip(proba, inside, strict=True):
        assert member.all() or row[member].min() >= row[~member].max()


@pytest.mark.parametrize("threshold", [None, 0.2])
def test_what_is_measured_is_what_the_sets_hold(threshold):
    y, proba = random_case(2, 200, 3)
    outcomes = Outcomes.of(y, proba, keep=True)
    outcomes = outcomes if threshold is None else outcomes.at(threshold)
    found, inside = set_fields(outcomes, 0.9, 0.3, None), set_members(proba, 0.3)
    assert found["coverage"] == inside[np.arange(200), y].mean()
    assert found["set_size"] == inside.sum(axis=1).mean()
    low, high = found["coverage_interval"]
    assert low < found["coverage"] < high
    grouped = set_fields(outcomes, 0.9, 0.3, np.arange(200) // 20)["coverage_interval"]
    assert grouped[1] - grouped[0] != high - low
    assert "set_size" not in set_fields(outcomes._replace(proba=None), 0.9, 0.3, None)


def test_few_rows_reach_no_high_level_and_many_are_kept_as_quantiles():
    rng = np.random.default_rng(0)
    y, scores = drawn(rng, 18, 3)
    assert least_probability(conformity_of(scores, y), 0.95) is None
    y, scores = drawn(rng, 30_000, 3)
    kept = conformity_of(scores, y)
    true = np.sort(softmax(scores)[np.arange(30_000), y])
    assert len(kept) == 2000 and (np.diff(kept) >= 0).all()
    assert least_probability(kept, 0.9) == pytest.approx(least_probability(true, 0.9), abs=0.002)
    assert conformity_of(scores[:9], y[:9], 2.0) == pytest.approx(
        np.sort(softmax(scores[:9] / 2)[np.arange(9), y[:9]]).tolist(), abs=2e-9
    )
