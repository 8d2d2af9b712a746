"""The form of codes tells the loss."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import log_loss

from heads.solvers.goals import goal_of, mean_loss, sigmoid, width_of

SCORES = arrays(np.float64, (7, 3), elements=st.floats(-20, 20))
FORMS = [
    np.array([0, 2, 1, 1, 0, 2, 2]),
    np.where(np.arange(21).reshape(7, 3) % 2, 1, -1).astype(np.int8),
    np.linspace(-2, 2, 21, dtype=np.float32).reshape(7, 3),
]


@pytest.mark.parametrize("codes", FORMS)
@given(scores=SCORES)
def test_what_is_left_of_the_target_is_the_gradient_of_the_loss(codes, scores):
    goal, step = goal_of(codes), 1e-5
    found = goal.activation(scores) - goal.target(codes, 3, 0.0)
    sums = 3 if codes.dtype == np.int8 else 1  # of labels the loss is the mean, the gradient that of the sum
    for column in range(3):
        moved = np.eye(3)[column] * step
        slope = (goal.losses(scores + moved, codes) - goal.losses(scores - moved, codes)) / (2 * step)
        np.testing.assert_allclose(found[:, column], sums * slope, atol=1e-4)


def test_losses_are_scikit_learns():
    scores = np.random.default_rng(0).normal(size=(7, 3))
    proba = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert mean_loss(scores, FORMS[0]) == pytest.approx(log_loss(FORMS[0], proba))
    each = [log_loss(FORMS[1][:, k] > 0, sigmoid(scores[:, k])) for k in range(3)]
    assert mean_loss(scores, FORMS[1]) == pytest.approx(np.mean(each))
    assert [width_of(codes) for codes in FORMS] == [3, 3, 3]


@given(arrays(np.float64, 9, elements=st.floats(-1e6, 1e6)))
def test_sigmoids_do_not_overflow(scores):
    with np.errstate(over="raise"):
        found = sigmoid(scores)
    np.testing.assert_allclose(found + sigmoid(-scores), 1)
