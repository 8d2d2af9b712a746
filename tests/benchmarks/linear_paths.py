"""A grid of linear heads over folds against scikit-learn's ``GridSearchCV`` with all cores, on the same features.

    python tests/benchmarks/linear_paths.py FILE [--head logreg or linear-svm] [--rows N] [--columns N] [--equal]

13 values of C × 5 folds, each fold scaled by its own training rows, the best C refitted on all rows: both sides do all
of it. FILE's plain rows and views are drawn from, and repeated with a little noise where that is not enough. --equal
gives scikit-learn the loosest ``tol`` for each C with which it comes within 1e-5 of our objective on one fold, or the
tightest of those tried; otherwise it has its defaults, with which it ends far above that where C is large. --check also
fits every C on one fold with scikit-learn's own solver to a tight tolerance, and says how far either side's
objective and predictions are from that.
"""

import argparse
import resource
import statistics
import time
import warnings

import numpy as np

from heads import HeadDesign, load_features
from heads.kinds.base import Head
from heads.search.judge_linear import judge_linear
from heads.search.judging import Judging
from heads.solvers.folds import Division

GRID = {"logreg": np.logspace(-5, 1, 13), "linear-svm": np.logspace(-6, -2, 13)}
FOLDS = 5


def rows_of(path: str, count: int, columns: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Plain rows and views of a file, as many as asked for, in random order."""
    table, rng = load_features(path), np.random.default_rng(0)
    X, y = np.asarray(table.X[:, :columns], np.float32), table.y
    if (views := table.views()) is not None:
        X, y = (
            np.concatenate([X, views[0][:, :columns]], dtype=np.float32),
            np.concatenate([y, y[table.rows("train")][views[1]]]),
        )
    picked = np.concatenate([rng.permutation(len(X)) for _ in range(-(-count // len(X)))])[:count]
    X = X[picked]
    if count > len(y):
        X += rng.normal(scale=0.1 * X.std(), size=X.shape).astype(np.float32)
    return X, y[picked].astype(np.intp)


def ours(kind: str, X: np.ndarray, y: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean accuracy of each C, and the predictions (C, rows) out of folds."""
    order = np.argsort(fold, kind="stable")
    division = Division(X[order], y[order], fold[order], order, np.ones(len(y), bool))
    designs = [HeadDesign(kind, {"C": C}) for C in GRID[kind]]
    predicted = np.empty((len(designs), len(y)), np.intp)

    def report(i: int, judged: object) -> None:
        predicted[i, order] = judged.scores.argmax(axis=1)

    judge_linear(designs, Judging(division, 0, report))
    means = np.array([np.mean([(p == y)[fold == f].mean() for f in range(FOLDS)]) for p in predicted])
    designs[means.argmax()].build(0).fit(X, y)
    return means, predicted


def estimator(kind: str, C: float, **options: object) -> object:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    if kind == "logreg":
        return LogisticRegression(C=C, **{"max_iter": 300} | options)
    return LinearSVC(C=C, **options)


def rival(kind: str, X: np.ndarray, y: np.ndarray, fold: np.ndarray, grid: list[dict]) -> np.ndarray:
    from sklearn.model_selection import GridSearchCV, PredefinedSplit
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = Pipeline([("scale", StandardScaler()), ("head", estimator(kind, 1.0))])
    search = GridSearchCV(pipeline, grid, cv=PredefinedSplit(fold), n_jobs=-1)
    return search.fit(X, y).cv_results_["mean_test_score"]


def objective(kind: str, C: float, Z: np.ndarray, y: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> float:
    scores = Z @ coef.T + intercept
    if kind == "logreg":
        scores -= scores.max(axis=1, keepdims=True)
        losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(y)), y]
        return losses.sum() + (coef**2).sum() / 2 / C
    signs = np.where(y[:, None] == np.arange(len(coef)), 1, -1)
    return (np.maximum(1 - signs * scores, 0) ** 2).sum() + ((coef**2).sum() + (intercept**2).sum()) / 2 / C


def fold_objective(kind: str, X: np.ndarray, y: np.ndarray, fold: np.ndarray) -> tuple[object, object]:
    """Fold 0's training rows, scaled, and the function of C and a head or an estimator that gives its objective."""
    from sklearn.preprocessing import StandardScaler

    train = fold != 0
    scale = StandardScaler().fit(X[train].astype(np.float64))
    Z = scale.transform(X[train].astype(np.float64))

    def value(C: float, fitted: object) -> float:
        coef, intercept = fitted.coef_, fitted.intercept_
        if isinstance(fitted, Head):  # from features as they are
            coef, intercept = coef.T * scale.scale_, intercept + coef.T.astype(np.float64) @ scale.mean_
        return objective(kind, C, Z, y[train], coef, intercept)

    return scale, value


