"""How well a head's novelty tells images of its own data set from those of others, against its largest probability.

    python tests/benchmarks/novelty.py STORE... [--head logreg]

Each STORE is a folder with the feature file of one data set, all of one backbone: ``featurestore extract FOLDER
--store STORE``. A head is fitted to the train rows of each; the held-out rows (test, or validation) of all others are
to be told from its own. The table has the area under the ROC curve: by the novelty that the head tells, by the cosine
distance to the tenth nearest of all training rows in all columns, and by the largest probability.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from heads import fit_head, load_features

MOST = 1000
"""Held-out rows of a data set that are scored at most."""


def held_out(table):
    """Features of test rows, or of validation rows where there are none."""
    rows = next(rows for split in ("test", "validation") if len(rows := table.rows(split)))
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:MOST])
    return np.asarray(table.X[rows], np.float32)


def tenth(asking, known):
    """The exact cosine distance to the tenth nearest row."""
    one, other = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (asking, known))
    return np.partition(1 - one @ other.T, 9, axis=1)[:, 9]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="+", type=Path)
    parser.add_argument("--head", default="logreg")
    options = parser.parse_args()
    tables = {store.name: load_features(store) for store in options.stores}
    print("| head of | images of | novelty | exact distance | largest probability | above novelty 0.99 |")
    print("|---|---|---|---|---|---|")
    carried = []
    for name, table in tables.items():
        start = time.perf_counter()
        plain = fit_head(table, options.head)
        between = time.perf_counter()
        head = plain.with_novelty(table, table.rows("train"))
        seconds = time.perf_counter() - between
        own, known = held_out(table), np.asarray(table.X[table.rows("train")], np.float32)
        size = len(head.novelty.packed()) / 1e6
        carried.append(
            f"| {name} | {len(known):,} | {len(head.novelty.rows):,} | {size:.2f} MB | {between - start:.1f} s | "
            f"{seconds:.1f} s | {(head.novelties(own) > 0.99).mean():.1%} |"
        )
        for other, its in tables.items():
            if other == name:
                continue
            strange = held_out(its)
            y, X = np.repeat([0, 1], [len(own), len(strange)]), np.concatenate([own, strange])
            areas = [head.novelties(X), tenth(X, known), -head.predict_proba(X).max(axis=1)]
            cells = " | ".join(f"{roc_auc_score(y, each):.3f}" for each in areas)
            print(f"| {name} | {other} | {cells} | {(head.novelties(strange) > 0.99).mean():.0%} |", flush=True)
    print("\n| head of | train rows | carried | file | fit | novelty | own held-out rows above 0.99 |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(carried))


if __name__ == "__main__":
    main()
