"""Samplers by themselves, and in sweeps that go on."""

import json
import math

import pytest
from cases import linear, logged, table
from commands import featurestore

from featurestore.errors import HeadError, MissingDependencyError
from heads.kinds.design import HeadDesign
from heads.search import samplers
from heads.search.samplers import ROUND, start_search
from heads.search.space import load_space, read_space
from heads.search.sweep import sweep

SPACE = """
[[heads]]
kind = "logreg"
C = { log = [1e-6, 10.0], num = 2 }
[[heads]]
kind = "knn"
n_neighbors = { uniform = [1, 30] }
metric = ["cosine", "euclidean"]
[[heads]]
kind = "dense"
samples = 1
hidden = { choice = [[], [8]] }
dropout = { uniform = [0.0, 0.5] }
epochs = 4
"""


def rounds(space, trials, goodness, seed=0):
    return list(start_search(space, "optuna", trials, seed).rounds(goodness))


def peak(design):
    return -abs(math.log10(design.params["C"]) + 3) if design.kind == "logreg" else -10.0


def distance(designs):
    return sorted(-peak(design) for design in designs)[len(designs) // 2]


def test_suggestions_are_different_designs_of_the_space_and_come_near_the_best():
    space = load_space("standard")
    found = rounds(space, 80, peak)
    designs = [design for some in found for design in some]
    assert len(designs) == len(set(designs)) == 80
    assert max(map(len, found)) <= ROUND
    assert len({design.kind for design in designs}) > 5
    assert distance(designs[-20:]) < distance(designs[:20]) / 2
    known = {design.params["C"] for design in space[0].designs(None)}
    assert {
        design.params["C"] for design in designs if design.kind == "logreg"
    } - known  # a range is more than its grid
    assert found == rounds(space, 80, peak)
    assert found[:3] == rounds(space, 200, peak)[:3]
    assert found[0] != rounds(space, 80, peak, seed=1)[0]
    assert found[1:] != rounds(space, 80, lambda design: -peak(design))[1:]


def test_a_search_ends_when_all_is_known_or_nothing_is_judged():
    space = read_space([{"kind": "lda", "shrinkage": [0.1, 0.2]}, {"kind": "centroid"}])
    shrinkages = {HeadDesign("lda", {"shrinkage": value}) for value in (0.1, 0.2)}
    assert {design for some in rounds(space, 50, lambda _: 1.0) for design in some} == {
        *shrinkages,
        HeadDesign("centroid"),
    }
    assert len(rounds(load_space("standard"), 50, lambda _: None)) == 1
    assert len(rounds(load_space("standard"), 50, lambda _: math.nan)) > 2


def test_without_a_sampler_there_is_one_round():
    search = start_search(load_space("quick"), None, None, 0)
    (designs,) = search.rounds(peak)
    assert len(designs) == search.most == 22


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(SPACE)
    return path


def test_a_sampled_sweep_goes_on_from_any_line(digits_file, space, tmp_path):
    wish = {"space": space, "sampler": "optuna", "trials": 24}
    found = sweep(digits_file, tmp_path / "whole", **wish)
    assert len(found.trials) == 24 and found.notes == []
    assert found.settings.sampler == "optuna"
    assert {trial.design.kind for trial in found.trials} == {"logreg", "knn", "dense"}
    lines = (tmp_path / "whole" / "trials.jsonl").read_bytes().splitlines(keepends=True)
    for kept in (1, 9, 20, 25):
        out = tmp_path / str(kept)
        out.mkdir()
        (out / "trials.jsonl").write_bytes(b"".join(lines[:kept]) + b'{"half a li')
        again = sweep(digits_file, out, **wish)
        assert (out / "trials.jsonl").read_bytes().startswith(b"".join(lines[:kept]))
        assert table(again) == table(found)
        assert again.winner.design == found.winner.design
    longer = sweep(digits_file, tmp_path / "whole", **wish | {"trials": 30})
    assert len(logged(tmp_path / "whole")) == 31 == 1 + len(longer.trials)
    assert all(trial in longer.trials for trial in found.trials)
    with pytest.raises(HeadError, match="differs in sampler"):
        sweep(digits_file, tmp_path / "whole", space=space)


def test_a_sampled_sweep_says_what_it_did_not_try(digits_file, space, tmp_path):
    space.write_text("[[heads]]\nkind = 'knn'\nn_neighbors = [5, 7, 5000]\n")
    found = sweep(digits_file, tmp_path / "out", space=space, sampler="optuna", trials=40)
    assert [trial.design.params["n_neighbors"] for trial in found.trials] == [5, 7]
    assert found.notes == [
        "1 knn head is skipped: there are only 380 training rows: give n_neighbors no more",
        "37 of 39 heads were not begun: optuna suggested no others",
    ]
    found = sweep(digits_file, tmp_path / "out", space=linear(space, "knn"), sampler="optuna", budget=60)
    assert found.notes == ["99 of 100 heads were not begun: optuna suggested no others"]
    with pytest.raises(HeadError, match="larger --budget"):
        sweep(digits_file, tmp_path / "none", space=space, sampler="optuna", budget=1e-9)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"sampler": "optima"}, "unknown sampler 'optima': did you mean 'optuna'"),
        ({"sampler": "optuna", "trials": 0}, "--trials 0: give 1 or more"),
        ({"trials": 5}, "--trials 5: add  --sampler optuna"),
    ],
)
def test_wishes_that_cannot_be(digits_file, tmp_path, wish, message):
    with pytest.raises(HeadError, match=message):
        sweep(digits_file, tmp_path / "out", preset="quick", **wish)
    assert not (tmp_path / "out").exists()


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(samplers, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"featurestore\[optuna\]"):
        start_search(load_space("quick"), "optuna", 5, 0)


def test_command(digits_file, tmp_path):
    wish = ("sweep", str(digits_file), "--out", str(tmp_path / "out"), "--preset", "quick")
    done = featurestore(*wish, "--sampler", "optuna", "--trials", "4", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["trials"]) == 4
