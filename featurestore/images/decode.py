"""Bytes to pixels: read a file, decode it, orient it, resize it.

Every input that gives no pixels ends as an :class:`~featurestore.errors.ImageError` with a reason of one line, and a
hostile file costs neither the run nor the machine. All functions may run in many threads at once.
"""

import ctypes
import hashlib
import io
import logging
import os
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from traceback import clear_frames
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, _imaging, features

from featurestore.errors import ImageError
from featurestore.images import turbo
from featurestore.images.picture import Picture
from featurestore.spec import Decoder, Framing, Resize
from featurestore.system.budget import Budget
from featurestore.system.files import open_regular, read_regular, why
from featurestore.system.machine import cores, machine_memory

MAX_BYTES = 512 * 2**20
"""Larger files are refused unread."""

MAX_PIXELS = 2**31 // 12
"""Larger images (178,956,970 pixels: 0.7 GB in Pillow, as RGB) are refused from their header."""

MAX_SIDE = 2**22
"""Longer or wider images are refused too: resizing them would cost a multiple of their pixels."""

MAX_PARTS = 2**18
"""A TIFF of more strips or tiles is refused."""

_TOO_LARGE = f"more than {MAX_PIXELS:,} pixels"

# A photograph of 24 megapixels is 96 MB, so that each core has its own in flight, and hostile files cost no more than
# honest ones do. Files and pixels together take a quarter of the memory at most.
_IN_FLIGHT = min(machine_memory() // 8, cores() * 128 * 2**20)

FILES, PIXELS = Budget(_IN_FLIGHT), Budget(_IN_FLIGHT)
"""The memory for files' bytes, and for decoded images, of all threads together. A thread that needs both takes its
share for the bytes first."""

_BLOCK = 2**20

LARGE_FILE = 16 * 2**20
"""Larger files are read as a whole only if they begin as images do."""

LARGE_IMAGE = 128 * 2**20
"""Bytes of an image after which memory is given back to the system at once."""

# Raster formats that are decoded in this process. EPS is none of them: Pillow hands it to ghostscript.
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

# Tags of TIFF, and of EXIF.
_HEIGHT, _PHOTOMETRIC, _ORIENTATION, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT = 257, 262, 274, 278, 322, 323
_PARTS = (273, 279, 324, 325)  # places and sizes of strips and tiles
_MINISWHITE = 0

# What decoding costs at most, in bytes per pixel: Pillow's own pixels, by mode, and what its decoders hold in addition.
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}
_DECODER_BYTES = {"WEBP": 12, "AVIF": 12}
_PROGRESSIVE_BYTES = 8
_TILE_BYTES = 8

# This is done here, once, because drivers, warnings and logs belong to the process, and `decode` runs in threads.
# Pillow warns of damaged metadata, and of images half as large as those that are refused here.
Image.init()
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

# libtiff writes its complaints about a damaged file to file descriptor 2, which belongs to the whole process, while
# Pillow raises an error anyway. Its handlers are found through the library that Pillow has loaded, whether that came
# with it or with the system; in a build that hides them, the complaints stay.
with suppress(OSError, AttributeError):
    _libtiff = ctypes.CDLL(_imaging.__file__)
    _libtiff.TIFFSetErrorHandler(None)
    _libtiff.TIFFSetWarningHandler(None)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a regular file.

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


def hash_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256, in hexadecimal, of what :func:`read_file` gives; the file is read a block at a time.

    Raises:
        ImageError: as there.
    """
    digest, left = hashlib.sha256(), MAX_BYTES  # which holds even for a file that grows meanwhile
    try:
        with open_regular(path, MAX_BYTES) as file:
            while block := file.read(min(_BLOCK, left)):
                digest.update(block)
                left -= len(block)
    except OSError as error:
        raise ImageError(why(error)) from error
    if left == MAX_BYTES:
        raise ImageError("empty file")
    return digest.hexdigest()


@contextmanager
def file_in_turn(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a share of :data:`FILES` for as long as the bytes of a file are in memory.

    Raises:
        ImageError: it is not there; or it is large, and no image.
    """
    try:
        size = os.stat(path).st_size  # noqa: PTH116 (twice as fast as a Path)
    except OSError as error:
        raise ImageError(why(error)) from error
    with FILES.share(min(size, MAX_BYTES)):
        if LARGE_FILE < size <= MAX_BYTES:
            _check_beginning(path)
        yield


