"""Leading components of rows: lengths stay, what is small goes, and rows on disk are the same as those in memory."""

import numpy as np
import pytest

from heads.rows import StreamedRows
from heads.solvers.arrays import Scaling, standardise
from heads.solvers.components import MOST, components, projected, width


def spread_rows(count, columns=600):
    """Rows whose columns are mixtures of a few hundred sources of falling size."""
    rng = np.random.default_rng(0)
    sources = rng.normal(size=(count, columns)) * np.arange(1, columns + 1) ** -1.0
    return (3 + sources @ np.linalg.qr(rng.normal(size=(columns, columns)))[0]).astype(np.float32)


@pytest.mark.parametrize("count", [40, 550])
def test_coordinates_are_what_rows_vary_in_most(count):
    X = spread_rows(count)
    scaling = standardise(X)[1]
    basis, Z = components(X, scaling, X.shape[1]), scaling.apply(X)
    found = projected(X, scaling, basis)
    assert basis.shape == (600, width(count, 600)) == (600, min(count, MOST))
    stretch = 600 / basis.shape[1]
    np.testing.assert_allclose(basis.T @ basis, stretch * np.eye(basis.shape[1]), atol=1e-3)
    best = np.linalg.svd(Z, compute_uv=False)[: basis.shape[1]]
    assert np.square(found).sum() / stretch > 0.999 * np.square(best).sum()
    # They are alike: none has most of it.
    assert found.std(axis=0).max() < 3 * found.std(axis=0).mean()


@pytest.mark.parametrize("standardize", [True, False])
def test_rows_on_disk_have_the_same_coordinates(standardize):
    X = spread_rows(100)
    scaling = standardise(X)[1] if standardize else Scaling.none(600)
    rows = StreamedRows(((X, X[:0]),), np.arange(100))
    basis = components(X, scaling, X.shape[1])
    np.testing.assert_array_equal(components(rows, scaling, rows.shape[1]), basis)
    seen = projected(rows, scaling, basis)
    assert isinstance(seen, StreamedRows) and seen.shape == (100, 100)
    np.testing.assert_allclose(seen[10:20], projected(X, scaling, basis)[10:20], atol=1e-4)
    again = projected(rows.scaled(*scaling), Scaling.none(600), basis)
    np.testing.assert_allclose(again[[3, 1]], projected(X, scaling, basis)[[3, 1]], atol=1e-4)


@pytest.mark.parametrize(("count", "columns"), [(50, MOST), (600, 600)])
def test_rows_of_few_columns_stay_as_they_are(count, columns):
    assert width(count, columns) == columns
