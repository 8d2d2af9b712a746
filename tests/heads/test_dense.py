import random
import sys

import keras
import numpy as np
import pytest

from featurestore.errors import HeadError, MissingDependencyError
from heads import dense
from heads.base import standardise
from heads.data import Training
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

    def train(self, training, validation):
        seen.update(train=training.codes, validation=validation[1])
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


def test_each_epoch_draws_one_version_of_each_image():
    image = np.concatenate([np.arange(50), np.repeat(np.arange(50), 3)])
    training = Training(np.arange(200.0)[:, None], image % 5, image, np.full(200, 0.25))
    epochs = []
    for _ in range(2):
        batches = dense._draws(keras, training, 16, seed=1)
        for _ in range(30):
            rows = np.concatenate([batches[i][0] for i in range(len(batches))])[:, 0].astype(int)
            assert sorted(image[rows]) == list(range(50))
            epochs.append(rows)
            batches.on_epoch_end()
    assert len(batches) == 4 and len(batches[3][0]) == 2
    np.testing.assert_array_equal(epochs[:30], epochs[30:])
    assert len(set(np.concatenate(epochs))) == 200


def test_views_are_learnt_from_and_the_draw_is_of_the_seed(digits):
    """The plain rows of each class look alike: only their views tell the classes apart."""
    X, y = digits
    blank = np.zeros_like(X[:400])
    views = (X[:400], np.arange(400))

    def fit(seed):
        head = DenseHead(epochs=12, learning_rate=0.01, dropout=0.0, random_state=seed, batch_size=32)
        return head.fit(blank, y[:400], validation=(X[400:500], y[400:500]), views=views)

    one, same, other = fit(1), fit(1), fit(2)
    assert one.score(X[500:], y[500:]) > 0.8
    np.testing.assert_array_equal(one.predict_proba(X), same.predict_proba(X))
    assert (one.predict_proba(X) != other.predict_proba(X)).any()
