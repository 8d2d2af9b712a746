"""Nested subsets: what the smallest holds, that each is within the next, and that groups stay whole."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heads.forecasting.subsets import nested, shots_of, sizes_of


@st.composite
def rows(draw):
    """Labels of two classes or more, and groups, some of which hold several rows and classes."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    count = draw(st.integers(6, 60))
    y = np.unique(rng.integers(draw(st.integers(2, 5)), size=count), return_inverse=True)[1]
    return y, rng.integers(draw(st.integers(3, 80)), size=count)


@given(rows(), st.integers(0, 100))
def test_subsets_are_nested_and_hold_groups_whole(case, seed):
    y, groups = case
    found, before = nested(y, groups, seed), np.zeros(len(y), bool)
    for size in np.unique(found.size):
        mask = found.mask(size)
        assert mask.sum() == size and (mask | ~before).all()
        assert not set(groups[mask]) & set(groups[~mask])
        before = mask
    assert before.all()
    first = found.mask(found.fewest)
    for label in np.unique(y):
        assert len(np.unique(groups[first & (y == label)])) >= min(2, len(np.unique(groups[y == label])))


@given(st.integers(0, 100), st.integers(20, 100))
def test_subsets_have_the_classes_in_their_shares(seed, size):
    y = np.repeat([0, 1, 2], [60, 30, 10])
    counts = np.bincount(y[nested(y, np.arange(100), seed).mask(size)])
    assert (np.abs(counts - size * np.array([0.6, 0.3, 0.1])) <= 2).all()


def test_sizes_grow_in_equal_steps_and_end_with_all_rows():
    assert sizes_of(10, 640, 4) == [10, 40, 160, 640]
    assert sizes_of(10, 64_000, 2) == [1000, 64_000]  # not from 10 on
    assert sizes_of(30, 40, 8) == [40] and len(sizes_of(10, 340, 8)) == 8


@given(rows(), st.integers(0, 100))
def test_shots_count_the_rows_of_each_class_and_take_other_groups_first(case, seed):
    y, groups = case
    place = shots_of(y, groups, seed)
    for label in np.unique(y):
        mine = np.flatnonzero(y == label)
        assert sorted(place[mine]) == list(range(len(mine)))
        different = len(np.unique(groups[mine]))
        assert len(np.unique(groups[mine[place[mine] < different]])) == different
