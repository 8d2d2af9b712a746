"""Rows in a basis of their own: lengths, scores and answers are those of the rows as they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heads.solvers.arrays import Scaling, standardise
from heads.solvers.row_space import RowSpace


def rows(count, columns, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(2, 1, (count, columns)).astype(dtype)


@given(
    count=st.integers(2, 30), columns=st.integers(1, 1500), copies=st.integers(0, 3), scaled=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_lengths_and_scores_stay(count, columns, copies, scaled, seed):
    X = rows(count, columns, seed)
    X = np.concatenate([X, X[:copies]])
    scaling = standardise(X)[1] if scaled else Scaling.none(columns)
    Z = scaling.apply(X).astype(np.float64)
    space = RowSpace.of(X, scaling)
    assert space.rows.shape[1] <= max(1, min(count, columns))
    longest = max(np.abs(Z @ Z.T).max(), 1e-30)
    np.testing.assert_allclose(space.rows.astype(np.float64) @ space.rows.T, Z @ Z.T, atol=1e-6 * longest)
    # Weights as any penalised fit gives them: sums of rows.
    weights = space.rows.T @ np.random.default_rng(seed).normal(size=(len(X), 3))
    mapped = space.weights(weights)
    assert mapped.shape == (columns, 3)
    scores = Z @ mapped
    np.testing.assert_allclose(space.rows @ weights, scores, atol=1e-5 * max(np.abs(scores).max(), 1e-30))
    np.testing.assert_allclose(
        np.linalg.norm(mapped, axis=0), np.linalg.norm(weights, axis=0), rtol=1e-4, atol=1e-6 * np.sqrt(longest)
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_ridge_in_the_basis_is_that_of_the_rows_on_disk(tmp_path, dtype):
    X, y = rows(40, 2500, dtype=dtype), np.random.default_rng(1).normal(size=40)
    np.save(tmp_path / "rows.npy", X)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    scaling = standardise(X.astype(np.float32))[1]
    space = RowSpace.of(mapped, scaling)
    Z = scaling.apply(X.astype(np.float32)).astype(np.float64)
    for alpha in (0.1, 10.0, 1e4):
        narrow = space.rows.astype(np.float64)
        reduced = np.linalg.solve(narrow.T @ narrow + alpha * np.eye(narrow.shape[1]), narrow.T @ y)
        wide = Z.T @ np.linalg.solve(Z @ Z.T + alpha * np.eye(40), y)
        np.testing.assert_allclose(space.weights(reduced[:, None])[:, 0], wide, atol=1e-5 * np.abs(wide).max())


def test_rows_that_are_all_zero_have_a_basis_too():
    space = RowSpace.of(np.zeros((3, 5), np.float32), Scaling.none(5))
    assert space.rows.shape == (3, 1)
    assert np.abs(space.rows).max() < 1e-14
    assert np.isfinite(space.weights(np.ones((1, 2)))).all()
