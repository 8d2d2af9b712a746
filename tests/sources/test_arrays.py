"""Images and labels in memory."""

import hashlib

import numpy as np
import pytest
from source_files import rows

from featurestore.errors import ImageError, SourceError
from featurestore.images.decode import decode
from featurestore.sources.arrays import ArraySource
from featurestore.sources.base import digest_of


def images(n=4, shape=(5, 6), dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, (n, *shape)).astype(dtype)


def test_arrays():
    x = images(12)
    source = ArraySource(x, [3, 7] * 6, name="digits")
    dataset = source.dataset()
    assert dataset.class_names == ("3", "7") and [s.label for s in dataset.samples] == [0, 1] * 6
    assert [s.id for s in dataset.samples][:3] == ["00", "01", "02"] and dataset.samples[0].path == ""
    assert dataset.samples[1].digest == hashlib.sha256(b"|u1 (5, 6) " + x[1].tobytes()).hexdigest()
    assert (decode(source.read(dataset.samples[5]), 6, "squash") == decode(x[5], 6, "squash")).all()


def test_equal_bytes_of_another_shape_have_another_digest():
    assert digest_of(np.zeros((2, 8), np.uint8)) != digest_of(np.zeros((4, 4), np.uint8))


def test_sixteen_bits_and_floats_are_the_same_pictures():
    x = images(shape=(5, 6, 3))
    others = (x, x.astype(np.uint16) * 257, x / 255, (x / 255).astype(np.float32))
    sources = [ArraySource(array, list("abab"), name="x") for array in others]
    digests = [[s.digest for s in source.dataset().samples] for source in sources]
    assert all(other == digests[0] for other in digests)


def test_floats_are_rounded():
    source = ArraySource([[[0.0, 0.999]], [[0.001, 1.0]]], [0, 1], name="x")
    assert [source.read(s).tolist() for s in source.dataset().samples] == [[[0, 255]], [[0, 255]]]


def test_class_names_splits_and_ids_of_arrays():
    source = ArraySource(
        images(),
        [[2], [0], [0], [2]],
        name="x",
        class_names=["zoo", "ape", "bee"],
        splits=["val", "train", "test", "dev"],
        ids="dcba",
    )
    assert source.class_names == ("zoo", "ape", "bee")
    assert rows(source) == [
        ("a", "", "bee", "validation"),
        ("b", "", "zoo", "test"),
        ("c", "", "zoo", "train"),
        ("d", "", "bee", "validation"),
    ]
    named = ArraySource(images(), ["bee", "ape", "ape", "bee"], name="x", class_names=["bee", "ape"])
    assert [s.label for s in named.listing().samples] == [0, 1, 1, 0]


def test_an_array_that_changes_is_noticed():
    x = images()
    source = ArraySource(x, [0, 1, 0, 1], name="x")
    sample = source.dataset().samples[0]
    x[0, 0, 0] ^= 1
    with pytest.raises(ImageError, match="changed"):
        source.read(sample)


@pytest.mark.parametrize(
    ("x", "y", "options", "words"),
    [
        (images(dtype=np.float64), [0, 1, 0, 1], {}, "scale"),
        (np.full((2, 3, 3), np.nan), [0, 1], {}, "scale"),
        (images(dtype=np.int64), [0, 1, 0, 1], {}, "convert"),
        (images(shape=(3, 8, 8)), [0, 1, 0, 1], {}, r"\(4, 3, 8, 8\)"),
        (images(shape=(8,)), [0, 1, 0, 1], {}, "shape"),
        (images(n=0), [], {}, "shape"),
        (images(), [0, 1, 0], {}, "4 images, 3 labels"),
        (images(), [0.5, 1, 0, 1], {}, "whole numbers"),
        (images(), np.eye(4, dtype=int), {}, "labels must be"),
        (images(), [1, 1, 1, 1], {}, "only one class, '1'"),
        (images(), [0, 1, 2, -1], {"class_names": ["a", "b", "c"]}, "label -1"),
        (images(), ["a", "b", "c", "d"], {"class_names": ["a", "b", "c"]}, "label 'd'"),
        (images(), [0, 1, 0, 1], {"splits": ["train", "test", "x", "x"]}, "unknown split 'x'"),
        (images(), [0, 1, 0, 1], {"splits": ["train"]}, "1 splits"),
        (images(), [0, 1, 0, 1], {"ids": ["a", "a", "b", "c"]}, "1 ids stand twice"),
    ],
)
def test_arrays_that_cannot_serve(x, y, options, words):
    with pytest.raises(SourceError, match=f"^digits: .*{words}"):
        ArraySource(x, y, name="digits", **options)
