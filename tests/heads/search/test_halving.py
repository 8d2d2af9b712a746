"""Halving over rows: the parts, the designs that go on, and sweeps of several levels."""

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from cases import linear as space_of
from cases import logged, table
from feature_files import write_features
from hypothesis import given
from hypothesis import strategies as st

from heads import load_features
from heads.kinds import linear
from heads.kinds.dense import DenseHead
from heads.kinds.design import HeadDesign
from heads.kinds.linear import PathHead
from heads.search import halving, judge_alone, judges, judging
from heads.search.halving import falls, paths, promoted, shares
from heads.search.plan import SweepPlan, _drawn
from heads.search.sweep import sweep
from heads.search.trials import Trial


def trial(mean, kind="logreg", parts=(), rows=100, **params):
    parts = parts or [mean - 0.01, mean, mean + 0.01]
    return Trial("last", HeadDesign(kind, params), {"accuracy": [mean]}, mean, 0.01, 1.0, 9, "", parts=list(parts),
                 rows=rows, part=True)  # fmt: skip


def by_key(*trials):
    return {each.key: each for each in trials}


@given(st.integers(1, 10**7), st.integers(2, 2000))
def test_levels_are_as_many_as_have_enough_rows(rows, classes):
    found = shares(rows, classes)
    assert found[-1] == 1 and all(b / a == halving.FACTOR for a, b in pairwise(found))
    least = max(halving.LEAST, halving.EACH * classes)
    assert len(found) == 1 or rows * found[0] >= least
    assert rows * found[0] < halving.FACTOR * least


@given(st.data())
def test_a_part_keeps_groups_whole_and_some_of_each_stratum(data):
    rows = data.draw(st.integers(1, 60))
    stratum = np.array(data.draw(st.lists(st.integers(0, 4), min_size=rows, max_size=rows)))
    groups = np.array(data.draw(st.lists(st.integers(0, 30), min_size=rows, max_size=rows)))
    few, many = (_drawn(stratum, groups, np.full(rows, share), 3) for share in (0.1, 0.4))
    assert not (few & ~many).any()
    for kept in (few, many):
        assert set(stratum[kept]) == set(stratum)
        assert not set(groups[kept]) & set(groups[~kept])


@pytest.mark.parametrize("cv", [None, 3])
def test_a_part_of_a_plan_has_the_folds_of_all(digits, tmp_path, cv):
    X, y = digits
    splits, owners = np.resize(["train", "train", "validation", "test"], 600), np.arange(0, 600, 4)
    path = write_features(tmp_path / "f.h5", X, y, splits, class_names=list("0123456789"), views=X[owners] + 100,
                          view_rows=owners)  # fmt: skip
    plan = SweepPlan(load_features(path), cv, True, 0)
    part = plan.part(0.25)
    assert plan.whole and not part.whole and part.rows < 0.4 * plan.rows + (cv is None) * 150
    with plan.division(None, tmp_path) as whole, part.division(None, tmp_path) as some:
        fold = {row.tobytes(): number for row, number in zip(np.array(whole.X), whole.fold, strict=True)}
        assert [fold[row.tobytes()] for row in np.array(some.X)] == some.fold.tolist()
        assert some.folds == whole.folds and some.classes == whole.classes
        assert some.plain.sum() == part.rows == some.image.max() + 1 == len(some.groups)
        for image in some.image[~some.plain]:  # its views come with an image
            (row,) = np.flatnonzero((some.image == image) & some.plain)
            (view,) = np.flatnonzero((some.image == image) & ~some.plain)
            np.testing.assert_array_equal(some.X[view], some.X[row] + 100)
        for number in range(some.folds):
            assert set(some.codes[some.training_rows(number)]) == set(range(10))
        if cv is None:
            assert len(some.judged) == len(whole.judged)  # so few rows all judge
        assert part.held_codes.tolist() == some.codes[some.judged].tolist()
        assert (~some.plain).any()


