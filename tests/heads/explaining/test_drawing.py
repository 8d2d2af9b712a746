import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from heads.explaining.drawing import colours, enlarged, overlaid, row_of_pictures


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 64), st.integers(0, 9))
def test_an_enlarged_map_keeps_its_mean(height, width, side, seed):
    values = np.random.default_rng(seed).normal(size=(height, width))
    found = enlarged(values, side)
    assert found.shape == (side, side)
    np.testing.assert_allclose(found.mean(), values.mean(), atol=1e-6)


def test_equal_steps_look_equally_far_apart():
    """By CIE76, a measure of another kind than that by which the colours are made."""
    steps = colours(np.linspace(-1, 1, 41)) / 255
    linear = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    f = np.cbrt(xyz / [0.9505, 1, 1.089])
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    far = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert far.max() / far.min() < 2.5
    assert (np.diff(lab[:21, 0]) > 0).all() and (np.diff(lab[20:, 0]) < 0).all()  # lightest in the middle


def test_a_map_colours_a_grey_picture():
    picture = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    values = np.zeros((4, 4))
    values[0, 0], values[3, 3] = 2.0, -2.0
    red, grey, blue = overlaid(picture, values, 2.0)[[0, 1, 3], [0, 1, 3]].astype(int)
    assert red[0] > red[2] + 50 and blue[2] > blue[0] + 50 and np.ptp(grey) <= 1
    assert (overlaid(picture, values * 0, 0.0) == grey).all()


def test_a_row_of_pictures_has_their_words_below():
    pictures = [np.full((64, 64, 3), shade, np.uint8) for shade in (10, 200)]
    with Image.open(
        io.BytesIO(row_of_pictures(pictures, [["one\n\x1b\udce9"], ["a name that is far too long", "0.9"]]))
    ) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    assert pixels.shape[1] == 2 * 64 + 8 and (pixels[:64, :64] == 10).all() and (pixels[:64, 72:] == 200).all()
    assert (pixels[64:, :64] < 128).any() and (pixels[64:, 72:] < 128).any()
    assert (pixels[:, 64:72] > 240).all()  # no word is wider than its picture