def as_good(kind: str, X: np.ndarray, y: np.ndarray, fold: np.ndarray) -> list[dict]:
    """The grid of scikit-learn with the loosest tolerance for each C that is as good as our head."""
    scale, value = fold_objective(kind, X, y, fold)
    train, grid = fold != 0, []
    Z = scale.transform(X[train]).astype(np.float32)
    for C in GRID[kind]:
        goal = value(C, HeadDesign(kind, {"C": C}).build(0).fit(X[train], y[train], temperature=1.0)) * (1 + 1e-5)
        options = [{"tol": tol, "max_iter": 20_000} for tol in (1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 3e-7, 1e-7)]
        fits = ((each, value(C, estimator(kind, C, **each).fit(Z, y[train]))) for each in options)
        found = next((each for each, reached in fits if reached <= goal), options[-1])
        print(f"C {C:.1e}: tol {found['tol']:.0e}", flush=True)
        grid.append({"head__C": [C], **{f"head__{name}": [number] for name, number in found.items()}})
    return grid


def check(kind: str, X: np.ndarray, y: np.ndarray, fold: np.ndarray, predicted: np.ndarray) -> None:
    """Compare each C on fold 0 with scikit-learn's solver run to the end, and scikit-learn's default with it too."""
    scale, value = fold_objective(kind, X, y, fold)
    train, held = fold != 0, fold == 0
    Z, H = scale.transform(X[train].astype(np.float64)), scale.transform(X[held].astype(np.float64))
    print(
        "\n| C | our objective / optimum - 1 | default scikit-learn's | our predictions that differ | scikit-learn's |"
    )
    print("|---|---|---|---|---|")
    for C, mine in zip(GRID[kind], predicted, strict=True):
        best = estimator(kind, C, tol=1e-7, max_iter=20_000).fit(Z, y[train])
        default = estimator(kind, C).fit(Z.astype(np.float32), y[train])
        head = HeadDesign(kind, {"C": C}).build(0).fit(X[train], y[train])
        values = [value(C, fitted) for fitted in (head, default, best)]
        truth = best.predict(H)
        differ = (mine[held] != truth).mean(), (default.predict(H.astype(np.float32)) != truth).mean()
        gaps = [value / values[2] - 1 for value in values[:2]]
        print(f"| {C:.1e} | {gaps[0]:.1e} | {gaps[1]:.1e} | {differ[0]:.2%} | {differ[1]:.2%} |", flush=True)


def timed(function: object, *arguments: object) -> tuple[float, object]:
    start = time.perf_counter()
    found = function(*arguments)
    return time.perf_counter() - start, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--head", choices=GRID, default="logreg")
    parser.add_argument("--rows", type=int, default=2936)
    parser.add_argument("--columns", type=int, help="take only so many features")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--equal", action="store_true", help="scikit-learn with the tolerance that equals ours")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the rival says where it did not converge
    kind, (X, y) = options.head, rows_of(options.file, options.rows, options.columns)
    fold = np.random.default_rng(1).permutation(np.arange(len(y)) % FOLDS)
    ours(kind, X[:200], y[:200], fold[:200])  # libraries are loaded
    grid = as_good(kind, X, y, fold) if options.equal else [{"head__C": GRID[kind]}]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    first = timed(ours, kind, X, y, fold)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pairs = [(first, timed(rival, kind, X, y, fold, grid))]
    pairs += [(timed(ours, kind, X, y, fold), timed(rival, kind, X, y, fold, grid)) for _ in range(options.runs - 1)]
    means, predicted = pairs[0][0][1]
    theirs = pairs[0][1][1]
    mine, others = ([pair[side][0] for pair in pairs] for side in (0, 1))
    ratio = statistics.median(b / a for a, b in zip(mine, others, strict=True))
    print(
        f"| {kind}, 13 C × 5 folds, {X.shape[0]:,} × {X.shape[1]:,}, {y.max() + 1} classes | median s | ratio | best |"
    )
    print("|---|---|---|---|")
    rules = "as good as ours" if options.equal else "its defaults"
    print(f"| GridSearchCV, all cores, {rules} | {statistics.median(others):.2f} | 1 | {theirs.max():.4f} |")
    print(f"| featurestore | {statistics.median(mine):.2f} | {ratio:.1f}× | {means.max():.4f} |")
    print(f"\nlargest difference of a C's mean accuracy: {np.abs(means - theirs).max():.4f}")
    grown = (peak - before) / 1e3
    print(f"memory: features {X.nbytes / 1e6:.0f} MB, peak grew by {grown:.0f} MB, with a copy of them in fold order")
    if options.check:
        check(kind, X, y, fold, predicted)


if __name__ == "__main__":
    main()