def _check_beginning(path: str | os.PathLike[str]) -> None:
    """Refuse a file whose first bytes tell that it is no image, or too large a one."""
    try:
        with open_regular(path) as file, _one_error():
            _check_size(_open(file))
    except OSError as error:
        raise ImageError(why(error)) from error


def decode(data: bytes | NDArray[np.uint8], size: int, resize: Resize) -> NDArray[np.uint8]:
    """Return the pixels of one image: upright, in RGB, and of the size that is asked for.

    Colour is what Keras' ``load_img`` gives: grey, palette and CMYK become RGB, and an alpha channel is *dropped*,
    not blended: a transparent pixel shows the colour stored under it. EXIF orientation is applied; 16-bit grey is
    scaled to 8 bits; of an animation the first frame counts.

    Args:
        data: a file's bytes, or uint8 pixels (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        size: side of the result.
        resize: see :class:`featurestore.spec.Framing`.

    Returns:
        uint8, shape (size, size, 3).

    Raises:
        ImageError: the data give no pixels, or more than `MAX_PIXELS`.
    """
    framing = Framing(size, resize)
    return decode_framings(data, [framing])[framing]


def decode_framings(data: bytes | NDArray[np.uint8], framings: Iterable[Framing]) -> dict[Framing, NDArray[np.uint8]]:
    """As :func:`decode`, in several framings at once: the costly part is done once for each decoder.

    The decoder is ``pillow``; or ``draft``, where libjpeg leaves out what lies beyond half, a quarter or an eighth of a
    JPEG's resolution, as long as both sides keep the length that they are resized to. Each size is then decoded for
    itself, so that none depends on the others. Or it is ``turbo``: see :mod:`featurestore.images.turbo`.

    Args:
        data: see there.
        framings: of the results.

    Returns:
        For each framing uint8, shape (side, side, 3).

    Raises:
        ImageError: see there.
        MissingDependencyError: a library that the decoder needs is not installed.
    """
    # Those that begin with the same picture: of what decoder, and of what resolution at least.
    alike: dict[tuple[Decoder, int | None], list[Framing]] = {}
    for framing in framings:
        least = framing.shortest if framing.decoder == "draft" else None
        alike.setdefault((framing.decoder, least), []).append(framing)
    found = {}
    for (decoder, least), some in alike.items():
        check(decoder)
        with opened(data, least, quick=decoder == "turbo") as picture, _one_error():
            found.update({framing: picture.framed(framing) for framing in some})
    return found


def check(decoder: Decoder) -> None:
    """Raise a MissingDependencyError where a library that a decoder needs is not installed."""
    if decoder == "turbo":
        turbo.check()


def libraries(decoder: Decoder) -> tuple[str, ...]:
    """Return the packages on which a decoder's pixels depend."""
    return ("pillow", *turbo.LIBRARIES) if decoder == "turbo" else ("pillow",)


@contextmanager
def opened(data: bytes | NDArray[np.uint8], at_least: int | None = None, *, quick: bool = False) -> Iterator[Picture]:
    """Do the first half of :func:`decode`: give an image in its own size, which holds a share of :data:`PIXELS`.

    Args:
        data: see there.
        at_least: a JPEG may be smaller, by a power of 2, but no side smaller than this.
        quick: decode and resize as :mod:`featurestore.images.turbo` says.

    Raises:
        ImageError: as there.
    """
    kind = turbo.QuickPicture if quick else Picture
    if isinstance(data, np.ndarray):
        yield _from_array(data, kind)
        return
    with _one_error():
        image = _open(io.BytesIO(data))
        _check_size(image)
        if at_least:
            image.draft(None, (at_least, at_least))
        cost = _cost(image)
    with PIXELS.share(cost):
        try:
            with _one_error():
                picture = (_quickly(data, image) if quick else None) or _loaded(image, kind)
            yield picture
        finally:
            image.close()
            if cost > LARGE_IMAGE:
                _give_back()


def resized(picture: Picture, size: int, resize: Resize) -> NDArray[np.uint8]:
    """Do the second half of :func:`decode`: resize an image that is opened."""
    with _one_error():
        return picture.framed(Framing(size, resize))


