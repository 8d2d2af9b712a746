"""Whole regularisation paths against scikit-learn's fits, one by one, run to a tight tolerance."""

import time
import tracemalloc
import warnings

import numpy as np
import pytest
from divisions import alike, divided, two_columns
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import LinearSVC

from heads.kinds.design import HeadDesign
from heads.kinds.linear import held_scores
from heads.search.judge_linear import judge_linear
from heads.search.judging import Judging
from heads.solvers.folds import Division
from heads.solvers.linear_losses import LOGISTIC, SOFTMAX, SQUARED, SQUARED_HINGE
from heads.solvers.linear_path import Variant, solve_path

RIVALS = {
    "logreg": lambda C, weight: LogisticRegression(
        C=C, tol=1e-8, max_iter=1000, solver="newton-cholesky", class_weight=weight
    ),
    "linear-svm": lambda C, weight: LinearSVC(C=C, tol=1e-8, max_iter=100_000, class_weight=weight),
    "ridge": lambda C, weight: RidgeClassifier(alpha=1 / (2 * C), class_weight=weight),
}
VALUES = {"logreg": [1e-4, 0.01, 1.0], "linear-svm": [1e-5, 1e-3, 0.05], "ridge": [1e-5, 1e-3, 0.1]}


def judged(designs, division, **options):
    """What is reported for each design."""
    found = {}
    judge_linear(designs, Judging(division, 0, found.__setitem__, **options))
    return found


def design(kind, C, **params):
    return HeadDesign(kind, {("alpha" if kind == "ridge" else "C"): 1 / (2 * C) if kind == "ridge" else C, **params})


@pytest.mark.parametrize("kind", RIVALS)
@pytest.mark.parametrize(
    ("classes", "folds", "order", "views", "standardize"),
    [
        (10, 3, "mixed", False, True),
        (10, 1, "sorted", True, True),
        (4, 3, "sorted", False, False),
        (2, 3, "mixed", True, True),
        (2, 1, "sorted", False, False),
    ],
)
def test_predictions_are_scikit_learns(digits, kind, classes, folds, order, views, standardize):
    division = divided(digits, classes, folds, order, views)
    designs = [
        design(kind, C, standardize=standardize, class_weight=weight)
        for C in (VALUES[kind] if standardize else VALUES[kind][:1])
        for weight in ("none", "balanced")
    ]
    found = judged(designs, division)
    assert found.keys() == set(range(len(designs)))
    for i, one in enumerate(designs):
        C = one.build().inverse_penalty
        expected = np.empty((len(division.judged), classes))
        for fold in range(division.folds):
            rows, held = division.fold != fold, division.held(fold)
            scaling = division.scaling(fold, standardize)
            weights = np.ones(rows.sum()) if division.weights is None else division.weights[rows].copy()
            if one.params["class_weight"] == "balanced":  # where scikit-learn's own counts rows, not their weights
                counts = np.bincount(division.codes[rows], weights)
                balance = dict(enumerate(weights.sum() / classes / counts))
            else:
                balance = None
            with warnings.catch_warnings():
                warnings.simplefilter("error", ConvergenceWarning)
                rival = RIVALS[kind](C, balance)
                rival.fit(scaling.apply(division.X[rows]).astype(np.float64), division.codes[rows], weights)
            scores = rival.decision_function(scaling.apply(division.X[held]).astype(np.float64))
            expected[np.searchsorted(division.judged, held)] = two_columns(scores)
        alike(found[i].scores, expected)
        assert found[i].stopped == "converged"


def objective(loss, W, b, X, y, weights, C):
    """Of one class against the rest, or of all at once; float64."""
    W, b = np.atleast_2d(W), np.atleast_1d(b)
    scores = X @ W.T + b
    sign = np.where(y == 1, 1.0, -1.0)
    rows = {
        SOFTMAX: lambda: -log_softmax(scores, axis=1)[np.arange(len(y)), y],
        LOGISTIC: lambda: np.logaddexp(0, -sign * scores[:, 0]),
        SQUARED_HINGE: lambda: np.maximum(1 - sign * scores[:, 0], 0) ** 2,
        SQUARED: lambda: (sign - scores[:, 0]) ** 2,
    }[loss]()
    return weights @ rows + ((W**2).sum() + (b**2).sum() * loss.penalized_intercept) / (2 * C)


