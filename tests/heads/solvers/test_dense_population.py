import itertools
import subprocess
import sys
import time
import tracemalloc
from contextlib import nullcontext

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from heads.kinds.dense import DenseHead
from heads.kinds.design import HeadDesign
from heads.search import judge_dense
from heads.search.judge_dense import Rungs, expected, judge_population
from heads.search.judging import Judging
from heads.search.trials import goodness, judge_trial
from heads.solvers import dense_population
from heads.solvers.adamw import Net, Settings, Shape, gradients, thread_pool
from heads.solvers.calibration import stratified_folds
from heads.solvers.dense_net import Batches, Member
from heads.solvers.folds import Division
from heads.solvers.scores import softmax


def design(**params):
    return HeadDesign("dense", {"hidden": (32,), "epochs": 8, "learning_rate": 1e-2, "batch_size": 16} | params)


@pytest.fixture(scope="module")
def division(digits):
    """Three folds of 200."""
    X, y = digits
    return Division(X, y, np.arange(600) % 3, np.arange(600), np.ones(600, bool))


@pytest.fixture(scope="module")
def split(digits):
    """One fold: every fifth row is held out."""
    X, y = digits
    return Division(X, y, np.where(np.arange(600) % 5 == 0, 0, -1), np.arange(600), np.ones(600, bool))


def judge(designs, division, **options):
    found = {}

    def report(index, judged):
        assert index not in found
        assert judged.scores.dtype == np.float32
        assert judged.scores.shape == (len(division.judged), division.classes)
        found[index] = judged

    rungs = options.pop("rungs", None)
    judge_population(designs, Judging(division, **{"seed": 0} | options, report=report), rungs)
    return found


def accuracy(judged, division):
    return (judged.scores.argmax(axis=1) == division.codes[division.judged]).mean()


def log_loss(judged, division):
    codes = division.codes[division.judged]
    return -np.log(softmax(judged.scores)[np.arange(len(codes)), codes]).mean()


VARIED = [
    design(hidden=()),
    design(dropout=0.2, label_smoothing=0.1),
    design(hidden=(48, 24), batch_norm=True, dropout=0.3, input_dropout=0.1),
    design(hidden=(48,), weight_decay=0.3, batch_size=32, dropout=0.0),
    design(hidden=(), standardize=False, learning_rate=3e-3),
]


@pytest.mark.parametrize("chosen", VARIED, ids=lambda d: str(d.params["hidden"]))
def test_a_head_of_the_design_is_the_net_of_its_trial(chosen, division):
    """Fitted to the fold's training rows with the same seed; what is folded into its weights is so to rounding."""
    trial = judge([chosen], division, seed=3)[0]
    for fold in range(3):
        train = division.training_rows(fold)
        head = chosen.build(3).fit(division.X[train], division.codes[train])
        found, expected = head.scores(division.X[division.held(fold)]), trial.scores[division.places(fold)]
        if chosen.params["standardize"] or chosen.params["batch_norm"]:
            np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
        else:
            np.testing.assert_array_equal(found, expected)


def test_a_head_with_views_and_copies_of_images_is_the_net_of_its_trial(digits):
    X, y = digits[0][:300], digits[1][:300]
    rng, owners = np.random.default_rng(0), np.repeat(np.arange(300), 2)
    rows = np.concatenate([X, X[owners] + rng.standard_normal((600, 64)).astype(np.float32)])
    groups = np.arange(300) // 2
    image, fold = np.concatenate([np.arange(300), owners]), groups % 3
    order = np.concatenate([rng.permutation(300), np.arange(300, 900)])
    division = Division(
        rows[order], y[image][order], fold[image][order], image[order], order < 300, np.full(900, 1 / 3), groups
    )
    chosen, keep = design(standardize=False), fold != 1
    used = keep[owners]
    views = rows[300:][used], (keep.cumsum() - 1)[owners[used]]
    head = chosen.build(0).fit(X[keep], y[keep], views=views, groups=groups[keep])
    expected = judge([chosen], division)[0].scores[division.places(1)]
    np.testing.assert_array_equal(head.scores(division.X[division.held(1)]), expected)


