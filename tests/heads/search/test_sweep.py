"""Sweeps from a feature file to a saved head."""

import json
import random
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from cases import linear, logged, table
from commands import featurestore, modules_imported_by
from feature_files import SPEC, write_features

from featurestore.errors import DesignError, HeadError
from heads import evaluate, load_features, load_head, rows
from heads.kinds import base
from heads.search.sweep import sweep
from heads.solvers import calibration

SPACE = """
[[heads]]
kind = "logreg"
C = { log = [1e-3, 0.1], num = 3 }
[[heads]]
kind = "lda"
[[heads]]
kind = "centroid"
[[heads]]
kind = "knn"
n_neighbors = [3, 9]
[[heads]]
kind = "dense"
hidden = [[], 16]
learning_rate = [3e-3, 1e-2]
epochs = 8
"""
HEADS = 11
NAMES = [str(i) for i in range(10)]


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(SPACE)
    return path


@pytest.mark.parametrize("cv", [0, 3])
def test_sweep_keeps_every_trial_and_a_winner_that_can_be_used(digits_file, space, tmp_path, cv):
    notes = []
    found = sweep(digits_file, tmp_path / "out", space=space, cv=cv, progress=lambda *step: notes.append(step))
    assert len(found.trials) == HEADS
    assert all(len(trial.scores["accuracy"]) == (cv or 1) for trial in found.trials)
    means = [trial.mean for trial in found.trials]
    assert means == sorted(means, reverse=True)
    assert means[0] > 0.85
    assert found.winner == found.trials[0]
    assert found.to_dict()["winner"] == found.to_dict()["trials"][0] | {"path": str(found.head)}
    assert json.loads((tmp_path / "out" / "sweep.json").read_text()) == found.to_dict()
    first, *rest = logged(tmp_path / "out")
    assert found.settings.to_dict() == first["sweep"] | {
        "ensemble": 1,
        "smallest": False,
        "exhaustive": False,
        "threshold": None,
        "novelty": False,
    }
    assert sorted(map(json.dumps, rest)) == sorted(json.dumps(trial.to_dict()) for trial in found.trials)
    assert notes[-1][:3] == ("heads", HEADS, HEADS) and notes[-1][3].startswith(f"best accuracy {means[0]:.3f} (")
    head = load_head(tmp_path / "out" / "winner")
    assert head.design.kind == found.winner.design.kind
    assert found.test.measured == 1
    assert evaluate(head.path, digits_file).to_dict() == found.test.to_dict() | {"measured": 2}
    if found.calibration:
        assert head.head.temperature_ == found.calibration.temperature
    assert head.metrics["held out"]["accuracy"] == pytest.approx(means[0])
    assert head.record.fitted == ("train", "validation")
    assert head.record.chosen == (("train", "validation") if cv else ("validation",))

    lines = (tmp_path / "out" / "trials.jsonl").read_bytes()
    again = sweep(digits_file, tmp_path / "out", space=space, cv=cv)
    assert (tmp_path / "out" / "trials.jsonl").read_bytes() == lines
    again = replace(again, test=replace(again.test, measured=again.test.measured - 2))  # by now, three times
    assert {**again.to_dict(), "seconds": 0} == {**found.to_dict(), "seconds": 0}
    anew = sweep(digits_file, tmp_path / "anew", space=space, cv=cv)
    assert table(anew) == table(found)


@pytest.mark.parametrize("cv", [0, 2])
def test_test_rows_have_no_influence(digits, digits_file, tmp_path, cv):
    X, y = digits
    splits = load_features(digits_file).splits
    X = np.where((splits == "test")[:, None], np.nan, X)
    other = write_features(tmp_path / "digits.h5", X, y, splits, class_names=[f"digit {i}" for i in range(10)])
    space = linear(tmp_path / "s.toml", "logreg", "lda", "knn")
    found = sweep(digits_file, tmp_path / "a", space=space, cv=cv)
    with pytest.raises(HeadError, match="NaN"):  # when the winner is measured, and no sooner
        sweep(other, tmp_path / "b", space=space, cv=cv)
    trials = [{**trial, "seconds": 0} for trial in logged(tmp_path / "b")[1:]]
    assert sorted(map(json.dumps, trials)) == sorted(map(json.dumps, table(found)))
    heads = [load_head(tmp_path / name / "winner").head for name in "ab"]
    assert heads[0].temperature_ == heads[1].temperature_


