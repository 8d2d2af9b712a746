"""Real images to try a network on, before anybody relies on it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import ImageError, SourceError
from featurestore.images.decode import decode_framings, opened, read_file
from featurestore.sources.tree import Tree
from featurestore.spec import Framing

MOST = 32
"""Most images of a folder that are taken."""


def photographs(folder: str | os.PathLike[str] | None) -> Iterator[NDArray[np.uint8]]:
    """Give real images, one after the other.

    Args:
        folder: of images, of which at most :data:`MOST` are chosen evenly; by default, parts of two photographs that
            come with scikit-learn.

    Returns:
        The pixels of each, upright and in RGB: uint8, shape (H, W, 3).

    Raises:
        SourceError: the folder cannot be listed, or no image there can be read.

    Example:
        >>> [image.shape for image in photographs("images")][:2]
        [(40, 48, 3), (40, 48, 3)]
    """
    if folder is None:
        from sklearn.datasets import load_sample_images

        whole = load_sample_images().images  # 427 × 640
        corners = [(top, left) for top in (0, 107, 213) for left in range(0, 480, 107)]
        yield from (image[top : top + 214, left : left + 160] for image in whole for top, left in corners)
        return
    paths, found = sorted(Tree(Path(folder)).images), 0
    for path in paths[:: max(1, -(-len(paths) // MOST))]:
        with suppress(ImageError), opened(read_file(Path(folder, path))) as picture:
            image = np.asarray(picture.part((0, 0, *picture.size)))
            found += 1
            yield image
    if not found:
        raise SourceError(f"{folder}: no image there can be read: give --check another folder")


def framed(folder: str | os.PathLike[str] | None, framing: Framing) -> NDArray[np.uint8]:
    """Return the images of :func:`photographs` as a network takes them: uint8, shape (N, size, size, 3)."""
    return np.stack([decode_framings(image, [framing])[framing] for image in photographs(folder)])
