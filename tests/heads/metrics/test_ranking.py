"""How well scores rank rows, against scikit-learn and against leaving rows out one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from heads.metrics import outcomes as limits
from heads.metrics.evaluation import measure
from heads.metrics.outcomes import Outcomes
from heads.metrics.ranking import average_precision, class_average_precision, mean_of, roc_auc


def draw(rng, rows, digits=6):
    y = rng.random(rows) < 0.3
    y[:2] = True, False
    return y.astype(np.uint8), np.round(rng.normal(size=rows) + y, digits)


@given(st.integers(2, 60), st.integers(0, 3), st.integers(0, 2**32))
def test_values_and_intervals(rows, digits, seed):
    y, scores = draw(np.random.default_rng(seed), rows, digits)
    for metric, expected in ((average_precision, metrics.average_precision_score), (roc_auc, metrics.roc_auc_score)):
        found = metric(y, scores).estimate
        assert found.value == pytest.approx(expected(y, scores))
        low, high = found.interval
        assert 0 <= low <= found.value <= high <= 1 and high > low and found.error > 0


@pytest.mark.parametrize(("metric", "expected"), [
    (average_precision, metrics.average_precision_score), (roc_auc, metrics.roc_auc_score),
])  # fmt: skip
def test_the_influence_of_rows_is_that_of_leaving_them_out(metric, expected):
    y, scores = draw(np.random.default_rng(1), 400, 1)
    found = metric(y, scores)
    left = np.array([expected(np.delete(y, i), np.delete(scores, i)) for i in range(len(y))])
    jackknife = (len(y) - 1) * (found.estimate.value - left)
    assert abs(found.influence.mean()) < 1e-9
    assert np.corrcoef(found.influence, jackknife)[0, 1] > 0.99
    assert (found.influence**2).sum() == pytest.approx((jackknife**2).sum(), rel=0.1)


def test_the_middle_of_average_precision_is_the_jackknifes():
    y, scores = draw(np.random.default_rng(0), 50, 1)
    found = average_precision(y, scores)
    left = [metrics.average_precision_score(np.delete(y, i), np.delete(scores, i)) for i in range(50)]
    assert found.middle == pytest.approx(50 * found.estimate.value - 49 * np.mean(left))


def test_the_middle_has_less_bias():
    """Scores that say nothing have the average precision of the share of the label."""
    rng = np.random.default_rng(0)
    found = [average_precision(np.arange(100) < 6, rng.random(100)) for _ in range(300)]
    assert np.mean([each.estimate.value for each in found]) > 0.09
    assert np.mean([each.middle for each in found]) == pytest.approx(0.06, abs=0.01)


def test_labels_that_are_wrong_together_say_no_more_than_one_of_them():
    rng = np.random.default_rng(0)
    y = (rng.random((300, 6)) < 0.3).astype(np.uint8)
    parts = [average_precision(*pair) for pair in zip(y.T, (rng.normal(size=y.shape) + y).T, strict=True)]
    one, same, own = parts[0].estimate.interval, mean_of(parts[:1] * 6).interval, mean_of(parts).interval
    np.testing.assert_allclose(same, one, atol=0.02)
    assert own[1] - own[0] < 0.6 * (one[1] - one[0])


@given(st.integers(2, 5), st.integers(1, 60), st.integers(0, 2**32))
def test_the_average_precision_of_classes_is_scikit_learns(classes, rows, seed):
    rng = np.random.default_rng(seed)
    y, scores = rng.integers(classes, size=rows), rng.normal(size=(rows, classes)).round(1)
    proba = (np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)).astype(np.float32)
    shown = np.unique(y)
    expected = np.mean([metrics.average_precision_score(y == label, proba[:, label]) for label in shown])
    found = class_average_precision(Outcomes.of(y, proba, keep=True))
    assert found.value == pytest.approx(expected, abs=1e-6)
    assert found.interval[0] <= found.value <= found.interval[1]


def test_probabilities_go_with_their_rows_and_classes():
    rng = np.random.default_rng(0)
    y, proba = rng.choice([1, 3], 40), rng.random((40, 2))
    proba /= proba.sum(axis=1, keepdims=True)
    found = Outcomes.of(y, proba, np.array([1, 3]), 4, keep=True)
    again = Outcomes.joined([found.rows(np.arange(10)), found.rows(np.arange(40) >= 10)])
    np.testing.assert_array_equal(again.proba, found.proba)
    np.testing.assert_array_equal(found.proba[:, [1, 3]], proba.astype(np.float32))
    assert found.proba.shape == (40, 4) and not found.proba[:, [0, 2]].any()
    assert Outcomes.joined([found, found._replace(proba=None)]).proba is None


def test_what_would_take_too_much_memory_is_left_out_and_said(monkeypatch):
    y, proba = np.arange(30) % 3, np.eye(3)[np.arange(30) % 3] * 0.7 + 0.1
    found = measure(y, proba, ["a", "b", "c"])
    assert found.average_precision == 1 and found.intervals["average_precision"][0] < 1
    monkeypatch.setattr("heads.metrics.evaluation.KEPT", 80)
    found = measure(y, proba, ["a", "b", "c"])
    assert found.average_precision is None and "30 rows" in found.unmeasured["average_precision"]
    assert class_average_precision(Outcomes.of(y, proba)) is None
    two = np.eye(2)[y % 2] * 0.8 + 0.1
    assert measure(y % 2, two, ["a", "b"]).average_precision == 1  # of two classes nothing more is needed
    assert limits.KEPT > 1e6