def test_a_member_ends_the_same_alone_and_in_company(division):
    together = judge(VARIED, division)
    assert sorted(together) == [0, 1, 2, 3, 4]
    for index, chosen in enumerate(VARIED):
        alone = judge([chosen], division)[0]
        np.testing.assert_allclose(alone.scores, together[index].scores, rtol=1e-3, atol=1e-3)
        assert alone.stopped == together[index].stopped
    assert (judge(VARIED[:1], division, seed=1)[0].scores != together[0].scores).any()


def settings(shape, seed=0, **params):
    values = {"learning_rate": 1e-2, "weight_decay": 0.1, "input_dropout": 0.2, "dropout": 0.3, "label_smoothing": 0.1}
    return Settings(shape, **values | params, rng=np.random.default_rng(seed))


@pytest.mark.parametrize(("widths", "batch_norm"), [((5, 3), False), ((5, 7, 3), True), ((5, 7, 6, 3), True)])
def test_gradients_are_those_of_finite_differences(widths, batch_norm):
    rng = np.random.default_rng(0)
    net = settings(Shape(widths, batch_norm))
    layers = [[a + 0.1 * rng.standard_normal(a.shape) for a in layer] for layer in net.weights()]
    x, target = rng.standard_normal((9, 5)), np.eye(3)[rng.integers(0, 3, 9)]
    masks, scales = net.masks(9), [1 / (1 - share) for share in net.shares]

    def loss(layers):
        inputs, _ = gradients(layers, x, target, masks, scales)[0][-1]
        scores = inputs @ layers[-1][0] + layers[-1][1]
        return -(np.log(softmax(scores)) * target).sum() / 9

    pairs, vectors, *_ = gradients(layers, x, target, masks, scales)
    for layer, (inputs, residual) in enumerate(pairs):
        for place, gradient in enumerate([inputs.T @ residual, *vectors[layer]]):
            way = rng.standard_normal(gradient.shape)
            value, step = layers[layer][place], 1e-6
            sides = []
            for sign in (1, -1):
                layers[layer][place] = value + sign * step * way
                sides.append(loss(layers))
            layers[layer][place] = value
            assert (sides[0] - sides[1]) / (2 * step) == pytest.approx((gradient * way).sum(), rel=1e-4, abs=1e-8)


def test_steps_are_those_of_keras_adamw():
    """Same first weights, same batches, no dropout: same logits."""
    import keras

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((320, 20)).astype(np.float32), rng.integers(0, 3, 320)
    X[:, 0] += 2 * y
    net = settings(Shape((20, 8, 3), True), input_dropout=0.0, dropout=0.0)
    relu, norm = keras.layers.ReLU(), keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(8), norm, relu, keras.layers.Dense(3)])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    model.compile(keras.optimizers.AdamW(1e-2, weight_decay=0.1), loss)
    ours = Net(net)
    layers = ours.layers
    model.layers[0].set_weights([layers[0][0], layers[0][1][0]])
    model.layers[-1].set_weights([layers[1][0], layers[1][1][0]])
    for batch in range(10):
        rows = slice(32 * batch, 32 * batch + 32)
        ours.step(X[rows], y[rows])
        model.train_on_batch(X[rows], np.eye(3)[y[rows]])
    np.testing.assert_allclose(ours.scores(X), model.predict(X, verbose=0), atol=2e-3)


@pytest.mark.parametrize("widths", [(600, 500, 3), (20, 600, 600, 3)])
def test_a_large_net_is_the_same_on_any_number_of_threads(widths):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((64, widths[0]), np.float32), rng.integers(0, 3, 64)
    found = []
    for threads in (1, 2, 3):
        net, pool = Net(settings(Shape(widths, True))), thread_pool(threads, Shape(widths, True).numbers)
        assert (pool is None) == (threads == 1)
        with threadpool_limits(1, user_api="blas"), pool or nullcontext():
            for _ in range(3):
                net.step(X, y, pool)
            found.append(net.scores(X, pool))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert thread_pool(2, 1000) is None


