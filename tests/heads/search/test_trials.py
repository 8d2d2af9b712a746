import json
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from featurestore.errors import HeadError, WriteError
from heads.kinds.design import HeadDesign
from heads.search.judging import Judged
from heads.search.trials import FILE, Trial, TrialLog, check_metric, judge_trial, ranked, select, size
from heads.solvers.folds import Division
from heads.solvers.scores import softmax
from heads.tasks.registry import CLASSIFICATION

NAN = float("nan")


def trial(mean, error=0.01, size=10, C=1.0, stopped="converged", loss=0.5, parts=(), cut=False):
    scores = {} if np.isnan(mean) else {"accuracy": [mean, mean], "log_loss": [loss]}
    design = HeadDesign("logreg", {"C": C})
    return Trial("last", design, scores, mean, error, 0.1, size, stopped, parts=list(parts), cut=cut)


@pytest.mark.parametrize(
    ("metric", "trials", "chosen"),
    [
        ("accuracy", [trial(0.90, 0.02, 50), trial(0.89, 0.5, 20), trial(0.87, 0.5, 10)], 0),
        ("accuracy", [trial(0.90, size=10, loss=0.4), trial(0.90, size=50, loss=0.3)], 1),  # the least log loss
        ("accuracy", [trial(0.90, size=50), trial(0.90, size=20, C=2), trial(0.90, size=30)], 1),  # then the smallest
        ("log_loss", [trial(0.5, 0.01, 10), trial(0.3, 0.02, 50), trial(0.31, 0.0, 20)], 1),
        ("accuracy", [trial(NAN, NAN, 0), trial(0.2, 0.1, 5)], 1),
        ("accuracy", [trial(0.95, cut=True), trial(0.90)], 1),  # nobody knows where it would have ended
    ],
)
def test_the_best_mean_wins(metric, trials, chosen):
    assert select(trials, metric) is trials[chosen]


@pytest.mark.parametrize(
    ("metric", "trials", "chosen"),
    [
        ("accuracy", [trial(0.90, 0.02, 50), trial(0.89, 0.5, 20), trial(0.87, 0.5, 10)], 1),  # within the best's error
        ("accuracy", [trial(0.90, 0.0, 50), trial(0.90, 0.0, 20), trial(0.90, 0.0, 20, C=2)], 1),
        ("accuracy", [trial(0.88, 0.1, 20), trial(0.90, 0.1, 20), trial(0.90, 0.1, 30)], 1),  # equally small: the best
        ("log_loss", [trial(0.5, 0.01, 10), trial(0.3, 0.02, 50), trial(0.31, 0.0, 20)], 2),
        # Folds differ by much, and both heads in all of them by as much: that is no chance.
        ("accuracy", [trial(0.8, 0.1, 50, parts=[0.6, 0.8, 1.0]), trial(0.79, 0.1, 5, parts=[0.59, 0.79, 0.99])], 0),
        ("accuracy", [trial(0.8, 0.1, 50, parts=[0.6, 0.8, 1.0]), trial(0.79, 0.1, 5, parts=[0.7, 0.8, 0.87])], 1),
    ],
)
def test_the_smallest_head_within_one_standard_error(metric, trials, chosen):
    assert select(trials, metric, smallest=True) is trials[chosen]


def test_ranked_by_the_metric_with_failures_last():
    trials = [trial(NAN), trial(0.3), trial(0.9, size=7), trial(0.9, size=3)]
    assert ranked(trials, "accuracy") == [trials[i] for i in (3, 2, 1, 0)]
    assert ranked(trials, "log_loss") == [trials[i] for i in (1, 3, 2, 0)]


@pytest.mark.parametrize("trials", [[], [trial(NAN)]])
def test_nothing_to_select(trials):
    with pytest.raises(HeadError, match="no head of the sweep could be fitted"):
        select(trials, "accuracy")


def test_log_goes_on_after_a_line_that_was_cut(tmp_path):
    trials = [trial(0.5), replace(trial(NAN, NAN, C=2), stopped="error: ä"), trial(0.7, C=3)]
    log = TrialLog(tmp_path / "new", {"seed": 0})
    for each in trials:
        log.add(each)
    log.close()
    whole = log.path.read_bytes()
    assert all(json.loads(line, parse_constant=pytest.fail) for line in whole.splitlines())
    for cut in range(len(whole)):
        log.path.write_bytes(whole[:cut])
        again = TrialLog(tmp_path / "new", {"seed": 0})
        kept = whole[:cut].count(b"\n") - 1
        assert len(again.trials) == max(kept, 0)
        for each in trials[len(again.trials) :]:
            again.add(each)
        again.close()
        assert log.path.read_bytes() == whole
    again = TrialLog(tmp_path / "new", {"seed": 0})
    again.close()
    assert repr(again.trials) == repr(trials)  # NaN is not equal to itself


