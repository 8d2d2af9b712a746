import random
import sys

import numpy as np
import pytest

from featurestore.errors import HeadError, MissingDependencyError
from heads import dense
from heads.base import standardise
from heads.dense import DenseHead


@pytest.mark.parametrize(("hidden", "batch_norm"), [((), False), ((16,), False), ((24, 12), True)])
def test_numpy_gives_what_keras_gives(digits, hidden, batch_norm, monkeypatch):
    models = []

    def spy(model):
        models.append(model)
        return dense_layers(model)

    dense_layers = dense.dense_layers
    monkeypatch.setattr(dense, "dense_layers", spy)
    X, y = digits
    head = DenseHead(hidden=hidden, batch_norm=batch_norm, epochs=2).fit(X, y, validation=(X[:50], y[:50]))
    expected = models[0].predict(standardise(X)[0], verbose=0)
    np.testing.assert_allclose(head.decision_function(X), expected, atol=1e-5 * np.abs(expected).max())
    assert [weights.shape for weights, _ in head.layers_] == list(zip((64, *hidden), (*hidden, 10), strict=True))


def test_training_leaves_the_random_states_of_the_caller_alone(digits):
    X, y = digits
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.random()
    random.seed(3)
    np.random.seed(3)
    DenseHead(epochs=1, hidden=()).fit(X, y)
    assert (random.random(), np.random.random()) == expected


def test_best_epoch_is_kept(digits):
    """With wrong validation labels every step makes the loss worse: the first epoch is the best."""
    X, y = digits
    wrong = (y + 1) % 10
    one = DenseHead(epochs=1, dropout=0.0, random_state=1).fit(X, y, validation=(X, wrong))
    many = DenseHead(epochs=20, patience=3, dropout=0.0, random_state=1).fit(X, y, validation=(X, wrong))
    np.testing.assert_array_equal(one.predict_proba(X), many.predict_proba(X))


def test_rows_are_held_out_without_validation_rows_but_never_a_whole_class(digits, monkeypatch):
    seen = {}

    def train(self, Z, codes, validation):
        seen.update(train=codes, validation=validation[1])
        return type("Model", (), {"layers": []})()

    monkeypatch.setattr(DenseHead, "_train", train)
    monkeypatch.setattr(dense, "dense_layers", lambda model: [(np.zeros((64, 3)), np.zeros(3))])
    X, _ = digits
    y = np.array([0] * 20 + [1] * 10 + [2])
    DenseHead().fit(X[:31], y)
    assert np.bincount(seen["train"]).tolist() == [18, 9, 1]
    assert np.bincount(seen["validation"]).tolist() == [2, 1]


def test_two_rows_are_enough(digits):
    X, _ = digits
    assert DenseHead(epochs=1, hidden=()).fit(X[:2], [0, 1]).predict_proba(X[:2]).shape == (2, 2)


def test_diverged_training_says_what_to_change(digits):
    X, y = digits
    with pytest.raises(HeadError, match="smaller learning_rate"):
        DenseHead(epochs=1, hidden=(), standardize=False).fit(X * np.float32(1e36), y)


def test_validation_rows_of_an_unknown_class_are_left_out(digits):
    X, y = digits
    keep = y < 5
    head = DenseHead(epochs=2, hidden=()).fit(X[keep], y[keep], validation=(X[:200], y[:200]))
    assert head.classes_.tolist() == [0, 1, 2, 3, 4]
    head.fit(X[keep], y[keep], validation=(X[~keep], y[~keep]))


def test_without_keras_it_says_what_to_install(digits, monkeypatch):
    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name == "keras":
                raise ModuleNotFoundError(name)

    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(MissingDependencyError, match=r"featurestore\[extract\]"):
        DenseHead().fit(*digits)