@pytest.mark.parametrize("loss", [SOFTMAX, LOGISTIC, SQUARED_HINGE, SQUARED], ids=["softmax", "log", "hinge", "square"])
@pytest.mark.parametrize("weighted", [False, True])
def test_objectives_are_scikit_learns(digits, loss, weighted):
    classes = 10 if loss is SOFTMAX else 2
    division = divided(digits, classes, views=weighted)
    kind = {SQUARED_HINGE: "linear-svm", SQUARED: "ridge"}.get(loss, "logreg")
    weight = np.linspace(0.5, 3, classes) if weighted else None
    target = -1 if loss is SOFTMAX else 1
    variants = [Variant(fold, division.scaling(fold, True), weight, target) for fold in range(4)]
    for C, solution in solve_path(division, variants, loss, VALUES[kind]):
        for variant, W, b in zip(variants, solution.coef, solution.intercept, strict=True):
            rows = division.fold != variant.fold
            X, y = variant.scaling.apply(division.X[rows]).astype(np.float64), division.codes[rows]
            rival = RIVALS[kind](C, None)
            shares = np.ones(len(y)) if division.weights is None else division.weights[rows]
            shares = shares if weight is None else shares * weight[y]
            rival.fit(X, y, shares)
            # From coefficients for raw features to those for scaled ones.
            scaled = (W * variant.scaling.scale).astype(np.float64)
            bias = b + W.astype(np.float64) @ variant.scaling.mean
            ours = objective(loss, scaled, bias, X, y, shares, C)
            theirs = objective(loss, rival.coef_, rival.intercept_, X, y, shares, C)
            assert ours == pytest.approx(theirs, rel=1e-4)


def test_what_certain_rows_lack_is_no_rounding_error():
    """With weak penalties nearly all rows are certain, and the objective is the sum of what they lack."""
    margins = np.array([0.0, 3.0, 9.0, 14.0, 17.0, -40.0, -120.0])
    scores = np.zeros((1, 3, len(margins)), np.float32)
    scores[0, 1] = margins
    exact = np.logaddexp(0, np.log(2) - margins)
    losses, curvature = SOFTMAX.rows(scores, np.full(len(margins), 1), np.array([-1]))
    np.testing.assert_allclose(losses[0], exact, rtol=1e-5)
    np.testing.assert_allclose(scores[0, 1], np.expm1(-exact), rtol=1e-5)
    half = -np.expm1(-exact) / 2
    np.testing.assert_allclose(curvature[0], (1 - np.exp(-exact) ** 2 - 2 * half**2) / 3, atol=1e-6)


@pytest.mark.parametrize("C", [1.0, 100.0])
def test_weak_penalties_end_at_the_optimum(digits, C):
    division = divided(digits)
    variants = [Variant(fold, division.scaling(fold, True)) for fold in range(3)]
    [(_, solution)] = solve_path(division, variants, SOFTMAX, [C])
    for variant, W, b in zip(variants, solution.coef, solution.intercept, strict=True):
        rows = division.fold != variant.fold
        X, y = variant.scaling.apply(division.X[rows]).astype(np.float64), division.codes[rows]
        rival = RIVALS["logreg"](C, None).fit(X, y)
        bias = b + W.astype(np.float64) @ variant.scaling.mean
        scaled = (W * variant.scaling.scale).astype(np.float64)
        ours = objective(SOFTMAX, scaled, bias, X, y, np.ones(len(y)), C)
        theirs = objective(SOFTMAX, rival.coef_, rival.intercept_, X, y, np.ones(len(y)), C)
        assert ours <= theirs * (1 + 1e-5)


