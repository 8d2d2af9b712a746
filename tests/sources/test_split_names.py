"""The names that people give to splits."""

from hypothesis import given
from hypothesis import strategies as st

from featurestore.sources.split_names import split_of

WORDS = {
    "train": ["train", "training"],
    "validation": ["val", "valid", "validation", "dev", "eval", "evaluation"],
    "test": ["test", "testing", "holdout", "hold-out", "hold_out", "hold out"],
}
SUFFIXES = ("set", "data", "images", "image", "imgs", "dir", "folder", "split", "dataset", "data_set")


@st.composite
def names_of_splits(draw):
    """What somebody may call the folder of a split, and the split."""
    split = draw(st.sampled_from(sorted(WORDS)))
    name = draw(st.sampled_from(WORDS[split]))
    separator = draw(st.sampled_from(["_", "-", " ", ""]))
    suffix = draw(st.sampled_from(["", *SUFFIXES]))
    prefix = draw(st.sampled_from(["", "seg", "images", "data"]))
    name = (f"{prefix}{separator or '_'}" if prefix else "") + name + (f"{separator}{suffix}" if suffix else "")
    return draw(st.sampled_from([name, name.upper(), name.title(), name.title().replace("_", "")])), split


@given(names_of_splits())
def test_what_splits_are_called(named):
    name, split = named
    assert split_of(name) == split


@given(names_of_splits(), st.sampled_from(["q", "_1", "2", "_old", " cats", "é", "con"]), st.booleans())
def test_a_split_is_not_read_out_of_other_words(named, more, before):
    name, _ = named
    assert split_of(f"{more}{name}" if before else f"{name}{more}") is None
