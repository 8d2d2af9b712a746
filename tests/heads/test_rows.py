"""Rows that stay on disk read as an array of the same rows does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heads.rows import StreamedRows, followed, taken


def made(rows, views, columns, parts, seed, dtype):
    rng = np.random.default_rng(seed)
    pairs = [
        (rng.normal(size=(rows, columns)).astype(dtype), rng.normal(size=(views, columns)).astype(dtype))
        for _ in range(parts)
    ]
    whole = np.concatenate([np.concatenate(pair) for pair in pairs], axis=1)
    source = rng.integers(rows + views, size=3 * rows)
    return StreamedRows(tuple(pairs), source), whole[source].astype(np.float32)


@given(
    st.integers(1, 40), st.integers(0, 9), st.integers(1, 3), st.integers(1, 2), st.integers(0, 99),
    st.sampled_from(["f2", "f4"]), st.booleans(),
)  # fmt: skip
def test_what_is_read_are_the_rows_of_an_array(rows, views, columns, parts, seed, dtype, scaled):
    streamed, expected = made(rows, views, columns, parts, seed, dtype)
    if scaled:
        mean, scale = np.float32([[0.5], [2]]) * np.ones(expected.shape[1], np.float32)
        streamed, expected = streamed.scaled(mean, scale), (expected - mean) / scale
    rng = np.random.default_rng(seed)
    some = [slice(None), slice(1, 5), slice(None, None, 3), rng.integers(len(expected), size=7), expected[:, 0] > 0]
    for each in some:
        for found in (streamed[each], np.asarray(taken(streamed, each))):
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, expected[each])
    assert streamed.shape == expected.shape and len(streamed) == len(expected)
    np.testing.assert_array_equal(streamed[1:9, :1], expected[1:9, :1])
    np.testing.assert_array_equal(np.concatenate(list(streamed.blocks())), expected)
    both = followed(streamed, taken(streamed, slice(2)))
    np.testing.assert_array_equal(np.asarray(both), np.concatenate([expected, expected[:2]]))


def test_what_is_read_is_a_copy():
    streamed, _ = made(5, 0, 2, 1, 0, "f4")
    before = streamed[:3].copy()
    streamed[:3][:] = 7
    np.testing.assert_array_equal(streamed[:3], before)


def test_rows_are_scaled_once():
    streamed, _ = made(5, 0, 2, 1, 0, "f4")
    one = np.ones(2, np.float32)
    with pytest.raises(ValueError, match="scaled already"):
        streamed.scaled(one, one).scaled(one, one)
