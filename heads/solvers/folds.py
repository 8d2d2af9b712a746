"""Rows and the folds in which they are held out: train against validation rows, or K folds.

All that the designs of a sweep share about the rows stands here: the features once, and each fold's scaling.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from featurestore.system.files import size_text, write_error
from heads.feature_table import Floats, Labels, Rows
from heads.rows import BLOCK, Codes, NumericScaling, StreamedRows, taken
from heads.solvers import components
from heads.solvers.arrays import Scaling
from heads.solvers.goals import is_classes, width_of
from heads.solvers.moments import moments
from heads.solvers.row_space import RowSpace, width
from heads.solvers.training import Training


def scratch(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> "np.memmap[Any, Any]":
    """Return a new array in a file that processes can map.

    The file gets its space on the disk now: if the disk were full later, the operating system would end the process.

    Raises:
        WriteError: there is not enough space, or nothing can be written there.
    """
    size = max(1, np.dtype(dtype).itemsize * math.prod(shape))
    try:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
    except OSError as error:
        raise write_error(f"{path.parent} ({size_text(size)} for the rows)", error) from error
    return np.memmap(path, dtype, "r+", shape=shape)


@dataclass(frozen=True, eq=False)
class Division:
    """Rows and the folds in which they are held out.

    Attributes:
        X: float16 or float32 (N, D), in memory, memory-mapped or streamed; any order of rows.
        codes: what scores are to be, see :mod:`heads.solvers.goals`; of one label classes 0..C-1 (N,).
        fold: the fold in which a row is held out (N,); -1 is never held out. A fold's training rows are all others.
        image: number of the image that a row shows (N,): rows of one number are in one fold.
        plain: bool (N,): one plain row per image; the others are augmented views, which train but do not judge.
        weights: float64 (N,), 1 in total for each image; None when all rows are plain.
        groups: number of each image's group, whose images are held out together (I,); None where each is its own.
        features: number of columns of the features, if X are their coordinates, see :meth:`spaces`; else None.
        numeric: the last columns of X as they are in the file, NaN for missing values, float32 (N, C), if these are
            numbers that each fold scales by its own training rows, see :meth:`alone`; None if X serves all folds.
    """

    X: Rows
    codes: Codes
    fold: Labels
    image: Labels
    plain: NDArray[np.bool_]
    weights: NDArray[np.float64] | None = None
    groups: Labels | None = None
    features: int | None = None
    numeric: Floats | None = None

    @classmethod
    def of(cls, training: Training, folds: Labels | None = None) -> "Division":
        """Return the scaled rows of one fit.

        Args:
            training: the rows.
            folds: the fold in which each image (not row) is held out; None if none is.
        """
        images = int(training.image.max()) + 1
        fold = np.full(images, -1) if folds is None else folds
        plain = np.arange(len(training.image)) < images
        return cls(
            training.Z, training.codes, fold[training.image], training.image, plain, training.weights, training.groups
        )

    @cached_property
    def folds(self) -> int:
        """Number of folds. Where a method takes a fold, this number means that no row is held out."""
        return int(self.fold.max()) + 1

    @cached_property
    def classes(self) -> int:
        """Number of scores of a row: of classes, each of which has training rows in every fold, labels or numbers."""
        return width_of(self.codes)

    @cached_property
    def judged(self) -> Labels:
        """Indices of all rows that are held out in some fold, ascending (J,): a design is judged on these."""
        return np.flatnonzero(self.plain & (self.fold >= 0))

    def held(self, fold: int) -> Labels:
        """Return the indices of the rows that a fold holds out."""
        return np.flatnonzero(self.plain & (self.fold == fold))

    def places(self, fold: int) -> Labels:
        """Return where the rows that a fold holds out stand in :attr:`judged`."""
        return np.searchsorted(self.judged, self.held(fold))

    def training_rows(self, fold: int) -> Labels:
        """Return the indices of the rows to fit to in a fold, plain ones first; for fold ``folds``, of all rows."""
        rows = np.flatnonzero(self.fold != fold)
        return rows[np.argsort(~self.plain[rows], kind="stable")]

    def class_weight(self, fold: int) -> NDArray[np.float64]:
        """Return the total weight of each class among the training rows of a fold (C,); of others, of all rows (1,)."""
        rows = self.fold != fold
        weights = None if self.weights is None else self.weights[rows]
        if not is_classes(self.codes):
            return np.array([rows.sum() if weights is None else weights.sum()], np.float64)
        return np.bincount(self.codes[rows], weights, minlength=self.classes).astype(np.float64)

    def alone(self, fold: int) -> "Division":
        """Return the division that holds out one fold, with the numeric columns scaled by that fold's training rows.

        Rows in memory are changed for it: the division of another fold is then no longer of use.
        """
        assert self.numeric is not None
        scaling = NumericScaling.of(self.numeric[self.plain & (self.fold != fold)])
        X = self.X
        if isinstance(X, StreamedRows):
            X = replace(X, numeric=scaling)
        else:
            X[:, X.shape[1] - self.numeric.shape[1] :] = scaling.of_numbers(self.numeric)
        return replace(self, X=X, fold=np.where(self.fold == fold, 0, -1), numeric=None)

    def blocks(self) -> Iterator[slice]:
        """Yield slices of at most :data:`BLOCK` rows, in order, that together hold all rows."""
        for start in range(0, len(self.codes), BLOCK):
            yield slice(start, min(start + BLOCK, len(self.codes)))

    def parts(self, count: int, block: int = BLOCK) -> list[list[slice]]:
        """Return all rows in so many parts of equal size, each in blocks. Where rows lie fold by fold, so do blocks."""
        edges = np.flatnonzero(np.diff(self.fold)) + 1
        if len(edges) > self.folds:
            edges = edges[:0]
        parts: list[list[slice]] = [[] for _ in range(count)]
        for run in np.split(np.arange(len(self.fold)), edges):
            for part, rows in zip(parts, np.array_split(run, count), strict=True):
                blocks = np.array_split(rows, -(-len(rows) // block)) if len(rows) else []
                part.extend(slice(int(each[0]), int(each[-1]) + 1) for each in blocks)
        return parts

    @cached_property
    def scalings(self) -> Sequence[Scaling]:
        """Mean and deviation of each fold's training rows, then of all rows; see :func:`moments`."""
        # Weights of the rows that each fold trains on, so that one product per block serves all folds.
        share = np.ones(len(self.codes)) if self.weights is None else self.weights
        member = np.stack([(self.fold != fold) * share for fold in range(self.folds + 1)])
        return [Scaling(*pair) for pair in zip(*moments(self.X, member), strict=True)]

    def scaling(self, fold: int, standardize: bool) -> Scaling:
        """Return how the rows are scaled in a fold; for fold ``folds``, when all rows are fitted to."""
        scaled = standardize and self.features is None
        return self.scalings[fold] if scaled else Scaling.none(self.X.shape[1])

    @property
    def columns(self) -> int:
        """Number of columns of the features, also where X are coordinates."""
        return self.features or self.X.shape[1]

    def spaces(self, standardize: bool, max_memory: int | None = None) -> Iterator[tuple["Division", Sequence[int]]]:
        """Yield divisions of as few columns as there can be, each with the folds that it serves.

        Where there are many more columns than rows, X are the coordinates of the rows in a basis of their own, see
        :class:`heads.solvers.row_space.RowSpace`: as they are, the rows have one basis, and as each fold standardises
        them, one for each fold. Elsewhere this division serves all folds.

        Args:
            standardize: whether rows are to be standardised.
            max_memory: bytes that may be used; None for half of the machine's.
        """
        if standardize and self.space(0, standardize, max_memory) is not self:
            for fold in range(self.folds):
                yield self.space(fold, standardize, max_memory), [fold]
        else:
            yield self.space(0, standardize, max_memory), range(self.folds)

    def space(self, fold: int, standardize: bool, max_memory: int | None = None) -> "Division":
        """Return that of :meth:`spaces` which serves a fold."""
        rows, columns = self.X.shape
        if self.features or width(rows, columns, max_memory) == columns:
            return self
        key = fold if standardize else -1
        if key not in self._narrow:
            space = RowSpace.of(self.X, self.scaling(fold, standardize))
            self._narrow[key] = replace(self, X=space.rows, features=columns)
        return self._narrow[key]

    def leading(self, fold: int, standardize: bool, max_memory: int | None = None) -> "Division":
        """Return the division that dense nets are trained on in a fold.

        Its X are the coordinates of all rows, scaled as in the fold, in the leading components of its training rows.
        Where there are no fewer of these than columns, it is this division.
        """
        space, rows = self.space(fold, standardize, max_memory), self.training_rows(fold)
        if components.width(len(rows), self.columns) == self.columns:
            return self
        scaling = space.scaling(fold, standardize)
        basis = components.components(taken(space.X, rows), scaling, self.columns)
        return replace(self, X=components.projected(space.X, scaling, basis), features=self.columns)

    @cached_property
    def _narrow(self) -> dict[int, "Division"]:
        return {}

    def training(self, fold: int, standardize: bool) -> Training:
        """Return the scaled training rows of a fold, in an array of their own unless they are streamed."""
        rows = self.training_rows(fold)
        X = taken(self.X, rows)
        scaling = self.scaling(fold, standardize)
        Z = scaling.of(X if isinstance(X, StreamedRows) else np.asarray(X, np.float32))
        images = self.image[rows[self.plain[rows]]]
        place = np.empty(int(self.image.max()) + 1, np.intp)
        place[images] = np.arange(len(images))
        weights = None if self.weights is None else self.weights[rows]
        groups = None if self.groups is None else self.groups[images]
        return Training(Z, self.codes[rows], place[self.image[rows]], weights, groups)
