"""Samples as columns are the samples that were taken in, in the order of their ids."""

import os

from hypothesis import given
from hypothesis import strategies as st

from featurestore.sources.columns import Samples, Texts
from featurestore.sources.samples import Sample

texts = st.one_of(st.text("abé☃", max_size=5), st.binary(max_size=4).map(os.fsdecode))
samples = st.integers(0, 2).flatmap(
    lambda width: st.lists(
        st.builds(
            Sample, id=texts, path=texts, label=st.integers(0, 3), split=st.sampled_from(["", "train"]),
            group=st.sampled_from(["", "a", "b"]), index=st.integers(-1, 9),
            values=st.tuples(*[st.floats(width=32, allow_nan=False)] * width),
        ),
        unique_by=lambda sample: sample.id,
    )
)  # fmt: skip


@given(st.lists(texts), st.data())
def test_texts_are_a_list(given_texts, data):
    made = Texts(given_texts)
    assert list(made) == given_texts and len(made) == len(given_texts)
    part = data.draw(st.slices(len(given_texts)))
    assert made[part] == given_texts[part]
    places = data.draw(st.lists(st.sampled_from(range(len(given_texts))))) if given_texts else []
    assert list(made.take(places)) == [given_texts[i] for i in places]


@given(samples, st.booleans())
def test_samples_are_a_sorted_list(given_samples, same):
    if same:
        given_samples = [Sample(id=s.id, path=s.id, label=s.label, split=s.split) for s in given_samples]
    expected, made = sorted(given_samples, key=lambda sample: sample.id), Samples.of(given_samples)
    assert list(made) == expected and made[1:] == expected[1:] and made[::-2] == expected[::-2]
    assert [made[i] for i in range(-len(made), len(made))] == expected * 2
    assert (made.paths is made.ids) == (not expected or all(sample.path == sample.id for sample in expected))
