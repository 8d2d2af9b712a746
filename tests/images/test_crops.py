import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from featurestore.images.crops import crops_of, cut
from featurestore.images.decode import decode_framings
from featurestore.spec import CROPS, DECODERS, RESIZES, Framing

framings = st.builds(
    Framing,
    st.integers(2, 60),
    st.sampled_from(RESIZES),
    crop_share=st.sampled_from([0.95, 0.875, 0.6, 0.5]),
    crops=st.sampled_from(CROPS[1:]),
)


@given(framings)
def test_crops_are_the_corners_and_the_centre(framing):
    assume(framing.side > framing.size)
    found = crops_of(framing)
    end = framing.side - framing.size
    plain = [crop for crop in found if not crop.mirrored]
    assert len(found) == framing.crops and len(plain) == 5
    assert {(crop.top, crop.left) for crop in plain[:4]} == {(0, 0), (0, end), (end, 0), (end, end)}
    top, left, _ = plain[4]
    assert top == left and abs(2 * top - end) <= 1
    assert [crop._replace(mirrored=False) for crop in found[5:]] == plain[: len(found) - 5]


def test_crops_are_cut_from_the_pixels():
    pixels = np.arange(2 * 10 * 10 * 3, dtype=np.uint8).reshape(2, 10, 10, 3)
    framing = Framing(7, crop_share=0.7, crops=10)
    found = list(cut(pixels, framing))
    np.testing.assert_array_equal(found[0], pixels[:, :7, :7])
    np.testing.assert_array_equal(found[3], pixels[:, 3:, 3:])
    np.testing.assert_array_equal(found[4], pixels[:, 1:8, 1:8])
    np.testing.assert_array_equal(found[6], pixels[:, :7, :2:-1])
    np.testing.assert_array_equal(next(cut(pixels, Framing(10))), pixels)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("decoder", DECODERS)
def test_the_square_is_the_one_look_of_its_own_size(resize, decoder):
    image = np.random.default_rng(0).integers(0, 256, (50, 71, 3), dtype=np.uint8)
    several = Framing(28, resize, crop_share=0.875, decoder=decoder, crops=5)
    alone = Framing(32, resize, decoder=decoder)
    found = decode_framings(image, [several, alone, Framing(28, resize, decoder=decoder)])
    assert several.side == 32 and several.whole == alone
    np.testing.assert_array_equal(found[several], found[alone])
