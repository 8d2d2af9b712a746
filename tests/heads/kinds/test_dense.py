import random
import subprocess
import sys

import numpy as np
import pytest

from featurestore.errors import HeadError
from heads.kinds import dense
from heads.kinds.dense import DenseHead
from heads.solvers import dense_net
from heads.solvers.arrays import Extent
from heads.solvers.calibration import calibrate, stratified_folds
from heads.solvers.scores import log_loss


@pytest.mark.parametrize(("hidden", "batch_norm"), [((), False), ((16,), False), ((24, 12), True)])
def test_folded_layers_give_what_the_net_gave(digits, hidden, batch_norm):
    """Standardisation and batch normalisation are in the layers: rows that told when to stop have the same scores."""
    X, y = digits
    head = DenseHead(hidden=hidden, batch_norm=batch_norm, epochs=4).fit(X, y, validation=(X[:50], y[:50]))
    expected, codes = head.held_out_
    np.testing.assert_allclose(head.scores(X[:50]), expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(codes, y[:50])
    assert [weights.shape for weights, _ in head.layers_] == list(zip((64, *hidden), (*hidden, 10), strict=True))


def test_neither_keras_nor_scikit_learn_is_imported():
    code = """if True:
        import sys, numpy as np
        from heads.kinds.dense import DenseHead
        X = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
        DenseHead(epochs=1).fit(X, np.arange(60) % 2).predict_proba(X)
        assert not {"keras", "tensorflow", "sklearn", "scipy"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


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
    assert len(many.history_["validation"]) == 4
    np.testing.assert_array_equal(one.predict_proba(X), many.predict_proba(X))


def test_history_is_the_log_loss_after_each_epoch(digits):
    X, y = digits
    known = X[400:], y[400:]
    head = DenseHead(epochs=6, hidden=(32,), dropout=0.0, learning_rate=0.01).fit(X[:400], y[:400], known)
    assert [len(losses) for losses in head.history_.values()] == [6, 6]
    assert min(head.history_["validation"]) == pytest.approx(log_loss(head.scores(known[0]), known[1]), abs=1e-3)
    train = head.history_["train"]
    assert train[0] > train[-1] > log_loss(head.scores(X[:400]), y[:400])  # taken before each step


def test_rows_are_held_out_without_validation_rows_but_never_a_whole_class(digits, monkeypatch):
    seen = {}

    def spy(trained, nets, batches, pool, **options):
        seen.update(stop=np.concatenate(list(batches.stops())), codes=batches.codes)
        seen["train"] = np.concatenate([codes for _, codes in batches.epoch(0, 64)])
        return dense_net.train_epoch(trained, nets, batches, pool, **options)

    monkeypatch.setattr(dense, "train_epoch", spy)
    X, _ = digits
    y = np.array([0] * 20 + [1] * 10 + [2])
    head = DenseHead(epochs=1, standardize=False).fit(X[:31], y)
    assert np.bincount(seen["train"]).tolist() == [18, 9, 1]
    assert np.bincount(seen["codes"]).tolist() == [2, 1]
    np.testing.assert_array_equal(seen["stop"], X[:31][stratified_folds(y, 10, 0) == 0])
    assert head.temperature_ == calibrate(*head.held_out_).temperature
    head.fit(X[:20], np.arange(20) // 2, groups=np.arange(20) // 2)  # a class is an image: the training rows tell
    assert head.held_out_ is None and head.temperature_ == 1
    np.testing.assert_array_equal(seen["stop"], X[:20])


def test_copies_of_an_image_are_learnt_from_or_tell_when_to_stop_but_not_both(digits):
    X, y = digits
    twice, groups = np.repeat(np.arange(100), 2), np.repeat(np.arange(100), 2)
    stop = DenseHead(epochs=1, standardize=False, hidden=()).fit(X[twice], y[twice], groups=groups).held_out_[1]
    held = stratified_folds(y[twice], 10, 0, groups) == 0
    assert (np.bincount(groups[held])[groups[held]] == 2).all()
    np.testing.assert_array_equal(stop, y[twice][held])


def test_two_rows_are_enough(digits):
    X, _ = digits
    assert DenseHead(epochs=1, hidden=()).fit(X[:2], [0, 1]).predict_proba(X[:2]).shape == (2, 2)


def test_diverged_training_says_what_to_change(digits, monkeypatch):
    monkeypatch.setattr("heads.solvers.arrays._LARGEST", np.inf)  # of smaller features none has been seen to diverge
    X, y = digits
    with pytest.raises(HeadError, match="smaller learning_rate"):
        DenseHead(epochs=1, hidden=(), standardize=False).fit(X * np.float32(2e37), y)


def test_validation_rows_of_an_unknown_class_are_left_out(digits):
    X, y = digits
    keep = y < 5
    head = DenseHead(epochs=2, hidden=()).fit(X[keep], y[keep], validation=(X[:200], y[:200]))
    assert head.classes_.tolist() == [0, 1, 2, 3, 4]
    head.fit(X[keep], y[keep], validation=(X[~keep], y[~keep]))


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


@pytest.mark.parametrize("with_validation", [False, True])
def test_of_few_rows_columns_do_not_matter_but_the_space_that_they_span(with_validation):
    """Columns that are turned give the same net."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = (rng.normal(size=(60, 600)) + 2 * rng.normal(size=(3, 600))[y]).astype(np.float32)
    turn = np.linalg.qr(rng.normal(size=(600, 600)))[0].astype(np.float32)
    heads = []
    for rows in (X, X @ turn):
        validation = (rows[45:], y[45:]) if with_validation else None
        head = DenseHead(hidden=(16,), epochs=15, standardize=False)
        heads.append(head.fit(rows[:45], y[:45], validation, temperature=1.0))
        assert head.layers_[0][0].shape == (600, 16)
    plain, turned = heads
    np.testing.assert_allclose(plain.scores(X), turned.scores(X @ turn), atol=1e-2)
    np.testing.assert_allclose(plain.history_["validation"], turned.history_["validation"], atol=1e-2)
    np.testing.assert_allclose(turn.T @ plain.layers_[0][0], turned.layers_[0][0], atol=1e-2)
    assert plain.score(X, y) > 0.9


def test_memory_is_of_the_components():
    head = DenseHead(hidden=(256,))
    assert head.obstacle(Extent(5000, 4000, 25_000, 2), 140 * 10**6) is None
    assert "of its weights" in head.obstacle_alone(Extent(5000, 5000, 25_000, 2), 100 * 10**6)
    assert "of its weights" in DenseHead(hidden=(30_000,)).obstacle(Extent(5000, 4000, 25_000, 2), 10**9)
