import json
from dataclasses import replace

import numpy as np
import pytest
from cases import random_case
from feature_files import SPEC, write_features
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from tasks_asked import asked_file

from featurestore.errors import HeadError, SpecMismatchError, StoreError
from heads import evaluate, fit_head, load_head
from heads.console import evaluated
from heads.evaluation.evaluate import answers, paired_difference
from heads.feature_table import load_features
from heads.metrics.conformal import set_members
from heads.metrics.estimates import log_odds
from heads.metrics.evaluation import measure
from heads.search.sweep import sweep

NAMES = ["a", "b", "c", "d"]


cases = st.builds(random_case, st.integers(2, 4), st.integers(1, 60), st.integers(0, 10_000))


@given(cases)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
def test_metrics_are_scikit_learns(case):
    y, proba = case
    classes = proba.shape[1]
    found = measure(y, proba, NAMES[:classes])
    predicted = proba.argmax(axis=1)
    labels = list(range(classes))
    assert found.rows == len(y)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(y, predicted))
    assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(y, predicted))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(y, predicted, average="macro"))
    assert found.log_loss == pytest.approx(metrics.log_loss(y, proba, labels=labels))
    assert found.confusion_matrix == metrics.confusion_matrix(y, predicted, labels=labels).tolist()
    if classes == 2 and len(set(y.tolist())) == 2:
        assert found.roc_auc == pytest.approx(metrics.roc_auc_score(y, log_odds(proba)))
    else:
        assert found.roc_auc is None
        assert "roc_auc" not in found.to_dict()
    expected = metrics.precision_recall_fscore_support(y, predicted, labels=labels, zero_division=0)
    table = [[entry[key] for entry in found.per_class] for key in ("precision", "recall", "f1", "support")]
    np.testing.assert_allclose(table, expected)


@given(st.integers(2, 4), st.integers(1, 60), st.randoms(use_true_random=False))
def test_metrics_do_not_depend_on_the_order_of_rows_or_classes(classes, rows, random):
    y, proba = random_case(classes, rows, random.randrange(1000), digits=9)
    row_order, class_order = list(range(rows)), list(range(classes))
    random.shuffle(row_order)
    random.shuffle(class_order)
    found = measure(y, proba, NAMES[:classes])
    other = measure(
        np.argsort(class_order)[y][row_order],
        proba[row_order][:, class_order],
        [NAMES[i] for i in class_order],
    )
    assert other.metrics() == pytest.approx(found.metrics())
    assert sorted(other.per_class, key=str) == sorted(found.per_class, key=str)


@given(st.integers(2, 4), st.integers(1, 200), st.integers(0, 10_000))
def test_intervals_hold_the_metric_or_say_why_there_is_none(classes, rows, seed):
    y, proba = random_case(classes, rows, seed)
    found = measure(y, proba, NAMES[:classes])
    assert found.without_interval == ({"log_loss": "too few rows"} if rows < 10 else {})
    assert found.intervals.keys() | found.without_interval.keys() == found.metrics().keys()
    for name, (low, high) in found.intervals.items():
        assert 0 <= low <= getattr(found, name) + 1e-9
        assert getattr(found, name) - 1e-9 <= high <= (1 if name != "log_loss" else np.inf)
        assert low < high
    for entry in found.per_class:
        assert ("recall_interval" in entry) == (entry["support"] > 0)
        low, high = entry.get("recall_interval", (0, 1))
        assert 0 <= low <= entry["recall"] + 1e-9
        assert entry["recall"] - 1e-9 <= high <= 1
    assert ("without_interval" in found.to_dict()) == (rows < 10)
    json.dumps(found.to_dict(), allow_nan=False)


def test_one_impossible_row_does_not_make_the_loss_infinite():
    found = measure([0, 1], [[1.0, 0.0], [1.0, 0.0]], NAMES[:2])
    assert np.isfinite(found.log_loss)
    assert found.per_class[1]["recall"] == 0


