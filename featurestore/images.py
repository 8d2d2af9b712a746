"""Bytes to pixels: read a file, decode it, orient it, resize it.

Every input that gives no pixels ends as an :class:`~featurestore.errors.ImageError` with a reason of one line, and a
hostile file costs neither the run nor the machine. All functions may run in many threads at once.
"""

import io
import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, features

from featurestore.errors import ImageError
from featurestore.spec import Decoder, Resize
from featurestore.system.files import read_regular, why

MAX_BYTES = 512 * 2**20
"""Larger files are refused unread."""

MAX_PIXELS = 2**31 // 12
"""Larger images (178,956,970 pixels: half a gigabyte as RGB) are refused from their header."""

_TOO_LARGE = f"more than {MAX_PIXELS:,} pixels"

# Raster formats that are decoded in this process. Never EPS, which Pillow hands to ghostscript.
_SUFFIXES = {
    "JPEG": "jpg jpeg jpe jfif",
    "PNG": "png apng",
    "BMP": "bmp",
    "GIF": "gif",
    "TIFF": "tif tiff",
    "PPM": "ppm pgm pbm pnm",
    "WEBP": "webp",
    "AVIF": "avif",
}
_LACKING = {"WEBP", "AVIF"} - {module.upper() for module in features.get_supported_modules()}
_FORMATS = [name for name in _SUFFIXES if name not in _LACKING]

IMAGE_SUFFIXES = frozenset(f".{suffix}" for name in _FORMATS for suffix in _SUFFIXES[name].split())
"""Lower-case, with their dot: what a file must be called to be taken for an image."""

_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Here, once, because drivers, warnings and logs belong to the process, and `decode` runs in threads. Pillow warns of
# damaged metadata, and of images half as large as those that we refuse.
Image.init()
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a regular file.

    Raises:
        ImageError: it is not there, not readable, empty, larger than `MAX_BYTES`, or a folder, FIFO, socket or
            device; none of these is waited for.
    """
    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise ImageError(why(error)) from error
    if not data:
        raise ImageError("empty file")
    return data


def decode(data: bytes | NDArray[np.uint8], size: int, resize: Resize) -> NDArray[np.uint8]:
    """Pixels of one image, upright, in colour and in shape.

    Colour is what Keras' ``load_img`` gives: grey, palette and CMYK become RGB, and an alpha channel is *dropped*,
    not blended: a transparent pixel shows the colour stored under it. EXIF orientation is applied; 16-bit grey is
    scaled to 8 bits; of an animation the first frame counts.

    Resizing is bilinear and antialiased: ``squash`` ignores the aspect ratio, ``crop`` keeps the central square,
    ``pad`` keeps everything, centred on black.

    Args:
        data: a file's bytes, or uint8 pixels (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        size: side of the result.
        resize: ``squash``, ``crop`` or ``pad``.

    Returns:
        uint8, shape (size, size, 3).

    Raises:
        ImageError: the data give no pixels, or more than `MAX_PIXELS`.
    """
    return decode_sizes(data, [size], resize)[size]


def decode_sizes(
    data: bytes | NDArray[np.uint8], sizes: Iterable[int], resize: Resize, decoder: Decoder = "pillow"
) -> dict[int, NDArray[np.uint8]]:
    """As :func:`decode`, in several sizes at once: the costly part is done once.

    Args:
        data, resize: see there.
        sizes: sides of the results.
        decoder: ``pillow``; or ``draft``, where libjpeg leaves out what lies beyond half, a quarter or an eighth of a
            JPEG's resolution, as long as both sides keep the `size`. Each size is then decoded for itself, so that
            none depends on the others.
    """
    if decoder == "draft":
        return {size: resized(open_image(data, size), size, resize) for size in sizes}
    image = open_image(data)
    return {size: resized(image, size, resize) for size in sizes}


def open_image(data: bytes | NDArray[np.uint8], at_least: int | None = None) -> Image.Image:
    """The first half of :func:`decode`: upright, in mode RGB, in its own size.

    Args:
        data: see there.
        at_least: a JPEG may be smaller, by a power of 2, but no side smaller than this.

    Raises:
        ImageError: as there.
    """
    with _one_error():
        return _from_array(data) if isinstance(data, np.ndarray) else _from_bytes(data, at_least)


def resized(image: Image.Image, size: int, resize: Resize) -> NDArray[np.uint8]:
    """The second half of :func:`decode`."""
    with _one_error():
        return np.asarray(_resized(image, size, resize))


@contextmanager
def _one_error() -> Iterator[None]:
    """Whatever goes wrong in a decoder becomes an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:  # its own text holds a memory address
        raise ImageError("not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise ImageError(_TOO_LARGE) from error
    except Exception as error:  # a damaged file can raise anything at all
        raise ImageError(" ".join(str(error).split())[:200] or type(error).__name__) from error


def scale16(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Integers in [0, 65535] to the nearest uint8 of [0, 255]; any shape."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise ImageError(f"pixels must be uint8 of shape (H, W) or (H, W, C), not {pixels.dtype} {pixels.shape}")
    grey = pixels.ndim == 3 and pixels.shape[2] == 1
    return Image.fromarray(pixels[:, :, 0] if grey else pixels).convert("RGB")


def _from_bytes(data: bytes, at_least: int | None) -> Image.Image:
    """A decoded image, upright, in mode RGB."""
    image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
    if image.width * image.height > MAX_PIXELS:  # Pillow's own limit may have been switched off
        raise ImageError(_TOO_LARGE)
    if at_least:
        image.draft(None, (at_least, at_least))
    image.load()
    orientation = _orientation(image)
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    elif image.mode == "F":
        raise ImageError("floating-point pixels have no fixed range: convert the file to 8 or 16 bits")
    image = image if image.mode == "RGB" else image.convert("RGB")
    return image.transpose(_TRANSPOSED[orientation]) if orientation in _TRANSPOSED else image


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(0x0112)
    except Exception:  # damaged metadata beside good pixels
        return None


def _eight_bits(image: Image.Image) -> Image.Image:
    """From grey of 16 bits, or of 32 that hold no more (Pillow opens some 16-bit files so)."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ImageError("32-bit pixels have no fixed range: convert the file to 8 or 16 bits")
    return Image.fromarray(scale16(values))


def _resized(image: Image.Image, size: int, resize: Resize) -> Image.Image:
    width, height = image.size
    if resize == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if resize != "pad":
        return _scaled(image, size, size)
    scale = size / max(width, height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    canvas = Image.new("RGB", (size, size))
    canvas.paste(_scaled(image, *inner), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return canvas


def _scaled(image: Image.Image, width: int, height: int) -> Image.Image:
    """Resize one side after the other; the order decides the rounding, and that of Pillow depends on its version."""
    # Shrink before stretching: a strip of 1×60000 must not become one of 224×60000 on its way to 224×224.
    shrink_first = image.width < width and height < image.height
    image = image.resize((image.width, height) if shrink_first else (width, image.height), Image.Resampling.BILINEAR)
    return image.resize((width, height), Image.Resampling.BILINEAR)
