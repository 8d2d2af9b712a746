import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.backbones.taps import Tokens
from heads.explaining.places import Places, grid_of, is_linear, maps_of
from heads.kinds.dense import DenseHead
from heads.kinds.discriminant import LDAHead
from heads.kinds.knn import KNNHead
from heads.kinds.svm import SVMHead

MAPS = {
    "avg": lambda cells, prefix: cells.mean(0),
    "max": lambda cells, prefix: cells.max(0),
    "avg+max": lambda cells, prefix: np.concatenate([cells.mean(0), cells.max(0)]),
    "flatten": lambda cells, prefix: cells.reshape(-1),
    "none": lambda cells, prefix: cells.reshape(-1),
}
TOKENS = MAPS | {
    "cls": lambda cells, prefix: cells[0],
    "patches": lambda cells, prefix: cells[prefix:].mean(0),
    "cls+patches": lambda cells, prefix: np.concatenate([cells[0], cells[prefix:].mean(0)]),
}


@given(st.sampled_from(list(MAPS)), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(0, 9))
def test_the_places_of_a_map_add_up_to_its_pooled_row(pool, height, width, channels, seed):
    output = np.random.default_rng(seed).normal(size=(height, width, channels)).astype(np.float32)
    places = Places.of(output, pool, None)
    expected = MAPS[pool](output.reshape(-1, channels), 0)
    assert (places.grid, places.width) == ((height, width), len(expected))
    np.testing.assert_allclose(places.row, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(places.rows(range(height * width)).sum(0), expected, rtol=1e-5, atol=1e-6)


@given(st.sampled_from(list(TOKENS)), st.integers(1, 4), st.integers(0, 3), st.integers(1, 4), st.integers(0, 9))
def test_tokens_add_up_to_their_pooled_row_and_the_class_token_has_no_place(pool, side, registers, channels, seed):
    tokens = Tokens(registers=registers)
    output = np.random.default_rng(seed).normal(size=(side**2 + tokens.prefix, channels)).astype(np.float32)
    places = Places.of(output, pool, tokens)
    np.testing.assert_allclose(places.row, TOKENS[pool](output, tokens.prefix), rtol=1e-5, atol=1e-6)
    assert places.grid == ((0, 0) if pool == "cls" else (side, side))
    if pool == "patches":
        assert not places.rows(range(tokens.prefix)).any()


def test_what_is_no_map_has_no_places():
    output = np.arange(6, dtype=np.float32)
    for values, tokens in ((output, None), (output.reshape(2, 3), None), (output, Tokens())):
        places = Places.of(values, "avg", tokens)
        assert places.grid == (0, 0) and grid_of(values.shape, "avg", tokens) is None
        np.testing.assert_array_equal(places.row, output)
    assert grid_of((8, 3), "patches", Tokens()) is None  # seven patches are no square


@pytest.fixture(scope="module")
def maps():
    """300 maps (3, 4, 6) of three classes; channel c is greater in a corner of those of class c."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    found = rng.random((300, 3, 4, 6), dtype=np.float32)
    for row, label in zip(found, y, strict=True):
        row[:2, :2, label] += 2
    return found, y


@pytest.mark.parametrize("pool", ["avg", "max", "avg+max", "flatten"])
def test_of_a_linear_head_the_maps_and_the_intercept_are_the_score(maps, pool):
    outputs, y = maps
    rows = np.stack([Places.of(each, pool, None).row for each in outputs])
    head = LDAHead().fit(rows, y)
    places = Places.of(outputs[0], pool, None)
    found = maps_of(head, rows[0], places, 0)
    assert is_linear(head) and found.shape == (3, 3, 4)
    np.testing.assert_allclose(found.mean(axis=(1, 2)) + head.intercept_, head.scores(rows[:1])[0], rtol=1e-4)
    assert found[0, :2, :2].mean() > found[0, 2:, 2:].mean() + 1


def test_taps_beside_each_other_share_one_score(maps):
    outputs, y = maps
    parts = [[Places.of(each, pool, None) for each in outputs] for pool in ("max", "flatten")]
    rows = np.stack([np.concatenate([one.row, other.row]) for one, other in zip(*parts, strict=True)])
    head = LDAHead().fit(rows, y)
    sums = sum(maps_of(head, rows[0], p[0], first).mean(axis=(1, 2)) for p, first in zip(parts, (0, 6), strict=True))
    np.testing.assert_allclose(sums + head.intercept_, head.scores(rows[:1])[0], rtol=1e-4)


@pytest.mark.parametrize(
    "head", [DenseHead(hidden=(16,), dropout=0.0, epochs=30), SVMHead(), KNNHead(n_neighbors=50)], ids=repr
)
def test_of_other_heads_the_maps_are_the_derivative_along_each_place(maps, head):
    outputs, y = maps
    head.fit(outputs[2:].mean(axis=(1, 2)), y[2:])
    both = outputs[0].copy()
    both[1:, 3, 1] += 3  # class 0 in one corner, class 1 in the other
    x = both.mean(axis=(0, 1))
    found = maps_of(head, x, Places.of(both, "avg", None), 0)
    assert not is_linear(head)
    assert found[0, :2, :2].mean() > found[0, 1:, 3].mean() and found[1, :2, :2].mean() < found[1, 1:, 3].mean()
    if isinstance(head, DenseHead):
        (w1, b1), (w2, _) = head.as_layers()
        gradient = w1 @ (((x @ w1 + b1) > 0)[:, None] * w2)
        assert np.corrcoef(found.ravel(), (both @ gradient).transpose(2, 0, 1).ravel())[0, 1] > 0.97
