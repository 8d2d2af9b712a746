"""Dense nets that are judged on a part of the folds until the last rung."""

import numpy as np
import pytest
from divisions import divided_rows

from heads.kinds.design import HeadDesign
from heads.search import judge_dense
from heads.search.judge_dense import Rungs, judge_population
from heads.search.judging import Judging
from heads.search.trials import judge_trial

SLOW, GOOD = (
    HeadDesign("dense", {"hidden": "0", "learning_rate": rate, "epochs": 8, "batch_size": 32}) for rate in (1e-6, 1e-2)
)


def judged(designs, division, rungs=None):
    found = {}
    judge_population(designs, Judging(division, 0, found.__setitem__), rungs)
    return found


@pytest.mark.parametrize("keep_worst", [False, True])
def test_a_design_that_was_cut_knows_some_folds_alone(digits, keep_worst, monkeypatch):
    """It is trained on all of them, if it turns out to be the best."""
    division, right = divided_rows(digits), judge_dense._expected
    monkeypatch.setattr(judge_dense, "_expected", lambda *a: -right(*a) if keep_worst else right(*a))
    found, whole = judged([SLOW, GOOD], division, Rungs((2, 4), keep=0.5, folds=2)), judged([GOOD], division)
    np.testing.assert_array_equal(found[1].scores, whole[0].scores)
    assert found[1][2:] == whole[0][2:]
    assert found[0].cut is not keep_worst
    if found[0].cut:
        seen = ~np.isnan(found[0].scores[:, 0])
        np.testing.assert_array_equal(seen, division.fold[division.judged] < 2)
        assert found[0].stopped == "cut at rung 1 of 2 (epoch 2, 2 of 5 folds)" and len(found[0].losses) == 2


@pytest.mark.parametrize("folds", [1, 2])
def test_the_trial_of_a_design_that_was_cut_is_of_the_rows_that_judged_it(digits, folds):
    division = divided_rows(digits)
    found = judged([SLOW, GOOD], division, Rungs((2,), keep=0.5, folds=folds))
    trial = judge_trial("last", SLOW, division, found[0], "accuracy")
    right = found[0].scores.argmax(axis=1) == division.codes[division.judged]
    by_fold = [right[division.places(fold)].mean() for fold in range(folds)]
    assert trial.scores["accuracy"] == pytest.approx(by_fold) and trial.mean == pytest.approx(np.mean(by_fold))
    assert trial.cut and trial.error > 0 and (len(trial.parts) > 5) is (folds == 1)


def test_few_rows_are_judged_on_all_folds(digits, monkeypatch):
    seen = []
    monkeypatch.setattr(judge_dense, "judge_population", lambda designs, judging, rungs: seen.append(rungs))
    division = divided_rows(digits)
    judge_dense.judge_dense([SLOW, GOOD] * 2, Judging(division, 0, print))
    monkeypatch.setattr(judge_dense, "_ENOUGH", len(division.judged) // 3)
    judge_dense.judge_dense([SLOW, GOOD] * 2, Judging(division, 0, print))
    judge_dense.judge_dense([SLOW, GOOD], Judging(division, 0, print))
    assert [rungs and rungs.folds for rungs in seen] == [5, 2, None]
