"""Iterative stratification: sizes, groups and old places hold for any rows; labels are balanced as well as can be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.sources.stratify import iterative_parts

SHARES = [[0.7, 0.15, 0.15], [0.2] * 5, [0.5, 0.5], [1.0], [0.9, 0.0, 0.1]]


@st.composite
def rows(draw):
    """Labels of some rows, of which some are frequent and some rare, and the shares of parts."""
    count, labels = draw(st.integers(1, 120)), draw(st.integers(0, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return (rng.random((count, labels)) < rng.random(labels)).astype(np.uint8), draw(st.sampled_from(SHARES))


@given(rows(), st.integers(0, 5))
def test_each_row_is_in_one_part_and_parts_have_their_sizes(case, seed):
    labels, shares = case
    parts = iterative_parts(labels, shares, seed=seed)
    assert parts.shape == (len(labels),) and parts.min() >= 0 and parts.max() < len(shares)
    sizes = np.bincount(parts, minlength=len(shares))
    assert (np.abs(sizes - len(labels) * np.array(shares)) < 1).all()
    np.testing.assert_array_equal(parts, iterative_parts(labels, shares, seed=seed))


@given(rows(), st.integers(1, 40), st.integers(0, 5))
def test_a_group_is_in_one_part_and_no_part_has_more_than_its_last_group_too_many(case, count, seed):
    labels, shares = case
    groups = np.random.default_rng(seed).integers(count, size=len(labels)) * 7 - 50
    parts = iterative_parts(labels, shares, groups, seed)
    assert all(len(set(parts[groups == group])) == 1 for group in groups)
    largest = np.unique(groups, return_counts=True)[1].max()
    sizes = np.bincount(parts, minlength=len(shares))
    assert (sizes - len(labels) * np.array(shares) < largest).all()


@given(rows(), st.data())
def test_rows_that_are_placed_stay_where_they_are(case, data):
    labels, shares = case
    before = iterative_parts(labels, shares)
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels))))
    parts = iterative_parts(labels, shares, seed=3, placed=np.where(kept, before, -1))
    np.testing.assert_array_equal(parts[kept], before[kept])
    assert (np.abs(np.bincount(parts, minlength=len(shares)) - len(labels) * np.array(shares)) < 1).all()


def unbalanced(held, labels, shares):
    """How far the shares of the parts in the rows of each label are from what they should be, on average."""
    return np.abs(held / np.maximum(labels.sum(axis=0), 1) - np.array(shares)[:, None]).mean()


def best(labels, shares):
    """The rows of each label in each part if labels were divided one by one, and were unbalanced by rounding only."""
    exact = labels.sum(axis=0) * np.array(shares)[:, None]
    held = np.floor(exact)
    for column, lacking in enumerate((exact - held).T):
        held[np.argsort(-lacking, kind="stable")[: round(lacking.sum())], column] += 1
    return held


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("shares", SHARES[:3])
def test_labels_are_balanced_nearly_as_well_as_one_label_would_be(shares, grouped):
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = (rng.random((400, 8)) < np.geomspace(0.01, 0.5, 8)).astype(np.uint8)
        parts = iterative_parts(labels, shares, np.repeat(np.arange(100), 4) if grouped else None, seed)
        chance = (rng.permutation(parts.reshape(100, 4)) if grouped else rng.permutation(parts)).reshape(-1)
        held = [np.stack([labels[each == k].sum(axis=0) for k in range(len(shares))]) for each in (parts, chance)]
        found.append([unbalanced(each, labels, shares) for each in (*held, best(labels, shares))])
    own, chance, least = np.mean(found, axis=0)
    assert own - least < (chance - least) * (0.15 if grouped else 0.02)


def test_one_label_each_is_plain_stratification():
    labels = np.eye(4, dtype=np.uint8)[np.random.default_rng(0).permutation(np.repeat(np.arange(4), [10, 20, 30, 60]))]
    parts = iterative_parts(labels, [0.2] * 5)
    assert [labels[parts == part].sum(axis=0).tolist() for part in range(5)] == [[2, 4, 6, 12]] * 5


def test_another_seed_is_another_division():
    labels = np.random.default_rng(0).integers(2, size=(60, 3)).astype(np.uint8)
    assert (iterative_parts(labels, [0.5, 0.5], seed=0) != iterative_parts(labels, [0.5, 0.5], seed=1)).any()


def test_a_group_of_which_rows_are_placed_goes_where_most_of_them_are():
    groups, placed = np.repeat([0, 1], 5), np.array([2, 1, 1, -1, -1, -1, -1, 0, 2, -1])
    assert (
        iterative_parts(np.ones((10, 1), np.uint8), [0.4, 0.3, 0.3], groups, placed=placed).tolist()
        == [1] * 5 + [2] * 5
    )


def test_no_rows_and_no_labels():
    assert iterative_parts(np.zeros((0, 3), np.uint8), [0.5, 0.5]).shape == (0,)
    parts = iterative_parts(np.zeros((10, 0), np.uint8), [0.5, 0.5], np.arange(10) // 2)
    assert sorted(np.bincount(parts).tolist()) == [4, 6]


@pytest.mark.parametrize("shares", [[0.5, 0.4], [1.5, -0.5], []])
def test_shares_that_are_no_division_are_refused(shares):
    with pytest.raises(ValueError, match="sum to 1"):
        iterative_parts(np.ones((4, 1), np.uint8), shares)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(N, L\)"):
        iterative_parts(np.ones(4, np.uint8), [1.0])
    with pytest.raises(ValueError, match=r"\(N,\)"):
        iterative_parts(np.ones((4, 1), np.uint8), [1.0], np.zeros(3, np.intp))
