"""Disks that fill: one line that says so, what is finished is kept, and no draft stays."""

import numpy as np
import pytest
from feature_files import write_features

from featurestore.errors import DiskFullError, WriteError
from featurestore.system.files import replacing_files
from heads import sweep
from heads.search.results import WINNER
from heads.search.trials import FILE

SPACE = """
[[heads]]
kind = "logreg"
C = [0.001, 0.002, 0.004, 0.01, 0.02, 0.04, 0.1, 0.2, 0.4, 1, 2, 4, 10]
[[heads]]
kind = "dense"
hidden = [[64], [2048]]
epochs = 5
"""


@pytest.fixture
def features(tmp_path):
    y = np.arange(90) % 3
    X = (np.random.default_rng(0).normal(size=(90, 4)) + y[:, None]).astype(np.float32)
    splits = ["train"] * 60 + ["validation"] * 15 + ["test"] * 15
    return write_features(tmp_path / "tiny.h5", {"a": X}, y, splits, class_names=["a", "b", "c"])


def filled(disk, free):
    """Fill a disk but for so many bytes."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(file.tell() - free)
    return filler


@pytest.mark.parametrize("free", [0, 8, 16, 32])
def test_a_sweep_goes_on_when_there_is_room_again(small_disk, features, tmp_path, free):
    (tmp_path / "space.toml").write_text(SPACE)
    options = {"space": tmp_path / "space.toml", "cv": 0}
    filler = filled(small_disk, free * 1024)
    with pytest.raises(WriteError) as caught:
        sweep(features, small_disk / "run", **options)
    assert isinstance(caught.value, DiskFullError) and "\n" not in str(caught.value)
    assert {path.name for path in small_disk.glob("run/*")} <= {FILE, WINNER}
    filler.unlink()
    found = sweep(features, small_disk / "run", **options)
    expected = sweep(features, tmp_path / "elsewhere", **options)
    assert [t.mean for t in found.trials] == [t.mean for t in expected.trials]
    assert found.test.log_loss == expected.test.log_loss


def test_a_model_of_several_files_leaves_no_draft(small_disk):
    with pytest.raises(DiskFullError), replacing_files(small_disk / "model.xml") as draft:
        draft.write_text("small")
        draft.with_suffix(".bin").write_bytes(bytes(8 * 2**20))
    assert not list(small_disk.iterdir())


def test_models_of_several_files_replace_each_other(tmp_path):
    for text in ("old", "new"):
        with replacing_files(tmp_path / "model.xml") as draft:
            draft.write_text(text)
            draft.with_suffix(".bin").write_text(text)
    assert sorted((path.name, path.read_text()) for path in tmp_path.iterdir()) == [
        ("model.bin", "new"), ("model.xml", "new"),
    ]  # fmt: skip
    (tmp_path / ".folder.part" / "left").mkdir(parents=True)  # by a process that was killed
    for text in ("old", "new"):
        with replacing_files(tmp_path / "folder") as draft:
            draft.mkdir()
            (draft / text).write_text(text)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]
    assert not list(tmp_path.glob(".*"))