KILLED = "import sys; from heads.search.sweep import sweep; sweep(sys.argv[1], sys.argv[2], space=sys.argv[3], cv=2)"


def test_killed_sweeps_go_on(digits_file, space, tmp_path):
    expected = sweep(digits_file, tmp_path / "whole", space=space, cv=2)
    rng, out = random.Random(0), tmp_path / "killed"
    log, kept, kills = out / "trials.jsonl", b"", 0
    while kills < 3:
        process = subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {KILLED}", digits_file, out, space]
        )
        goal = kept.count(b"\n") + rng.randint(1, 4)
        while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= goal):
            time.sleep(0.002)
        process.kill()
        kills += 1
        if process.wait() == 0:
            break
        now = log.read_bytes()
        whole = now[: now.rfind(b"\n") + 1]
        assert whole.startswith(kept)
        kept = whole
        (out / "rows-stale").mkdir(exist_ok=True)
    found = sweep(digits_file, out, space=space, cv=2)
    assert log.read_bytes().startswith(kept)
    assert kept.count(b"\n") > 1
    assert len(logged(out)) == 1 + HEADS
    assert table(found) == table(expected)
    assert found.winner.design == expected.winner.design
    assert not list(out.glob("rows-*"))


def test_a_budget_that_is_spent(digits_file, space, tmp_path):
    with pytest.raises(HeadError, match="larger --budget"):
        sweep(digits_file, tmp_path / "out", space=space, budget=1e-9)
    found = sweep(digits_file, tmp_path / "out", space=linear(space, "centroid"))
    again = sweep(digits_file, tmp_path / "out", space=linear(space, "centroid", "logreg"), budget=1e-9)
    assert table(again) == table(found)
    assert again.notes == ["1 of 2 heads were not begun: the budget was spent"]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_streamed_features_give_the_same(digits, tmp_path, dtype, monkeypatch):
    X, y = digits
    splits = load_splits()
    path = write_features(tmp_path / "f.h5", X.astype(dtype), y, splits, class_names=NAMES)
    space = linear(tmp_path / "s.toml", "logreg", "linear-svm", "ridge", "lda", "centroid")
    space.write_text(space.read_text() + "[[heads]]\nkind = 'knn'\n[[heads]]\nkind = 'svm'\n")
    space.write_text(space.read_text() + "[[heads]]\nkind = 'dense'\nhidden = [8]\nepochs = 4\n")
    memory = sweep(path, tmp_path / "memory", space=space, cv=3)
    monkeypatch.setattr(rows, "_SHARE", 10**9)
    disk = sweep(path, tmp_path / "disk", space=space, cv=3, max_memory=10**9)
    means = [{t.design.kind: t.mean for t in found.trials} for found in (memory, disk)]
    assert means[0] == pytest.approx(means[1], abs=0.005)
    assert memory.winner.design == disk.winner.design
    assert memory.test.accuracy == pytest.approx(disk.test.accuracy, abs=0.005)
    assert not list((tmp_path / "disk").glob("rows-*"))


def load_splits():
    return np.resize(["train", "train", "validation", "test"], 600)


