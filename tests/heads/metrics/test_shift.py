"""Whether a difference of rows is told when there is one, and not when there is none."""

import json

import numpy as np
import pytest
from cases import random_case
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from heads.console import evaluated
from heads.metrics.estimates import log_odds
from heads.metrics.evaluation import measure
from heads.metrics.outcomes import Outcomes
from heads.metrics.shift import Reference, _chi_square, _levels, _margins, best_threshold, differences
from heads.solvers.scores import softmax

NAMES = ["NORMAL", "PNEUMONIA", "OTHER", "NONE", "MORE"]


def drawn(rng, classes, rows, shift=0.0, shares=None):
    """Labels and scores; `shift`: of the true class's log-odds, in about their standard deviations."""
    y = rng.choice(classes, size=rows, p=shares)
    scores = 2 * rng.normal(size=(rows, classes))
    scores[np.arange(rows), y] += 4 + 2.8 * shift
    return y, scores


def told(rng, classes, rows, fitted=500, **other):
    y, scores = drawn(rng, classes, fitted)
    reference = Reference.of(scores, y)
    y, scores = drawn(rng, classes, rows, **other)
    return differences(reference, Outcomes.of(y, softmax(scores)), NAMES)


@pytest.mark.parametrize(("classes", "rows", "times"), [(2, 75, 300), (2, 500, 300), (5, 5000, 60), (5, 75, 300)])
def test_rows_of_the_same_place_raise_no_alarm(classes, rows, times):
    rng = np.random.default_rng(classes * rows)
    alarms = [found for _ in range(times) if (found := told(rng, classes, rows))]
    assert len(alarms) <= 0.01 * times


@pytest.mark.parametrize("classes", [2, 5])
def test_a_shift_of_one_deviation_is_told(classes):
    rng = np.random.default_rng(0)
    found = [told(rng, classes, 200, shift=-1) for _ in range(30)]
    assert all(found) and all("another place" in sentences[-1] for sentences in found)


def test_a_shift_says_which_class_and_how_far():
    rng = np.random.default_rng(0)
    y, scores = drawn(rng, 2, 1000)
    reference = Reference.of(scores, y)
    y, scores = drawn(rng, 2, 200)
    scores[y == 0, 0] -= 6
    first, last = differences(reference, Outcomes.of(y, softmax(scores)), NAMES)
    assert first.startswith("Rows of class NORMAL score lower") and "there below 4" in first
    right = (softmax(scores).argmax(axis=1) == y).mean()
    assert f"the accuracy is {right:.3f} here, and 0.9" in last


def test_higher_scores_are_to_be_expected():
    assert told(np.random.default_rng(0), 2, 500, shift=1) == []


def test_less_certain_but_as_right_is_no_shift():
    """As of heads that are too certain when they are fitted on fewer rows."""
    rng = np.random.default_rng(0)
    y, scores = drawn(rng, 2, 1000)
    reference = Reference.of(5 * scores, y)
    y, scores = drawn(rng, 2, 500)
    assert differences(reference, Outcomes.of(y, softmax(scores)), NAMES) == []


def test_another_balance_of_classes_is_told():
    found = told(np.random.default_rng(0), 2, 300, shares=[0.8, 0.2])
    assert len(found) == 1 and "not as frequent" in found[0] and "NORMAL 78% of these rows, 45% there" in found[0]
    assert told(np.random.default_rng(0), 2, 6, shares=[0.8, 0.2]) == []  # too few to tell


def test_votes_of_neighbours_have_few_values_and_raise_no_alarm():
    rng = np.random.default_rng(0)

    def votes(rows):
        y = rng.integers(2, size=rows)
        share = rng.binomial(5, np.where(y, 0.9, 0.1)) / 5
        return y, np.stack([1 - share, share], axis=1)

    for _ in range(50):
        y, proba = votes(500)
        with np.errstate(divide="ignore"):
            reference = Reference.of(np.log(proba), y)
        assert differences(reference, Outcomes.of(*votes(500)), NAMES) == []


def test_a_class_that_was_not_fitted_or_does_not_occur():
    rng = np.random.default_rng(0)
    y, scores = drawn(rng, 2, 300)
    scores = np.pad(scores, ((0, 0), (0, 1)), constant_values=-np.inf)
    reference = Reference.of(scores, y)
    assert reference.counts[2] == 0 and np.isnan(reference.margins[2]).all()
    assert differences(reference, Outcomes.of(y, softmax(scores)), NAMES) == []
    one = y == 1
    assert len(differences(reference, Outcomes.of(y[one], softmax(scores[one])), NAMES)) == 1  # the balance
    unknown = differences(reference, Outcomes.of(np.full(300, 2), softmax(scores)), NAMES)
    assert len(unknown) == 1 and "OTHER 100%" in unknown[0]


