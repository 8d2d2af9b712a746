"""Likeness of rows, against all pairs in float64."""

import numpy as np
import pytest
from feature_files import write_features

from featurestore.errors import HeadError
from heads import load_features
from heads.curating.likeness import Likeness


def cosines(X):
    Z = X.astype(np.float64) - X.mean(axis=0)
    Z /= np.where(X.std(axis=0) > 0, X.std(axis=0), 1)
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    return Z @ Z.T


@pytest.fixture
def table(digits, tmp_path):
    X = digits[0].copy()
    X[10:20] = X[0]  # more equal rows than neighbours that are asked for
    return load_features(
        write_features(tmp_path / "d.h5", X, digits[1], ["train"] * 600, class_names=list("0123456789"))
    )


@pytest.mark.parametrize("max_memory", [None, 200_000])
def test_the_nearest_others_are_those_of_all_pairs(table, max_memory):
    near, cosine = Likeness(table, np.arange(600), max_memory).nearest(5)
    expected = cosines(np.asarray(table.X))
    np.fill_diagonal(expected, -2)
    np.testing.assert_allclose(cosine, -np.sort(-expected, axis=1)[:, :5], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(expected, near, axis=1), cosine, atol=1e-5)
    assert not (near == np.arange(600)[:, None]).any()


def test_the_nearest_to_other_features(table):
    X = np.asarray(table.X)
    near, cosine = Likeness(table, np.arange(100)).nearest_to(X[[30, 99]], 3)
    assert near[:, 0].tolist() == [30, 99] and cosine[:, 0] == pytest.approx([1, 1])


@pytest.mark.parametrize(("rows", "k"), [(1, 0), (3, 2)])
def test_few_rows_have_few_neighbours(table, rows, k):
    near, cosine = Likeness(table, np.arange(rows)).nearest(10)
    assert near.shape == cosine.shape == (rows, k)
    assert Likeness(table, np.arange(rows)).nearest_to(np.asarray(table.X[:1]), 10)[0].shape == (1, rows)


def test_features_that_hold_nan_are_refused(digits, tmp_path):
    X = digits[0].copy()
    X[5, 5] = np.nan
    file = write_features(tmp_path / "d.h5", X, digits[1], ["train"] * 600, class_names=list("0123456789"))
    with pytest.raises(HeadError, match=r"d.h5: features hold NaN"):
        Likeness(load_features(file), np.arange(600))
