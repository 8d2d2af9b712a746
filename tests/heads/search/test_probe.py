from dataclasses import replace

import numpy as np
import pytest
from feature_files import SPEC, write_features

from featurestore.errors import HeadError
from heads.feature_table import FeatureTable
from heads.search.probe import probe

NAMES = [str(i) for i in range(10)]


@pytest.fixture
def taps(digits):
    X, _ = digits
    return {"noise": np.random.default_rng(0).normal(size=(600, 64)).astype(np.float32), "pixels": X}


@pytest.mark.parametrize("splits", [["train", "validation", "test"], ["train", "train", "test"]])
def test_an_informative_tap_comes_before_noise(digits, taps, tmp_path, splits):
    _, y = digits
    file = write_features(
        tmp_path / "a.h5", taps, y, np.resize(splits, 600), class_names=NAMES, flops={"pixels": 2 * 10**9}
    )
    found = probe(file)
    assert [row.tap for row in found] == ["pixels", "noise"]
    assert found[0].accuracy > 0.8 > 0.3 > found[1].accuracy
    assert found[0].to_dict().keys() >= {
        "file",
        "backbone",
        "tap",
        "width",
        "accuracy",
        "macro_f1",
        "gflops",
        "seconds",
    }
    assert (found[0].width, found[0].gflops, found[1].gflops) == (64, 2.0, None)


def test_test_rows_have_no_influence_and_a_folder_is_probed_whole(digits, taps, tmp_path):
    X, y = digits
    splits = np.resize(["train", "validation", "test"], 600)
    write_features(tmp_path / "a.h5", X, y, splits, class_names=NAMES)
    broken = np.where(splits[:, None] == "test", np.float32(np.nan), X)
    write_features(tmp_path / "b.h5", broken, y, splits, class_names=NAMES)
    one, two = probe(tmp_path)
    assert one.accuracy == two.accuracy and one.file != two.file


@pytest.mark.parametrize(("splits", "limit"), [(["train", "validation"], 455_000), (["train"], 700_000)])
def test_rows_that_stay_on_disk_give_the_same_answer(digits, taps, tmp_path, splits, limit, monkeypatch):
    _, y = digits
    file = write_features(tmp_path / "a.h5", taps, y, np.resize(splits, 600), class_names=NAMES)
    whole = [(row.tap, row.accuracy, row.width) for row in probe(file)]
    monkeypatch.setattr(FeatureTable, "read", None)
    assert [(row.tap, row.accuracy, row.width) for row in probe(file, max_memory=limit)] == whole


def test_a_file_without_train_rows(digits, tmp_path):
    X, y = digits
    with pytest.raises(HeadError, match="no train rows"):
        probe(write_features(tmp_path / "a.h5", X, y, ["test"] * 600, class_names=NAMES))


def test_looks_are_told_apart(digits, tmp_path):
    X, y = digits
    splits = np.resize(["train", "validation", "test"], 600)
    noise = np.random.default_rng(0).normal(size=X.shape).astype(np.float32)
    write_features(tmp_path / "a.h5", noise, y, splits, class_names=NAMES)
    five = replace(SPEC, crop_share=0.5, crops=5)
    write_features(tmp_path / "b.h5", X, y, splits, class_names=NAMES, spec=five)
    assert [row.backbone for row in probe(tmp_path)] == ["pixels@squash-crops5", "pixels@squash"]
