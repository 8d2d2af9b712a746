"""The law: it finds the one that points were made of, and its intervals hold what comes as often as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heads.forecasting.power_law import fit_law

SIZES = np.array([10.0, 20, 40, 80, 160, 320])


def truth(n, a=0.9, b=1.5, c=0.6):
    return a - b * np.asarray(n, float) ** -c


def test_points_without_noise_give_their_law_back():
    law = fit_law(SIZES, truth(SIZES), np.full(6, 1e-4), 0.0)
    found = law.summary()
    for name, value in {"a": 0.9, "b": 1.5, "c": 0.6}.items():
        middle, low, high = found[name]
        assert low <= value <= high and middle == pytest.approx(value, rel=0.05)
    ahead = law.at(1280)
    assert ahead.value == pytest.approx(truth(1280), abs=0.005)
    assert ahead.gain == pytest.approx(truth(1280) - truth(320), abs=0.005) and ahead.images == 1280


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Of 200 curves with noise, and with an error that all points share; 95 % may be 90 % here, but not half."""
    rng, inside, gains = np.random.default_rng(0), 0, 0
    for _ in range(200):
        points = truth(SIZES) + rng.normal(size=6) * 0.01 + rng.normal() * 0.02
        found = fit_law(SIZES, points, np.full(6, 0.01), 0.02).at(640)
        inside += found.interval[0] <= truth(640) <= found.interval[1]
        gains += found.gain_interval[0] <= truth(640) - truth(320) <= found.gain_interval[1]
    assert inside >= 176 and gains >= 176


def test_what_all_points_share_is_no_doubt_about_the_gain():
    sure, shared = (fit_law(SIZES, truth(SIZES), np.full(6, 0.005), level).at(640) for level in (0.0, 0.05))
    assert np.diff(shared.interval) > 2 * np.diff(sure.interval)
    np.testing.assert_allclose(shared.gain_interval, sure.gain_interval, atol=0.01)


def test_points_that_no_law_meets_leave_more_doubt():
    bent = truth(SIZES) + np.array([0, 0.05, -0.05, 0.05, -0.05, 0])
    straight = fit_law(SIZES, truth(SIZES), np.full(6, 0.005), 0.0).at(640)
    assert np.diff(fit_law(SIZES, bent, np.full(6, 0.005), 0.0).at(640).interval) > 3 * np.diff(straight.interval)


def test_log_loss_falls_and_never_below_zero():
    losses = 0.2 + 4 * SIZES**-0.8
    found = fit_law(SIZES, losses, np.full(6, 0.01), 0.01, less_is_better=True).at(640)
    assert 0 <= found.interval[0] < found.value < losses[-1] and found.gain > 0
    assert found.value == pytest.approx(0.2 + 4 * 640**-0.8, abs=0.03)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=8), st.floats(0, 0.1), st.floats(0, 0.1), st.booleans())
def test_whatever_the_points_the_forecast_is_a_number_in_its_range(values, noise, level, less):
    sizes = 10.0 * 2 ** np.arange(len(values))
    found = fit_law(sizes, np.array(values), np.full(len(values), noise), level, less_is_better=less).at(2 * sizes[-1])
    assert np.isfinite([found.value, *found.interval, found.gain]).all()
    assert found.interval[0] <= found.value <= found.interval[1] and found.gain >= 0
    assert found.interval[0] >= 0 if less else found.interval[1] <= 1
