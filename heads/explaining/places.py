"""Divide a row of features by the places of the image that it comes from.

Pooling is a sum: the mean of a map is the sum of its places, each divided by their number; of a maximum, each channel
is that of one place. So a row of features is a sum of rows, one for each place, and what each of them does to a score
can be asked of any head.
"""

from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones.taps import Tokens
from featurestore.spec import Pool
from heads.feature_table import Floats
from heads.kinds.base import Head

_BLOCK = 2**22
"""Numbers of rows that are in memory at a time."""


def grid_of(shape: tuple[int, ...], pool: Pool, tokens: Tokens | None) -> tuple[int, int] | None:
    """Return the height and width of the places of a tap, or None if its features belong to no place.

    Args:
        shape: of the output for one image, before pooling: a map (H, W, C), tokens (T, C), or anything else.
        pool: how it becomes a row.
        tokens: how its tokens begin; None for a network that has none.

    Example:
        >>> grid_of((7, 7, 1280), "avg", None), grid_of((197, 384), "cls+patches", Tokens())
        ((7, 7), (14, 14))
        >>> grid_of((197, 384), "cls", Tokens()), grid_of((1280,), "avg", None)
        (None, None)
    """
    if len(shape) == 3:
        return shape[0], shape[1]
    if len(shape) != 2 or tokens is None or pool == "cls":
        return None
    side = isqrt(max(shape[0] - tokens.prefix, 0))
    return (side, side) if side and side**2 == shape[0] - tokens.prefix else None


@dataclass(frozen=True)
class Places:
    """The output of one tap for one image, divided by place.

    Attributes:
        cells: the output before pooling, (T, C): the tokens that stand in front, then the places, row by row. What
            belongs to no place is one cell.
        pool: how they become a row.
        prefix: the number of cells in front that are no places.
        grid: height and width of the places; (0, 0) if there are none.
    """

    cells: NDArray[np.float64]
    pool: Pool
    prefix: int
    grid: tuple[int, int]

    @classmethod
    def of(cls, output: Floats, pool: Pool, tokens: Tokens | None) -> "Places":
        """Divide an output as :func:`grid_of` says: of shape (H, W, C), (T, C) or any other."""
        values, grid = np.asarray(output, np.float64), grid_of(output.shape, pool, tokens)
        if values.ndim == 3:
            return cls(values.reshape(-1, values.shape[-1]), pool, 0, grid or (0, 0))
        if values.ndim == 2 and tokens is not None:
            return cls(values, pool, len(values) if grid is None else tokens.prefix, grid or (0, 0))
        return cls(values.reshape(1, -1), "flatten", 1, (0, 0))

    def rows(self, cells: range) -> NDArray[np.float64]:
        """Return what some cells add to the row of features, (n, D). The sum over all cells is that row."""
        if self.pool in ("flatten", "none"):
            rows = np.zeros((len(cells), *self.cells.shape))
            rows[np.arange(len(cells)), cells] = self.cells[cells]
            return rows.reshape(len(cells), -1)
        return np.concatenate([self._part(name, np.asarray(cells)) for name in self.pool.split("+")], axis=1)

    def _part(self, pool: str, cells: NDArray[np.intp]) -> NDArray[np.float64]:
        values = self.cells[cells]
        match pool:
            case "avg":
                return values / len(self.cells)
            case "max":
                return np.where(self.cells.argmax(axis=0) == cells[:, None], values, 0)
            case "cls":
                return np.where(cells[:, None] == 0, values, 0)
        return np.where(cells[:, None] >= self.prefix, values, 0) / (len(self.cells) - self.prefix)

    @property
    def row(self) -> Floats:
        """The row of features, float32 (D,), as the network pools it."""
        step = max(1, _BLOCK // self.width)
        starts = range(0, len(self.cells), step)
        parts = [self.rows(range(start, min(start + step, len(self.cells)))).sum(axis=0) for start in starts]
        return np.asarray(np.sum(parts, axis=0), np.float32)

    @property
    def width(self) -> int:
        """The number of features D."""
        if self.pool in ("flatten", "none"):
            return self.cells.size
        return int(self.cells.shape[1]) * len(self.pool.split("+"))


def is_linear(head: Head) -> bool:
    """Return whether the scores of a head are a weighted sum of the features: then maps are exact."""
    layers = head.as_layers()
    return layers is not None and len(layers) == 1


def maps_of(head: Head, x: Floats, places: Places, first: int) -> NDArray[np.float64]:
    """Return for each class what the places of a tap do to its score: (C, h, w), whose mean over places is their part.

    Of a linear head, this is class activation mapping (Zhou et al., "Learning deep features for discriminative
    localization", CVPR 2016). Of others, it is the derivative of the score along the features of a place, as the
    central difference of a step as long as these: half of the place added, and half of it taken away.

    Args:
        head: a fitted head of classes.
        x: the row of all features of the image (D,).
        places: of a tap.
        first: the column at which the tap's features begin.
    """
    cells, columns = range(places.prefix, len(places.cells)), slice(first, first + places.width)
    step = max(1, _BLOCK // (places.width if is_linear(head) else len(x)))
    parts = []
    for start in range(cells.start, cells.stop, step):
        rows = places.rows(range(start, min(start + step, cells.stop)))
        parts.append(_change(head, x, rows, columns))
    found = np.concatenate(parts) * len(cells)
    return np.ascontiguousarray(found.T).reshape(-1, *places.grid)


def _change(head: Head, x: Floats, rows: NDArray[np.float64], columns: slice) -> NDArray[np.float64]:
    """Return the change of the scores (n, C) that rows (n, d) in some columns make, to first order around x (D,)."""
    layers = head.as_layers()
    if layers is not None and len(layers) == 1:
        return np.asarray(rows @ layers[0][0][columns], np.float64)
    beside = np.repeat(x[None], len(rows), axis=0)
    beside[:, columns] += rows / 2
    more = head.scores(beside)
    beside[:, columns] -= rows
    return np.asarray(more, np.float64) - head.scores(beside)