def test_a_design_goes_on_as_long_as_it_may_win():
    now = [
        trial(0.90, C=0.01), trial(0.80, C=0.1), trial(0.70, C=1.0), trial(0.60, C=10.0),  # the next is weaker
        trial(0.70, "lda"), trial(0.60, "lda", shrinkage=0.9),  # steep, but too far behind
        trial(0.86, "knn"), trial(0.85, "knn", n_neighbors=3), trial(0.85, "knn", n_neighbors=4),
        replace(trial(0.99, "dense"), cut=True), trial(float("nan"), "svm"),
    ]  # fmt: skip
    before = [replace(each, mean=each.mean - (0.15 if each.design.kind == "lda" else 0.01), rows=20)
              for each in now[:-4]]  # fmt: skip
    before.append(
        replace(now[-4], mean=0.79),
    )
    before.append(replace(now[-3], mean=0.85))
    kept = promoted(by_key(*now), by_key(*before), "accuracy")
    assert kept == {now[i].key for i in (0, 1, 7)}  # of the last ones, one still gains
    first = promoted(by_key(*now), {}, "accuracy")
    assert kept - {now[7].key} <= first and now[3].key not in first
    assert not promoted({}, {}, "accuracy")
    losses = [replace(each, mean=1 - each.mean, parts=[1 - part for part in each.parts]) for each in now]
    before = [replace(each, mean=1 - each.mean) for each in before]
    assert promoted(by_key(*losses), by_key(*before), "log_loss") == kept


def test_paths_go_from_strong_to_weak_penalties():
    designs = [
        HeadDesign("logreg", {"C": 1.0}), HeadDesign("ridge", {"alpha": 1.0}), HeadDesign("knn"),
        HeadDesign("logreg", {"C": 0.1}), HeadDesign("logreg", {"C": 0.1, "standardize": False}),
        HeadDesign("ridge", {"alpha": 10.0}), HeadDesign("lda"),
    ]  # fmt: skip
    found = [[designs.index(design) for _, design in path] for path in paths([("last", each) for each in designs])]
    assert sorted(found) == [[3, 0], [4], [5, 1], [6]]


@pytest.mark.parametrize(
    ("means", "expected"),
    [([], False), ([0.9, 0.8], False), ([0.9, 0.8, 0.7], True), ([0.9, 0.8, 0.9], False), ([0.9, 0.899, 0.8], False),
     ([0.7, 0.9, 0.8], False), ([0.9, float("nan"), 0.7], False)],
)  # fmt: skip
def test_a_path_falls_when_two_steps_are_worse_than_chance_makes(means, expected):
    wave = [0.0, 0.002, -0.002, 0.004, -0.004]
    path = [trial(mean, parts=[mean + part * (-1) ** i for part in wave]) for i, mean in enumerate(means)]
    assert falls(path, "accuracy") is expected
    assert (
        falls([replace(each, mean=-each.mean, parts=[-v for v in each.parts]) for each in path], "log_loss") is expected
    )


@pytest.fixture
def few(monkeypatch):
    """Parts of 30 and 120 of the 480 digits."""
    monkeypatch.setattr(halving, "LEAST", 30)
    monkeypatch.setattr(halving, "EACH", 3)


SPACE = (
    "[[heads]]\nkind = 'logreg'\nC = { log = [1e-6, 10.0], num = 8 }\n[[heads]]\nkind = 'lda'\nshrinkage = [0.1, 0.5]\n"
    "[[heads]]\nkind = 'knn'\nn_neighbors = [1, 9, 15]\n[[heads]]\nkind = 'dense'\nhidden = 16\nepochs = [1, 9]\n"
)


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(SPACE)
    return path