def test_heads_that_cannot_be_judged_are_skipped_with_a_word_at_the_start(digits_file, space, tmp_path):
    space.write_text(
        "[[heads]]\nkind = 'knn'\nn_neighbors = [5, 500, 5000]\n[[heads]]\nkind = 'svm'\nC = [1e-9, 1e-8]\n"
        "[[heads]]\nkind = 'logreg'\n"
    )
    told = []
    wish = {"space": space, "note": told.append, "progress": lambda *step: told.append(step[1:3])}
    found = sweep(digits_file, tmp_path / "out", max_memory=10**6, **wish)
    assert [trial.design.kind for trial in found.trials] == ["knn", "logreg"]
    assert found.notes == [
        "2 knn heads are skipped: there are only 380 training rows: give n_neighbors no more",
        "2 svm heads are skipped: 480 rows: their kernel takes 3.69 MB, but 1 MB may be used: "
        "give --max-memory 4MB, or fewer rows",
    ]
    assert told == [*found.notes, (0, 2), (1, 2), (2, 2)]
    assert len(logged(tmp_path / "out")) == 3
    found = sweep(digits_file, tmp_path / "out", max_memory=5 * 10**6, **wish)
    assert [trial.design.kind for trial in found.trials].count("svm") == 2
    again = sweep(digits_file, tmp_path / "out", max_memory=10**6, **wish)  # what is known is not skipped
    assert table(again) == table(found)
    assert again.notes == found.notes == ["2 knn heads are skipped: " + told[0].partition(": ")[2]]


def test_no_head_that_can_be_judged(digits_file, tmp_path):
    space, path = linear(tmp_path / "s.toml", "lda"), digits_file
    with pytest.raises(HeadError, match=r"can be judged: 1 lda head is skipped: the covariance of 64 × 64 .*ridge"):
        sweep(path, tmp_path / "out", space=space, budget=1e-9, max_memory=10**5)
    assert not list((tmp_path / "out").glob("rows-*"))
    space.write_text("[[heads]]\nkind = 'knn'\nn_neighbors = 5000\n[[heads]]\nkind = 'centroid'\n")
    with pytest.raises(HeadError, match="larger --budget"):
        sweep(path, tmp_path / "other", space=space, budget=1e-9)
    found = sweep(path, tmp_path / "other", space=space)
    found = sweep(path, tmp_path / "other", space=space, budget=1e-9)
    assert len(found.notes) == 1  # nothing was not begun


def test_each_tap_by_itself_or_side_by_side(digits, tmp_path, monkeypatch):
    X, y = digits
    taps = {"whole": X, "noise": np.random.default_rng(0).normal(size=(600, 5)).astype(np.float32)}
    path = write_features(tmp_path / "two.h5", taps, y, load_splits(), class_names=NAMES)
    space = linear(tmp_path / "s.toml", "lda", "centroid")
    found = sweep(path, tmp_path / "each", space=space)
    assert [trial.features for trial in found.trials] == ["whole", "whole", "noise", "noise"]
    assert evaluate(tmp_path / "each" / "winner", path).accuracy == found.test.accuracy > 0.8
    monkeypatch.setattr(rows, "_SHARE", 10**9)
    beside = sweep(path, tmp_path / "beside", space=space, tap="whole+noise")
    assert {trial.features for trial in beside.trials} == {"whole+noise"}
    assert evaluate(tmp_path / "beside" / "winner", path).accuracy > 0.8


@pytest.mark.parametrize("cv", [0, 3])
def test_views_train_but_do_not_judge(digits, tmp_path, cv):
    X, y = digits
    splits, owners = load_splits(), np.arange(0, 600, 2)
    owners = owners[splits[owners] == "train"]
    space = linear(tmp_path / "s.toml", "logreg", "lda", "svm")
    files = {
        name: write_features(tmp_path / f"{name}.h5", X, y, splits, class_names=NAMES, views=views, view_rows=owners)
        for name, views in {"same": X[owners], "wild": X[owners][:, ::-1].copy()}.items()
    }
    found = {name: sweep(file, tmp_path / name, space=space, cv=cv) for name, file in files.items()}
    plain = sweep(files["wild"], tmp_path / "plain", space=space, cv=cv, views=False)
    for trial in found["same"].trials:  # a row and a view that is equal to it are that row
        [other] = [t for t in plain.trials if t.design == trial.design]
        assert trial.mean == pytest.approx(other.mean, abs=0.01)
    assert table(found["wild"]) != table(found["same"])
    assert load_head(tmp_path / "wild" / "winner").views == len(owners)
    assert load_head(tmp_path / "plain" / "winner").views == 0


