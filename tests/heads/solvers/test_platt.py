"""Lines through scores that make them log-odds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heads.solvers.goals import sigmoid
from heads.solvers.platt import fit_lines


def drawn(seed, rows, slope, shift):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(rows, 1))
    has = rng.random((rows, 1)) < sigmoid(slope * scores + shift)
    return scores, np.where(has, 1, -1).astype(np.int8)


@pytest.mark.parametrize(("slope", "shift"), [(0.5, -2.0), (3.0, 1.0)])
def test_the_line_that_rows_were_drawn_from_is_found(slope, shift):
    found = fit_lines(*drawn(0, 20_000, slope, shift))
    assert found[0].item() == pytest.approx(slope, rel=0.1) and found[1].item() == pytest.approx(shift, abs=0.1)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.floats(1e-6, 1e6), st.integers(3, 40))
def test_the_unit_of_scores_does_not_matter_and_nothing_is_certain(seed, unit, rows):
    scores, codes = drawn(seed, rows, 2.0, 0.0)
    a, b = (fit_lines(factor * scores, codes) for factor in (1.0, unit))
    proba = sigmoid(a[0] * scores + a[1])
    np.testing.assert_allclose(sigmoid(b[0] * unit * scores + b[1]), proba, atol=1e-4)
    assert ((proba > 0) & (proba < 1)).all() and a[0].item() >= 0


def test_scores_that_say_the_opposite_give_the_frequency():
    scores, codes = drawn(0, 2000, 3.0, 0.0)
    slope, shift = fit_lines(-scores, codes)
    assert slope.item() == 0 and sigmoid(shift).item() == pytest.approx((codes > 0).mean(), abs=0.01)
