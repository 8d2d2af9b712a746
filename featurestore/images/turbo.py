"""The decoder ``turbo``: Pillow's pixels in about half of the time.

A JPEG is decoded by libjpeg-turbo straight into an array (simplejpeg), to the very pixels that Pillow has. What that
library does not take without a word (CMYK, 12 bits, damaged data) is left to Pillow, and so are other formats: each
error is Pillow's own. Every image is resized by Pillow's filter, one side after the other in our order, but with SIMD
instructions and weights of 16 bits (Rust's fast_image_resize, in cykooz-resizer): of a thousand values about one
differs, by 1. Pillow itself resizes with other filters than the bilinear one.
"""

import threading
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featurestore.errors import missing
from featurestore.images.picture import TURNS, Box, Picture
from featurestore.spec import Interpolation

if TYPE_CHECKING:
    from cykooz_resizer import ResizeOptions, Resizer

LIBRARIES = ("simplejpeg", "cykooz-resizer")
"""What it takes beyond Pillow, as their packages are called."""


@cache
def check() -> None:
    """Raise a MissingDependencyError where a library is not installed."""
    for library in LIBRARIES:
        if find_spec(library.replace("-", "_")) is None:
            raise missing("--decoder turbo", library, "turbo")


def decoded(data: bytes, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Decode a JPEG in RGB or grey.

    Args:
        data: the file's bytes.
        size: width and height that Pillow has found, and allowed.

    Returns:
        RGB, uint8 (height, width, 3); None where Pillow is to say what is wrong with the file.
    """
    from simplejpeg import decode_jpeg, decode_jpeg_header

    try:
        height, width, *_ = decode_jpeg_header(data)
        # `strict` refuses what libjpeg only warns of, as a picture that ends early.
        return decode_jpeg(data, "RGB", strict=True) if (width, height) == size else None
    except (ValueError, MemoryError):
        return None


class QuickPicture(Picture):
    """A picture that Pillow has decoded, and that is resized as the module says."""

    def pixels(self, box: Box) -> NDArray[np.uint8]:
        """Return the upright RGB pixels in a box: uint8 (height, width, 3)."""
        return np.asarray(self.part(box))

    def _scaled(self, box: Box, width: int, height: int, how: Interpolation) -> NDArray[np.uint8]:
        if how != "bilinear":
            return super()._scaled(box, width, height, how)
        shrink_first, strips = self._strips(box, width, height, as_it_is=False)
        halves = [
            _stretched(
                self.pixels(strip), *((strip[2] - strip[0], height) if shrink_first else (width, strip[3] - strip[1]))
            )
            for strip in strips
        ]
        half = halves[0] if len(halves) == 1 else np.concatenate(halves, axis=1 if shrink_first else 0)
        return _stretched(half, width, height)


class ArrayPicture(QuickPicture):
    """A picture that is an array already.

    Args:
        pixels: as they are stored, RGB: uint8 (height, width, 3).
        orientation: what EXIF says.
    """

    def __init__(self, pixels: NDArray[np.uint8], orientation: Any = None) -> None:
        _, swap, from_right, from_below = TURNS.get(orientation, (None, False, False, False))
        pixels = pixels[:: -1 if from_below else 1, :: -1 if from_right else 1]
        self._pixels = pixels.transpose(1, 0, 2) if swap else pixels
        height, width, _ = self._pixels.shape
        self.size = (width, height)

    def pixels(self, box: Box) -> NDArray[np.uint8]:
        """Return a view of the pixels in a box, see :meth:`QuickPicture.pixels`."""
        left, top, right, bottom = box
        return self._pixels[top:bottom, left:right]

    def _as_it_is(self, box: Box) -> bool:
        return False

    def part(self, box: Box) -> Image.Image:
        """Return the pixels in a box as an image, see :meth:`Picture.part`."""
        return Image.fromarray(np.ascontiguousarray(self.pixels(box)))


def _stretched(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resize RGB pixels, uint8 (H, W, 3), of which one side keeps its length."""
    from cykooz_resizer import ImageData, PixelType

    resizer, options = _resizer()
    before = ImageData(pixels.shape[1], pixels.shape[0], PixelType.U8x3, pixels.tobytes())
    after = ImageData(width, height, PixelType.U8x3)
    resizer.resize(before, after, options)
    return np.frombuffer(after.get_buffer(), np.uint8).reshape(height, width, 3)


_own = threading.local()


def _resizer() -> "tuple[Resizer, ResizeOptions]":
    """Return the resizer of this thread: it cannot be used by two at a time, and costs as much as a small picture."""
    if not hasattr(_own, "resizer"):
        from cykooz_resizer import FilterType, ResizeAlg, ResizeOptions, Resizer

        options = ResizeOptions(resize_alg=ResizeAlg.convolution(FilterType.bilinear), use_alpha=False)
        _own.resizer = Resizer(), options
    return _own.resizer  # type: ignore[no-any-return]
