"""The commands on a system that lacks what Windows lacks: no POSIX module, no such call, processes that are spawned.

These tests do not run on Windows itself: what it does otherwise is written in docs/design.md.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT
from pictures import write_images

WITHOUT = Path(__file__).with_name("without_posix")
SPACE = """
[[heads]]
kind = "logreg"
C = [0.01, 1.0]
[[heads]]
kind = "svm"
[[heads]]
kind = "dense"
learning_rate = [1e-3, 1e-2]
epochs = 3
"""


def command(*arguments, cwd):
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(WITHOUT), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-m", "featurestore", *map(str, arguments)],
        cwd=cwd, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("without")
    write_images(folder / "images", 20)
    command("extract", "images", "--store", "store", "--backbone", "small_cnn", "--weights", "random", cwd=folder)
    (folder / "space.toml").write_text(SPACE)
    return folder


def test_the_processes_lack_it():
    code = "import fcntl"
    env = os.environ | {"PYTHONPATH": str(WITHOUT)}
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False).returncode == 1


def test_from_images_to_predictions(work):
    command("fit-head", "store", "--out", "head", cwd=work)
    swept = json.loads(command("sweep", "store", "--out", "run", "--space", "space.toml", "--json", cwd=work))
    assert len(swept["trials"]) == 5 and swept["winner"]["path"].endswith("winner")
    for head in ("head", Path("run") / "winner"):
        evaluated = json.loads(command("evaluate", head, "store", "--json", cwd=work))
        assert evaluated["accuracy"] > 0.5
    predicted = json.loads(command("predict", "head", Path("images") / "red", "--json", cwd=work))
    assert len(predicted) == 20 and {entry["label"] for entry in predicted} <= {"blue", "green", "red"}
    command("report", "run", "--out", "report.html", cwd=work)
    assert (work / "report.html").stat().st_size > 10_000
    assert not [path.name for path in work.rglob("*") if path.name.endswith((".part", ".lock"))]
