"""Training sets: nothing that is held out is trained on, and errors say what there is."""

import numpy as np
import pytest

from featurestore.errors import HeadError
from heads import load_features
from heads.forecasting.training_sets import how_held_out, of_shots, of_sizes, repeats_of


@pytest.fixture
def table(digits_file):
    """360 train, 120 validation and 120 test rows, of which ten at a time are a group."""
    table = load_features(digits_file)
    return table.grouped_by((np.arange(600) // 10).astype(str))


@pytest.mark.parametrize(
    ("how", "splits", "held"),
    [("folds", {"train", "validation"}, None), ("validation", {"train"}, "validation"),
     ("test", {"train", "validation"}, "test")],
)  # fmt: skip
def test_what_is_held_out_is_never_trained_on(table, how, splits, held):
    repeats = repeats_of(table, how, 5, seed=0)
    for sets in (of_sizes(table, repeats, ()), of_shots(table, repeats, (1, 2))):
        for each in sets:
            rows = repeats[each.repeat].held
            assert not set(rows) & set(each.rows) and set(table.splits[each.rows]) <= splits
            if held is None:
                assert not set(table.groups(np.arange(600))[rows]) & set(table.groups(np.arange(600))[each.rows])
            else:
                assert set(table.splits[rows]) == {held}
    if held is None:  # each row is held out once
        assert sorted(np.concatenate([each.held for each in repeats])) == sorted(table.rows("train", "validation"))


def test_more_repeats_than_folds_divide_anew(table):
    repeats = repeats_of(table, "folds", 7, seed=0)
    assert len(repeats) == 7 and set(repeats[0].held) != set(repeats[5].held)


def test_few_validation_rows_make_way_for_folds(table):
    assert how_held_out(table) == "folds"


def test_shots_are_so_many_of_each_class(table):
    for each in of_shots(table, repeats_of(table, "test", 2, seed=0), (3, 1)):
        assert np.bincount(table.y[each.rows]).tolist() == [each.point] * 10


def test_more_shots_than_a_class_has_images(table):
    with pytest.raises(HeadError, match=r"digits.h5: --shots 400: give 1 to \d+, as class 'digit \d'"):
        [*of_shots(table, repeats_of(table, "test", 2, seed=0), (1, 400))]


@pytest.mark.parametrize("size", [5, 481])
def test_sizes_that_there_are_not(table, size):
    with pytest.raises(HeadError, match=rf"--sizes {size}: give \d+ to 480"):
        [*of_sizes(table, repeats_of(table, "test", 2, seed=0), (size,))]


def test_no_rows_to_hold_out(gap_file):
    table = load_features(gap_file)
    table.splits = np.where(table.splits == "validation", "train", table.splits)
    with pytest.raises(HeadError, match=r"no validation rows .* give --held-out folds"):
        repeats_of(table, "validation", 2, seed=0)
