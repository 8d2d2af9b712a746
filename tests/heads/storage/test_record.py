"""What a head knows of the rows that made it."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from featurestore.errors import HeadError
from featurestore.sources.splits import SPLITS
from heads import fit_head, load_features, load_head
from heads.storage.record import FITTED, MEASURED, ROWS, Record, note_measured


def digest(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


@given(st.lists(st.sampled_from([*SPLITS, "duplicate"]), max_size=40), st.sets(st.sampled_from(SPLITS)), st.data())
def test_each_image_is_found_in_its_split(splits, fitted, data):
    chosen = data.draw(st.sets(st.sampled_from(SPLITS)))
    digests = [digest(i) for i in range(len(splits))]
    record = Record.of(np.array(digests, "U64"), np.array(splits, "U10"), fitted, chosen)
    expected = ["" if split == "duplicate" else split for split in splits]
    assert record.split_of([*digests, digest("new")]).tolist() == [*expected, ""]
    seen = ["fitted" if split in fitted else "chosen" if split in chosen else "" for split in expected]
    assert record.seen([*digests, digest("new")]).tolist() == [*seen, ""]


def test_a_saved_head_keeps_its_rows(digits_file, tmp_path):
    table = load_features(digits_file)
    fit_head(digits_file, "logreg", out=tmp_path / "head")
    record = load_head(tmp_path / "head").record
    assert (record.fitted, record.chosen) == (("train",), ())
    assert record.split_of(table.digests.tolist()).tolist() == table.splits.tolist()
    dense = fit_head(digits_file, "dense", params={"epochs": 1})
    assert dense.record.chosen == ("validation",)  # which told when to stop


@pytest.mark.parametrize(
    "rows",
    [
        {},
        {"train": np.zeros((3, 16), np.uint8)},
        dict.fromkeys(SPLITS, np.zeros((3, 16), np.int8)),
        dict.fromkeys(SPLITS, np.zeros((3, 8), np.uint8)),
        dict.fromkeys(SPLITS, np.zeros(16, np.uint8)),
    ],
)
def test_rows_that_were_altered_are_refused(digits_file, tmp_path, rows):
    fit_head(digits_file, "logreg", out=tmp_path / "head")
    save_file(rows, tmp_path / "head" / ROWS)
    with pytest.raises(HeadError, match=f"{ROWS}: not a readable saved head"):
        load_head(tmp_path / "head")
    (tmp_path / "head" / ROWS).unlink()
    with pytest.raises(HeadError, match=f"{ROWS}: no such file"):
        load_head(tmp_path / "head")


def test_a_head_of_an_earlier_version_has_no_record(digits_file, tmp_path):
    fit_head(digits_file, "logreg", out=tmp_path / "head")
    file = tmp_path / "head" / "head.json"
    values = json.loads(file.read_text())
    del values["fitted_on"], values["chosen_by"]
    file.write_text(json.dumps(values))
    (tmp_path / "head" / ROWS).unlink()
    assert load_head(tmp_path / "head").record is None


def test_measures_are_counted_by_their_rows_and_outlive_a_new_fit(digits_file, tmp_path):
    head = fit_head(digits_file, "centroid", out=tmp_path / "head").path
    assert [note_measured(head, "test", rows) for rows in ("ab", "ba", "abc", "ab")] == [1, 2, 1, 3]
    fit_head(digits_file, "logreg", out=head)
    assert note_measured(head, "test", "ab") == 4
    (head / MEASURED).write_text("{")
    with pytest.raises(HeadError, match=r"measured\.jsonl: not readable"):
        note_measured(head, "test", "ab")


def test_images_that_were_learnt_from_later_are_known_as_such():
    digests = np.array([hashlib.sha256(str(i).encode()).hexdigest() for i in range(9)])
    record = Record.of(digests[:8], np.repeat(["train", "test"], 4), ["train"], ["validation"])
    more = record.with_fitted(digests[[1, 5, 8]])
    assert more.split_of(digests).tolist() == ["train"] * 4 + ["test", "train", "test", "test", "train"]
    assert (more.seen(digests) == FITTED).tolist() == [True] * 4 + [False, True, False, False, True]
    assert sum(map(len, more.digests.values())) == 9 and record.split_of(digests[5:6]).tolist() == ["test"]
