import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heads.metrics.clustered import clustered, design_effect, recall_effects, share_interval
from heads.metrics.estimates import estimates_of, student, wilson
from heads.metrics.outcomes import Outcomes


def outcomes(rng, groups, each, classes=2):
    """Answers of which those of a group are right or wrong together, for the most part."""
    y = np.repeat(rng.integers(0, classes, groups), each)
    wrong = np.repeat(rng.random(groups) < 0.2, each) ^ (rng.random(groups * each) < 0.05)
    scores = np.eye(classes)[np.where(wrong, (y + 1) % classes, y)] * 2 + rng.normal(0, 0.1, (len(y), classes))
    powers = np.exp(scores)
    return Outcomes.of(y, powers / powers.sum(axis=1, keepdims=True)), np.repeat(np.arange(groups), each)


def test_rows_of_their_own_have_the_intervals_of_rows():
    found, groups = outcomes(np.random.default_rng(0), 60, 1)
    assert clustered(found, groups) == clustered(found, None) == estimates_of(found)


def test_copies_of_rows_say_no_more_than_the_rows_do():
    rng = np.random.default_rng(1)
    once, _ = outcomes(rng, 400, 1, classes=3)
    copies, groups = once.rows(np.repeat(np.arange(400), 5)), np.repeat(np.arange(400), 5)
    wide, narrow = clustered(copies, groups), estimates_of(once)
    for name, expected in narrow.items():
        assert wide[name].value == pytest.approx(expected.value)
        np.testing.assert_allclose(wide[name].interval, expected.interval, atol=0.01)
        assert wide[name].error == pytest.approx(expected.error, rel=0.05)


@pytest.mark.parametrize("classes", [2, 4])
def test_intervals_cover_the_truth_where_those_of_rows_do_not(classes):
    rng = np.random.default_rng(2)
    truth, _ = outcomes(rng, 40_000, 6, classes)
    true = {name: each.value for name, each in estimates_of(truth).items()}
    hits = {kind: dict.fromkeys(true, 0) for kind in ("groups", "rows")}
    for _ in range(200):
        found, groups = outcomes(rng, 60, 6, classes)
        for kind, estimated in (("groups", clustered(found, groups)), ("rows", estimates_of(found))):
            for name, each in estimated.items():
                hits[kind][name] += each.interval[0] <= true[name] <= each.interval[1]
    for name in true:
        assert hits["groups"][name] >= 180, (name, hits)
        assert hits["rows"][name] < 160, (name, hits)


def test_where_no_row_is_wrong_a_group_counts_as_one():
    y = np.repeat([0, 1], 100)
    found = Outcomes.of(y, np.eye(2)[y] * 0.98 + 0.01)
    groups = np.repeat(np.arange(40), 5)
    low, high = clustered(found, groups)["accuracy"].interval
    rows = 40 / (student(39) / student(10**9)) ** 2
    assert (low, high) == pytest.approx(wilson(rows, rows), abs=1e-3)


def test_few_groups_have_no_interval():
    found, groups = outcomes(np.random.default_rng(0), 9, 20)
    assert all(each.interval is None for each in clustered(found, groups).values())
    assert recall_effects(found, groups) == [np.inf, np.inf]
    assert recall_effects(found, None) == [1.0, 1.0]


@settings(max_examples=80)
@given(st.integers(1, 200), st.data(), st.floats(1, 50))
def test_an_interval_for_fewer_rows_is_wilsons(of, data, effect):
    hits = data.draw(st.integers(0, of))
    found = share_interval(hits / of, wilson(hits, of), effect)
    np.testing.assert_allclose(found, wilson(hits / effect, of / effect), atol=1e-6)


@given(st.integers(10, 30), st.integers(1, 6))
def test_an_effect_is_no_less_than_one(groups, each):
    rng = np.random.default_rng(groups)
    assert design_effect(rng.normal(size=groups * each), np.repeat(np.arange(groups), each)) >= 1
