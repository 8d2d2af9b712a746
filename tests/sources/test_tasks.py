"""What a data set asks of an image, and how splits stay fair to it."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featurestore.sources.samples import Sample
from featurestore.sources.splits import assign_splits, split_counts, split_table
from featurestore.sources.tasks import MULTILABEL, REGRESSION

NAMES = ("a", "b", "c")


def sample(i, values, **others):
    return Sample(id=f"{i:04d}", path="", digest=f"{i:064x}", label=0, split="", values=values, **others)


@given(st.lists(st.tuples(*[st.sampled_from([0.0, 1.0])] * 3), min_size=30, max_size=120))
def test_each_label_is_divided_as_the_whole_is(rows):
    samples = [sample(i, row) for i, row in enumerate(rows)]
    placed, notes = assign_splits(samples, {}, class_names=NAMES, task=MULTILABEL)
    table = split_table(placed, NAMES, MULTILABEL)
    for name, count in zip(NAMES, np.sum(rows, axis=0), strict=True):
        assert sum(table[name].values()) == count
        assert abs(table[name].get("train", 0) - 0.7 * count) <= 3 + 0.25 * count
    assert sum(split_counts(placed).values()) == len(rows)
    none = sum(not any(row) for row in rows)
    assert any("without any label" in note for note in notes) == bool(none)


def test_splits_stay_where_they_were_and_groups_stay_whole():
    rng = np.random.default_rng(0)
    samples = [sample(i, tuple(rng.integers(0, 2, 3).astype(float)), group=f"p{i // 3}") for i in range(90)]
    before, _ = assign_splits(samples[:60], {}, class_names=NAMES, task=MULTILABEL)
    known = {each.digest: each.split for each in before}
    after, _ = assign_splits(samples, known, class_names=NAMES, task=MULTILABEL)
    assert [each.split for each in after[:60]] == [each.split for each in before]
    splits: dict[str, set[str]] = {}
    for each in after:
        splits.setdefault(each.group, set()).add(each.split)
    assert all(len(found) == 1 for found in splits.values()) and {s for f in splits.values() for s in f} > {"train"}


def test_numbers_are_as_large_in_each_split():
    rng = np.random.default_rng(0)
    values = rng.lognormal(size=1000)
    placed, notes = assign_splits(
        [sample(i, (v,)) for i, v in enumerate(values)], {}, class_names=("x",), task=REGRESSION
    )
    assert notes == [] and Counter(s.split for s in placed) == {"train": 700, "validation": 150, "test": 150}
    medians = [np.median([s.values[0] for s in placed if s.split == split]) for split in ("train", "test")]
    assert abs(medians[0] - medians[1]) < 0.1


def test_one_image_with_two_answers_is_told():
    twice = [
        sample(0, (1.0, 0.0, 0.0)),
        Sample(id="x", path="", digest=f"{0:064x}", label=0, split="", values=(0.0,) * 3),
    ]
    _, notes = assign_splits(
        [*twice, *(sample(i, (1.0, 1.0, 1.0)) for i in range(1, 9))], {}, class_names=NAMES, task=MULTILABEL
    )
    assert any("1 image under two sets of labels" in note for note in notes)
