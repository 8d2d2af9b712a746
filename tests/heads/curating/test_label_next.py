"""What to label next: uncertain images, unlike each other, none of which has a label."""

import numpy as np
import pytest
from feature_files import write_features
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import HeadError
from heads import load_features, look_at
from heads.curating.label_next import POOL, label_next, margins, spread
from heads.curating.question import Question
from heads.search.held_out import designs_of

NAMES = [*map(str, range(10)), "unknown"]


@pytest.fixture
def half_file(digits, tmp_path):
    """The labels of half of the rows of each split are not known; rows 1 and 3 are the same image as row 5."""
    X, y = digits
    y = np.where(np.arange(600) % 2 == 1, 10, y)
    return write_features(tmp_path / "half.h5", X, y, np.resize(["train"] * 4 + ["test"], 600), class_names=NAMES)


def ask(file, count=10, **options):
    return Question(load_features(file), count, designs=designs_of("ridge"), **options)


def test_margins():
    assert margins(np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])).tolist() == pytest.approx([0.2, 0.7])


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 100))
def test_each_row_is_drawn_once(rows, count, seed):
    Z = np.random.default_rng(seed).integers(0, 2, (rows, 2)).astype(np.float32)
    drawn = spread(Z, count, seed).tolist()
    assert drawn[0] == 0 and len(drawn) == len(set(drawn)) == min(rows, count)
    different = len(np.unique(Z, axis=0))
    assert len(np.unique(Z[drawn[:different]], axis=0)) == min(different, count)  # copies come last


def test_rows_without_a_label_are_named_by_doubt(half_file):
    notes = []
    found = label_next(ask(half_file, unlabelled_class="unknown", note=notes.append))
    table = load_features(half_file)
    assert len(found.rows) == 10 and all(table.y[found.rows] == 10) and set(table.splits[found.rows]) == {"train"}
    assert found.found == 240 and notes == ["60 rows of class 'unknown' are in other splits, and not named"]
    assert all(each.label == each.split == "" and each.other_label in NAMES[:10] for each in found.looks)
    everyone = label_next(ask(half_file, 240, unlabelled_class="unknown")).looks
    least = sorted(each.score for each in everyone)[: POOL * 10]
    assert len(everyone) == 240 and max(each.score for each in found.looks) <= least[-1] + 1e-9


def test_a_pool_of_another_feature_file(digits, digits_file, tmp_path):
    X, y = digits
    pool = write_features(
        tmp_path / "pool.h5", X[:50] + 1, y[:50], ["test"] * 50, class_names=list("0123456789"), first=590
    )
    notes = []
    found = label_next(ask(digits_file, 5, pool=str(pool), note=notes.append))
    assert found.found == 40 and len(notes) == 1 and "10 images of" in notes[0] and "they are in" in notes[0]
    assert len(found.looks) == 5 and min(found.rows) >= 10


def test_the_head_is_not_fitted_to_test_rows(half_file, digits, tmp_path):
    """Test rows with wrong labels change nothing."""
    table = load_features(half_file)
    y = np.where((table.splits == "test") & (table.y < 10), 0, table.y)
    other = write_features(tmp_path / "other.h5", digits[0], y, table.splits, class_names=NAMES)
    one, same = (label_next(ask(file, unlabelled_class="unknown")).looks for file in (half_file, other))
    assert one == same


def test_of_a_head_that_knows_little_it_is_said(digits, tmp_path):
    y = np.random.default_rng(0).integers(0, 3, 600)
    file = write_features(tmp_path / "d.h5", digits[0], y, ["train"] * 600, class_names=["a", "b", "unknown"])
    notes = []
    label_next(ask(file, unlabelled_class="unknown", note=notes.append))
    assert len(notes) == 1 and "tells hardly more than chance" in notes[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "say where images without labels are: --pool, or --unlabelled-class"),
        ({"pool": "a", "unlabelled_class": "b"}, "--pool, or --unlabelled-class"),
        ({"unlabelled_class": "unknwn"}, r"has no class 'unknwn': did you mean 'unknown'"),
    ],
)
def test_errors(half_file, options, words):
    with pytest.raises(HeadError, match=words):
        look_at("label-next", half_file, progress=False, **options)


def test_nothing_is_left_to_label(half_file):
    with pytest.raises(HeadError, match="no image without a label"):
        look_at("label-next", half_file, pool=half_file, progress=False)
