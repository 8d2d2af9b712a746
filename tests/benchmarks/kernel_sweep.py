"""RBF support vector machines, 5 gamma × 5 C × 5 folds: our sweep of kernel heads against ``GridSearchCV(SVC)``.

    python tests/benchmarks/kernel_sweep.py FEATURE_FILE [--runs 1]

Rows are all rows of the file and all their views; a row and its views are in one fold. The two run in turn, each in a
process of its own that has scikit-learn and the features in memory when the clock starts; the rival uses all cores.
Compared are the best designs, the mean accuracies, and the predictions for each (gamma, C). Memory is the peak
resident set, that of the rival's processes added up.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

FOLDS = 5
GAMMAS = tuple(10 ** (i / 2 - 1) for i in range(5))
"""Times what ``gamma="scale"`` is."""
CS = (0.1, 1.0, 10.0, 30.0, 100.0)


def load(file):
    """Features, labels and folds."""
    from heads import load_features

    table = load_features(file)
    views, owners = table.views() or (table.X[:0], np.zeros(0, np.intp))
    image = np.concatenate([np.arange(len(table.y)), table.rows("train")[owners]])
    fold = np.random.default_rng(0).permutation(len(table.y)) % FOLDS
    return np.concatenate([table.X, views]).astype(np.float32), table.y[image].astype(np.intp), fold[image]


def designs(X):
    scale = 1 / (X.shape[1] * X.var(dtype=np.float64))
    return [(float(gamma * scale), C) for gamma in GAMMAS for C in CS]


def ours(X, y, fold):
    """Predictions for each design, seconds, and memory of other processes."""
    from heads.kinds.design import HeadDesign
    from heads.search.judge_kernel import judge_kernel
    from heads.search.judging import Judging
    from heads.solvers.folds import Division

    start = time.perf_counter()
    every = np.arange(len(X))
    division = Division(X, y, fold, every, np.ones(len(X), bool))
    scores = {}
    made = [HeadDesign("svm", {"gamma": gamma, "C": C}) for gamma, C in designs(X)]
    judge_kernel(made, Judging(division, 0, lambda i, judged: scores.__setitem__(i, judged.scores)))
    predicted = [scores[i].argmax(axis=1) for i in range(len(made))]
    return predicted, time.perf_counter() - start, 0.0


def rival(X, y, fold):
    from sklearn.model_selection import GridSearchCV, PredefinedSplit
    from sklearn.svm import SVC

    folder = Path(tempfile.mkdtemp())

    def place(design, rows):
        return folder / f"{design}-{zlib.crc32(rows.tobytes())}.npy"

    def scorer(model, rows, labels):
        """Accuracy; keeps the predictions, which the search throws away, and the memory of its process."""
        # Not predict, which gives a draw of votes to the first class: a head goes by the greatest score.
        predicted = model.decision_function(rows).argmax(axis=1)
        (folder / f"{os.getpid()}.peak").write_text(str(peak(resource.RUSAGE_SELF)))
        np.save(place((model.gamma, model.C), rows), predicted)
        return (predicted == labels).mean()

    start = time.perf_counter()
    grid = {"gamma": sorted({gamma for gamma, _ in designs(X)}), "C": CS}
    GridSearchCV(SVC(), grid, scoring=scorer, cv=PredefinedSplit(fold), refit=False, n_jobs=-1).fit(X, y)
    seconds = time.perf_counter() - start
    predicted = np.empty((len(GAMMAS) * len(CS), len(X)), np.intp)
    for i, design in enumerate(designs(X)):
        for held in range(FOLDS):
            predicted[i, fold == held] = np.load(place(design, X[fold == held]))
    return predicted, seconds, sum(float(path.read_text()) for path in folder.glob("*.peak"))


SIDES = {"featurestore": ours, "GridSearchCV(SVC)": rival}


def run_side(name, file, out):
    """In a process of its own."""
    import sklearn.svm  # noqa: F401  # what its import takes in time and memory is on neither side's account

    rows = load(file)
    before = peak(resource.RUSAGE_SELF)
    predicted, seconds, others = SIDES[name](*rows)
    np.save(out, predicted)
    print(json.dumps({"seconds": seconds, "before": before, "peak": peak(resource.RUSAGE_SELF) + others}))


def peak(who):
    """MB."""
    return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        run_side(options.side[0], options.file, options.side[1])
        return
    work = Path(tempfile.mkdtemp())
    done = {name: [] for name in SIDES}
    for _ in range(options.runs):
        for i, (name, runs) in enumerate(done.items()):
            command = [sys.executable, __file__, options.file, "--side", name, work / f"{i}.npy"]
            text = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=True).stdout
            runs.append(json.loads(text))
    X, y, _ = load(options.file)
    print(f"| {len(X):,} × {X.shape[1]:,}, 25 designs, {FOLDS} folds | s | MB before | peak MB | best accuracy |")
    print("|---|---|---|---|---|")
    correct = {}
    for i, (name, runs) in enumerate(done.items()):
        median = [statistics.median(run[key] for run in runs) for key in ("seconds", "before", "peak")]
        correct[name] = (np.load(work / f"{i}.npy") == y).mean(axis=1)
        print(f"| {name} | {median[0]:.1f} | {median[1]:.0f} | {median[2]:.0f} | {correct[name].max():.4f} |")
    mine, theirs = done.values()
    ratio = statistics.median(b["seconds"] / a["seconds"] for a, b in zip(mine, theirs, strict=True))
    print(f"\n{ratio:.1f}× as fast (median of {options.runs})")
    same = (np.load(work / "0.npy") == np.load(work / "1.npy")).mean(axis=1)
    a, b = correct.values()
    print(f"same predictions: {same.mean():.3%} of all, {same.min():.3%} for the design with the fewest")
    print(
        f"mean accuracies differ by {np.abs(a - b).max():.4f} at most; best design the same: {a.argmax() == b.argmax()}"
    )


if __name__ == "__main__":
    main()
