"""Images and labels in an .npz file."""

import numpy as np
import pytest
from source_files import put, refused

from featurestore.sources.opener import open_source


def images(n=4, shape=(5, 6), dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, (n, *shape)).astype(dtype)


@pytest.mark.parametrize("keys", [("x", "y"), ("images", "labels")])
def test_npz(tmp_path, keys):
    arrays = dict(zip(keys, (images(), [0, 1, 1, 0]), strict=True))
    np.savez(tmp_path / "some.npz", **arrays, class_names=["no", "yes"], split=["train", "train", "test", "test"])
    source = open_source(tmp_path / "some.npz")
    assert source.name == "some" and source.class_names == ("no", "yes")
    assert [s.split for s in source.listing().samples] == ["train", "train", "test", "test"]


def test_npz_as_keras_writes_them(tmp_path):
    x = images(5)
    np.savez_compressed(tmp_path / "mnist.npz", x_train=x[:3], y_train=[[0], [1], [0]], x_test=x[3:], y_test=[[1], [1]])
    source = open_source(tmp_path / "mnist.npz")
    assert [(s.label, s.split) for s in source.listing().samples] == [
        (0, "train"),
        (1, "train"),
        (0, "train"),
        (1, "test"),
        (1, "test"),
    ]
    assert (source.read(source.dataset().samples[3]) == x[3]).all()


def test_npz_that_cannot_serve(tmp_path):
    path = tmp_path / "some.npz"
    np.savez(path, pixels=images(), y=[0, 1, 0, 1])
    assert "it has pixels, y" in refused(path)
    np.savez(path, x=images(), y=np.array([0, "a", None, 1], dtype=object))
    assert "plain arrays" in refused(path)
    np.savez(path, x_train=images(), y_train=[0, 1, 0, 1], x_test=images(shape=(9, 9)), y_test=[0, 1, 0, 1])
    assert "plain arrays" in refused(path)
    put(path, b"PK\x03\x04 and no more")
    assert "plain arrays" in refused(path)
    with path.open("wb") as file:
        np.save(file, images())
    assert "plain arrays" in refused(path)
    np.savez(path, x=images(), y=[0, 1, 0, 1])
    assert "--exclude" in refused(path, exclude=["0"])
    put(path, path.read_bytes()[:-40])
    assert str(path) in refused(path)
