"""A decoded image, and its upright, resized pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featurestore.spec import Framing, Interpolation

_STRIP = 16 * 2**20
"""Bytes of a larger image, as upright RGB, that are there at a time."""

Box = tuple[int, int, int, int]  # left, top, right, bottom

_FILTERS: dict[Interpolation, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_LONGEST = 8
"""Of an image that is longer than so many times its width, no more is resized before its centre is cut out."""

TURNS: dict[Any, tuple[Image.Transpose | None, bool, bool, bool]] = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, False, True, False),
    3: (Image.Transpose.ROTATE_180, False, True, True),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, False, False, True),
    5: (Image.Transpose.TRANSPOSE, True, False, False),
    6: (Image.Transpose.ROTATE_270, True, False, True),
    7: (Image.Transpose.TRANSVERSE, True, True, True),
    8: (Image.Transpose.ROTATE_90, True, True, False),
}
"""For each EXIF orientation: the transposition that makes the stored pixels upright; whether it turns columns into
rows; and whether stored columns are counted from the right, and stored rows from below."""

_AS_STORED = (None, False, False, False)


class Picture:
    """A decoded image as it is stored. Upright RGB is made of it part by part: a whole copy would cost as much again.

    Args:
        image: in any mode but F; integers lie in [0, 65535].
        orientation: what EXIF says.
        white_is_zero: of 16 bits.

    Attributes:
        size: width and height, upright.
    """

    def __init__(self, image: Image.Image, orientation: Any = None, *, white_is_zero: bool = False) -> None:
        self._image, self._white_is_zero = image, white_is_zero
        self._turn, self._swap, self._from_right, self._from_below = TURNS.get(orientation, _AS_STORED)
        width, height = image.size
        self.size = (height, width) if self._swap else (width, height)

    def part(self, box: Box) -> Image.Image:
        """Return the upright RGB pixels in a box."""
        stored = self._stored(box)
        image = self._image if stored == (0, 0, *self._image.size) else self._image.crop(stored)
        if image.mode.startswith("I"):
            values = np.asarray(image)
            image = Image.fromarray(scale16(0xFFFF - values if self._white_is_zero else values))
        image = image if image.mode == "RGB" else image.convert("RGB")
        return image if self._turn is None else image.transpose(self._turn)

    def _stored(self, box: Box) -> Box:
        """Return the box of the stored image that an upright box shows."""
        left, top, right, bottom = (box[1], box[0], box[3], box[2]) if self._swap else box
        width, height = self._image.size
        if self._from_right:
            left, right = width - right, width - left
        if self._from_below:
            top, bottom = height - bottom, height - top
        return left, top, right, bottom

    def framed(self, framing: Framing) -> NDArray[np.uint8]:
        """Return the image as a square, uint8 (side, side, 3): see :class:`featurestore.spec.Framing`."""
        framing = framing.whole
        (width, height), size, how = self.size, framing.size, framing.interpolation
        if framing.cuts:
            return self._centre(framing)
        if framing.resize == "crop":
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            return self._scaled((left, top, left + side, top + side), size, size, how)
        whole = (0, 0, width, height)
        if framing.resize == "squash":
            return self._scaled(whole, size, size, how)
        scale = size / max(width, height)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = (size - width) // 2, (size - height) // 2
        canvas = np.zeros((size, size, 3), np.uint8)
        canvas[top : top + height, left : left + width] = self._scaled(whole, width, height, how)
        return canvas

    def _central(self, most: int) -> Box:
        """Return the box of the whole image; the centre of one that is longer than `most` times its width."""
        width, height = self.size
        across, down = min(width, most * height), min(height, most * width)
        left, top = (width - across) // 2, (height - down) // 2
        return left, top, left + across, top + down

    def _centre(self, framing: Framing) -> NDArray[np.uint8]:
        """Return the centre of the image, resized as a whole; the longer side is rounded down."""
        left, top, right, bottom = box = self._central(_LONGEST)
        lengths = right - left, bottom - top
        width, height = (framing.shortest * length // min(lengths) for length in lengths)
        down = framing.resize == "shortest-floor"
        left_over = width - framing.size, height - framing.size
        x, y = (rest // 2 if down else round(rest / 2) for rest in left_over)  # Python rounds half to even
        whole = self._scaled(box, width, height, framing.interpolation)
        return np.ascontiguousarray(whole[y : y + framing.size, x : x + framing.size])

    def _scaled(self, box: Box, width: int, height: int, how: Interpolation) -> NDArray[np.uint8]:
        """Resize one side after the other; the order decides the rounding, and that of Pillow depends on its version.

        The first side is resized strip by strip, which changes no pixel: it makes each row, or column, by itself.
        """
        resampling = _FILTERS[how]
        shrink_first, strips = self._strips(box, width, height, as_it_is=self._as_it_is(box))
        left, top, right, bottom = box
        half = Image.new("RGB", (right - left, height) if shrink_first else (width, bottom - top))
        for strip in strips:
            image = self.part(strip)
            size = (image.width, height) if shrink_first else (width, image.height)
            half.paste(image.resize(size, resampling), (strip[0] - left, strip[1] - top))
        return np.asarray(half.resize((width, height), resampling))

    def _as_it_is(self, box: Box) -> bool:
        """Tell whether the pixels in a box need no copy."""
        return self._image.mode == "RGB" and self._turn is None and box == (0, 0, *self.size)

    @staticmethod
    def _strips(box: Box, width: int, height: int, *, as_it_is: bool) -> tuple[bool, list[Box]]:
        """Divide a box for the first of two passes.

        Args:
            box: what is to be resized.
            width, height: the size that it will have.
            as_it_is: whether its pixels need no copy, so that one strip is enough.

        Returns:
            Whether the height changes first, and with it strips that stand side by side; else they lie on each other.
        """
        left, top, right, bottom = box
        across, down = right - left, bottom - top
        # Shrink before stretching: a strip of 1×60000 must not become one of 224×60000 on its way to 224×224.
        shrink_first = across < width and height < down
        length, other = (across, down) if shrink_first else (down, across)
        step = length if as_it_is else max(1, _STRIP // (4 * other))
        ends = [(start, min(start + step, length)) for start in range(0, length, step)]
        if shrink_first:
            return True, [(left + start, top, left + end, bottom) for start, end in ends]
        return False, [(left, top + start, right, top + end) for start, end in ends]


def scale16(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale integers in [0, 65535] to the nearest uint8 in [0, 255]; any shape."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
