"""Numeric columns in a sweep: each fold scales and fills them by its training rows, and by nothing else."""

import json
from dataclasses import replace

import numpy as np
import pytest
from cases import linear
from divisions import divided
from feature_files import write_features

from featurestore.errors import HeadError
from heads import evaluate, fit_head, load_features, probe, sweep
from heads.kinds.design import HeadDesign
from heads.rows import NumericScaling, StreamedRows
from heads.search.judge_by_fold import judge
from heads.search.judges import batches
from heads.search.judging import Judging
from heads.search.plan import SweepPlan

SPLITS = np.resize(["train", "train", "train", "validation", "test"], 600)
KINDS = ["logreg", "ridge", "lda", "knn", "svm", "dense"]


def with_numbers(digits, *, streamed=False):
    """A division whose last two columns are numbers, of which some are missing."""
    division = divided(digits, classes=3)
    rng = np.random.default_rng(0)
    numbers = (division.codes[:, None] * [30, 1] + rng.normal(50, 10, (len(division.codes), 2))).astype(np.float32)
    numbers[rng.random(numbers.shape) < 0.2] = np.nan
    X = np.concatenate([division.X, numbers], axis=1)
    if streamed:
        X = StreamedRows(((division.X, division.X[:0]), (numbers, numbers[:0])), np.arange(len(numbers)))
    return replace(division, X=X, numeric=numbers)


def judged(division, kinds=KINDS):
    found = {}
    for family, batch in batches([HeadDesign(kind, {"epochs": 2} if kind == "dense" else {}) for kind in kinds]):
        judge(family, batch, Judging(division, 0, lambda i, one, batch=batch: found.update({batch[i].kind: one})))
    return found


def test_what_is_held_out_has_no_part_in_its_fold(digits):
    division = with_numbers(digits)
    before = judged(division)
    assert before.keys() == set(KINDS)
    row = division.held(1)[0]
    numbers = division.numeric.copy()
    numbers[row] = 150, np.nan
    X = division.X.copy()
    X[:, -2:] = numbers
    after = judged(replace(division, X=X, numeric=numbers))
    place, tolerances = division.places(1), {"logreg": 5e-3, "svm": 5e-3}
    for kind in KINDS:
        others = division.places(1)[division.held(1) != row]
        # What folds share moves answers within rounding and the solvers' tolerance.
        np.testing.assert_allclose(
            before[kind].scores[others], after[kind].scores[others], 0, tolerances.get(kind, 2e-4), err_msg=kind
        )
        rest = np.setdiff1d(np.arange(len(division.judged)), place)  # of these folds it is a training row
        assert np.abs(before[kind].scores[rest] - after[kind].scores[rest]).max() > (1e-5 if kind == "svm" else 1e-3), (
            kind
        )


@pytest.mark.parametrize("streamed", [False, True])
def test_scores_are_those_of_heads_fitted_to_rows_that_were_scaled_by_hand(digits, streamed):
    division = with_numbers(digits, streamed=streamed)
    whole, found = np.asarray(with_numbers(digits).X), judged(division, ["lda", "knn"])
    for kind in found:
        for fold in range(division.folds):
            train, held = division.training_rows(fold), division.held(fold)
            mean, scale = np.nanmean(whole[train, -2:], axis=0), np.nanstd(whole[train, -2:], axis=0)
            X = np.concatenate([whole[:, :-2], np.nan_to_num((whole[:, -2:] - mean) / scale)], axis=1)
            head = HeadDesign(kind).build(0).fit(X[train], division.codes[train], temperature=1.0)
            expected = head.scores(X[held])
            np.testing.assert_allclose(found[kind].scores[division.places(fold)], expected, rtol=1e-2, atol=1e-2)


def test_a_column_without_values_or_without_variance_is_0():
    scaling = NumericScaling.of(np.array([[np.nan, 7.0], [np.nan, 7.0]]))
    assert scaling.of_numbers(np.array([[3.0, 7.0], [np.nan, np.nan]])).tolist() == [[3, 0], [0, 0]]


@pytest.fixture
def file(digits, tmp_path):
    X, y = digits
    rng = np.random.default_rng(0)
    age = np.where(rng.random(len(y)) < 0.2, np.nan, 40 + 10 * y + rng.normal(0, 4, len(y)))
    noise = rng.normal(size=len(y))
    X = X[:, 24:32]
    return write_features(
        tmp_path / "digits.h5", X, y, SPLITS, class_names=list("abcdefghij"), numbers={"age": age, "noise": noise},
        views=X[SPLITS == "train"][:50], view_rows=np.flatnonzero(SPLITS == "train")[:50],
    )  # fmt: skip


def test_numbers_help_where_they_should(file, tmp_path):
    table = load_features(file, "tabular+last")  # numbers are last in any case
    assert [column.name for column in table.numeric] == ["age", "noise"] and table.columns == 10
    assert table.images.columns == 8 and len(table.inputs) == 1
    results = {found.tap: found.accuracy for found in probe(file, progress=False)}
    assert results.keys() == {"last", "last+tabular", "tabular"}
    assert results["last+tabular"] > results["last"] + 0.05
    found = sweep(file, tmp_path / "run", space=linear(tmp_path / "s.toml", "lda", "knn"), cv=3, progress=False)
    assert {trial.features for trial in found.trials} == results.keys()
    assert found.winner.features == "last+tabular" and found.test.accuracy > 0.6
    assert evaluate(found.head, file).accuracy == found.test.accuracy
    streamed = fit_head(file, "lda", tap="last+tabular", max_memory=2**16)
    whole = fit_head(file, "lda", tap="last+tabular")
    X, _ = table.select("test")
    np.testing.assert_allclose(streamed.predict_proba(X), whole.predict_proba(X), atol=1e-4)
    assert whole.views == 50 and whole.numeric == streamed.numeric
    assert f"{np.nanmean(table.numbers(table.rows('train'))[:, 0]):.3f}" == f"{whole.numeric[0].mean:.3f}"


def test_changed_numbers_are_another_sweep(file, digits, tmp_path):
    space = linear(tmp_path / "s.toml", "lda")
    sweep(file, tmp_path / "run", space=space, tap="tabular", cv=3, progress=False)
    X, y = digits
    write_features(file, X, y, SPLITS, class_names=list("abcdefghij"), numbers={"age": y, "noise": y})
    with pytest.raises(HeadError, match="another sweep"):
        sweep(file, tmp_path / "run", space=space, tap="tabular", cv=3, progress=False)


def test_the_plan_of_a_sweep_keeps_views_with_the_numbers_of_their_row(file, tmp_path):
    table = load_features(file, "last+tabular")
    plan = SweepPlan(table, 3, True, 0)
    with plan.division(None, tmp_path) as division:
        for image in np.unique(division.image[~division.plain])[:5]:
            rows = np.flatnonzero(division.image == image)
            assert len(rows) == 2
            np.testing.assert_array_equal(division.numeric[rows[0]], division.numeric[rows[1]])


def test_a_head_says_in_its_file_what_numbers_it_takes(file, tmp_path):
    fit_head(file, "lda", tap="tabular", out=tmp_path / "head")
    values = json.loads((tmp_path / "head" / "head.json").read_text())
    assert values["format_version"] == 2 and values["inputs"] == []
    assert [each["name"] for each in values["numeric"]] == ["age", "noise"]
    fit_head(file, "lda", tap="last", out=tmp_path / "plain")
    assert json.loads((tmp_path / "plain" / "head.json").read_text())["format_version"] == 1