@pytest.fixture(scope="module")
def saved(digits_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("heads") / "logreg"
    return fit_head(digits_file, out=out).path


def test_evaluate_judges_the_rows_of_the_split(saved, digits, digits_file):
    X, y = digits
    found = evaluate(saved, digits_file)
    assert (found.split, found.rows) == ("test", 120)
    from heads import load_head

    predicted = load_head(saved).predict_proba(X[4::5]).argmax(axis=1)
    assert found.to_dict()["accuracy"] == metrics.accuracy_score(y[4::5], predicted)
    assert evaluate(saved, digits_file, "train").rows == 360


def test_classes_are_matched_by_name(saved, digits, digits_file, tmp_path):
    X, y = digits
    names = [f"digit {i}" for i in range(10)][::-1]
    other = write_features(tmp_path / "other.h5", X[4::5], 9 - y[4::5], ["test"] * 120, class_names=names, first=600)
    assert replace(evaluate(saved, other), measured=0) == replace(evaluate(saved, digits_file), measured=0)


def test_a_file_may_lack_classes_but_not_bring_new_ones(saved, digits, tmp_path):
    X, y = digits
    keep = (y == 3) | (y == 8)
    fewer = write_features(
        tmp_path / "fewer.h5", X[keep], y[keep] == 8, ["test"] * keep.sum(), class_names=["digit 3", "digit 8"],
        first=600,
    )  # fmt: skip
    found = evaluate(saved, fewer)
    assert found.rows == keep.sum()
    assert len(found.per_class) == 10
    assert "recall_interval" not in found.per_class[0]
    new = write_features(
        tmp_path / "new.h5", X[keep], y[keep] == 8, ["test"] * keep.sum(), class_names=["digit 3", "diggit 8"]
    )
    with pytest.raises(HeadError, match="'diggit 8': did you mean 'digit 8'"):
        evaluate(saved, new)


def test_no_rows_in_the_split_lists_those_there_are(saved, digits_file):
    with pytest.raises(HeadError, match=r"test \(120 rows\), train \(360 rows\), validation \(120 rows\)"):
        evaluate(saved, digits_file, "tset")


def test_features_of_another_spec_are_refused_by_field(saved, digits, tmp_path):
    X, y = digits
    spec = replace(SPEC, size=16)
    other = write_features(
        tmp_path / "other.h5", X, y, ["test"] * 600, class_names=[f"digit {i}" for i in range(10)], spec=spec
    )
    with pytest.raises(SpecMismatchError, match="size: 16 here, 8 there"):
        evaluate(saved, other)


def test_of_several_data_sets_in_a_folder_the_heads_own_is_taken(digits, tmp_path):
    X, y = digits
    splits, names = np.resize(["train", "test"], 600), [str(i) for i in range(10)]
    for name in ("one", "two", "three"):
        write_features(tmp_path / f"{name}.h5", X, y if name == "two" else (y + 1) % 10, splits, class_names=names)
    head = fit_head(tmp_path / "two.h5", out=tmp_path / "head").path
    assert replace(evaluate(head, tmp_path), measured=2) == evaluate(head, tmp_path / "two.h5")
    (tmp_path / "two.h5").unlink()
    with pytest.raises(StoreError, match=r"2 files fit: name one of one\.h5, three\.h5"):
        evaluate(head, tmp_path)


def part(digits, tmp_path, name, splits, stop=600):
    """A feature file of the first digits."""
    X, y = digits
    names = [f"digit {i}" for i in range(10)]
    return write_features(tmp_path / f"{name}.h5", X[:stop], y[:stop], splits[:stop], class_names=names)


def test_rows_that_a_head_was_fitted_on_are_left_out_or_marked(digits, tmp_path):
    """A folder that has grown was split anew: some rows for the test are rows that the head knows."""
    splits = np.resize(["train", "train", "train", "validation", "test"], 600)
    head = fit_head(part(digits, tmp_path, "before", splits, 300), "logreg", out=tmp_path / "head").path
    grown = np.where(np.arange(600) < 60, "test", splits)
    found = evaluate(head, part(digits, tmp_path, "grown", grown))
    assert (found.rows, found.left_out, found.seen) == (60 * 2 // 5 + 540 // 5, 36, None)
    assert "accuracy" in found.intervals and found.measured == 1
    known = evaluate(head, tmp_path / "before.h5", "train")
    assert (known.seen, known.left_out, known.intervals, known.measured) == ("fitted", None, {}, None)
    assert evaluate(head, tmp_path / "before.h5", "validation").seen is None


@pytest.mark.parametrize(("cv", "seen"), [(3, "fitted"), (0, "fitted")])
def test_validation_rows_of_a_sweep_are_marked(digits, tmp_path, cv, seen):
    splits = np.resize(["train", "train", "train", "validation", "test"], 600)
    file = part(digits, tmp_path, "f", splits)
    (tmp_path / "s.toml").write_text("[[heads]]\nkind = 'lda'")
    sweep(file, tmp_path / "run", space=tmp_path / "s.toml", cv=cv)
    found = evaluate(tmp_path / "run" / "winner", file, "validation")
    assert (found.seen, found.intervals) == (seen, {})
    assert evaluate(tmp_path / "run" / "winner", file).seen is None


def test_rows_that_told_a_dense_net_when_to_stop_are_marked(digits_file, tmp_path):
    fit_head(digits_file, "dense", params={"epochs": 1}, out=tmp_path / "head")
    assert evaluate(tmp_path / "head", digits_file, "validation").seen == "chosen"


def test_how_often_test_rows_were_measured_is_counted(digits_file, tmp_path):
    fit_head(digits_file, "centroid", out=tmp_path / "head")
    assert [evaluate(tmp_path / "head", digits_file).measured for _ in range(3)] == [1, 2, 3]


def test_uncalibrated_answers_are_those_of_temperature_1(gap_file):
    fitted = fit_head(gap_file, "logreg")
    fitted.head.temperature_ = 1.0
    assert answers(fitted, gap_file, "validation").uncalibrated() is None
    plain = answers(fitted, gap_file, "validation").outcomes
    fitted.head.temperature_ = 2.5
    found = answers(fitted, gap_file, "validation")
    np.testing.assert_array_equal(found.uncalibrated().greatest, plain.greatest)
    assert np.abs(found.outcomes.greatest - plain.greatest).max() > 0.01 and (plain.predicted != 1).all()


def test_rows_whose_probability_is_1_keep_their_order_without_the_temperature(pair_file):
    fitted = fit_head(pair_file, "logreg")
    fitted.head.coef_, fitted.head.temperature_ = 100 * fitted.head.coef_, 2.5
    found = answers(fitted, pair_file, "validation")
    assert (found.outcomes.greatest == 1).any()
    scores = fitted.head.scores(load_features(pair_file).select("validation")[0])
    np.testing.assert_allclose(log_odds(found.uncalibrated().two_columns), scores[:, 1] - scores[:, 0], rtol=1e-5)


@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_paired_difference_counts_rows_and_is_antisymmetric(rows, seed):
    rng = np.random.default_rng(seed)
    y, before, after = rng.integers(3, size=rows), rng.random((rows, 3)), rng.random((rows, 3))
    found = paired_difference(y, before, after, resamples=500)
    assert found.accuracy == pytest.approx((after.argmax(1) == y).mean() - (before.argmax(1) == y).mean())
    assert found.right - found.wrong == round(found.accuracy * rows)
    low, high = found.interval
    assert low <= found.accuracy <= high
    assert paired_difference(y, after, before, resamples=500).accuracy == -found.accuracy


def test_paired_difference_is_that_of_resampled_rows():
    rng = np.random.default_rng(0)
    y, before, after = rng.integers(2, size=80), rng.random((80, 2)), rng.random((80, 2))
    hits = (after.argmax(1) == y).astype(int) - (before.argmax(1) == y)
    drawn = hits[rng.integers(80, size=(20_000, 80))].mean(axis=1)
    np.testing.assert_allclose(
        paired_difference(y, before, after).interval, np.percentile(drawn, (2.5, 97.5)), atol=0.014
    )


def test_four_rows_that_became_right_may_be_chance():
    y = np.zeros(75, np.intp)
    before, after = np.tile([[0.9, 0.1]], (2, 75, 1))
    before[:4] = [0.1, 0.9]
    found = paired_difference(y, before, after)
    assert (found.right, found.wrong, found.p_value) == (4, 0, 0.125)
    assert found.interval[0] > 0  # which is why the interval alone does not do


def test_a_matrix_of_thousands_of_classes_is_left_out_and_its_largest_cells_named():
    y, proba = np.arange(2200) % 1100, np.zeros((2200, 1100))
    proba[np.arange(2200), np.where(y < 5, 7, y)] = 1
    names = [f"class {i}" for i in range(1100)]
    found = measure(y, proba, names).to_dict()
    assert "confusion_matrix" not in found
    assert found["confused"][:2] == [
        {"class": "class 0", "predicted": "class 7", "rows": 2},
        {"class": "class 1", "predicted": "class 7", "rows": 2},
    ]
    words = evaluated.evaluation(found)
    assert len(words.splitlines()) < 50
    assert "the worst of 1,100 classes" in words and "a matrix of 1,100 classes is left out" in words
    few = measure(y[:1000], proba[:1000, :1000], names[:1000]).to_dict()
    assert len(few["confusion_matrix"]) == 1000 and "confused" not in few
    right = measure(y[5:], np.eye(1100)[y[5:]], names).to_dict()
    assert "confused" not in right and "most frequent mistakes" not in evaluated.evaluation(right)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_difference_of_groups_of_one_row_is_that_of_rows(answers):
    y = np.zeros(len(answers), np.intp)
    before, after = (np.array([[1.0, 0] if right[i] else [0, 1.0] for right in answers]) for i in (0, 1))
    rows = paired_difference(y, before, after, resamples=50)
    groups = paired_difference(y, before, after, groups=np.arange(len(y)), resamples=50)
    assert groups.p_value == pytest.approx(rows.p_value)
    assert (groups.accuracy, groups.right, groups.wrong) == (rows.accuracy, rows.right, rows.wrong)
    assert groups.groups == len(y) and "groups" not in rows.to_dict()


def test_rows_that_change_together_say_less():
    y = np.zeros(200, np.intp)
    before = np.tile([[0.0, 1.0]], (200, 1))
    after = before.copy()
    after[:40] = 1, 0
    before[40:60] = 1, 0
    groups = np.arange(200) // 20
    rows, together = paired_difference(y, before, after), paired_difference(y, before, after, groups=groups)
    assert rows.p_value < 0.02 and together.p_value == 1  # three groups of 20, of which two became right
    assert np.ptp(together.interval) > 2 * np.ptp(rows.interval)
    drawn = np.random.default_rng(0).integers(0, 10, (10_000, 10))
    expected = np.array([20, 20, -20, *[0] * 7])[drawn].sum(axis=1) / 200
    np.testing.assert_allclose(together.interval, np.percentile(expected, (2.5, 97.5)), atol=0.051)


def test_sets_of_a_level_are_measured_and_told(saved, digits_file, tmp_path):
    plain, found = evaluate(saved, digits_file), evaluate(saved, digits_file, level=0.99)
    fitted, (X, y) = load_head(saved), load_features(digits_file).select("test")
    inside = set_members(fitted.predict_proba(X), fitted.bound(0.99).value)
    assert found.coverage == inside[np.arange(len(y)), y].mean() and found.level == 0.99
    assert found.set_size == pytest.approx(inside.sum(axis=1).mean(), abs=1e-3)
    low, high = found.intervals["coverage"]
    assert low < found.coverage <= high
    told = evaluated.evaluation(found.to_dict())
    assert f"sets of level 0.99 have {found.set_size:.2f} classes on average" in told and "coverage" in told
    new = {"level", "coverage", "set_size"}
    assert found.to_dict().keys() - plain.to_dict().keys() == new
    assert not new & plain.to_dict().keys() and "coverage" not in plain.intervals
    with pytest.raises(HeadError, match="--level 2: give a share above 0 and below 1"):
        evaluate(saved, digits_file, level=2)


def test_the_level_of_intervals_around_numbers(tmp_path):
    file = asked_file(tmp_path, "regression")
    head = fit_head(file, "ridge", out=tmp_path / "head").path
    usual, narrow = evaluate(head, file), evaluate(head, file, level=0.5)
    assert usual.level is None and "level" not in usual.to_dict() and narrow.level == 0.5
    assert narrow.half_width < usual.half_width and narrow.covered < usual.covered
    assert evaluate(head, file, level=0.95).to_dict().items() >= {"half_width": usual.half_width}.items()
    assert "in 50 of 100 cases within" in evaluated.evaluation(narrow.to_dict())
    assert "in 95 of 100 cases within" in evaluated.evaluation(usual.to_dict())
