"""Metrics of several labels at once, against scikit-learn, and by whether their intervals hold what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from heads.metrics.label_outcomes import LabelOutcomes, best_label_thresholds, estimates_of_labels, per_label


def draw(rng, rows, shares=(0.05, 0.1, 0.3, 0.5), signal=2.0, together=0.0, each=1):
    """Rows of which some are ranked wrong for all labels together."""
    shares = np.array(shares)
    y = (rng.random((rows, len(shares))) < shares).astype(np.uint8)
    common = np.repeat(rng.normal(size=(rows // each, 1)), each, axis=0)
    scores = (
        signal * (y - 0.5) + np.sqrt(1 - together**2) * rng.normal(size=y.shape) + together * common * (2.0 * y - 1)
    )
    odds = signal * scores + np.log(shares / (1 - shares))
    return LabelOutcomes(y, (1 / (1 + np.exp(-odds))).astype(np.float32))


@st.composite
def cases(draw_of):
    rows, labels = draw_of(st.integers(1, 40)), draw_of(st.integers(1, 5))
    rng = np.random.default_rng(draw_of(st.integers(0, 2**32)))
    y = (rng.random((rows, labels)) < rng.random(labels) * draw_of(st.sampled_from([0.0, 0.5, 1.0]))).astype(np.uint8)
    proba = np.round(rng.random((rows, labels)), draw_of(st.integers(0, 3))).astype(np.float32)  # with ties
    return LabelOutcomes(y, proba), rng.random(labels).round(1)


@given(cases())
def test_values_are_those_of_scikit_learn(case):
    (y, proba), thresholds = case
    found = {name: each.value for name, each in estimates_of_labels(LabelOutcomes(y, proba), None, thresholds).items()}
    have, lack = y.any(axis=0), (y == 0).any(axis=0)
    both, answers = have & lack, proba >= thresholds
    assert ("average_precision" in found, "roc_auc" in found) == (have.any(), both.any())
    if have.any():
        expected = [metrics.average_precision_score(y[:, k], proba[:, k]) for k in np.flatnonzero(have)]
        assert found["average_precision"] == pytest.approx(np.mean(expected))
    if both.any():
        assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(y[:, both], proba[:, both]))
    assert found["micro_f1"] == pytest.approx(metrics.f1_score(y.ravel(), answers.ravel(), zero_division=0))
    if "macro_f1" in found:
        expected = [metrics.f1_score(*pair, zero_division=np.nan) for pair in zip(y.T, answers.T, strict=True)]
        assert found["macro_f1"] == pytest.approx(np.nanmean(expected))
    else:
        assert not y.any() and not answers.any()
    losses = [
        metrics.log_loss(a, np.float64(b).clip(1.1920929e-07, 1 - 1.1920929e-07), labels=[0, 1])
        for a, b in zip(y.T, proba.T, strict=True)
    ]
    assert found["log_loss"] == pytest.approx(np.mean(losses))


@given(cases())
def test_each_label_has_the_values_of_scikit_learn(case):
    (y, proba), thresholds = case
    names = [f"label {k}" for k in range(y.shape[1])]
    for k, found in enumerate(per_label(LabelOutcomes(y, proba), names, thresholds)):
        truth, answers = y[:, k], proba[:, k] >= thresholds[k]
        assert (found["label"], found["support"], found["threshold"]) == (names[k], truth.sum(), thresholds[k])
        expected = metrics.precision_recall_fscore_support(truth, answers, average="binary", zero_division=0)[:3]
        assert [found[name] for name in ("precision", "recall", "f1")] == pytest.approx(expected)
        assert ("average_precision" in found, "roc_auc" in found) == (truth.any(), 0 < truth.sum() < len(truth))
        if "average_precision" in found:
            assert found["average_precision"] == pytest.approx(metrics.average_precision_score(truth, proba[:, k]))
        if "roc_auc" in found:
            assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth, proba[:, k]))
        assert ("recall_interval" in found) == truth.any()
        assert ("precision_interval" in found) == answers.any()
        assert ("f1_interval" in found) == (truth.any() or answers.any())


@given(cases(), st.integers(1, 20))
def test_intervals_hold_the_value_and_stay_where_the_metric_can_be(case, groups):
    outcomes, thresholds = case
    number = np.arange(len(outcomes.y)) % groups
    for kind in (None, number):
        found = estimates_of_labels(outcomes, kind, thresholds)
        for name, each in found.items():
            if each.interval:
                low, high = each.interval
                assert -1e-12 <= low <= each.value + 1e-9 and each.value <= high + 1e-9
                assert name == "log_loss" or high <= 1 + 1e-12
                assert kind is None or len(set(number)) >= 10 or len(set(number)) == len(number)


def true_values(rng, **options):
    return {name: each.value for name, each in estimates_of_labels(draw(rng, 60_000, **options)).items()}


def coverage(true, drawn):
    found = [estimates_of_labels(*each) for each in drawn]
    return {
        name: np.mean([each[name].interval[0] <= value <= each[name].interval[1] for each in found])
        for name, value in true.items()
    }


@pytest.mark.parametrize("together", [0.0, 0.7])
@pytest.mark.parametrize("signal", [1.0, 4.0])
def test_intervals_cover_the_truth(signal, together):
    rng = np.random.default_rng(0)
    true = true_values(rng, signal=signal, together=together)
    found = coverage(true, [(draw(rng, 120, signal=signal, together=together),) for _ in range(200)])
    assert min(found.values()) >= 0.88, found


def test_intervals_of_groups_cover_the_truth_where_those_of_rows_do_not():
    rng = np.random.default_rng(1)
    options = {"together": 0.9, "each": 6, "shares": (0.3, 0.4, 0.5)}
    true = true_values(rng, **options)
    drawn = [(draw(rng, 240, **options), np.repeat(np.arange(40), 6)) for _ in range(150)]
    grouped, alone = coverage(true, drawn), coverage(true, [(outcomes,) for outcomes, _ in drawn])
    assert min(grouped.values()) >= 0.88, grouped
    for name in ("roc_auc", "log_loss"):
        assert alone[name] < 0.8, alone


def test_rows_that_are_all_right_leave_doubt():
    y = np.eye(4, dtype=np.uint8)[np.arange(40) % 4]
    found = estimates_of_labels(LabelOutcomes(y, (y * 0.9 + 0.05).astype(np.float32)))
    for name in ("average_precision", "roc_auc", "micro_f1", "macro_f1"):
        low, high = found[name].interval
        assert found[name].value == high == 1 and low < 0.99 and found[name].error > 0
    assert found["log_loss"].interval[1] > 0.2 > found["log_loss"].value


def test_few_groups_have_no_interval():
    outcomes, groups = draw(np.random.default_rng(0), 90, shares=(0.5,) * 4), np.arange(90) // 10
    assert all(each.interval is None for each in estimates_of_labels(outcomes, groups).values())
    assert not [name for found in per_label(outcomes, "abcd", None, groups) for name in found if "interval" in name]


def test_groups_widen_the_intervals_of_each_label():
    outcomes = draw(np.random.default_rng(0), 60)
    copies, groups = outcomes.rows(np.repeat(np.arange(60), 5)), np.repeat(np.arange(60), 5)
    for once, often in zip(per_label(outcomes, "abcd"), per_label(copies, "abcd", None, groups), strict=True):
        for name in [name for name in once if name.endswith("_interval") and name in often]:
            low, high = once[name]
            assert often[name][1] - often[name][0] >= 0.85 * (high - low), name


def test_rows_can_be_taken_and_joined():
    outcomes = draw(np.random.default_rng(0), 20)
    again = LabelOutcomes.joined([outcomes.rows(np.arange(5)), outcomes.rows(np.arange(20) >= 5)])
    np.testing.assert_array_equal(again.y, outcomes.y)
    np.testing.assert_array_equal(again.proba, outcomes.proba)


def mean_f1(outcomes, thresholds):
    return np.mean([each["f1"] for each in per_label(outcomes, "abcd", thresholds)])


def best_on(outcomes):
    """The threshold of each label that is best on these very rows."""
    found = []
    for y, proba in zip(outcomes.y.T, outcomes.proba.T, strict=True):
        precision, recall, cuts = metrics.precision_recall_curve(y, proba)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
        found.append(cuts[f1[:-1].argmax()])
    return np.array(found)


@pytest.mark.parametrize("rows", [60, 400])
def test_thresholds_lose_nothing_on_fresh_rows_and_gain_where_labels_are_rare(rows):
    rng = np.random.default_rng(0)
    fresh, found = draw(rng, 20_000, signal=1.3), []
    for _ in range(20):
        held = draw(rng, rows, signal=1.3)
        held = held.rows(slice(None) if held.y.any(axis=0).all() else slice(0, 0))
        if len(held.y):
            kinds = best_label_thresholds(*held), best_on(held), None
            found.append([mean_f1(fresh, thresholds) for thresholds in kinds])
    chosen, lucky, half = np.mean(found, axis=0)
    assert chosen > half + 0.05
    assert chosen > lucky
    assert chosen > mean_f1(fresh, best_on(fresh)) - 0.05


@given(cases())
def test_thresholds_are_probabilities(case):
    outcomes, _ = case
    found = best_label_thresholds(*outcomes)
    assert found.shape == outcomes.y.shape[1:] and found.dtype == np.float64
    assert ((found > 0) & (found < 1)).all()
    constant = ~outcomes.y.any(axis=0) | outcomes.y.all(axis=0)
    assert (found[constant] == 0.5).all()