def test_sweeps_of_several_levels_go_on_and_tell_the_rows(digits_file, space, tmp_path, few):
    told = []
    found = sweep(digits_file, tmp_path / "out", space=space, cv=3, progress=lambda *step: told.append(step[:3]))
    assert len(found.trials) == 15 and not found.winner.part and found.winner.rows == 480
    stages = list(dict.fromkeys(stage for stage, *_ in told))
    assert len(stages) == 3 and stages[2] == "heads" and all(stage.startswith("heads on ") for stage in stages[:2])
    rows = [trial.rows for trial in found.trials if np.isfinite(trial.mean)]
    assert rows == sorted(rows, reverse=True) and rows[-1] < 480
    whole = {trial.design.kind for trial in found.trials if not trial.part}
    assert found.winner.design.kind in whole and whole < {"logreg", "lda", "knn", "dense"}
    assert sum("on a part of the 480 rows alone" in note for note in found.notes) == 1
    log = tmp_path / "out" / "trials.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    keys = ((trial["rows"], trial["part"], json.dumps(trial["design"])) for trial in logged(tmp_path / "out")[1:])
    numbers = Counter(keys)
    assert set(numbers.values()) == {1}
    for kept in (len(lines), len(lines) - 2, len(lines) // 2 + 4, 5):  # killed at each level
        log.write_bytes(b"".join(lines[:kept]))
        again = sweep(digits_file, tmp_path / "out", space=space, cv=3)
        assert table(again) == table(found) and again.notes == found.notes
    all_of_it = sweep(digits_file, tmp_path / "out", space=space, cv=3, exhaustive=True)
    assert not any(trial.part and trial.scores for trial in all_of_it.trials) and all_of_it.settings.exhaustive
    assert all_of_it.winner.mean >= found.winner.mean
    assert table(sweep(digits_file, tmp_path / "out", space=space, cv=3)) == table(all_of_it)


KILLED = """
import sys
sys.path[:0] = {path!r}
from heads.search import halving
from heads.search.sweep import sweep
halving.LEAST, halving.EACH = 30, 3
sweep(sys.argv[1], sys.argv[2], space=sys.argv[3], cv=3)
"""


def test_a_sweep_that_is_killed_at_each_level_goes_on_there(digits_file, space, tmp_path, few):
    expected, out, kept = sweep(digits_file, tmp_path / "whole", space=space, cv=3), tmp_path / "killed", b""
    log = out / "trials.jsonl"
    for rows in sorted({trial.rows for trial in expected.trials if trial.scores}):
        process = subprocess.Popen([sys.executable, "-c", KILLED.format(path=sys.path), digits_file, out, space])
        while process.poll() is None and not (log.exists() and b'"rows": %d' % rows in log.read_bytes()):
            time.sleep(0.002)
        process.kill()
        process.wait()
        now = log.read_bytes()
        assert b'"rows": %d' % rows in now and now.startswith(kept)
        kept = now[: now.rfind(b"\n") + 1]
    found = sweep(digits_file, out, space=space, cv=3)
    assert log.read_bytes().startswith(kept) and table(found) == table(expected)
    assert found.winner.design == expected.winner.design


def test_a_budget_that_is_spent_on_a_part_still_ends_with_a_winner(digits_file, space, tmp_path, few, monkeypatch):
    monkeypatch.setattr(judges, "JUDGES", {"discriminant": judges.JUDGES["discriminant"]})
    space_of(space, "lda", "centroid")
    sweep(digits_file, tmp_path / "out", space=space, cv=3)
    log = tmp_path / "out" / "trials.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:3]))
    found = sweep(digits_file, tmp_path / "out", space=space, cv=3, budget=1e-9)
    assert [trial.part for trial in found.trials] == [False, True] and found.winner == found.trials[0]


def test_families_share_what_is_left_of_a_budget(monkeypatch):
    monkeypatch.setattr(judging.time, "monotonic", lambda: 100.0)
    assert judging.Limits(160.0, 7).share(3) == judging.Limits(120.0, 7)
    assert judging.Limits().share(3).deadline == float("inf")


def test_paths_that_fall_are_left(digits_file, tmp_path, monkeypatch):
    monkeypatch.setattr(halving, "_CHANCE", 0.0)  # of so few rows, chance makes much
    space = tmp_path / "s.toml"
    space.write_text("[[heads]]\nkind = 'logreg'\nC = { log = [1e-5, 1e4], num = 16 }\n")
    found = sweep(digits_file, tmp_path / "out", space=space, cv=5, metric="log_loss")
    left = [trial for trial in found.trials if trial.stopped == "not judged: the path was falling"]
    assert len(found.trials) == 16 and left and not any(trial.scores for trial in left)
    assert min(trial.design.params["C"] for trial in left) > found.winner.design.params["C"]
    assert not any("not begun" in note for note in found.notes)


def test_nothing_is_fitted_twice(digits_file, space, tmp_path, few, monkeypatch):
    """Each design is solved once for each fold of a level, and the winner once more."""
    solved, fitted = Counter(), Counter()
    path, fit, dense = linear.solve_path, PathHead._fit, DenseHead._fit

    def solve_path(division, variants, loss, values, **options):
        solved.update((len(division.codes), division.folds, variant.fold, C) for variant in variants for C in values)
        return path(division, variants, loss, values, **options)

    def counted(of):
        def _fit(self, *rest):
            fitted[type(self).__name__] += 1
            assert rest[-1] is None  # no folds for a temperature: the sweep has the held-out scores
            return of(self, *rest)

        return _fit

    monkeypatch.setattr(linear, "solve_path", solve_path)
    monkeypatch.setattr(PathHead, "_fit", counted(fit))
    monkeypatch.setattr(DenseHead, "_fit", counted(dense))
    monkeypatch.setattr(judge_alone, "_scores", lambda *_: pytest.fail("no family is judged alone"))
    found = sweep(digits_file, tmp_path / "out", space=space, cv=3)
    assert fitted == Counter([type(found.winner.design.build()).__name__])
    assert [folds for _, folds in sorted({(rows, folds) for rows, folds, *_ in solved if folds})] == [3, 1, 3]
    assert set(solved.values()) == {1}
