"""How often sets of classes hold the true one, over random divisions of real rows into training and test rows.

    python tests/benchmarks/conformal.py STORE... [--times 200] [--heads logreg,lda]

Each STORE is a folder with the feature file of one data set. For each division, half of its rows (500 at most)
are fitted to, and the sets are those of the out-of-fold probabilities that the head keeps. With 200 divisions, a
coverage is known to 0.005 or better.
"""

import argparse
from pathlib import Path

import numpy as np

from heads import load_features
from heads.kinds.design import HeadDesign
from heads.metrics.conformal import conformity_of, least_probability, set_members

MOST = 1000
LEVELS = (0.8, 0.9, 0.95, 0.99)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="+", type=Path)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--heads", default="logreg,lda")
    options = parser.parse_args()
    print("| data | head | accuracy | level | coverage | 5 % of divisions below | classes in a set |")
    print("|---|---|---|---|---|---|---|")
    for store in options.stores:
        table = load_features(store)
        rng = np.random.default_rng(0)
        rows = np.sort(rng.permutation(len(table.y))[:MOST])
        X, y = np.asarray(table.X[rows], np.float32), table.y[rows]
        for kind in options.heads.split(","):
            design, found, right = HeadDesign.parse(kind), {level: [] for level in LEVELS}, []
            for time in range(options.times):
                order = np.random.default_rng(time).permutation(len(y))
                fitted, other = np.array_split(order, 2)
                head = design.build(time).fit(X[fitted], y[fitted])
                other = other[np.isin(y[other], head.classes_)]
                proba, codes = head.predict_proba(X[other]), np.searchsorted(head.classes_, y[other])
                right.append((proba.argmax(axis=1) == codes).mean())
                kept = conformity_of(*head.held_out_, head.temperature_)
                for level in LEVELS:
                    if (least := least_probability(np.array(kept), level)) is None:
                        continue
                    inside = set_members(proba, least)
                    found[level].append((inside[np.arange(len(codes)), codes].mean(), inside.sum(axis=1).mean()))
            for level, values in found.items():
                covered, sizes = np.array(values).reshape(-1, 2).T
                cells = f"{covered.mean():.3f} | {np.quantile(covered, 0.05):.3f} | {sizes.mean():.2f}"
                print(f"| {store.name} | {kind} | {np.mean(right):.3f} | {level} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