def _give_back() -> None:
    """Return freed memory to the system: for each thread, the C library keeps as much as its largest image took."""
    with suppress(OSError, AttributeError):  # glibc has it, and no other library needs it
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def _one_error() -> Iterator[None]:
    """Make an ImageError of whatever goes wrong in a decoder."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:  # its own text holds a memory address
        raise ImageError("not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise ImageError(_TOO_LARGE) from error
    except Exception as error:  # a damaged file can raise anything at all
        clear_frames(error.__traceback__)  # its frames would keep the half-decoded image in memory as long as the error
        raise ImageError(" ".join(str(error).split())[:200] or type(error).__name__) from error


def _from_array(pixels: NDArray[np.uint8], kind: type[Picture]) -> Picture:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise ImageError(f"pixels must be uint8 of shape (H, W) or (H, W, C), not {pixels.dtype} {pixels.shape}")
    grey = pixels.ndim == 3 and pixels.shape[2] == 1
    with _one_error():
        return kind(Image.fromarray(pixels[:, :, 0] if grey else pixels))


def _open(file: BinaryIO) -> Image.Image:
    """Open an image and read its header, and no more."""
    with suppress(struct.error):  # Pillow itself refuses a file that is cut off there
        _check_parts(file)
    file.seek(0)
    return Image.open(file, formats=_FORMATS)


def _check_parts(file: BinaryIO) -> None:
    """Refuse a TIFF that claims too many strips or tiles: Pillow would make an object of each."""
    order = {b"II": "<", b"MM": ">"}.get(file.read(2))
    if order is None:
        return

    def read(kinds: str) -> tuple[int, ...]:
        return struct.unpack(order + kinds, file.read(struct.calcsize(order + kinds)))

    large = read("H") == (43,)  # BigTIFF
    (place,) = read("4xQ" if large else "I")
    file.seek(place)
    (entries,) = read("Q" if large else "H")
    for _ in range(min(entries, 2**16)):
        tag, _, count, _ = read("HHQQ" if large else "HHII")
        if tag in _PARTS and count > MAX_PARTS:
            raise ImageError(f"more than {MAX_PARTS:,} strips or tiles")


def _check_size(image: Image.Image) -> None:
    if max(image.width * image.height, _tile(image)) > MAX_PIXELS:  # Pillow's own limit may have been switched off
        raise ImageError(_TOO_LARGE)
    if max(image.size) > MAX_SIDE:
        raise ImageError(f"more than {MAX_SIDE:,} pixels wide or high")


def _tags(image: Image.Image) -> Mapping[int, Any]:
    """Return the tags of a TIFF; none of another image."""
    return getattr(image, "tag_v2", {})


def _tile(image: Image.Image) -> int:
    """Return how many pixels of a TIFF are decoded at a time: a tile may be much larger than the image shows of it."""
    tags = _tags(image)
    if _TILE_WIDTH in tags:
        return int(tags[_TILE_WIDTH] * tags.get(_TILE_HEIGHT, 1))
    return image.width * min(tags[_ROWS_PER_STRIP], tags[_HEIGHT]) if _ROWS_PER_STRIP in tags else 0


def _cost(image: Image.Image) -> int:
    """Return the most bytes that it takes to decode an image."""
    each = _PIXEL_BYTES.get(image.mode, 4) + _DECODER_BYTES.get(image.format or "", 0)
    if image.info.get("progressive"):
        each += _PROGRESSIVE_BYTES
    if _tags(image).get(_ORIENTATION, 1) != 1:  # Pillow turns a TIFF as a whole
        each *= 2
    return image.width * image.height * each + _tile(image) * _TILE_BYTES


def _quickly(data: bytes, image: Image.Image) -> Picture | None:
    """Decode a plain JPEG, whose header `image` is, without Pillow; None of what only Pillow knows."""
    plain = image.format == "JPEG" and image.mode in ("RGB", "L")
    pixels = turbo.decoded(data, image.size) if plain else None
    return None if pixels is None else turbo.ArrayPicture(pixels, _orientation(image))


def _loaded(image: Image.Image, kind: type[Picture]) -> Picture:
    image.load()
    if image.mode == "F":
        raise ImageError("floating-point pixels have no fixed range: convert the file to 8 or 16 bits")
    # Pillow opens some 16-bit files as 32-bit ones.
    if image.mode == "I" and not 0 <= image.getextrema()[0] <= image.getextrema()[1] <= 0xFFFF:  # type: ignore[operator]
        raise ImageError("32-bit pixels have no fixed range: convert the file to 8 or 16 bits")
    # Pillow turns white and black round where white is 0, but not with 16 bits.
    white_is_zero = image.mode.startswith("I;16") and _tags(image).get(_PHOTOMETRIC) == _MINISWHITE
    return kind(image, _orientation(image), white_is_zero=white_is_zero)


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # damaged metadata beside good pixels
        return None
