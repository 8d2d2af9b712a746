"""Linear heads in closed form, from class means and the covariance within classes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np

from featurestore.errors import HeadError
from heads.feature_table import LabelledRows, Labels
from heads.kinds.base import HeldOut, Spaces, too_large
from heads.kinds.linear import LinearHead, held_out
from heads.kinds.parameters import parameter
from heads.solvers.arrays import Extent, Scaling
from heads.solvers.calibration import TEMPERATURE_FOLDS
from heads.solvers.folds import Division
from heads.solvers.lbfgs import Doubles
from heads.solvers.row_space import RowSpace, width
from heads.solvers.training import Training

_WIDEST = 8192
"""The most columns that are fitted in: their covariance takes 0.5 GB in float64, and solving as much again."""
_COPIES = 6
"""So many matrices of its size are held beside the covariance of each fold: of the rows in no fold, of all rows, of
those that are fitted to, what is solved, and the rows in a basis of their own."""


class Moments(NamedTuple):
    """Moments of the scaled training rows of one fold.

    Attributes:
        weight: the total weight of each class (C,).
        columns: the number of columns of the features, of which the rows may be coordinates.
        mean: the mean of each class (C, D).
        covariance: the covariance within classes (D, D); None if it was not asked for.
        rounding: eigenvalues of the covariance below it are rounding errors. All of them are if each class has one row.
    """

    weight: Doubles
    columns: int
    mean: Doubles
    covariance: Doubles | None
    rounding: float


@dataclass(kw_only=True, eq=False, repr=False)
class DiscriminantHead(LinearHead):
    """The base class of linear heads that are computed from :class:`Moments`."""

    family, streams = "discriminant", True
    needs_covariance: ClassVar[bool] = False
    """Whether :meth:`solve` needs the covariance within classes."""

    def _fit(
        self, training: Training, scaling: Scaling, validation: LabelledRows | None, folds: Labels | None
    ) -> HeldOut | None:
        rows, columns = training.Z.shape
        space = None
        if self.needs_covariance and width(rows, columns) < columns:
            space = RowSpace.of(training.Z, Scaling.none(columns))
            training = training._replace(Z=space.rows)
        division = replace(Division.of(training, folds), features=columns)
        moments = moments_of(division, range(division.folds + 1), False, self.needs_covariance)
        coef, intercept = (np.stack(part).astype(np.float32) for part in zip(*map(self.solve, moments), strict=True))
        self._take(space.weights(coef[-1].T).T if space else coef[-1], intercept[-1], scaling)
        return held_out(division, coef, intercept)

    def solve(self, moments: Moments) -> tuple[Doubles, Doubles]:
        """Return coefficients (C, D) and intercepts (C,) for scaled rows."""
        raise NotImplementedError


@dataclass(kw_only=True, eq=False, repr=False)
class CentroidHead(DiscriminantHead):
    """Classifier by the nearest class mean.

    (Tibshirani et al., "Diagnosis of multiple cancer types by shrunken centroids", PNAS 2002, without the shrinkage.)
    """

    spaces: ClassVar[Spaces] = {
        "quick": {},
        "standard": {"standardize": [True, False]},
        "thorough": {"standardize": [True, False]},
    }

    @property
    def evens_classes(self) -> bool:
        """See :attr:`heads.kinds.base.Head.evens_classes`."""
        return True

    def solve(self, moments: Moments) -> tuple[Doubles, Doubles]:
        """See :meth:`DiscriminantHead.solve`."""
        # Half of -|z - mean|², without the terms that all classes share. It is divided by the number of columns, since
        # probabilities would otherwise all be 0 or 1.
        mean = moments.mean / moments.columns
        return mean, -np.einsum("cd,cd->c", mean, moments.mean) / 2


@dataclass(kw_only=True, eq=False, repr=False)
class LDAHead(DiscriminantHead):
    """Linear discriminant analysis with a covariance that is shrunk towards a multiple of the identity.

    (Ledoit & Wolf, "Honey, I shrunk the sample covariance matrix", 2004; the amount of shrinkage is a parameter here.)
    """

    needs_covariance = True
    spaces: ClassVar[Spaces] = {
        "quick": {"shrinkage": [0.1, 0.5]},
        "standard": {"shrinkage": [0.01, 0.05, 0.1, 0.3, 0.6]},
        "thorough": {"shrinkage": [0.001, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0]},
    }
    weaker = ("shrinkage", -1)

    shrinkage: float = parameter(0.1, "share of the identity in the covariance", low=1e-6, high=1.0)

    def obstacle(self, extent: Extent, max_memory: int | None) -> str | None:
        """See :meth:`heads.kinds.base.Head.obstacle`: the memory for the covariance of all columns, in each fold."""
        side = width(extent.rows, extent.columns, max_memory)
        return _too_wide(side) or _too_large(side, extent.folds + _COPIES, max_memory)

    def obstacle_alone(self, extent: Extent, max_memory: int | None) -> str | None:
        """See :meth:`heads.kinds.base.Head.obstacle_alone`: the same, for the folds of a temperature."""
        side = width(extent.rows, extent.columns)
        return _too_wide(side) or _too_large(side, TEMPERATURE_FOLDS + _COPIES, max_memory)

    def solve(self, moments: Moments) -> tuple[Doubles, Doubles]:
        """See :meth:`DiscriminantHead.solve`."""
        from scipy.linalg import cho_factor, cho_solve

        assert moments.covariance is not None
        spread = np.trace(moments.covariance) / moments.columns
        shrunk = moments.covariance * (1 - self.shrinkage)
        # The floor is for features that do not vary within classes.
        shrunk.flat[:: len(shrunk) + 1] += max(self.shrinkage * spread, moments.rounding, 1e-12)
        coef = cho_solve(cho_factor(shrunk.T, overwrite_a=True), moments.mean.T).T  # transposed, it is not copied
        prior = np.log(moments.weight / moments.weight.sum())
        return coef, prior - np.einsum("cd,cd->c", coef, moments.mean) / 2


def _too_large(side: int, copies: int, max_memory: int | None) -> str | None:
    what = f"the covariance of {side:,} × {side:,} numbers and what is computed from it take"
    return too_large(8 * copies * side**2, max_memory, what, "fewer columns; 'ridge' needs none")


def _too_wide(side: int) -> str | None:
    if side <= _WIDEST:
        return None
    return (
        f"a covariance of {side:,} × {side:,} numbers takes {side**2 * 8 / 2**30:.1f} GiB: "
        "pool the features, or take 'ridge', which needs none"
    )


def moments_of(division: Division, folds: Sequence[int], standardize: bool, covariance: bool) -> Iterator[Moments]:
    """Yield the moments of each fold, from one pass: sums over the rows of a fold are left out of the sums over all."""
    D, C = division.X.shape[1], division.classes
    if covariance and (why := _too_wide(D)):
        raise HeadError(f"the head 'lda': {why}")
    place = {fold: number for number, fold in enumerate(folds, 1)}
    groups = np.array([place.get(fold, 0) for fold in division.fold.tolist()])
    weight = np.zeros((len(folds) + 1, C))
    total = np.zeros((len(folds) + 1, C, D))
    square = np.zeros((len(folds) + 1, D, D)) if covariance else None
    shift = division.scalings[-1].mean
    for block in division.blocks():
        X = np.asarray(division.X[block], np.float32) - shift
        share = np.ones(len(X)) if division.weights is None else division.weights[block]
        for group in np.unique(groups[block]):
            mine = np.flatnonzero(groups[block] == group)
            rows, codes = X[mine], division.codes[block][mine]
            shown = np.unique(codes)
            member = (shown[:, None] == codes) * share[mine]
            weight[group, shown] += member.sum(axis=1)
            total[group, shown] += member.astype(np.float32) @ rows
            if square is not None:
                square[group] += rows.T @ (rows * share[mine, None].astype(np.float32))
    whole = None if square is None else square.sum(axis=0)
    for fold in folds:
        kept = [group for group in range(len(weight)) if group != place[fold]]
        scaling = division.scaling(fold, standardize)
        n = weight[kept].sum(axis=0)
        mean = total[kept].sum(axis=0) / n[:, None]
        within, rounding = None, 0.0
        if square is not None and whole is not None:
            within = whole - square[place[fold]]
            # The spectral norm of a matrix of random errors grows with the root of its side.
            spread = (np.diag(within) / scaling.scale.astype(np.float64) ** 2).mean() / n.sum()
            rounding = 4 * float(np.finfo(np.float32).eps * np.sqrt(D) * spread)
            within -= (mean.T * n) @ mean
            within /= n.sum() * scaling.scale.astype(np.float64)
            within /= scaling.scale[:, None]
        yield Moments(n, division.columns, (mean + shift - scaling.mean) / scaling.scale, within, rounding)
