"""A folder of a stranger's is the working directory, and every module that Python may look for lies in it."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pictures import write_images
from storage import feature_file

from featurestore.system.children import environment, safely

ROOT = Path(__file__).parents[2]
INSTALLED = ("cli", "featurestore", "h5py", "heads", "joblib", "numpy", "sitecustomize", "sklearn", "threadpoolctl")


@pytest.fixture
def strange(tmp_path):
    """Images, and modules that leave a word in the folder ``ran`` when they are run."""
    folder = write_images(tmp_path / "strange", 4)
    (tmp_path / "ran").mkdir()
    for name in {*sys.stdlib_module_names, *INSTALLED}:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran' / name)!r}, 'w')\n")
    return folder


def run(folder: Path, *arguments: str | Path, first: str = "") -> list[str]:
    """Run a command in a folder as its user does, by the script that pip writes; gives the modules that ran there."""
    script = folder.parent / "bin" / "featurestore"
    script.parent.mkdir(exist_ok=True)
    script.write_text(f"import sys\nfrom cli import main\n{first}\nsys.exit(main())\n")
    command = [sys.executable, script, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return sorted(path.name for path in (folder.parent / "ran").iterdir())


def test_an_extraction_runs_no_code_of_its_folder(strange, tmp_path):
    """Neither where the file is published, nor in the workers and in what keeps their accounts."""
    small = ["--backbone", "small_cnn", "--weights", "random", "--size", "32", "--engine", "keras"]
    assert run(strange, "extract", ".", "--store", tmp_path / "store", "--cluster", "2", *small) == []


def test_a_sweep_of_dense_nets_runs_no_code_of_its_folder(strange, tmp_path):
    (tmp_path / "space.toml").write_text('[[heads]]\nkind = "dense"\nhidden = [[], 4, 8]\nepochs = 2\n')
    file = feature_file(tmp_path, rows=90)
    processes = "import heads.solvers.dense_population as p; p.cores, p._WORTH_PROCESSES = lambda: 2, 0"
    options = ["--out", tmp_path / "run", "--space", tmp_path / "space.toml"]
    assert run(strange, "sweep", file, *options, first=processes) == []


def test_a_child_finds_what_its_user_wants_found_and_nothing_else(strange, tmp_path, monkeypatch):
    """An empty entry of PYTHONPATH stands for the working directory."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.py").touch()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "../mine", ""]))
    monkeypatch.chdir(strange)
    code = "import json, own, featurestore; print(json.__file__, featurestore.__file__)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert str(strange) not in done.stdout and str(ROOT / "featurestore") in done.stdout
    assert not list((tmp_path / "ran").iterdir())


@pytest.mark.parametrize("given", [None, "", "0"])
def test_the_environment_is_as_before_when_the_last_thread_has_left(monkeypatch, given):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    if given is not None:
        monkeypatch.setenv("PYTHONSAFEPATH", given)
    before, inside, leave = dict(os.environ), threading.Event(), threading.Event()

    def second() -> None:
        with safely():
            inside.set()
            leave.wait()

    other = threading.Thread(target=second)
    with safely():
        other.start()
        inside.wait()
    assert os.environ["PYTHONSAFEPATH"] == "1"
    leave.set()
    other.join()
    assert dict(os.environ) == before
