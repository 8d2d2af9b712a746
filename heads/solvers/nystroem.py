"""The Gaussian kernel of any number of rows, approximated from some of them (Nyström): a kernel machine of many rows
becomes a linear one of a few thousand columns.

(Williams & Seeger, "Using the Nyström method to speed up kernel machines", NIPS 2000.) Landmarks are drawn evenly. On
8,000 rows of CIFAR-10, k-means++ over the features (Oglic & Gärtner, "Nyström method with kernel k-means++ samples as
landmarks", ICML 2017) was not better at any number of them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from heads.feature_table import Floats
from heads.rows import BLOCK
from heads.solvers.arrays import Scaling
from heads.solvers.folds import Division
from heads.solvers.gram_matrix import scale_gamma

_NOISE = 1e-5
"""Is added to the kernel of each landmark with itself, so that equal landmarks do no harm."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Rows from which the kernel exp(-gamma·|x - z|²) of all rows is approximated.

    The kernel of two rows is about the inner product of their :meth:`features`.

    Attributes:
        rows: the landmarks, scaled, float32 (M, D).
        gamma: the width of the kernel.

    Example:
        >>> import numpy as np
        >>> from heads.solvers.nystroem import Landmarks
        >>> Z = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
        >>> landmarks = Landmarks(Z, 0.1)
        >>> features = landmarks.features(landmarks.kernel(Z))
        >>> exact = np.exp(-0.1 * ((Z[:, None] - Z) ** 2).sum(axis=2))
        >>> bool(np.abs(features @ features.T - exact).max() < 0.01)
        True
    """

    rows: Floats
    gamma: float

    def kernel(self, Z: Floats) -> Floats:
        """Return the kernel of scaled rows (N, D) with the landmarks, float32 (N, M)."""
        mean = self.rows.mean(axis=0)  # without it, small distances lose digits
        centred, others = Z - mean, self.rows - mean
        exponent = centred @ others.T
        exponent *= 2
        exponent -= np.einsum("nd,nd->n", centred, centred)[:, None]
        exponent -= np.einsum("nd,nd->n", others, others)
        np.minimum(exponent, 0, out=exponent)
        exponent *= np.float32(self.gamma)
        return np.asarray(np.exp(exponent, out=exponent))

    @cached_property
    def whitening(self) -> Floats:
        """The upper triangular matrix (M, M) by which a kernel with the landmarks becomes features."""
        from scipy.linalg.lapack import dtrtri

        own = self.kernel(self.rows).astype(np.float64)
        own.flat[:: len(own) + 1] = 1 + _NOISE
        inverse, _ = dtrtri(np.linalg.cholesky(own), lower=1)
        return np.asarray(inverse.T, np.float32)

    def features(self, kernel: Floats) -> Floats:
        """Return the features (N, M) of rows, of which this is the kernel with the landmarks (N, M)."""
        from scipy.linalg.blas import strmm

        whitening, found = np.asfortranarray(self.whitening), np.empty(kernel.shape, np.float32)
        for start in range(0, len(kernel), BLOCK):
            part = slice(start, start + BLOCK)
            found[part] = strmm(1.0, whitening, kernel[part].T, trans_a=1).T
        return found


def approximated(
    division: Division, scaling: Scaling, gamma: float | str, count: int, folds: Iterable[int], seed: int
) -> Iterator[tuple[int, Landmarks, Floats]]:
    """Yield each fold with landmarks from its training rows, and the features (N, M) of all rows.

    The kernel with all landmarks is computed once. What a fold holds out is no landmark there: a landmark has a
    direction of its own among the features, which says nothing where it was not trained. (When held-out rows of
    CIFAR-10 could be landmarks, 59 % of those that were had the right class at C = 100, and 76 % when they were not.)
    The scaling and the width of the kernel may be those of all rows, since no single row matters to them.

    Args:
        division: the rows.
        scaling: how they are scaled.
        gamma: the width of the kernel; ``scale`` for 1 / (columns × the variance of the scaled rows).
        count: the most landmarks.
        folds: folds of the division; its number of folds means that no row is held out.
        seed: of the draw.
    """
    plain, held = np.flatnonzero(division.plain), max(division.folds, 1)
    drawn = -(-count * held // (held - 1)) if held > 1 else 2 * count if division.folds else count
    some = np.random.default_rng(seed).permutation(plain)[:drawn]
    rows = scaling.apply(np.asarray(division.X[some], np.float32))
    every = Landmarks(rows, _width(division, scaling) if gamma == "scale" else float(gamma))
    kernel = np.empty((len(division.codes), len(some)), np.float32)
    for block in division.blocks():
        kernel[block] = every.kernel(scaling.apply(np.asarray(division.X[block], np.float32)))
    for fold in folds:
        kept = np.flatnonzero(division.fold[some] != fold)[:count]
        landmarks = Landmarks(rows[kept], every.gamma)
        yield fold, landmarks, landmarks.features(kernel[:, kept] if len(kept) < len(some) else kernel)


def memory(rows: int, count: int) -> int:
    """Return how many bytes :func:`approximated` takes at most for so many rows and landmarks."""
    return 4 * rows * count * 4 + 24 * count**2


def _width(division: Division, scaling: Scaling) -> float:
    """Return what ``SVC(gamma="scale")`` takes for these rows."""
    total = square = 0.0
    for block in division.blocks():
        Z = scaling.apply(np.asarray(division.X[block], np.float32))
        total += float(Z.sum(dtype=np.float64))
        square += float(np.einsum("nd,nd->", Z, Z, dtype=np.float64))
    rows, columns = division.X.shape
    return scale_gamma(square / (rows * columns), total / (rows * columns), columns)
