"""Several crops of one picture: squares that are cut out of a larger one.

The four corners and the centre, and their mirror images, as networks have been tested on ImageNet since Krizhevsky,
Sutskever and Hinton (2012), "ImageNet Classification with Deep Convolutional Neural Networks". There probabilities are
averaged; here features are, so that a head sees one row for each image.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.spec import Framing


class Crop(NamedTuple):
    """The place of one crop in the larger square: its first row and column in pixels; whether it is mirrored."""

    top: int
    left: int
    mirrored: bool


def crops_of(framing: Framing) -> list[Crop]:
    """Return the places of all crops, in the order in which they are added up: corners row by row, then the centre.

    Example:
        >>> [(crop.top, crop.left) for crop in crops_of(Framing(7, crop_share=0.7, crops=5))]
        [(0, 0), (0, 3), (3, 0), (3, 3), (1, 1)]
        >>> crops_of(Framing(7))
        [Crop(top=0, left=0, mirrored=False)]
    """
    end = framing.side - framing.size
    if framing.crops == 1:
        return [Crop(0, 0, False)]
    places = [(0, 0), (0, end), (end, 0), (end, end), (end // 2, end // 2)]
    return [Crop(*place, mirrored) for mirrored in (False, True)[: framing.crops // len(places)] for place in places]


def cut(pixels: NDArray[np.uint8], framing: Framing) -> Iterator[NDArray[np.uint8]]:
    """Cut the crops out of pixels.

    Args:
        pixels: of images, uint8 (B, side, side, 3).
        framing: says which.

    Returns:
        For each crop uint8 (B, size, size, 3).
    """
    size = framing.size
    for top, left, mirrored in crops_of(framing):
        crop = pixels[:, top : top + size, left : left + size]
        yield np.ascontiguousarray(crop[:, :, ::-1] if mirrored else crop)
