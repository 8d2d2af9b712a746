import numpy as np
import pytest
from feature_files import SPEC, write_features

from featurestore.errors import StoreError
from heads import load_features


def test_table_shows_the_file(digits, digits_file):
    X, y = digits
    table = load_features(digits_file)
    np.testing.assert_array_equal(table.X, X)
    np.testing.assert_array_equal(table.y, y)
    assert (table.dataset, table.tap, table.fingerprint) == ("digits", "last", SPEC.fingerprint)
    assert len(table.ids) == len(table.digests) == len(table.splits) == 600
    assert table.split_counts() == {"test": 120, "train": 360, "validation": 120}
    assert table.provenance["weights"] == "random"


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
    features = {"early": np.arange(48, dtype=np.float16).reshape(4, 2, 2, 3), "late": np.ones((4, 5), np.float32)}
    path = write_features(tmp_path / "taps.h5", features, [0, 1, 0, 1], ["train"] * 4, class_names=["a", "b"])
    table = load_features(path, "early")
    assert (table.X.shape, table.X.dtype, table.tap) == ((4, 12), np.float16, "early")
    with pytest.raises(StoreError, match="early, late"):
        load_features(path)


def test_empty_file_is_an_empty_table(tmp_path):
    features = np.empty((0, 2, 2, 3), np.float32)
    table = load_features(write_features(tmp_path / "none.h5", features, [], [], class_names=["a", "b"]))
    assert table.X.shape == (0, 12)
    assert table.split_counts() == {}
