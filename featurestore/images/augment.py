"""Views: augmented versions of an image, the same pixels on every run.

The generators of the tutorials, as presets. A view is made of the image's resized pixels, as Keras' own generators do,
by one affine map, a flip and a change of colours. What it draws is seeded by the image's digest, the preset and the
view's number: a view's key is the SHA-256 of these three, and names its row in journals and files.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from featurestore.errors import BackboneError, suggest


@dataclass(frozen=True)
class Augmentation:
    """Ranges from which a view draws its changes, uniformly and symmetrically.

    Attributes:
        rotation, shear: degrees to either side.
        shift: share of the side, in each direction.
        zoom: 0.2 is between 0.8 and 1.2 times the size.
        horizontal_flip, vertical_flip: whether half of the views are mirrored.
        colour: change of brightness, contrast and saturation; 0.2 is between 0.8 and 1.2 times.
    """

    rotation: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    colour: float = 0.0


AUGMENTATIONS = {
    "flip": Augmentation(horizontal_flip=True),
    "mild": Augmentation(rotation=10, shift=0.1, zoom=0.1, horizontal_flip=True),
    # ImageDataGenerator of the tutorials: cats and dogs (Chollet 2016), dog breeds, chest X-rays.
    "cats-dogs": Augmentation(rotation=40, shear=12, shift=0.2, zoom=0.2, horizontal_flip=True),
    "dog-breeds": Augmentation(rotation=20, shift=0.2, horizontal_flip=True),
    "xray": Augmentation(zoom=0.2, horizontal_flip=True, vertical_flip=True),
    "strong": Augmentation(rotation=25, shear=10, shift=0.15, zoom=0.25, horizontal_flip=True, colour=0.3),
}
"""By name. A preset that has been released is never changed, only joined by another: its views are in files."""


def check(preset: str) -> None:
    """Raise BackboneError if there is no such preset."""
    if preset not in AUGMENTATIONS:
        raise BackboneError(f"unknown augmentation {preset!r}: {suggest(preset, AUGMENTATIONS)}")


def view_key(digest: str, preset: str, number: int) -> str:
    """Return the key of view `number` (from 1) of an image; number 0 is the image itself, whose key is its digest."""
    return hashlib.sha256(f"{digest}:{preset}:{number}".encode()).hexdigest() if number else digest


def view(pixels: NDArray[np.uint8], key: str, preset: str) -> NDArray[np.uint8]:
    """Return an augmented version of pixels, uint8 (S, S, 3). Empty parts of the frame are filled from its edge."""
    ranges, rng = AUGMENTATIONS[preset], np.random.default_rng(int(key[:16], 16))
    # Every number is drawn, whether its range is zero or not, so that presets with a range in common look alike.
    angle, shear, right, down, zoom, *colours = rng.uniform(-1, 1, 8)
    mirrored, flipped = rng.random(2) < 0.5
    image = _moved(
        Image.fromarray(pixels),
        np.deg2rad(angle * ranges.rotation),
        np.deg2rad(shear * ranges.shear),
        np.array([right, down]) * ranges.shift * len(pixels),
        1 + zoom * ranges.zoom,
    )
    if ranges.horizontal_flip and mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if ranges.vertical_flip and flipped:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if ranges.colour:
        for enhance, amount in zip(
            (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), colours, strict=True
        ):
            image = enhance(image).enhance(1 + amount * ranges.colour)
    return np.asarray(image)


def _moved(image: Image.Image, angle: float, shear: float, shift: NDArray[np.float64], zoom: float) -> Image.Image:
    """Rotate, shear and zoom an image about its centre, then shift it by some pixels."""
    side = image.width
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # This maps a place in the result to the place in the image that is seen there.
    back = turn @ np.array([[1.0, -np.sin(shear)], [0.0, np.cos(shear)]]) / zoom
    centre = np.full(2, side / 2)
    margin = side  # of edge pixels, wider than any preset reaches
    wide = Image.fromarray(np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), mode="edge"))
    offset = centre - back @ (centre + shift) + margin
    matrix = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
    return wide.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
