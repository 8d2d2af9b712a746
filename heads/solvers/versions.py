"""Several rows that show one image: a net learns from one of them in each epoch."""

import numpy as np

from heads.feature_table import Labels


class Versions:
    """The rows of each image.

    Args:
        image: number of the image that each row shows (N,).

    Example:
        >>> import numpy as np
        >>> versions = Versions(np.array([0, 1, 2, 1, 1]))
        >>> versions.draw(np.random.default_rng(0))
        array([0, 4, 2])
    """

    def __init__(self, image: Labels) -> None:
        self._order = np.argsort(image, kind="stable")
        _, self._first, self._count = np.unique(image[self._order], return_index=True, return_counts=True)

    def draw(self, rng: np.random.Generator) -> Labels:
        """Draw one row for each image at random: indices (I,), in the order of the images' numbers."""
        drawn: Labels = self._order[self._first + rng.integers(self._count)]
        return drawn
