"""Accuracy against labels spent: images chosen by ``look-at label-next``, beside images chosen at random.

    python tests/benchmarks/label_next.py FILE… [--seeds 20] [--start 5] [--batch 25] [--rounds 5]
        [--rows 2000] [--head logreg]

Each seed divides the rows of a feature file anew, each class alike: 30 % are held out to measure, and the labels of the
others are hidden, but for `--start` of each class. In each round a head is fitted to what is labelled (its penalty
chosen by folds of these rows), measured, and a batch more gets its labels. All ways begin with the same rows, so that
their differences are paired by seed.
"""

import argparse
from pathlib import Path

import numpy as np

from heads import load_features
from heads.curating.label_next import POOL, margins, spread
from heads.fit import fit_table
from heads.search.held_out import best_held, designs_of, divided
from heads.solvers.arrays import as_features, standardise

WAYS = ("random", "margin alone", "label-next")


def start(y, rng, each, rows):
    """Rows that are labelled, hidden and held out, in this order."""
    labelled, hidden, held = [], [], []
    for label in np.unique(y):
        mine = rng.permutation(np.flatnonzero(y == label))
        mine = mine[: max(4 * each, rows * len(mine) // len(y))]
        some = round(0.3 * len(mine))
        held += mine[:some].tolist()
        labelled += mine[some : some + each].tolist()
        hidden += mine[some + each :].tolist()
    return np.array(labelled), np.array(hidden), np.array(held)


def unit(table):
    Z, _ = standardise(as_features(table.read(np.arange(len(table.y)), np.arange(0))))
    return Z / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-12)


def picked(way, proba, Z, batch, rng):
    if way == "random":
        return rng.permutation(len(Z))[:batch]
    if way == "margin alone":
        return np.argsort(margins(proba), kind="stable")[:batch]
    candidates = np.argsort(margins(proba), kind="stable")[: POOL * batch]
    return candidates[spread(Z[candidates], batch, int(rng.integers(2**31)))]


def run(table, Z, way, seed, options):
    """The accuracies before the first batch and after each."""
    labelled, hidden, held = start(table.y, np.random.default_rng(seed), options.start, options.rows)
    rng, designs, found = np.random.default_rng([seed, 1]), designs_of(options.head), []
    for step in range(options.rounds + 1):
        splits = np.full(len(table.y), "", "U5")
        splits[labelled] = "train"
        view = divided(table, splits)
        design = best_held(view, designs, 3, "accuracy", seed=seed).trial.design
        head = fit_table(view, design, seed=seed, temperature=None)
        right = head.predict_proba(table.read(held, np.arange(0))).argmax(axis=1) == table.y[held]
        found.append(float(right.mean()))
        if step < options.rounds:
            proba = head.predict_proba(table.read(hidden, np.arange(0)))
            some = picked(way, proba, Z[hidden], options.batch, rng)
            labelled = np.concatenate([labelled, hidden[some]])
            hidden = np.delete(hidden, some)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--start", type=int, default=5)
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--head", default="logreg")
    options = parser.parse_args()
    print("| data set | labels | random | margin alone | label-next | label-next − random |\n|---|---|---|---|---|---|")
    for file in options.files:
        table = load_features(file)
        Z = unit(table)
        found = {way: np.array([run(table, Z, way, s, options) for s in range(options.seeds)]) for way in WAYS}
        gain = found["label-next"] - found["random"]
        for step in range(options.rounds + 1):
            spent = options.start * len(table.class_names) + step * options.batch
            means = [f"{found[way][:, step].mean():.3f}" for way in WAYS]
            error = gain[:, step].std(ddof=1) / len(gain) ** 0.5
            cells = [file.stem.split("--")[0], str(spent), *means, f"{gain[:, step].mean():+.3f} ± {error:.3f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