def test_the_best_epoch_counts_and_patience_ends_a_member(split):
    """Where labels mean nothing, the first epoch is the best one; held-out rows have no say in it."""
    noise = Division(split.X, np.random.default_rng(0).permutation(split.codes), split.fold, split.image, split.plain)
    one = judge([design(epochs=1)], noise)[0]
    many = judge([design(epochs=20, patience=3)], noise)[0]
    np.testing.assert_array_equal(one.scores, many.scores)
    assert many.stopped == "no better for 3 epochs (best: epoch 1)"
    assert one.stopped == "1 epochs (best: epoch 1)"
    held = split.fold == 0
    wrong = Division(split.X, np.where(held, (split.codes + 1) % 10, split.codes), split.fold, split.image, split.plain)
    np.testing.assert_array_equal(judge([design()], split)[0].scores, judge([design()], wrong)[0].scores)


@pytest.mark.parametrize("processes", [1, 2])
def test_rungs_cut_the_worst_designs_of_all_shapes(split, processes, monkeypatch):
    """In this process and in others, whose nets go on from one rung to the next."""
    monkeypatch.setattr(dense_population, "_WORTH_PROCESSES", 0 if processes > 1 else np.inf)
    monkeypatch.setattr(dense_population, "cores", lambda: processes)
    good = [design(hidden=()), design(), design(hidden=(24, 24), dropout=0.1)]
    poor = [design(learning_rate=1e-7), design(hidden=(), learning_rate=1e-7), design(dropout=0.9, learning_rate=1e-6)]
    mixed = [d for pair in zip(poor, good, strict=True) for d in pair]
    found = judge(mixed, split, rungs=Rungs((2, 4), keep=0.5))
    assert sorted(found) == list(range(6))
    assert [found[i].stopped for i in (0, 2, 4)] == ["cut at rung 1 of 2 (epoch 2)"] * 3
    assert sum(found[i].stopped == "cut at rung 2 of 2 (epoch 4)" for i in (1, 3, 5)) == 1
    winners = [i for i in range(6) if not found[i].cut]
    assert not any(found[i].stopped.startswith("cut") for i in winners)
    assert len(winners) == 2 and all(accuracy(found[i], split) > 0.5 for i in winners)
    whole = judge(mixed, split)
    for i in winners:
        np.testing.assert_allclose(found[i].scores, whole[i].scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_net_that_was_cut_never_wins(division, processes, monkeypatch):
    """With rungs that keep the worst, the best design is trained to its end after all, as if it had not been cut."""
    monkeypatch.setattr(dense_population, "_WORTH_PROCESSES", 0 if processes > 1 else np.inf)
    monkeypatch.setattr(dense_population, "cores", lambda: processes)
    right = judge_dense._expected
    monkeypatch.setattr(judge_dense, "_expected", lambda *arguments: -right(*arguments))
    mixed = [
        design(hidden=(), learning_rate=1e-6),
        design(),
        design(hidden=(), learning_rate=1e-5),
        design(dropout=0.9),
    ]
    found, whole = judge(mixed, division, rungs=Rungs((2, 4), keep=0.3)), judge(mixed, division)
    assert [found[i].cut for i in (0, 1, 3)] == [False, False, True]
    assert found[3].stopped == "cut at rung 1 of 2 (epoch 2)" and len(found[3].losses) == 2
    assert max(found, key=lambda i: accuracy(found[i], division)) == 1
    for i in (0, 1):
        np.testing.assert_array_equal(found[i].scores, whole[i].scores)
        assert found[i][2:] == whole[i][2:]


def test_at_each_rung_what_still_improves_is_seen_to(division, monkeypatch):
    """Also where half of a rung's epochs are those of the rung before it."""
    seen = []

    def spy(earlier, now, epoch, last):
        seen.append((epoch, now - earlier))
        return expected(earlier, now, epoch, last)

    monkeypatch.setattr(judge_dense, "expected", spy)
    judge([design(hidden=(), learning_rate=1e-3), design(learning_rate=1e-3)], division, rungs=Rungs((2, 4), keep=1))
    assert [epoch for epoch, _ in seen] == [2, 2, 4, 4] and all(gain > 0 for _, gain in seen)


def test_a_budget_leaves_a_net_cut(division, monkeypatch):
    right = judge_dense._expected
    monkeypatch.setattr(judge_dense, "_expected", lambda *arguments: -right(*arguments))
    slow = design(hidden=(), learning_rate=1e-7, epochs=100_000, patience=100_000)
    found = judge([slow, design()], division, rungs=Rungs((2,), keep=0.5), deadline=time.monotonic() + 2)
    assert [(found[i].stopped, found[i].cut) for i in (0, 1)] == [
        ("budget", False),
        ("cut at rung 1 of 1 (epoch 2)", True),
    ]


def test_what_improves_counts_with_what_it_will_be():
    assert expected(0.5, 0.6, 4, 100) == pytest.approx(0.7)  # after 2, 4 and 8 epochs
    assert expected(0.5, 0.6, 4, 5) == pytest.approx(0.6 + 0.1 * np.log(5 / 4) / np.log(2))
    assert expected(0.5, 0.6, 4, 4) == expected(0.6, 0.6, 4, 100) == expected(0.7, 0.6, 4, 100) == 0.6
    assert expected(0.1, 0.6, 1, 100) == 0.6


def judging_of(division, metric):
    return Judging(division, 0, lambda *_: None, metric=metric)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "log_loss"])