def test_a_penalised_intercept_takes_no_steps_of_its_own(digits):
    """Under a strong penalty a preconditioner that forgets it steps a thousand times too far."""
    division = divided(digits)
    variants = [Variant(0, division.scaling(0, True), target=target) for target in range(10)]
    [(_, solution)] = solve_path(division, variants, SQUARED_HINGE, [1e-6])
    assert solution.iterations.max() <= 5


@pytest.mark.parametrize("kind", RIVALS)
def test_a_solution_does_not_depend_on_its_neighbours(digits, kind):
    division = divided(digits)
    middle = design(kind, VALUES[kind][1])
    [alone] = judged([middle], division).values()
    among = judged([design(kind, C) for C in (*VALUES[kind], 0.3 * VALUES[kind][0])], division)[1]
    np.testing.assert_allclose(among.scores, alone.scores, atol=0.01 * np.ptp(alone.scores))
    assert (among.scores.argmax(axis=1) == alone.scores.argmax(axis=1)).mean() > 0.99


@pytest.mark.parametrize("order", ["sorted", "mixed"])
def test_float16_on_disk_is_float16_in_memory(digits, tmp_path, order):
    division = divided(digits, order=order, views=True)
    rows = division.X.astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    designs = [design(kind, VALUES[kind][1]) for kind in RIVALS]
    others = division.codes, division.fold, division.image, division.plain, division.weights
    disk = judged(designs, Division(np.load(tmp_path / "rows.npy", mmap_mode="r"), *others))
    memory = judged(designs, Division(rows.astype(np.float32), *others))
    for i in range(len(designs)):
        np.testing.assert_allclose(disk[i].scores, memory[i].scores, atol=1e-3)


def test_more_columns_than_rows():
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    X = rng.normal(0, 1, (90, 700)).astype(np.float32) + 0.3 * np.eye(700, dtype=np.float32)[y * 7]
    division = Division(X, y, np.arange(90) % 2, np.arange(90), np.ones(90, np.bool_))
    for C, solution in solve_path(division, [Variant(2, division.scaling(2, False))], SOFTMAX, [1e-3, 0.1, 10]):
        rival = LogisticRegression(C=C, tol=1e-6, max_iter=1000).fit(X.astype(np.float64), y)
        ours, theirs = (
            objective(SOFTMAX, W, b, X.astype(np.float64), y, np.ones(90), C)
            for W, b in ((solution.coef[0], solution.intercept[0]), (rival.coef_, rival.intercept_))
        )
        assert ours == pytest.approx(theirs, rel=1e-4)
        alike(held_scores(division, [0, 1], *np.broadcast_arrays(solution.coef, np.ones((2, 1, 1)))[:1],
                          np.repeat(solution.intercept, 2, axis=0)), rival.decision_function(X), atol=0.02)  # fmt: skip


def test_what_the_deadline_leaves_out_is_not_reported(digits):
    division = divided(digits)
    designs = [design("logreg", C) for C in np.geomspace(1e-4, 1, 8).tolist()]
    assert judged(designs, division, deadline=time.monotonic() - 1) == {}
    assert len(judged(designs, division, deadline=time.monotonic() + 600)) == 8


def test_too_few_iterations_are_said(digits):
    division = divided(digits)
    [found] = judged([design("logreg", 10.0, max_iter=2)], division).values()
    assert found.stopped == "max_iter"
    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize("kind", ["linear-svm", "ridge"])
def test_class_weights_of_thousands_of_classes_are_no_matrix(kind):
    """One problem per class, each with a weight per class, would be 72 MB."""
    X = np.random.default_rng(0).normal(size=(3000, 3)).astype(np.float32)
    head = HeadDesign(kind, {"class_weight": "balanced", "max_iter": 1}).build()
    head.fit(X[:8], np.arange(8) % 4, temperature=1.0)  # which imports what is needed
    tracemalloc.start()
    head.fit(X, np.arange(3000), temperature=1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400e6
