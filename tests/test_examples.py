"""The examples in docstrings run, in a folder with a few images, a feature file and a head."""

import doctest
import pkgutil
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from pictures import write_images

import featurestore
import heads

sys.path.append(str(Path(__file__).parent / "heads"))

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def modules_with_examples() -> Iterator[str]:
    for package in (featurestore, heads):
        yield package.__name__
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            path = Path(found.module_finder.path, f"{found.name.rpartition('.')[2]}.py")
            path = path if path.is_file() else path.with_suffix("") / "__init__.py"
            if ">>> " in path.read_text():
                yield found.name


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """What docs/contributing.md says that examples find in their folder."""
    import numpy as np
    from feature_files import write_features
    from sklearn.datasets import load_digits

    from heads import fit_head

    folder = tmp_path_factory.mktemp("examples")
    write_images(folder / "images", 10)
    X, y = load_digits(return_X_y=True)
    splits = np.resize(["train", "train", "train", "validation", "test"], 600)
    names = [f"digit {i}" for i in range(10)]
    write_features(folder / "digits.h5", X[:600].astype(np.float32), y[:600], splits, class_names=names)
    fit_head(folder / "digits.h5", "logreg", out=folder / "head")
    return folder


@pytest.mark.parametrize("name", list(modules_with_examples()))
def test_examples(name, data, tmp_path, monkeypatch, capfd):
    place = tmp_path / "here"
    shutil.copytree(data, place)
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["python"])
    found = doctest.testmod(import_module(name), optionflags=FLAGS)
    assert found.failed == 0, capfd.readouterr().out
    assert found.attempted or name == featurestore.__name__
    assert Path.cwd() == place
