"""Commands keep within the memory that they are given, measured from outside."""

import sys

import numpy as np
import pytest
from benchmarks.common import own_memory
from benchmarks.made_features import make

from heads import load_features

ROWS, COLUMNS, CLASSES = 20_000, 512, 10
LIMIT = 48
"""Megabytes: the features take 20 in the file, and three times 41 in memory."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by /proc")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small file, and one whose features are larger than the limit."""
    folder = tmp_path_factory.mktemp("memory")
    return make(folder / "small.h5", 400, 8, CLASSES), make(folder / "large.h5", ROWS, COLUMNS, CLASSES)


def own(command, files, place, *options):
    small, large = files
    before = own_memory(command, *place("small", small), *options)[0]
    return (own_memory(command, *place("large", large), *options)[0] - before) / 1e6


def test_a_fit_and_an_evaluation_hold_the_limit(files, tmp_path):
    limit = ("--max-memory", f"{LIMIT}MB", "--json")
    fit = own("fit-head", files, lambda name, file: (file, "--out", tmp_path / name), *limit)
    evaluation = own("evaluate", files, lambda name, file: (tmp_path / name, file, "--split", "train"), *limit)
    assert fit < LIMIT
    assert evaluation < LIMIT
    unlimited = own("fit-head", files, lambda name, file: (file, "--out", tmp_path / f"{name}-free"), "--json")
    assert unlimited > 1.5 * LIMIT


def test_a_sweep_holds_the_limit_and_finds_the_same_winner(files, tmp_path):
    space = tmp_path / "space.toml"
    space.write_text("[[heads]]\nkind = 'logreg'\nC = [1e-4, 0.1]\n[[heads]]\nkind = 'centroid'\n")
    wish = ("--space", space, "--cv", "3", "--json")
    limited = own(
        "sweep", files, lambda name, file: (file, "--out", tmp_path / name, *wish), "--max-memory", f"{LIMIT}MB"
    )
    assert limited < LIMIT
    from heads.search.sweep import sweep

    found = sweep(files[1], tmp_path / "free", space=space, cv=3, progress=False)
    again = sweep(files[1], tmp_path / "large", space=space, cv=3, progress=False)
    assert found.winner.design == again.winner.design
    assert found.winner.mean == pytest.approx(again.winner.mean, abs=1e-3)


def test_the_made_file_is_a_feature_file_of_float16(files):
    X = load_features(files[1]).X
    assert X.dtype == np.float16 and len(X) == ROWS * 1.1
