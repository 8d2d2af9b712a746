"""Nearest neighbours by blocks on many rows: a sweep of ``knn`` heads on folds, and one fold against scikit-learn's.

    python tests/benchmarks/neighbours.py FILE [--metric cosine] [--neighbours 5 20] [--rows N] [--raw]

The sweep judges one head for each number of neighbours on five folds of all rows of the file but test rows. Then the
first fold alone, with the most neighbours, by ours and by ``KNeighborsClassifier(algorithm="brute")``, fitted and asked
on the same scaled float32 rows. Each side runs in a process of its own that has scikit-learn and the features in
memory when the clock starts, and has all cores. Compared are the predictions, and the probabilities: where these
differ, two rows compete for the last place at distances that float32 rounds alike. Memory is the peak resident set.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FOLDS = 5


def divided(options):
    """The rows in memory, in random folds that lie one after the other."""
    from heads import load_features
    from heads.solvers.folds import Division

    X, y = load_features(options.file).select("train", "validation")
    rows = np.random.default_rng(0).permutation(len(y))[: options.rows]
    X, y = np.asarray(X[rows], np.float32), y[rows].astype(np.intp)
    fold = np.sort(np.arange(len(y)) % FOLDS)
    return Division(X, np.unique(y, return_inverse=True)[1], fold, np.arange(len(y)), np.ones(len(y), bool))


def designs(options, counts):
    from heads.kinds.design import HeadDesign

    params = {"metric": options.metric, "standardize": not options.raw}
    return [HeadDesign("knn", {"n_neighbors": count, **params}) for count in counts]


def judged(options, division):
    """Scores of the designs on all folds."""
    from heads.search.judge_neighbours import judge_neighbours
    from heads.search.judging import Judging

    scores = {}
    made = designs(options, options.neighbours)
    judge_neighbours(made, Judging(division, 0, lambda i, judged: scores.__setitem__(i, judged.scores)))
    return scores[max(scores, key=lambda i: options.neighbours[i])]


def fold_by_us(options, division):
    head, Z, seen = one_fold(options, division)
    return head.fit(Z, division.codes[division.fold != 0]).predict_proba(seen)


def fold_by_rival(options, division):
    from sklearn.neighbors import KNeighborsClassifier

    head, Z, seen = one_fold(options, division)
    rival = KNeighborsClassifier(head.n_neighbors, weights=head.weights, metric=head.metric, algorithm="brute")
    return rival.fit(Z, division.codes[division.fold != 0]).predict_proba(seen)


def one_fold(options, division):
    """A head with the most neighbours, scaled training rows, and the scaled rows held out."""
    head = designs(options, [max(options.neighbours)])[0].build().set_params(standardize=False)
    scaling = division.scaling(0, not options.raw)
    return head, *(scaling.apply(division.X[rows]) for rows in (division.fold != 0, division.fold == 0))


SIDES = {
    "featurestore, all folds": judged,
    "featurestore, one fold": fold_by_us,
    "KNeighborsClassifier, one fold": fold_by_rival,
}


def run_side(options, name, out):
    """In a process of its own."""
    import joblib  # noqa: F401  # what imports take in time and memory is on no side's account
    import sklearn.neighbors  # noqa: F401

    division = divided(options)
    before, start = peak(), time.perf_counter()
    scores = SIDES[name](options, division)
    seconds = time.perf_counter() - start
    np.save(out, scores)
    correct = scores.argmax(axis=1) == division.codes[: len(scores)]
    print(json.dumps({"seconds": seconds, "before": before, "peak": peak(), "accuracy": correct.mean()}))


def peak():
    """MB."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used * (1 if sys.platform == "darwin" else 1024) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--metric", default="cosine", choices=("cosine", "euclidean"))
    parser.add_argument("--neighbours", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--raw", action="store_true", help="do not standardise")
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        run_side(options, *options.side)
        return
    work = Path(tempfile.mkdtemp())
    done = {}
    for i, name in enumerate(SIDES):
        command = [sys.executable, __file__, *sys.argv[1:], "--side", name, str(work / f"{i}.npy")]
        done[name] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    division = divided(options)
    rows, columns = division.X.shape
    scaled = "not standardised" if options.raw else "standardised"
    print(f"| {rows:,} × {columns:,}, {options.metric}, {scaled} | s | MB before | peak MB | accuracy |")
    print("|---|---|---|---|---|")
    for name, side in done.items():
        print("| {} | {seconds:.1f} | {before:.0f} | {peak:.0f} | {accuracy:.4f} |".format(name, **side))
    folds, mine, theirs = (np.load(work / f"{i}.npy") for i in range(3))
    _, one, rival = done.values()
    print(f"\n{rival['seconds'] / one['seconds']:.1f}× as fast on one fold")
    for name, ours in (("one fold", mine), ("all folds", folds[: len(mine)])):
        same = (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()
        alike = (np.abs(ours - theirs).max(axis=1) < 1e-3).mean()
        print(f"{name}: {same:.3%} of the predictions the same, {alike:.3%} of the probabilities")


if __name__ == "__main__":
    main()