def test_classes_without_train_rows_and_of_one_row(digits, tmp_path):
    X, y = digits
    splits = np.where(y == 1, "validation", load_splits())
    splits[np.flatnonzero(y == 2)] = "test"
    splits[np.flatnonzero(y == 2)[0]] = "train"
    path = write_features(tmp_path / "f.h5", X, y, splits, class_names=NAMES)
    space = linear(tmp_path / "s.toml", "logreg", "lda", "knn")
    found = sweep(path, tmp_path / "split", space=space, cv=0)
    assert found.notes == [f"{(y == 1).sum()} validation rows are left out: no train rows of 1"]
    found = sweep(path, tmp_path / "folds", space=space, cv=3)
    assert found.notes == ["1 rows are never held out: no other images of their class would be left"]
    splits[(splits == "validation") & (y != 1)] = "test"
    other = write_features(tmp_path / "g.h5", X, y, splits, class_names=NAMES)
    with pytest.raises(HeadError, match=r"no validation rows of classes that train rows show: give --cv"):
        sweep(other, tmp_path / "none", space=space, cv=0)


@pytest.mark.parametrize(("splits", "rows", "folds"), [
    (["train", "test"], 600, 5),
    (["train", "validation"], 600, 5),
    (["train", "validation"], 2400, None),
])  # fmt: skip
def test_few_validation_rows_make_five_folds(digits, tmp_path, splits, rows, folds):
    X, y = (np.resize(each, (rows, *each.shape[1:])) for each in digits)
    path = write_features(tmp_path / "f.h5", X, y, np.resize(splits, rows), class_names=NAMES)
    found = sweep(path, tmp_path / "out", space=linear(tmp_path / "s.toml", "centroid"), metric="log_loss")
    assert found.settings.cv == folds
    assert len(found.trials[0].scores["log_loss"]) == (folds or 1)


def test_classes_of_few_images_make_fewer_folds(digits, tmp_path):
    X, y = digits
    rows = np.concatenate([np.flatnonzero(y == label)[:3] for label in range(10)])
    path = write_features(tmp_path / "f.h5", X[rows], y[rows], ["train"] * 30, class_names=NAMES)
    found = sweep(path, tmp_path / "out", space=linear(tmp_path / "s.toml", "centroid"))
    assert found.settings.cv == 3


