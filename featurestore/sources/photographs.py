"""Real images to try a network on, before anybody relies on it."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import ImageError, SourceError
from featurestore.images.decode import decode_framings, read_file
from featurestore.sources.tree import Tree
from featurestore.spec import Framing

MOST = 32
"""Most images of a folder that are taken."""


def photographs(folder: str | os.PathLike[str] | None, framing: Framing) -> NDArray[np.uint8]:
    """Return real images as a network takes them.

    Args:
        folder: of images, of which at most :data:`MOST` are chosen evenly; by default, parts of two photographs that
            come with scikit-learn.
        framing: what is done to them.

    Returns:
        uint8, shape (N, size, size, 3).

    Raises:
        SourceError: the folder cannot be listed, or no image there can be read.

    Example:
        >>> from featurestore.spec import Framing
        >>> photographs("images", Framing(64, "shortest", "bicubic")).shape
        (30, 64, 64, 3)
    """
    if folder is None:
        from sklearn.datasets import load_sample_images

        whole = load_sample_images().images  # 427 × 640
        corners = [(top, left) for top in (0, 107, 213) for left in range(0, 480, 107)]
        parts = [image[top : top + 214, left : left + 160] for image in whole for top, left in corners]
        return np.stack([decode_framings(part, [framing])[framing] for part in parts])
    paths = sorted(Tree(Path(folder)).images)
    found = []
    for path in paths[:: max(1, -(-len(paths) // MOST))]:
        with suppress(ImageError):
            found.append(decode_framings(read_file(Path(folder, path)), [framing])[framing])
    if not found:
        raise SourceError(f"{folder}: no image there can be read: give --check another folder")
    return np.stack(found)
