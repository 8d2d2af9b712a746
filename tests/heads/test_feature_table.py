from dataclasses import replace

import numpy as np
import pytest
from feature_files import SPEC, write_features

from featurestore.errors import StoreError
from featurestore.spec import Tap
from heads import load_features
from heads.feature_table import Input


def test_table_shows_the_file(digits, digits_file):
    X, y = digits
    table = load_features(digits_file)
    np.testing.assert_array_equal(table.X, X)
    np.testing.assert_array_equal(table.y, y)
    assert (table.dataset, table.inputs) == ("digits", (Input(SPEC, "last", "random"),))
    assert len(table.ids) == len(table.digests) == len(table.splits) == 600
    assert table.split_counts() == {"test": 120, "train": 360, "validation": 120}


def test_features_are_mapped_not_read(digits_file):
    X = load_features(digits_file).X
    assert isinstance(X.base, np.memmap) or isinstance(X, np.memmap)
    assert not X.flags.writeable


def test_select_gives_the_rows_of_one_split(digits, digits_file):
    X, y = digits
    table = load_features(digits_file.parent)
    features, labels = table.select("test")
    np.testing.assert_array_equal(features, X[4::5])
    np.testing.assert_array_equal(labels, y[4::5])
    assert len(table.rows("duplicate")) == 0


def test_taps_are_chosen_by_name_and_maps_are_flattened(tmp_path):
    features = {"early": np.arange(48, dtype=np.float32).reshape(4, 2, 2, 3), "late": np.ones((4, 5), np.float32)}
    path = write_features(tmp_path / "taps.h5", features, [0, 1, 0, 1], ["train"] * 4, class_names=["a", "b"])
    table = load_features(path, "early")
    assert (table.X.shape, table.X.dtype, table.inputs[0].tap) == ((4, 12), np.float32, "early")
    with pytest.raises(StoreError, match="early, late"):
        load_features(path)


def test_empty_file_is_an_empty_table(tmp_path):
    features = np.empty((0, 2, 2, 3), np.float32)
    table = load_features(write_features(tmp_path / "none.h5", features, [], [], class_names=["a", "b"]))
    assert table.X.shape == (0, 12)
    assert table.split_counts() == {}


OTHER = replace(SPEC, backbone="edges")


@pytest.fixture
def folder(digits, tmp_path):
    """Two files of one data set: one of two taps, with one view of its third row; the other of one tap."""
    X, y = digits
    views = {"early": X[:1] + 1, "last.avg": X[:1, :5], "last.avg+max": X[:1, :9] + 1}
    spec = replace(SPEC, taps=(Tap("early"), Tap("last"), Tap("last", "avg+max")))
    taps = {"early": X, "last.avg": X[:, :5], "last.avg+max": X[:, :9].astype(np.float16)}
    names, splits = [str(i) for i in range(10)], np.resize(["train", "test"], 600)
    write_features(tmp_path / "one.h5", taps, y, splits, class_names=names, spec=spec, views=views, view_rows=[2])
    write_features(tmp_path / "two.h5", X[:, :7], y, splits, class_names=names, spec=OTHER)
    return tmp_path


def test_taps_of_one_file_are_put_side_by_side(folder, digits):
    X, _ = digits
    table = load_features(folder / "one.h5", "last.avg+max+early")
    np.testing.assert_array_equal(table.X, np.hstack([X[:, :9], X]))
    assert [item.tap for item in table.inputs] == ["last.avg+max", "early"]
    assert [item.spec.backbone for item in table.inputs] == ["pixels", "pixels"]
    np.testing.assert_array_equal(table.select("test")[0], np.hstack([X[:, :9], X])[1::2])
    features, owners = table.views()
    np.testing.assert_array_equal(features, np.hstack([X[:1, :9] + 1, X[:1] + 1]))
    assert owners.tolist() == [1]


@pytest.mark.parametrize("names", ["pixels.early+edges", "early+edges.last", "one.early+two"])
def test_files_of_a_folder_are_put_side_by_side(folder, digits, names):
    X, y = digits
    table = load_features(folder, names)
    np.testing.assert_array_equal(table.X, np.hstack([X, X[:, :7]]))
    np.testing.assert_array_equal(table.y, y)
    assert [path.name for path in table.files] == ["one.h5", "two.h5"]
    with pytest.raises(StoreError, match=r"one\.h5 and .*two\.h5: do not have the same views"):
        table.views()


def test_names_of_nothing_or_of_several_are_refused(folder, digits):
    X, y = digits
    with pytest.raises(StoreError, match=r"no tap 'late': name one of .*pixels\.early"):
        load_features(folder, "pixels.early+late")
    write_features(folder / "three.h5", X, y, ["train"] * 600, class_names=list("abcdefghij"), spec=OTHER)
    with pytest.raises(StoreError, match=r"'edges' is in three\.h5, two\.h5: name one of .*three"):
        load_features(folder, "early+edges")


FIVE = replace(SPEC, resize="crop", crop_share=0.5, crops=5)


@pytest.fixture
def looks(digits, tmp_path):
    """Three looks by one backbone, and another backbone."""
    X, y = digits
    rest = {"labels": y, "splits": ["train"] * 600, "class_names": [str(i) for i in range(10)]}
    for i, spec in enumerate((SPEC, replace(SPEC, resize="crop"), FIVE, OTHER)):
        write_features(tmp_path / f"{i}.h5", X[:, : 5 + i], spec=spec, **rest)
    return tmp_path


@pytest.mark.parametrize(
    "names",
    [
        "pixels@squash+pixels@crop-crops5",
        "pixels@squash.last+pixels@crop-crops5.last",
        "@squash+@crop-crops5",
        "@squash.last+2",
    ],
)
def test_looks_of_one_backbone_have_names(looks, digits, names):
    X, _ = digits
    table = load_features(looks, names)
    np.testing.assert_array_equal(table.X, np.hstack([X[:, :5], X[:, :7]]))
    assert [item.spec for item in table.inputs] == [SPEC, FIVE]


def test_a_backbone_of_several_looks_is_no_name_and_one_of_a_single_look_has_no_other(looks):
    with pytest.raises(StoreError, match=r"'pixels' is in 0\.h5, 1\.h5, 2\.h5: name one of .*pixels@crop-crops5"):
        load_features(looks, "pixels")
    assert load_features(looks, "edges").columns == 8
    with pytest.raises(StoreError, match="no tap 'edges@squash'"):
        load_features(looks, "edges@squash")


@pytest.mark.parametrize(
    ("what", "values"),
    [
        ("labels", {"labels": np.zeros(600)}),
        ("splits", {"splits": ["train"] * 600}),
        ("class names", {"class_names": list("abcdefghij")}),
        ("ids", {"features": np.zeros((9, 7), np.float32), "labels": np.zeros(9), "splits": ["train"] * 9}),
    ],
)
def test_files_of_different_rows_are_refused(folder, digits, what, values):
    table = load_features(folder / "two.h5")
    same = {"features": table.X, "labels": table.y, "splits": table.splits, "class_names": table.class_names}
    (folder / "two.h5").unlink()
    write_features(folder / "two.h5", **{**same, **values}, spec=OTHER)
    with pytest.raises(StoreError, match=rf"one\.h5 and .*two\.h5: differ in {what}"):
        load_features(folder, "early+edges")