def test_copies_of_an_image_are_held_out_together(tmp_path):
    """Labels are coins, and each image is there twice: only a leak tells a label."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(100, 300)).astype(np.float32), rng.integers(2, size=100)
    path = write_features(
        tmp_path / "f.h5", np.tile(X, (2, 1)), np.tile(y, 2), ["train"] * 200, class_names=["a", "b"],
        images=copies(tmp_path / "images", 100),
    )  # fmt: skip
    found = sweep(path, tmp_path / "out", space=linear(tmp_path / "s.toml", "logreg", "lda", "knn", "svm"))
    assert max(trial.mean for trial in found.trials) < 0.7  # 0.9 and more with a leak


def copies(folder, count):
    """A folder of so many images, each there twice: in its order, first all once, then all again."""
    for turn in "ab":
        (folder / turn).mkdir(parents=True)
        for i in range(count):
            (folder / turn / f"{i:03d}.png").write_bytes(str(i).encode())
    return folder


def test_the_best_heads_together(digits, digits_file, tmp_path):
    X, _ = digits
    space = linear(tmp_path / "s.toml", "logreg", "lda", "svm", "knn", "centroid")
    found = sweep(digits_file, tmp_path / "out", space=space, cv=3, ensemble=3)
    together = load_head(tmp_path / "out" / "winner")
    best = [trial.design for trial in found.trials[:3]]
    assert found.ensemble.members == best
    assert [json.loads(text)["kind"] for text in together.design.params["members"]] == [each.kind for each in best]
    members = [head.predict_proba(X) for head in together.head.heads_]
    mean = np.mean(members, axis=0) ** (1 / together.head.temperature_)
    np.testing.assert_allclose(together.predict_proba(X), mean / mean.sum(axis=1, keepdims=True), atol=1e-6)
    assert found.ensemble.accuracy > 0.9 and evaluate(together.path, digits_file).accuracy > 0.9
    again = sweep(digits_file, tmp_path / "out", space=space, cv=3, ensemble=3)  # from the log, without any scores
    assert again.ensemble.members == best
    assert again.ensemble.log_loss == pytest.approx(found.ensemble.log_loss, rel=1e-6)
    linear(tmp_path / "s.toml", "logreg", "lda", "ridge")
    sweep(digits_file, tmp_path / "arrays", space=tmp_path / "s.toml", cv=3, ensemble=2)
    files = {file.name for file in (tmp_path / "arrays" / "winner").iterdir()}
    assert "weights.safetensors" in files and "model.skops" not in files


@pytest.mark.parametrize(
    ("wish", "error", "message"),
    [
        ({"cv": -2}, HeadError, "--cv -2: give 2 to"),
        ({"ensemble": 2, "smallest": True}, HeadError, "--smallest takes one head"),
        ({"ensemble": 0}, HeadError, "--ensemble 0: give 1 or more"),
        ({"cv": 1}, HeadError, "--cv 1: give 2 to"),
        ({"cv": 5000}, HeadError, "--cv 5000: give 2 to"),
        ({"metric": "f1"}, HeadError, "unknown metric 'f1'"),
        ({"metric": "roc_auc"}, HeadError, "roc_auc is of two classes, not 10"),
        ({"preset": "quik"}, DesignError, "did you mean 'quick'"),
    ],
)
def test_wishes_that_cannot_be(digits_file, tmp_path, wish, error, message):
    with pytest.raises(error, match=message):
        sweep(digits_file, tmp_path / "out", **{"preset": "quick", **wish})


def test_other_rows_in_the_same_folder(digits_file, pair_file, tmp_path):
    space = linear(tmp_path / "s.toml", "centroid")
    sweep(digits_file, tmp_path / "out", space=space)
    with pytest.raises(HeadError, match="another sweep, which differs in features"):
        sweep(pair_file, tmp_path / "out", space=space)
    found = sweep(pair_file, tmp_path / "pair", space=space, metric="roc_auc")
    assert 0.9 < found.winner.mean <= 1


def test_linear_kinds_need_no_keras(digits_file, tmp_path):
    space = linear(tmp_path / "s.toml", "logreg", "ridge", "lda", "centroid")
    code = "from heads.search.sweep import sweep; sweep(sys.argv[1], sys.argv[2], space=sys.argv[3])"
    loaded = modules_imported_by(code, digits_file, tmp_path / "out", space)
    assert not loaded & {"tensorflow", "keras", "jax", "torch", "sklearn"}


def test_command(digits_file, tmp_path):
    space = linear(tmp_path / "s.toml", "centroid", "lda")
    wish = ("sweep", str(digits_file), "--out", str(tmp_path / "out"), "--space", str(space))
    done = featurestore(*wish, "--budget", "5m", "--max-memory", "1GB")
    assert (done.returncode, done.stderr) == (0, "")
    assert "winner: " in done.stdout and "2 heads in" in done.stdout and "test accuracy" in done.stdout
    assert len(json.loads(featurestore(*wish, "--json").stdout, parse_constant=pytest.fail)["trials"]) == 2
    for option, value in (("--budget", "soon"), ("--budget", "-3s"), ("--budget", "nan"), ("--max-memory", "5s")):
        done = featurestore(*wish, option, value)
        assert done.returncode == 2
        assert f"{value!r}: write" in done.stderr
    linear(tmp_path / "s.toml", "centroid", "svm")
    small = ("--out", str(tmp_path / "small"), "--max-memory", "1MB")
    for options, lines in (((), 1), (("--quiet",), 0), (("--json",), 0)):
        done = featurestore(*wish, *small, *options)
        assert (done.returncode, done.stderr.count("note: 1 svm head is skipped: 480 rows")) == (0, lines)
    done = featurestore(*wish, "--cv", "3")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "differs in cv" in done.stderr


def test_of_thousands_of_classes_heads_that_learn_in_steps_are_skipped(digits_file, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "SWEPT", 9)
    told = []
    found = sweep(digits_file, tmp_path / "out", preset="quick", note=told.append)
    assert {trial.design.kind for trial in found.trials} == {"lda", "centroid", "knn", "ridge"}
    assert len(told) == 2 and told == found.notes
    assert told[0].startswith("9 logreg heads are skipped: each of its hundreds of steps takes 480 rows × 10 classes")


@pytest.mark.parametrize(
    ("cv", "before", "others"), [(None, 480, "trained on"), (0, 120, "when the winner is refitted")]
)
def test_of_thousands_of_classes_as_many_rows_judge_as_have_scores_in_memory(
    digits_file, tmp_path, monkeypatch, cv, before, others
):
    monkeypatch.setattr(calibration, "_SCORES", 10 * 60)
    space = linear(tmp_path / "s.toml", "centroid", "ridge")
    found = sweep(digits_file, tmp_path / "out", space=space, cv=cv, ensemble=2)
    (note,) = found.notes
    assert f"judged on 60 of {before} rows, whose scores of 10 classes fit in memory" in note and others in note
    assert found.test.accuracy > 0.8 and found.test.rows == 120
    assert load_head(tmp_path / "out" / "winner").record.reference.counts.sum() == 60


def test_a_note_names_a_few_of_many_classes(tmp_path):
    y = np.concatenate([np.repeat([0, 1], 20), np.arange(2, 32)])
    splits = np.where(np.arange(70) < 30, "train", "validation")
    X = np.random.default_rng(0).normal(size=(70, 3)).astype(np.float32)
    names = [f"class {i}" for i in range(32)]
    path = write_features(tmp_path / "many.h5", X, y, splits, class_names=names)
    found = sweep(path, tmp_path / "out", space=linear(tmp_path / "s.toml", "centroid"), cv=0)
    assert found.notes == [f"30 validation rows are left out: no train rows of {', '.join(names[2:12])} and 20 more"]
    one = write_features(tmp_path / "one.h5", X[40:], y[40:], ["train"] * 30, class_names=names)
    with pytest.raises(HeadError, match=r"--cv 3: give 0, as the largest class has 1 rows"):
        sweep(one, tmp_path / "other", preset="quick", cv=3)


def test_looks_are_judged_by_their_names(digits, space, tmp_path):
    """Each look is judged, and side by side if that is asked for; the winner says which it was fitted on."""
    X, y = digits
    rest = {
        "labels": y,
        "splits": np.resize(["train", "train", "test"], 600),
        "class_names": [str(i) for i in range(10)],
    }
    noise = np.random.default_rng(0).normal(size=X.shape).astype(np.float32)
    five = replace(SPEC, resize="crop", crop_share=0.5, crops=5)
    (tmp_path / "store").mkdir()
    write_features(tmp_path / "store" / "a.h5", noise, **rest)
    write_features(tmp_path / "store" / "b.h5", X, spec=five, **rest)
    found = sweep(tmp_path / "store", tmp_path / "out", space=linear(space, "centroid"), cv=2)
    assert {trial.features for trial in found.trials} == {"pixels@squash.last", "pixels@crop-crops5.last"}
    assert found.winner.features == "pixels@crop-crops5.last"
    assert load_head(found.head).inputs[0].spec == five
    both = sweep(
        tmp_path / "store", tmp_path / "both", space=linear(space, "centroid"), cv=2, tap="@squash+@crop-crops5"
    )
    assert {trial.features for trial in both.trials} == {"@squash+@crop-crops5"}
    assert "pixels@squash last + pixels@crop-crops5 last" in repr(load_head(both.head))