def test_rungs_compare_by_what_a_trial_has(metric, division):
    """Log loss after a temperature: label smoothing makes it worse, and scores that are too large do, before that."""
    chosen = design(label_smoothing=0.2)
    judged = judge([chosen], division)[0]
    parts = [judged.scores[division.places(fold)] for fold in range(3)]
    expected = goodness(judge_trial("last", chosen, division, judged, metric), metric)
    for factor in (1, 5):
        scores = [np.float32(factor) * part for part in parts]
        assert judge_dense._goodness(scores, judging_of(division, metric)) == pytest.approx(expected, abs=1e-3)


def test_a_net_that_stopped_early_has_not_changed_since(division):
    judged = judge([design()], division)[0]
    members = [
        Member.of(design(epochs=100).params, 64, 10, 0, fold=fold, marks=Rungs((5, 12, 34)).marks) for fold in range(3)
    ]
    for member in members:
        for epoch in range(7):
            member.judge(1.0 if epoch else 0.5)
            member.keep(judged.scores[division.places(member.fold)] * (-1 if epoch < 6 else 1))
    assert [sorted(member.earlier) for member in members] == [[2, 6]] * 3
    judging = judging_of(division, "accuracy")
    now = judge_dense._goodness([member.scores for member in members], judging)
    assert judge_dense._expected(members, 12, judging) > now
    assert judge_dense._expected(members, 34, judging) == now


def test_a_deadline_reports_what_is_under_way(split, monkeypatch):
    monkeypatch.setattr(dense_population, "_WORTH_PROCESSES", np.inf)  # which may take the whole time to start
    designs = [design(epochs=100_000, patience=100_000, hidden=(n,)) for n in (8, 512, 512, 512, 512)]
    found = judge(designs, split, deadline=time.monotonic() + 1)
    assert found and {judged.stopped for judged in found.values()} == {"budget"}
    assert judge(designs, split, deadline=time.monotonic()) == {}


