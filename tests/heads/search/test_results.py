"""What a sweep returns, as text, as a table and on disk; and that nothing is fitted twice for it."""

import json

import pytest
from cases import linear

from heads.reporting.run_folder import open_run
from heads.search import rounds
from heads.search.results import SweepResult
from heads.search.sweep import sweep


@pytest.fixture(scope="module")
def found(digits_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "run"
    space = out.parent / "space.toml"
    space.write_text("[[heads]]\nkind = 'logreg'\nC = [1e-4, 1e-2, 0.1]\n[[heads]]\nkind = 'lda'\n")
    return sweep(digits_file, out, space=space, cv=3, progress=False)


def test_a_few_lines_say_what_was_found(found):
    text = repr(found)
    assert len(text.splitlines()) <= 4 and len(text) < 400
    assert "heads=4" in text and f"{found.winner.mean:.3f} ± {found.winner.error:.3f}" in text
    assert f"test=accuracy {found.test.accuracy:.3f}" in text


def test_a_notebook_shows_the_best_trials(found):
    page = found._repr_html_()
    assert page.count("<tr>") >= 5 and "<td>*</td>" in page and "logreg C=0.0001" in page


def test_a_sweep_is_read_as_it_was_returned(found):
    read = open_run(found.path).sweep
    assert isinstance(read, SweepResult)
    assert read.to_dict() == found.to_dict()
    assert (read.trials, read.winner, read.settings) == (found.trials, found.winner, found.settings)


def test_a_sweep_of_an_early_version_is_read(found, tmp_path):
    values = json.loads((found.path / "sweep.json").read_text())
    for name in ("features", "sampler", "ensemble", "smallest"):
        values["settings"].pop(name)
    values = {name: value for name, value in values.items() if name not in ("features", "ensemble")}
    read = SweepResult.from_document(found.path, values, None)
    assert (read.features, read.ensemble, read.settings.ensemble, read.settings.smallest) == (None, None, 1, False)
    with pytest.raises(ValueError, match="not one of its trials"):
        SweepResult.from_document(found.path, values | {"trials": values["trials"][1:]}, None)


def test_nothing_is_fitted_twice_in_one_call(digits_file, tmp_path, monkeypatch):
    """Nor in a call that goes on, and judges the winner again because others of its family start from it."""
    monkeypatch.setattr(rounds, "_scores_again", lambda *_: pytest.fail("fitted again"))
    space = tmp_path / "space.toml"
    space.write_text("[[heads]]\nkind = 'logreg'\nC = [1e-4, 1e-2, 0.1]\n")
    whole = sweep(digits_file, tmp_path / "whole", space=space, cv=2, progress=False)
    first, *rest = (tmp_path / "whole" / "trials.jsonl").read_text().splitlines(keepends=True)
    [best] = [line for line in rest if json.loads(line)["mean"] == whole.winner.mean]
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "trials.jsonl").write_text(first + best)
    resumed = sweep(digits_file, tmp_path / "killed", space=space, cv=2, progress=False)
    assert (resumed.winner, resumed.calibration) == (whole.winner, whole.calibration)


def test_a_sweep_tells_how_far_it_is(digits_file, tmp_path):
    told = []
    space = linear(tmp_path / "s.toml", "lda", "knn", "svm", "dense")
    found = sweep(digits_file, tmp_path / "out", space=space, cv=2, progress=lambda *step: told.append(step))
    assert [step[1] for step in told] == sorted(step[1] for step in told)
    assert {step[1] for step in told} == {0, 1, 2, 3, 4}
    assert all(step[0] == "heads" and step[2] == 4 for step in told)
    assert told[0][3] == "" and told[-1][3].startswith(f"best accuracy {found.winner.mean:.3f}")


def test_a_long_fit_shows_that_it_goes_on(digits_file, tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "_PAUSE", 0.0)
    told = []
    space = linear(tmp_path / "s.toml", "dense")
    sweep(digits_file, tmp_path / "out", space=space, cv=3, progress=lambda *step: told.append(step[1]))
    assert told.count(0) > 1 and told[-1] == 1
