"""Splits: given ones are kept, others are stratified and stable, and the same image never stands on two sides."""

import hashlib
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from featurestore.sources.samples import Sample
from featurestore.sources.splits import SPLITS, assign_splits, split_table


def sample(content, label=0, split="", name=None):
    digest = hashlib.sha256(str(content).encode()).hexdigest()
    return Sample(id=str(content) if name is None else name, path="", digest=digest, label=label, split=split)


def placed(samples, previous=None, **options):
    return assign_splits(samples, previous or {}, **options)[0]


def notes(samples, previous=None, **options):
    return assign_splits(samples, previous or {}, **options)[1]


def sides(samples):
    by_digest = defaultdict(set)
    for s in samples:
        by_digest[s.digest].add(s.split)
    return by_digest


def previous_of(samples):
    return {s.digest: s.split for s in samples}


# Some contents occur twice, and some of them under two labels.
datasets = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 2)), max_size=150).map(
    lambda pairs: [sample(content, label, name=f"{i}") for i, (content, label) in enumerate(pairs)]
)


@given(datasets)
def test_duplicates_never_straddle(samples):
    assert all(len(splits) == 1 for splits in sides(placed(samples)).values())


@given(datasets)
def test_nothing_is_lost_and_only_the_split_changes(samples):
    assert [replace(s, split="") for s in placed(samples)] == samples
    assert {s.split for s in placed(samples)} <= set(SPLITS)


@given(datasets, st.randoms())
def test_neither_order_nor_names_matter(samples, random):
    shuffled = [replace(s, id=f"renamed {s.id}", path="elsewhere") for s in samples]
    random.shuffle(shuffled)
    assert sides(placed(shuffled)) == sides(placed(samples))


@given(datasets, st.integers(0, 150))
def test_old_images_keep_their_split_when_new_ones_come(samples, n):
    old = previous_of(placed(samples[:n]))
    now = previous_of(placed(samples, old))
    assert {digest: now[digest] for digest in old} == old


@given(
    st.integers(1, 200), st.sampled_from([(0.7, 0.15, 0.15), (0.8, 0.2, 0.0), (0.8, 0.0, 0.2), (1 / 3, 1 / 3, 1 / 3)])
)
def test_fresh_classes_have_the_proportions(n, fractions):
    samples = [sample(f"{label}-{i}", label) for label in range(2) for i in range(n * (label + 1))]
    for row in split_table(placed(samples, fractions=fractions), ["a", "b"]).values():
        total = sum(row.values())
        if total < 3:
            assert row == {"train": total} | dict.fromkeys(row.keys() - {"train"}, 0)
        for split, fraction in zip(SPLITS, fractions, strict=True):
            if total > 3:  # three images can only be one for each
                assert abs(row.get(split, 0) - total * fraction) < 1
            if total >= 3:
                assert (row.get(split, 0) > 0) == (fraction > 0)


@given(datasets, st.integers(0, 150))
def test_growing_classes_approach_the_proportions(samples, n):
    """Where the old splits leave room, it is as if all were new."""
    old = previous_of(placed(samples[:n]))
    unique = {s.digest: s for s in reversed(samples)}
    one_class = [replace(s, label=0) for s in unique.values()]
    fresh, grown = Counter(s.split for s in placed(one_class)), Counter(s.split for s in placed(one_class, old))
    held = Counter(old[s.digest] for s in one_class if s.digest in old)
    if all(held[split] <= fresh[split] for split in SPLITS):
        assert grown == fresh


def test_the_division_is_pinned():
    """The same on every machine, in every version: else stores would change their test rows."""
    splits = [s.split[:2] for s in sorted(placed([sample(i) for i in range(20)]), key=lambda s: s.digest)]
    assert splits == ["tr"] * 11 + ["tr", "va", "te"] * 3


def test_classes_too_small():
    samples = [sample("a1"), sample("b1", 1), sample("b2", 1), sample("b2", 1), *[sample(f"c{i}", 2) for i in range(3)]]
    assert notes(samples, class_names=["a", "b", "c"]) == [
        "class 'a' has 1 image, too few to split: all in train",
        "class 'b' has 2 images, too few to split: all in train",
    ]
    table = split_table(placed(samples), ["a", "b", "c"])
    assert table == {
        "a": {"train": 1, "validation": 0, "test": 0},
        "b": {"train": 3, "validation": 0, "test": 0},
        "c": {"train": 1, "validation": 1, "test": 1},
    }
    assert "class 0 has 1 image" in notes(samples)[0]


def test_an_image_under_two_classes_is_placed_once():
    samples = [sample(i) for i in range(10)] + [sample(i, 1, name=f"again {i}") for i in range(3, 8)]
    result, said = assign_splits(samples, {})
    assert all(len(splits) == 1 for splits in sides(result).values())
    assert said == ["5 images under two classes (first: '3', 'again 3')"]
    assert Counter(s.split for s in result[:10]) == Counter(s.split for s in placed(samples[:10]))


def test_given_splits_are_kept():
    samples = [sample(i, i % 2, "train" if i < 6 else "test") for i in range(10)]
    assert assign_splits(samples, {}) == (samples, [])
    assert placed(samples, dict.fromkeys(sides(samples), "validation")) == samples


def test_an_image_given_in_two_splits_counts_in_the_stronger():
    given_splits = [
        ("x", "train"),
        ("x", "test"),
        ("x", "validation"),
        ("y", "validation"),
        ("y", "train"),
        ("y", "train"),
    ]
    samples = [sample(content, 0, split, f"{i}") for i, (content, split) in enumerate(given_splits)]
    result, said = assign_splits(samples, {})
    assert [s.split for s in result] == ["duplicate", "test", "duplicate", "validation", "duplicate", "duplicate"]
    assert said == [
        "1 image of train also in test: left out (split 'duplicate')",
        "2 images of train also in validation: left out (split 'duplicate')",
        "1 image of validation also in test: left out (split 'duplicate')",
    ]


def test_the_same_image_twice_in_one_given_split_stays():
    samples = [sample("x", 0, "train", "a"), sample("x", 0, "train", "b"), sample("y", 1, "test")]
    assert placed(samples) == samples


def test_words_of_earlier_runs_that_are_no_split_are_forgotten():
    samples = [sample(i) for i in range(9)]
    assert placed(samples, dict.fromkeys(sides(samples), "duplicate")) == placed(samples)


@pytest.mark.parametrize("fractions", [(0.7, 0.2, 0.2), (1.2, -0.1, -0.1)])
def test_fractions_must_be_shares(fractions):
    with pytest.raises(ValueError, match="sum to 1"):
        placed([sample(1)], fractions=fractions)


def test_nothing_at_all():
    assert assign_splits([], {}) == ([], [])
    assert split_table([], ["a"]) == {"a": {}}
