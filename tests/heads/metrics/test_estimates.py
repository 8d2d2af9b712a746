"""Metrics' errors and intervals, against scipy, against theory, and by whether they hold what they say."""

import numpy as np
import pytest
from cases import random_case
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from heads.metrics.estimates import estimates, log_odds, mcnemar, student
from heads.metrics.evaluation import measure
from heads.solvers.scores import softmax


def test_rows_whose_probability_is_1_are_ranked_by_their_scores():
    """The probabilities of a hundred of these rows are exactly 1, and an area from them would be 0.5 too often."""
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=200)
    scores = 60 + 8 * rng.normal(size=200) + 10 * y
    proba = softmax(np.stack([-scores, scores], axis=1) / 2)
    assert (proba[:, 1] == 1).sum() >= 100
    above = scores[y == 1][:, None] > scores[y == 0]
    assert measure(y, proba, ["no", "yes"]).roc_auc == pytest.approx(above.mean())


@given(st.lists(st.floats(-700, 700), min_size=1, max_size=20))
def test_log_odds_are_the_difference_of_scores(scores):
    proba = softmax(np.stack([np.zeros(len(scores)), scores], axis=1))
    np.testing.assert_allclose(log_odds(proba), scores, atol=1e-12)
    np.testing.assert_array_equal(log_odds(proba[:, ::-1]), -log_odds(proba))


def test_log_odds_of_certain_rows_are_infinite():
    np.testing.assert_array_equal(log_odds(np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])), [-np.inf, 0, np.inf])


@settings(max_examples=25)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test(right, wrong):
    expected = stats.binomtest(right, right + wrong).pvalue if right + wrong else 1
    assert mcnemar(right, wrong) == pytest.approx(expected)
    assert mcnemar(10_000 + right, 10_000 + wrong) == mcnemar(10_000 + wrong, 10_000 + right)


def test_quantiles_of_student():
    for freedom in (9, 20, 74, 10_000):
        assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=4e-3)


@pytest.mark.parametrize("classes", [2, 5])
def test_errors_and_intervals_are_those_of_many_rows(classes):
    """On many rows all ways agree: with the spread of metrics over other rows of the same kind."""
    drawn = [estimates(*random_case(classes, 2000, seed)) for seed in range(200)]
    for metric, first in drawn[0].items():
        spread = np.std([each[metric].value for each in drawn])
        low, high = first.interval
        # The formula for the area is of another pair of distributions, and a little wide.
        tolerance = 0.3 if metric == "roc_auc" else 0.15
        assert first.error == pytest.approx(spread, rel=tolerance)
        assert (high - low) / (2 * 1.96) == pytest.approx(spread, rel=tolerance)


@pytest.mark.parametrize("rows", [2, 20, 75])
def test_rows_that_are_all_right_leave_doubt(rows):
    y = np.arange(rows) % 2
    found = estimates(y, softmax(np.where(np.eye(2)[y] > 0, 9.0, 0.0) + np.arange(rows)[:, None] * [0, 0.01]))
    assert found["roc_auc"].value == found["accuracy"].value == 1
    for metric, each in found.items():
        assert each.error > 0
        if metric != "log_loss":
            low, high = each.interval
            assert low < 1 - 1 / rows and high == 1
    assert (found["log_loss"].interval is None) == (rows < 10)
    if rows >= 10:  # as many mistakes as there may be, of that confidence
        assert found["log_loss"].interval[1] > 0.3 and found["log_loss"].value < 0.01


def test_an_error_that_does_not_exist_is_no_number():
    assert "roc_auc" not in estimates(np.array([1, 1]), np.array([[0.1, 0.9], [0.2, 0.8]]))
    assert np.isnan(estimates(np.array([1]), np.array([[0.1, 0.9]]))["log_loss"].error)


def coverage(metric, true, draw, times=300):
    """Share of intervals that hold the true value."""
    rng = np.random.default_rng(1)
    intervals = np.array([estimates(*draw(rng))[metric].interval for _ in range(times)])
    return ((intervals[:, 0] <= true) & (true <= intervals[:, 1])).mean()


def test_a_high_accuracy_of_few_rows_is_covered():
    def draw(rng):
        return np.zeros(75, np.intp), np.where(rng.random((75, 1)) < 0.995, [[0.9, 0.1]], [[0.1, 0.9]])

    assert coverage("accuracy", 0.995, draw) >= 0.9


def test_the_mean_recall_of_forty_classes_of_two_rows_is_covered():
    y = np.repeat(np.arange(40), 2)
    recalls = np.linspace(0.7, 1, 40)

    def draw(rng):
        said = np.where(rng.random(80) < recalls[y], y, (y + 1 + rng.integers(39, size=80)) % 40)
        return y, np.eye(40)[said] * 0.9 + 0.1 / 40

    assert coverage("balanced_accuracy", recalls.mean(), draw) >= 0.9


def test_the_recall_of_a_rare_class_counts():
    y = (np.arange(200) >= 190).astype(np.intp)

    def draw(rng):
        hit = rng.random(200) < np.where(y, 0.8, 1)
        return y, np.eye(2)[np.where(hit, y, 1 - y)] * 0.8 + 0.1

    assert coverage("balanced_accuracy", 0.9, draw) >= 0.9


def test_a_nearly_perfect_ranking_is_covered():
    y = np.arange(120) % 2
    true = stats.norm.cdf(4 / np.sqrt(2))

    def draw(rng):
        scores = rng.normal(size=120) + 4 * y
        return y, softmax(np.stack([-scores, scores], axis=1))

    assert coverage("roc_auc", true, draw) >= 0.9


def test_confident_mistakes_that_may_not_be_among_the_rows_are_covered():
    true = -0.01 * np.log(0.001) - 0.99 * np.log(0.999)

    def draw(rng):
        return (rng.random(75) < 0.01).astype(np.intp), np.tile([[0.999, 0.001]], (75, 1))

    assert coverage("log_loss", true, draw) >= 0.9
