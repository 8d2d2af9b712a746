"""Metrics of numbers, against scikit-learn and SciPy, and by whether their intervals hold what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from heads.metrics.number_outcomes import NumberOutcomes, conformal_quantile, estimates_of_numbers


def draw(rng, rows, noise=0.5):
    y = rng.normal(size=rows)
    return NumberOutcomes(y, y + noise * rng.normal(size=rows))


def draw_grouped(rng, groups, each):
    y = np.repeat(rng.normal(size=groups), each) + 0.3 * rng.normal(size=groups * each)
    error = np.repeat(rng.normal(size=groups), each) + 0.3 * rng.normal(size=groups * each)
    return NumberOutcomes(y, y + error), np.repeat(np.arange(groups), each)


numbers = st.lists(st.tuples(st.integers(-4, 4), st.floats(-1e3, 1e3)), min_size=1, max_size=60)


@given(numbers)
def test_values_are_those_of_scikit_learn_and_scipy(pairs):
    y, predicted = np.array(pairs, np.float64).T
    found = {name: each.value for name, each in estimates_of_numbers(NumberOutcomes(y, predicted)).items()}
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(y, predicted))
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(y, predicted), abs=1e-150)
    assert ("r2" in found) == (len(set(y)) > 1)
    assert ("spearman" in found) == (len(set(y)) > 1 and len(set(predicted)) > 1)
    if "r2" in found:
        assert found["r2"] == pytest.approx(metrics.r2_score(y, predicted))
    if "spearman" in found:
        assert found["spearman"] == pytest.approx(stats.spearmanr(y, predicted).statistic, abs=1e-12)


@given(numbers, st.integers(1, 30))
def test_intervals_hold_the_value_and_stay_where_the_metric_can_be(pairs, groups):
    y, predicted = np.array(pairs, np.float64).T
    number = np.arange(len(y)) % groups
    for kind in (None, number):
        for name, each in estimates_of_numbers(NumberOutcomes(y, predicted), kind).items():
            assert each.interval is None or each.interval[0] <= each.value * (1 + 1e-12) + 1e-12
            if each.interval:
                low, high = each.interval
                assert np.isfinite([low, high]).all() and each.value <= high * (1 + 1e-12) + 1e-12
                assert {"mae": low >= 0, "rmse": low >= 0, "r2": high <= 1, "spearman": -1 <= low <= high <= 1}[name]
                assert len(y) >= 10 and (kind is None or len(set(number)) >= 10)


def coverage(true, drawn):
    found = [estimates_of_numbers(*each) for each in drawn]
    return {
        name: np.mean([each[name].interval[0] <= value <= each[name].interval[1] for each in found])
        for name, value in true.items()
    }


@pytest.mark.parametrize(("rows", "noise"), [(12, 0.5), (50, 0.1), (50, 1.5)])
def test_intervals_cover_the_truth(rows, noise):
    rng = np.random.default_rng(0)
    true = {name: each.value for name, each in estimates_of_numbers(draw(rng, 300_000, noise)).items()}
    found = coverage(true, [(draw(rng, rows, noise),) for _ in range(300)])
    assert min(found.values()) >= 0.9, found


def test_intervals_of_groups_cover_the_truth_where_those_of_rows_do_not():
    rng = np.random.default_rng(1)
    true = {name: each.value for name, each in estimates_of_numbers(draw_grouped(rng, 60_000, 5)[0]).items()}
    drawn = [draw_grouped(rng, 40, 5) for _ in range(300)]
    grouped, alone = coverage(true, drawn), coverage(true, [(outcomes,) for outcomes, _ in drawn])
    assert min(grouped.values()) >= 0.88, grouped
    assert max(alone.values()) < 0.8, alone


def test_errors_are_those_of_many_rows():
    rng = np.random.default_rng(2)
    drawn = [estimates_of_numbers(draw(rng, 1000)) for _ in range(200)]
    for name, first in drawn[0].items():
        assert first.error == pytest.approx(np.std([each[name].value for each in drawn]), rel=0.2)
        assert (first.interval[1] - first.interval[0]) / 2 / 1.96 == pytest.approx(first.error, rel=0.1)


def test_predictions_that_are_all_right_have_no_interval_but_of_their_order():
    y = np.arange(30.0)
    found = estimates_of_numbers(NumberOutcomes(y, y))
    assert [found[name].interval for name in ("mae", "rmse", "r2")] == [None] * 3
    low, high = found["spearman"].interval
    assert 0.95 < low < 1 == high == found["spearman"].value


def test_rows_of_one_group_each_are_rows_of_their_own():
    outcomes = draw(np.random.default_rng(3), 40)
    assert estimates_of_numbers(outcomes, np.arange(40) + 7) == estimates_of_numbers(outcomes)


def test_few_rows_and_few_groups_have_no_intervals():
    for outcomes, groups in ((draw(np.random.default_rng(0), 9), None), draw_grouped(np.random.default_rng(0), 9, 8)):
        assert all(each.interval is None for each in estimates_of_numbers(outcomes, groups).values())


def test_rows_can_be_taken_and_joined():
    outcomes = draw(np.random.default_rng(0), 20)
    again = NumberOutcomes.joined([outcomes.rows(np.arange(5)), outcomes.rows(np.arange(20) >= 5)])
    np.testing.assert_array_equal(again.y, outcomes.y)
    np.testing.assert_array_equal(again.residuals, outcomes.y - outcomes.predicted)


@given(st.integers(1, 200), st.integers(1, 99))
def test_the_conformal_width_is_that_of_scipys_definition(rows, percent):
    """At most ⌈(n + 1) · level⌉ - 1 residuals are below it, and no smaller residual will do."""
    residuals = np.random.default_rng(rows).normal(size=rows).round(1)
    needed = -(-(rows + 1) * percent // 100)
    width = conformal_quantile(residuals, percent / 100)
    if needed > rows:
        assert width is None
    else:
        assert width == np.sort(np.abs(residuals))[needed - 1]


def test_conformal_intervals_hold_their_share_of_new_rows():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(2000):
        residuals = rng.standard_t(3, size=40)
        held.append(np.abs(rng.standard_t(3, size=20)) <= conformal_quantile(residuals[:39], 0.9))
    assert np.mean(held) == pytest.approx(36 / 40, abs=0.006)  # ⌈40 · 0.9⌉ of 40


@pytest.mark.parametrize("level", [0.0, 1.0, 1.5, float("nan")])
def test_levels_that_are_no_probability_are_refused(level):
    with pytest.raises(ValueError, match="level"):
        conformal_quantile(np.ones(5), level)
