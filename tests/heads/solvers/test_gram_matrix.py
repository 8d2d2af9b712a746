"""Kernels from one Gram matrix against kernels from the rows."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.svm import SVC

from heads.solvers.folds import Division
from heads.solvers.gram_matrix import Gram

WIDTH = 1500
"""More columns than are read at a time."""


@pytest.fixture(scope="module", params=[np.float32, np.float16])
def division(request):
    """Rows far from the origin in comparison with their distances; row 1 is nearly row 0, row 2 all zero."""
    X = np.random.default_rng(0).normal(20, 1, (60, WIDTH)).astype(request.param)
    X[1] = X[0]
    X[1, :3] *= 1.01
    X[2] = 0
    everything = np.arange(len(X))
    return Division(X, everything % 3, everything % 5, everything, np.ones(len(X), bool))


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("standardize", [False, True])
def test_kernels_are_those_of_the_rows(division, standardize, narrow):
    scaling = division.scaling(2, standardize)
    space = division.space(2, standardize) if narrow else division
    gram = Gram.of(division, scaling, space)
    assert (space is not division) is narrow
    Z = scaling.apply(division.X).astype(np.float64)
    rows, others = np.arange(0, 60, 3), np.arange(60)
    near = cdist(Z[rows], Z[others])
    np.testing.assert_allclose(gram.gaussian(rows, others, 1e-3), np.exp(-1e-3 * near**2), atol=1e-4)


def test_gamma_is_that_of_the_estimator(division):
    rows = division.training_rows(1)
    fitted = SVC(gamma="scale").fit(division.X[rows], division.codes[rows])
    gram = Gram.of(division, division.scaling(1, False), division)
    assert gram.gamma("scale", rows) == pytest.approx(fitted._gamma, rel=1e-9)
    assert gram.gamma(0.25, rows) == 0.25
