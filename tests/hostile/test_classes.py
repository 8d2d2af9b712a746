"""Feature files with far more classes than rows: each command ends soon and small, with a result or one line."""

import json

import numpy as np
import pytest
from feature_files import write_features
from measured import run

HEADS = ("logreg", "linear-svm", "ridge", "lda", "centroid", "svm", "knn", "dense")


def many_classes(path, classes, rows, *, columns=16, shown=None, seed=0):
    """A file of so many class names, of which `shown` have rows: a centre and noise, train, validation and test."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, shown or rows // 4, replace=False)[np.arange(rows) % (shown or rows // 4)]
    centres = {label: rng.normal(size=columns) for label in np.unique(labels).tolist()}
    X = np.array([centres[label] for label in labels.tolist()]) + rng.normal(size=(rows, columns)) / 4
    splits = np.resize(np.repeat(["train", "train", "validation", "test"], len(centres)), rows)
    names = [f"class {i}" for i in range(classes)]
    return write_features(path, X.astype(np.float32), labels, splits, class_names=names)


@pytest.fixture(
    scope="module",
    params=[(60_000, 100), pytest.param((20_000, 200), marks=pytest.mark.slow_hostile)],
    ids=["60000x100", "20000x200"],
)
def file(request, tmp_path_factory):
    return many_classes(tmp_path_factory.mktemp("classes") / "many.h5", *request.param)


@pytest.mark.parametrize("head", ["logreg", *(pytest.param(h, marks=pytest.mark.slow_hostile) for h in HEADS[1:])])
def test_a_head_of_the_classes_that_have_rows(file, head, tmp_path):
    code, out, _, peak = run("fit-head", file, "--head", head, "--out", tmp_path / "head", "--json")
    assert code == 0 and peak < 500
    assert len(json.loads(out)["classes"]) <= 50
    code, out, _, peak = run("evaluate", tmp_path / "head", file, "--json")
    assert code == 0 and peak < 500
    assert json.loads(out).keys() & {"confused", "confusion_matrix"} <= {"confused"}


@pytest.mark.parametrize(
    "options",
    [
        ["--ensemble", "3"],
        *(
            pytest.param(options, marks=pytest.mark.slow_hostile)
            for options in ([], ["--cv", "0"], ["--smallest"], ["--metric", "macro_f1"])
        ),
    ],
)
def test_a_sweep_and_its_report(file, options, tmp_path):
    code, _, lines, peak = run("sweep", file, "--preset", "quick", "--out", tmp_path / "run", *options)
    assert code == 0 and peak < 500 and not [line for line in lines if "Traceback" in line]
    code, _, _, peak = run("report", tmp_path / "run", "--out", tmp_path / "page.html")
    assert code == 0 and peak < 500
    assert (tmp_path / "page.html").stat().st_size < 10**6


def test_probe(file):
    code, out, _, peak = run("probe", file, "--json")
    assert code == 0 and peak < 500 and json.loads(out)[0]["accuracy"] > 0.5


def test_classes_of_one_row_each_are_a_line(tmp_path):
    path = many_classes(tmp_path / "lone.h5", 60_000, 100, shown=100)
    for command in (["probe"], ["sweep", "--preset", "quick", "--out", tmp_path / "run"]):
        code, _, lines, peak = run(command[0], path, *command[1:])
        assert code == 1 and peak < 500
        assert len(lines) == 1 and lines[0].startswith("error: ")