@given(st.integers(2, 4), st.integers(1, 60), st.integers(0, 1000))
def test_margins_are_those_of_the_scores(classes, rows, seed):
    rng = np.random.default_rng(seed)
    y, scores = rng.integers(classes, size=rows), 30 * rng.normal(size=(rows, classes))
    reference, margins = Reference.of(scores, y), _margins(Outcomes.of(y, softmax(scores)))
    assert reference.counts.sum() == rows and reference.margins.dtype == np.float32
    for k in np.unique(y):
        np.testing.assert_allclose(reference.margins[k, [0, -1]], [f(margins[y == k]) for f in (min, max)], atol=2e-3)
    if classes == 2:
        np.testing.assert_allclose(margins, np.where(y, 1, -1) * log_odds(softmax(scores)), atol=1e-3)


def test_levels_of_equal_values_are_spread():
    quantiles = np.quantile(np.repeat([0.0, 1.0], 50), np.linspace(0, 1, 101)).astype(np.float32)
    levels = _levels(quantiles, 100, np.float32([1, 0, 1, 0]))
    np.testing.assert_allclose(levels, [0.125, 0.375, 0.625, 0.875], atol=0.02)


def test_a_reference_is_saved_as_arrays_and_checked():
    y, scores = drawn(np.random.default_rng(0), 3, 100)
    reference = Reference.of(scores, y)
    arrays = reference.to_arrays()
    again = Reference.from_arrays(arrays)
    assert all(np.array_equal(again.to_arrays()[name], value) for name, value in arrays.items())
    for bad in (arrays | {"counts": -arrays["counts"]}, arrays | {"margins": -arrays["margins"]}):
        with pytest.raises(ValueError):
            Reference.from_arrays(bad)


@settings(deadline=None)
@given(st.integers(2, 60), st.integers(0, 1000))
def test_no_other_threshold_is_better(rows, seed):
    y, proba = random_case(2, rows, seed)
    y[:2] = 0, 1
    found = best_threshold(y, proba)
    odds = np.round(log_odds(proba), 9)
    for metric, score in (("accuracy", accuracy_score), ("balanced_accuracy", balanced_accuracy_score)):
        best = found[metric]
        assert best["at_half"] == pytest.approx(score(y, proba.argmax(axis=1)))
        assert best["value"] == pytest.approx(score(y, odds > best["log_odds"]))
        assert best["value"] == pytest.approx(max(score(y, odds > cut) for cut in (-np.inf, *odds)))
        assert best["threshold"] == pytest.approx(1 / (1 + np.exp(-best["log_odds"])))
    assert found["optimistic"] is True
    json.dumps(found, allow_nan=False)


def test_thresholds_are_of_two_classes_with_rows_of_both():
    assert best_threshold(np.array([0, 1]), np.eye(3)[:2]) is None
    assert best_threshold(np.array([1, 1]), np.eye(2)) is None


def test_an_evaluation_tells_both_in_words():
    y = np.array([0] * 5 + [1] * 5)
    odds = np.array([20, 21, 22, 23, 30.0, 24, 25, 26, 27, 28])
    proba = softmax(np.stack([np.zeros(10), odds], axis=1))
    found = measure(y, proba, NAMES[:2]).to_dict()
    assert "shift" not in found and "threshold" not in found and "note" not in evaluated.evaluation(found)
    words = evaluated.evaluation(found | {"shift": ["It is so."], "threshold": best_threshold(y, proba)})
    assert "note: It is so." in words
    assert "accuracy would be 0.900 and not 0.500 if rows were PNEUMONIA from a probability of 1 - 6.2e-11 on" in words
    assert "worth less" in words
    few = measure(y[3:6], proba[3:6], NAMES[:2]).to_dict()
    assert "too few rows" in evaluated.evaluation(few)


@pytest.mark.parametrize("freedom", [1, 2, 9, 39])
def test_chi_square_is_scipys_where_it_decides(freedom):
    for chance in (0.01, 0.001):
        value = float(stats.chi2.isf(chance, freedom))
        assert _chi_square(freedom, value) == pytest.approx(chance, rel=0.25)
