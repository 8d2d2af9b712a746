from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import ArraySource, FeatureStore, extract, open_source
from featurestore.errors import SourceError
from featurestore.sources.groups import units
from featurestore.sources.samples import Sample
from featurestore.sources.splits import DUPLICATE, SPLITS, assign_splits

samples = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 2), st.sampled_from(["", "a", "b", "c", "d", "e", "f"])),
    min_size=1, max_size=60,
).map(lambda rows: [
    Sample(id=str(i), path="", digest=f"{digest:064x}", label=label, split="", group=group)
    for i, (digest, label, group) in enumerate(rows)
])  # fmt: skip


def connected(rows):
    """What must not be divided, found in the slow way: sets that grow until nothing joins them."""
    sets = [{i} for i in range(len(rows))]
    for one in rows:
        for key in ("digest", "group"):
            value = getattr(one, key)
            together = [i for i, row in enumerate(rows) if value and getattr(row, key) == value]
            merged = set().union(*(s for s in sets if s & set(together)), together) if together else set()
            sets = [s for s in sets if not s & merged] + ([merged] if merged else [])
    return {frozenset(s) for s in sets}


@given(samples)
def test_units_hold_whatever_shares_an_image_or_a_group(rows):
    found = defaultdict(set)
    for i, number in enumerate(units(rows)):
        found[number].add(i)
    assert {frozenset(each) for each in found.values()} == connected(rows)
    assert all(number == min(each) for number, each in found.items())


@given(samples, st.randoms())
def test_no_group_stands_in_two_splits_and_the_order_does_not_matter(rows, random):
    placed, notes = assign_splits(rows, {})
    splits = dict(zip([row.id for row in rows], [row.split for row in placed], strict=True))
    for each in connected(rows):
        assert len({splits[rows[i].id] for i in each}) == 1
    assert not any("groups stand in several" in note for note in notes)
    shuffled = random.sample(rows, len(rows))
    again, _ = assign_splits(shuffled, {})
    assert {row.id: row.split for row in again} == splits
    # What is placed stays, and its group goes with it.
    before = {row.digest: row.split for row in placed[::2]}
    later, _ = assign_splits(rows, before)
    assert [row.split for row in later] == [row.split for row in placed] or len(before) < len({r.digest for r in rows})
    assert all(row.split == before[row.digest] for row in later if row.digest in before)


def test_each_class_is_divided_as_well_as_its_groups_allow():
    rng = np.random.default_rng(0)
    rows = [
        Sample(id=f"{person}-{i}", path="", digest=f"{1000 * person + i:064x}", label=person % 2, split="",
               group=f"person{person}")
        for person in range(200) for i in range(int(rng.integers(1, 8)))
    ]  # fmt: skip
    placed, notes = assign_splits(rows, {})
    for label in (0, 1):
        counts = Counter(row.split for row in placed if row.label == label)
        shares = [counts[split] / counts.total() for split in SPLITS]
        np.testing.assert_allclose(shares, [0.7, 0.15, 0.15], atol=0.01)
    assert notes == []


def test_given_splits_that_divide_groups_are_named_and_stay():
    rows = [
        Sample(id=str(i), path="", digest=f"{i:064x}", label=i % 2, split=split, group=group)
        for i, (split, group) in enumerate(
            [("train", "a"), ("test", "a"), ("train", "b"), ("train", "b"), ("test", "")]
        )
    ]
    placed, notes = assign_splits(rows, {})
    assert [row.split for row in placed] == [row.split for row in rows] and DUPLICATE not in {r.split for r in placed}
    (note,) = notes
    assert note.startswith("1 of 2 groups stand in several splits") and "'a', 1 in test, 1 in train" in note


def test_a_class_of_too_few_groups_is_named():
    rows = [
        Sample(id=str(i), path="", digest=f"{i:064x}", label=int(i >= 20), split="", group="one" if i >= 20 else "")
        for i in range(40)
    ]
    _, notes = assign_splits(rows, {}, class_names=("many", "single"))
    assert notes == ["class 'single' has no images in validation or test: its groups are too few, or too large"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [(r"patient\d+", "is found in no path .the first is 'blue/"), ("(", "no regular expression"), ]
)  # fmt: skip
def test_patterns_that_are_refused(images, pattern, message):
    with pytest.raises(SourceError, match=message):
        open_source(images, group_pattern=pattern)


def test_a_pattern_names_groups_by_its_brackets(images):
    listing = open_source(images, group_pattern=r"/(\d)-(\d)").listing()
    assert {sample.group for sample in listing.samples} == {"0/0", "0/1"} or listing.samples[0].group.count("/") == 1
    whole = open_source(images, group_pattern=r"[a-z]+/\d").listing()
    assert {sample.group for sample in whole.samples} == {f"{sample.path.split('-')[0]}" for sample in whole.samples}


def test_a_column_names_groups(images, tmp_path):
    listed = open_source(images).listing().samples
    lines = [f"{sample.path},{sample.path.split('/')[0]},p{i % 4}" for i, sample in enumerate(listed)]
    (tmp_path / "m.csv").write_text("\n".join(["path,label,patient", *lines]))
    source = open_source(images, labels=tmp_path / "m.csv", group_column="patient")
    assert Counter(sample.group for sample in source.listing().samples) == {"p0": 8, "p1": 8, "p2": 7, "p3": 7}
    assert all(not sample.group for sample in open_source(images, labels=tmp_path / "m.csv").listing().samples)
    with pytest.raises(SourceError, match="no column 'person'"):
        open_source(images, labels=tmp_path / "m.csv", group_column="person")
    with pytest.raises(SourceError, match="both say what the groups are"):
        open_source(images, labels=tmp_path / "m.csv", group_column="patient", group_pattern="0")


def test_groups_go_into_the_file_and_may_come_later(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (24, 32, 32, 3), np.uint8), [0, 1] * 12
    options = {"backbone": "small_cnn", "weights": "random", "size": 32, "progress": False}
    plain = extract(ArraySource(images, labels, name="x"), tmp_path, **options)
    before = FeatureStore(plain.path)
    assert not before.grouped and set(before.groups) == {""} and before.summary()["groups"] == 0
    groups = [f"g{i // 4}" for i in range(24)]
    done = extract(ArraySource(images, labels, name="x", groups=groups), tmp_path, **options)
    file = FeatureStore(done.path)
    file.verify()
    assert done.computed == 0 and done.written and file.grouped and file.groups.tolist() == groups
    assert [sample.group for sample in file.samples()] == groups == [s.group for s in file.samples(range(24))]
    for group in set(groups):
        assert len(set(file.splits[file.groups == group])) == 1
    assert not extract(ArraySource(images, labels, name="x", groups=groups), tmp_path, **options).written
    back = extract(ArraySource(images, labels, name="x"), tmp_path, **options)
    assert back.written and not FeatureStore(back.path).grouped


def test_arrays_need_a_group_for_each_image():
    with pytest.raises(SourceError, match="4 images, 4 labels, 4 ids, 4 splits, 2 groups"):
        ArraySource(np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1], name="x", groups=["a", "b"])
