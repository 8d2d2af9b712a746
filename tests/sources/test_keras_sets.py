"""The image sets of keras.datasets, in the layout in which Keras keeps them."""

import gzip
import io
import pickle
from typing import ClassVar

import numpy as np
import pytest
from source_files import put, refused

from featurestore import open_source
from featurestore.sources.keras_sets import CLASSES

RANDOM = np.random.default_rng(0)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path / "datasets"


class Python2(pickle._Pickler):
    """Writes as Python 2 did, which knew texts only as bytes."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_text(self, value):
        raw = value.encode() if isinstance(value, str) else value
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_text


def as_python2(value):
    file = io.BytesIO()
    Python2(file, protocol=2).dump(value)
    return file.getvalue().replace(b"numpy._core", b"numpy.core")


def cifar(path, count, key, classes):
    """A batch as CIFAR's authors wrote it: rows of 3072 bytes, all red ones first."""
    data = RANDOM.integers(0, 256, (count, 3072), np.uint8)
    labels = [i % classes for i in range(count)]
    put(path, as_python2({b"data": data, key: labels, b"filenames": [b"x.png"] * count}))
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def idx(path, array):
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    put(path, gzip.compress(head + array.tobytes()))


@pytest.mark.parametrize("folder", ["cifar-10-batches-py-target/cifar-10-batches-py", "cifar-10-batches-py"])
def test_cifar10(home, folder):
    train = [cifar(home / folder / f"data_batch_{i}", 20, b"labels", 10) for i in range(1, 6)]
    test = cifar(home / folder / "test_batch", 10, b"labels", 10)
    source = open_source("keras:cifar10")
    assert (source.name, source.class_names) == ("cifar10", CLASSES["cifar10"])
    samples = source.dataset().samples
    assert [each.split for each in samples] == ["test"] * 10 + ["train"] * 100
    assert (samples[0].id, samples[-1].id) == ("test/00000", "train/00099")
    assert (source.read(samples[3]) == test[3]).all() and (source.read(samples[-1]) == train[4][19]).all()
    assert [each.label for each in samples[:10]] == list(range(10))
    assert source.class_names[samples[9].label] == "truck"
    (home / folder / "test_batch").write_bytes(
        pickle.dumps({b"data": test.transpose(0, 3, 1, 2).reshape(10, -1), b"labels": [0] * 10}, protocol=2)
    )
    assert (open_source("keras:cifar10").read(samples[3]) == test[3]).all()


def test_cifar100(home):
    folder = home / "cifar-100-python-target/cifar-100-python"
    train = cifar(folder / "train", 200, b"fine_labels", 100)
    cifar(folder / "test", 100, b"fine_labels", 100)
    source = open_source("keras:cifar100")
    assert len(source.class_names) == 100 and source.class_names[::99] == ("apple", "worm")
    samples = source.dataset().samples
    assert (source.read(samples[100]) == train[0]).all()


def test_mnist_and_fashion_mnist(home):
    x, y = RANDOM.integers(0, 256, (30, 28, 28), np.uint8), np.arange(30) % 10
    home.mkdir()
    np.savez(home / "mnist.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    for part, rows in (("train", slice(20)), ("t10k", slice(20, 30))):
        idx(home / f"fashion-mnist/{part}-images-idx3-ubyte.gz", x[rows])
        idx(home / f"fashion-mnist/{part}-labels-idx1-ubyte.gz", y[rows].astype(np.uint8))
    for name, last in (("mnist", "9"), ("fashion_mnist", "Ankle boot")):
        source = open_source(f"keras:{name}")
        samples = source.dataset().samples
        assert [source.class_names[each.label] for each in samples[9::10]] == [last] * 3
        assert all((source.read(each) == x[[*range(20, 30), *range(20)][i]]).all() for i, each in enumerate(samples))


def test_what_cannot_serve(home, tmp_path):
    assert "did you mean 'cifar10'?" in refused("keras:cifar-10")
    batch = home / "cifar-10-batches-py/data_batch_1"
    put(batch, pickle.dumps({b"data": print, b"labels": []}))
    assert "damaged (it names builtins.print)" in refused("keras:cifar10")
    put(batch, as_python2({b"data": np.zeros((2, 3072)), b"labels": [0, 1]}))
    assert "something else than bytes" in refused("keras:cifar10")
    cifar(batch, 20, b"labels", 10)
    put(batch, batch.read_bytes()[:-9000])
    assert "delete it, and Keras downloads it" in refused("keras:cifar10")
    cifar(batch, 20, b"labels", 10)
    assert "data_batch_2: no such file" in refused("keras:cifar10")
    put(home / "fashion-mnist/train-images-idx3-ubyte.gz", gzip.compress(b"\0\0\x08\1\xff\xff\xff\xff"))
    assert "cut off, or damaged" in refused("keras:fashion_mnist")
    assert "columns" in refused("keras:mnist", label_column="x")


def test_a_set_that_cannot_be_downloaded(home, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody answers
    message = refused("keras:mnist")
    assert f"not in {home}, and cannot be downloaded (" in message and "copy that folder" in message
