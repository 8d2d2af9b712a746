import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.errors import BackboneError
from featurestore.images.augment import AUGMENTATIONS, view, view_key

DIGEST = hashlib.sha256(b"an image").hexdigest()
RAMP = np.add.outer(np.arange(48), np.arange(48))[..., None].repeat(3, 2).astype(np.uint8)


def test_number_0_is_the_plain_image():
    assert view_key(DIGEST, "flip", 0) == DIGEST
    keys = {view_key(DIGEST, preset, number) for preset in AUGMENTATIONS for number in (1, 2)} | {DIGEST}
    assert len(keys) == 2 * len(AUGMENTATIONS) + 1


@given(preset=st.sampled_from(sorted(AUGMENTATIONS)), number=st.integers(1, 50), size=st.integers(1, 60))
@settings(deadline=None, max_examples=40)
def test_a_view_has_the_shape_and_is_the_same_every_time(preset, number, size):
    pixels = np.random.default_rng(size).integers(0, 256, (size, size, 3), dtype=np.uint8)
    key = view_key(DIGEST, preset, number)
    one, two = view(pixels, key, preset), view(pixels.copy(), key, preset)
    assert one.shape == pixels.shape and one.dtype == np.uint8
    np.testing.assert_array_equal(one, two)


def test_flips_are_exact_and_happen_to_about_half():
    flipped = 0
    for number in range(1, 101):
        found = view(RAMP, view_key(DIGEST, "flip", number), "flip")
        assert (found == RAMP).all() or (found == RAMP[:, ::-1]).all()
        flipped += bool((found == RAMP[:, ::-1]).all())
    assert 30 < flipped < 70


@pytest.mark.parametrize("preset", sorted(set(AUGMENTATIONS) - {"flip"}))
def test_views_differ_but_show_the_same_picture(preset):
    """A disc stays in sight, and what leaves the frame is filled from its edge, not with black."""
    y, x = np.mgrid[:96, :96] - 47.5
    pixels = np.where((x**2 + y**2 < 15**2)[..., None], [250, 120, 120], [90, 90, 200]).astype(np.uint8)
    views = [view(pixels, view_key(DIGEST, preset, number), preset) for number in range(1, 21)]
    assert len({v.tobytes() for v in views}) > 10
    for found in views:
        disc = (found[..., 0].astype(int) - found[..., 2]) > 0
        assert 0.5 < disc.sum() / (np.pi * 15**2) < 2
        assert found.max(axis=2).min() > 40


# What is in the files of users: a change of these makes their views irreproducible. Add a preset instead.
PINNED = {
    "cats-dogs": "9439ae915043997b",
    "dog-breeds": "fc888427a50b9e46",
    "flip": "53c9f65292fe9d7b",
    "mild": "0798fd1d65bb82c0",
    "strong": "49ca66183a1fbc58",
    "xray": "3ba25cf1b4c54363",
}


def test_released_presets_are_pinned():
    for preset, pin in PINNED.items():
        made = [view(RAMP, view_key(DIGEST, preset, number), preset) for number in range(1, 9)]
        assert hashlib.sha256(np.stack(made).tobytes()).hexdigest()[:16] == pin


def test_unknown():
    from featurestore.images.augment import check

    with pytest.raises(BackboneError, match="did you mean 'xray'"):
        check("x-ray")