def test_log_of_another_sweep(tmp_path):
    TrialLog(tmp_path, {"seed": 0, "metric": "accuracy"}).close()
    before = (tmp_path / "trials.jsonl").read_bytes()
    with pytest.raises(HeadError, match=r"differs in seed: delete the folder, or choose another --out"):
        TrialLog(tmp_path, {"seed": 1, "metric": "accuracy"})
    assert (tmp_path / "trials.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "text",
    ["x", "[]", "{}", '{"sweep": 3}', '{"sweep": {}}\n[]', '{"sweep": {}}\n{"design": {"kind": "no", "params": {}}}'],
)
def test_file_that_is_no_log(tmp_path, text):
    (tmp_path / "trials.jsonl").write_text(text + "\n")
    with pytest.raises(HeadError, match=r"trials.jsonl: no list of trials"):
        TrialLog(tmp_path, {})
    assert (tmp_path / "trials.jsonl").read_text() == text + "\n"


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="a file is in the way"):
        TrialLog(tmp_path / "file", {})


def divided(classes, folds, rows=120):
    rng = np.random.default_rng(0)
    codes = np.arange(rows) % classes
    fold = np.arange(rows) // classes % folds
    scores = rng.normal(0, 1, (rows, classes)).astype(np.float32)
    scores[np.arange(rows), codes] += 1
    X = np.zeros((rows, 3), np.float32)
    return Division(X, codes, fold, np.arange(rows), np.ones(rows, np.bool_)), scores


@pytest.mark.parametrize("folds", [1, 4])
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "roc_auc", "log_loss"])
def test_scores_of_a_trial_are_scikit_learns(metric, folds):
    division, scores = divided(2, folds)
    found = judge_trial("last", HeadDesign("logreg"), division, Judged(scores, 1.0, "converged"), metric)
    for fold in range(folds):
        rows = division.held(fold)
        y, s = division.codes[rows], scores[rows]
        assert found.scores["macro_f1"][fold] == pytest.approx(f1_score(y, s.argmax(axis=1), average="macro"))
        assert found.scores["roc_auc"][fold] == pytest.approx(roc_auc_score(y, s[:, 1] - s[:, 0]))
    assert found.mean == pytest.approx(np.mean(found.scores[metric]))
    if folds > 1:
        assert found.error == pytest.approx(np.std(found.scores[metric], ddof=1) / 2)
    else:
        assert 0.01 < found.error < 0.2
    if metric == "log_loss" and folds == 1:  # of calibrated scores
        assert found.mean < log_loss(division.codes, softmax(scores))
    assert Trial.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_fold_that_holds_one_class_only_has_no_area_under_the_curve():
    division, scores = divided(2, 1)
    division = replace(division, fold=np.where(np.arange(120) < 100, 0, division.codes + 1))
    found = judge_trial("last", HeadDesign("logreg"), division, Judged(scores, 1.0, "converged"), "roc_auc")
    assert np.isnan(found.mean) and found.scores["roc_auc"][0] > 0.5


def test_size_counts_numbers():
    division, _ = divided(4, 1)
    assert size(HeadDesign("logreg"), division) == size(HeadDesign("dense", {"hidden": ()}), division) == 4 * 4
    assert size(HeadDesign("dense", {"hidden": (5, 6)}), division) == 4 * 5 + 6 * 6 + 7 * 4
    assert size(HeadDesign("knn"), division) == 120 * 3


def test_unknown_metric():
    with pytest.raises(HeadError, match="did you mean 'accuracy'"):
        check_metric("acuracy", CLASSIFICATION)


def test_two_sweeps_do_not_write_one_folder(tmp_path):
    with closing(TrialLog(tmp_path, {})), pytest.raises(HeadError, match="another sweep works there"):
        TrialLog(tmp_path, {})


def test_a_lock_that_cannot_be_made_is_not_taken_for_another_sweep(tmp_path):
    (tmp_path / f".{FILE}.lock").mkdir()
    with pytest.raises(WriteError, match="cannot be written"):
        TrialLog(tmp_path, {})
    (tmp_path / f".{FILE}.lock").rmdir()
    TrialLog(tmp_path, {}).close()