def test_a_net_that_diverges_says_so(split):
    wild = Division(split.X * np.float32(1e36), split.codes, split.fold, split.image, split.plain)
    found = judge([design(hidden=(64, 64), standardize=False, batch_norm=True)], wild)
    assert found[0].stopped == "diverged in epoch 1: give a smaller learning_rate"
    assert np.isfinite(found[0].scores).all()


def test_larger_than_memory_agrees(division, tmp_path):
    np.save(tmp_path / "X.npy", division.X.astype(np.float16))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    mapped = Division(X, division.codes, division.fold, division.image, division.plain)
    for whole, streamed in zip(
        judge(VARIED, mapped).values(), judge(VARIED, mapped, max_memory=X.size * 2).values(), strict=True
    ):
        assert abs(accuracy(whole, mapped) - accuracy(streamed, mapped)) < 0.06


@pytest.mark.parametrize("max_memory", [None, 8 * 40 * 4])
def test_each_epoch_draws_one_version_of_each_image(max_memory):
    image = np.concatenate([np.arange(50), np.repeat(np.arange(50), 3)])
    X = np.arange(200, dtype=np.float32)[:, None] + np.zeros(10, np.float32)
    stops = 10 + np.flatnonzero(stratified_folds(np.arange(10, 50) % 5, 10, 1) == 0)
    plain = np.arange(200) < 50
    division = Division(X, image % 5, np.where(image < 10, 0, -1), image, plain, np.full(200, 0.25))
    batches, seen = Batches(division, 0, False, 1, max_memory), []
    assert batches.streamed == (max_memory is not None)
    for number in range(30):
        parts = list(batches.epoch(number, 16))
        rows = np.concatenate([x[:, 0] for x, _ in parts]).astype(int)
        assert sorted(image[rows]) == sorted({*range(10, 50)} - {*stops})
        np.testing.assert_array_equal(np.concatenate([codes for _, codes in parts]), image[rows] % 5)
        assert min(len(codes) for _, codes in parts) > 1
        seen.append(rows)
    assert len(set(np.concatenate(seen))) == 4 * (40 - len(stops)) and 0 < len(stops) < 10
    assert any((a != b).any() for a, b in itertools.pairwise(seen))
    np.testing.assert_array_equal(np.concatenate([x[:, 0] for x in batches.held()]), np.arange(10))
    np.testing.assert_array_equal(np.concatenate([x[:, 0] for x in batches.stops()]), stops)


def test_label_smoothing_of_a_head(digits):
    X, y = digits
    sharp, smooth = (
        DenseHead(hidden=(), epochs=8, learning_rate=0.03, label_smoothing=s).fit(X[:400], y[:400], temperature=1.0)
        for s in (0.0, 0.5)
    )
    assert smooth.score(X[400:], y[400:]) > 0.8
    assert smooth.predict_proba(X[:400]).max(axis=1).mean() < sharp.predict_proba(X[:400]).max(axis=1).mean() - 0.1


def test_heads_of_before_label_smoothing_load():
    assert HeadDesign.from_json('{"kind": "dense", "params": {"hidden": [8]}}').params["label_smoothing"] == 0.0


def test_keras_is_not_imported():
    code = """if True:
        import sys, numpy as np
        from heads.kinds.design import HeadDesign
        from heads.solvers.folds import Division
        from heads.search.judge_dense import judge_dense
        from heads.search.judging import Judging
        X = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
        rows = Division(X, np.arange(60) % 2, np.arange(60) % 3, np.arange(60), np.ones(60, bool))
        judge_dense([HeadDesign("dense", {"epochs": 1})], Judging(rows, seed=0, report=print))
        assert not {"keras", "tensorflow"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_a_step_makes_no_matrix_of_classes():
    """Of 3,000 classes it would be 36 MB, in each step."""
    rng = np.random.default_rng(0)
    net = Net(settings(Shape((4, 3000), False)))
    tracemalloc.start()
    net.step(rng.standard_normal((8, 4), np.float32), np.arange(8))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6
