"""Draw a heat map over a picture: colours, blending, and a row of pictures with their words as one PNG."""

import io
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from featurestore.pages.html import FONT_FILES
from featurestore.system.printing import printable

Pixels = NDArray[np.uint8]

SIDE = 224
"""Side of a drawn picture in pixels, at least."""

_AGAINST, _FOR = 250.0, 35.0
"""Hues in degrees: blue speaks against a class, red for it; the colour-blind tell these two apart."""
_LIGHTEST, _DARKEST, _STRONGEST = 0.97, 0.55, 0.16
_SHADE = 0.35
"""Of the colours, where the picture below them is black."""

_FROM_OKLAB = np.array([[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728],
                        [1, -0.0894841775, -1.2914855480]])  # fmt: skip
_TO_RGB = np.array([[4.0767416621, -3.3077115913, 0.2309699292], [-1.2684380046, 2.6097574011, -0.3413193965],
                    [-0.0041960863, -0.7034186147, 1.7076147010]])  # fmt: skip


def colours(values: NDArray[np.floating]) -> Pixels:
    """Return the colours of values from -1 to 1, uint8 (..., 3): blue, white at 0, red.

    Lightness and chroma change linearly in Oklab, so that equal steps look equal (Ottosson, "A perceptual color space
    for image processing", 2020).

    Example:
        >>> import numpy as np
        >>> colours(np.array([-1.0, 0.0, 1.0])).tolist()
        [[0, 116, 202], [245, 245, 245], [188, 69, 39]]
    """
    strength = np.clip(np.abs(values), 0, 1)
    hue = np.radians(np.where(np.asarray(values) < 0, _AGAINST, _FOR))
    lightness = _LIGHTEST + (_DARKEST - _LIGHTEST) * strength
    chroma = _STRONGEST * strength
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    linear = np.clip((lab @ _FROM_OKLAB.T) ** 3 @ _TO_RGB.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(encoded * 255 + 0.5, np.uint8)


def enlarged(values: NDArray[np.floating], side: int) -> NDArray[np.float64]:
    """Return a map (h, w) as (side, side), interpolated between its places, with the same mean."""
    image = Image.fromarray(np.asarray(values, np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    found = np.asarray(image, np.float64)
    # Where a side is no multiple of the other, the interpolation shifts the mean.
    return np.asarray(found + (np.mean(values) - found.mean()))


def overlaid(pixels: Pixels, values: NDArray[np.floating], greatest: float) -> Pixels:
    """Return a map (S, S) over a picture (S, S, 3), which is grey, so that all colours are the map's.

    Args:
        pixels: the picture.
        values: the map; where it is 0, the picture has no colour.
        greatest: the value that has the full colour.
    """
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float64)[..., None] / 255
    shade = _SHADE + (1 - _SHADE) * grey  # the darkest shades are lightened, or they would hide the colours
    return (colours(values / (greatest or 1.0)) * shade + 0.5).astype(np.uint8)


def row_of_pictures(pictures: Sequence[Pixels], words: Sequence[Sequence[str]]) -> bytes:
    """Return a PNG of pictures beside each other, each with lines of words below it."""
    side, font = pictures[0].shape[0], _font()
    gap, line = 8, 17
    height = side + gap + line * max(map(len, words))
    sheet = Image.new("RGB", (len(pictures) * (side + gap) - gap, height), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (picture, lines) in enumerate(zip(pictures, words, strict=True)):
        left = i * (side + gap)
        sheet.paste(Image.fromarray(picture), (left, 0))
        for number, text in enumerate(map(printable, lines)):
            draw.text((left, side + gap // 2 + number * line), _fitting(text, side, font), fill="#222", font=font)
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    regular = next(file for file in FONT_FILES if "Bold" not in file)
    try:
        return ImageFont.truetype(regular, 13)
    except ImportError:  # a Pillow that was built without FreeType
        return ImageFont.load_default()


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return as much of the beginning of a text as is no wider than so many pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
