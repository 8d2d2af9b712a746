from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.spec import (
    CROPS,
    DECODERS,
    DTYPES,
    INTERPOLATIONS,
    POOLS,
    PRECISIONS,
    RESIZES,
    ExtractionSpec,
    Tap,
    backbone_names,
)

specs = st.builds(
    ExtractionSpec,
    backbone=st.text(),  # the stem of a .keras file may be anything
    weights_digest=st.text("0123456789abcdef", min_size=64, max_size=64),
    taps=st.lists(
        st.builds(Tap, st.text(st.characters(exclude_characters="./\0"), min_size=1), st.sampled_from(POOLS)),
        min_size=1,
        max_size=3,
        unique=True,
    ).map(tuple),
    size=st.integers(30, 3500),
    resize=st.sampled_from(RESIZES),
    preprocessing=st.text(),
    dtype=st.sampled_from(DTYPES),
    precision=st.sampled_from(PRECISIONS),
    decoder=st.sampled_from(DECODERS),
    interpolation=st.sampled_from(INTERPOLATIONS),
    crop_share=st.sampled_from([1.0, 0.95, 0.875]),
).flatmap(lambda spec: st.sampled_from(CROPS).map(lambda n: replace(spec, crops=n if spec.crop_share < 1 else 1)))
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


def test_one_crop_leaves_no_trace():
    """The file of an earlier version says nothing of crops, and is read and named as before."""
    assert "crop" not in SPEC.to_json()
    assert ExtractionSpec.from_json(SPEC.to_json()).crops == 1
    five = replace(SPEC, crops=5, crop_share=0.875)
    assert five.fingerprint == "017013d90064eaa1e69cbf0762f273ab6f75355b78e946ab58414322b6a80b16"
    assert five.differences(SPEC) == ["crop_share: 0.875 here, 1.0 there", "crops: 5 here, 1 there"]


@pytest.mark.parametrize("wrong", [{"crops": 3}, {"crops": 5}, {"crops": 5, "crop_share": 0.999}, {"crops": 0}])
def test_crops_that_cannot_be_cut(wrong):
    with pytest.raises(ValueError, match=f"crops {wrong['crops']}: it is 1, or 5 or 10"):
        replace(SPEC, **wrong)


@given(specs, specs)
def test_specs_of_one_network(one, other):
    """What comes before the network, and how rows are stored, is no part of it."""
    same = replace(other, backbone=one.backbone, weights_digest=one.weights_digest, taps=one.taps, size=one.size,
                   preprocessing=one.preprocessing, precision=one.precision, crops=1, crop_share=1.0)  # fmt: skip
    assert same.network == one.network
    assert (one.network == other.network) == (
        (one.backbone, one.weights_digest, one.taps, one.size, one.preprocessing, one.precision)
        == (other.backbone, other.weights_digest, other.taps, other.size, other.preprocessing, other.precision)
    )


def test_looks_are_named_where_there_are_several():
    crop, other = replace(SPEC, resize="crop"), replace(SPEC, backbone="vgg19", resize="pad")
    five = replace(SPEC, crops=5, crop_share=0.875)
    assert backbone_names([SPEC, other]) == ["vgg16", "vgg19"]
    assert backbone_names([SPEC, crop, other, five]) == ["vgg16@squash", "vgg16@crop", "vgg19", "vgg16@squash-crops5"]
    assert backbone_names([SPEC, replace(SPEC, size=160)]) == ["vgg16", "vgg16"]


def test_a_difference_names_its_field_and_both_values():
    assert SPEC.differences(replace(SPEC, size=160)) == ["size: 224 here, 160 there"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"taps": [{}], "unknown": 1}', '{"taps": 3}', "\ud800"])
def test_a_foreign_text_is_no_spec(text):
    with pytest.raises(ValueError, match="unreadable extraction spec"):
        ExtractionSpec.from_json(text)
