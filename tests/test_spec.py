from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.spec import DECODERS, DTYPES, INTERPOLATIONS, POOLS, PRECISIONS, RESIZES, ExtractionSpec, Tap

specs = st.builds(
    ExtractionSpec,
    backbone=st.text(),  # the stem of a .keras file may be anything
    weights_digest=st.text("0123456789abcdef", min_size=64, max_size=64),
    taps=st.lists(
        st.builds(Tap, st.text(st.characters(exclude_characters="./\0"), min_size=1), st.sampled_from(POOLS)),
        min_size=1, max_size=3, unique=True,
    ).map(tuple),
    size=st.integers(1, 3500),
    resize=st.sampled_from(RESIZES),
    preprocessing=st.text(),
    dtype=st.sampled_from(DTYPES),
    precision=st.sampled_from(PRECISIONS),
    decoder=st.sampled_from(DECODERS),
    interpolation=st.sampled_from(INTERPOLATIONS),
    crop_share=st.sampled_from([1.0, 0.95, 0.875]),
)  # fmt: skip
SPEC = ExtractionSpec("vgg16", "0" * 64, (Tap(),), 224, "squash", "caffe", "float32")


@given(specs)
def test_json_round_trip(spec):
    assert ExtractionSpec.from_json(spec.to_json()) == spec


@given(specs, specs)
def test_fingerprints_differ_exactly_when_specs_do(one, other):
    assert (one.fingerprint == other.fingerprint) == (one == other)
    assert bool(one.differences(other)) == (one != other)


def test_fingerprint_is_pinned():
    """A change of this value makes every feature file in the world useless: see the class's docstring."""
    assert SPEC.fingerprint == "772042021f1e37864aae99b432829e75fc621f95fd341db20d1a96d76b4386c0"


def test_a_difference_names_its_field_and_both_values():
    assert SPEC.differences(replace(SPEC, size=160)) == ["size: 224 here, 160 there"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"taps": [{}], "unknown": 1}', '{"taps": 3}', "\ud800"])
def test_a_foreign_text_is_no_spec(text):
    with pytest.raises(ValueError, match="unreadable extraction spec"):
        ExtractionSpec.from_json(text)
