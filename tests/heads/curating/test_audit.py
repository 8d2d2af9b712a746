"""What features show of each other, against scikit-learn and against what was put there."""

import numpy as np
import pytest
from feature_files import write_features
from sklearn.decomposition import PCA

from featurestore.errors import HeadError
from heads import load_features
from heads.curating.audit import audit, near_duplicates, principal_plane, suspects


@pytest.mark.parametrize(("rows", "columns"), [(60, 9), (9, 60), (5, 1)])
def test_the_plane_is_that_of_principal_component_analysis(rows, columns):
    X = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32) * np.arange(1, columns + 1)
    places, explained = principal_plane(X)
    known = PCA(min(2, columns)).fit(X)
    expected = np.abs(known.transform(X))
    np.testing.assert_allclose(np.abs(places[:, : expected.shape[1]]), expected, rtol=1e-3, atol=1e-4)
    assert explained == pytest.approx(known.explained_variance_ratio_.sum(), rel=1e-5)


def test_a_suspect_stands_among_rows_of_one_other_class():
    y = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2])
    near = np.array([[j for j in range(12) if j != i] for i in range(12)])
    near[0, :4], near[10, :1] = [5, 6, 7, 1], [0]
    near[5, :4] = [6, 7, 8, 9]
    found = {row: (label, share) for row, label, share in suspects(y, near)}
    assert found[0] == (1, 0.75) and 5 not in found
    assert 10 not in found  # of a class too small to be asked


def test_near_duplicates_are_much_nearer_than_others():
    near = np.array([[1, 2, 3], [0, 2, 3], [3, 0, 1], [2, 0, 1], [2, 3, 0]])
    cosine = np.array([[0.9, 0.6, 0.5], [0.9, 0.6, 0.5], [0.9, 0.85, 0.84], [0.9, 0.85, 0.84], [0.99, 0.99, 0.98]])
    assert [pair[:2] for pair in near_duplicates(near, cosine)] == [(2, 4), (3, 4), (0, 4), (0, 1)]


def test_an_audit_finds_what_was_put_there(digits, tmp_path):
    X, y = digits[0].copy(), digits[1].copy()
    X[7] = X[3] * 1.0001
    wrong = int(np.flatnonzero(y == 0)[4])
    y[wrong] = 1
    file = write_features(tmp_path / "d.h5", X, y, ["train", "test"] * 300, class_names=list("0123456789"))
    found = audit(load_features(file))
    assert next({i, j} for i, j, _ in found.alike) == {3, 7} and found.alike[0][2] == pytest.approx(1, abs=1e-4)
    assert (wrong, 0) in [(row, label) for row, label, _ in found.suspects]
    assert sorted(found.rows) == list(range(600)) and found.plane.shape == (600, 2)


def test_features_that_hold_nan_are_refused(digits, tmp_path):
    X = digits[0].copy()
    X[5, 5] = np.nan
    file = write_features(tmp_path / "d.h5", X, digits[1], ["train"] * 600, class_names=list("0123456789"))
    with pytest.raises(HeadError, match="NaN"):
        audit(load_features(file))
