"""What a few labelled rows of another place give on the rest of it.

    python tests/benchmarks/adapt.py FILE_OR_STORE [--draws 20] [--heads logreg,dense]

FILE_OR_STORE has train rows of one place and test rows of another, such as the chest X-rays, whose test folder differs
from the training folder. For each draw, 20, 50 and 100 test rows are labelled, and the others are measured: the head as
it is, and adapted. The least and greatest gain are of single draws; the coverage is that of
sets of level 0.9.
"""

import argparse

import numpy as np

from heads import adapt, fit_head, load_features
from heads.evaluation.evaluate import answers

SIZES = (20, 50, 100)


def measured(head, table, rows):
    """Accuracy, balanced accuracy and log loss on some rows."""
    found = head.head.task_.estimates(head.outcomes(table.stream(rows), table.y[rows]))
    return np.array([found[name].value for name in ("accuracy", "balanced_accuracy", "log_loss")])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--heads", default="logreg,dense")
    options = parser.parse_args()
    table = load_features(options.features)
    print(
        "| head | labelled | accuracy before | after | gain (least to greatest) | log loss before | after | coverage |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for kind in options.heads.split(","):
        head = fit_head(table, kind)
        every = table.rows("test")
        for size in SIZES:
            before, after, covered = [], [], []
            for draw in range(options.draws):
                found = adapt(head, table, rows=size, seed=draw)
                rest = answers(found.head, table).rows
                before.append(measured(head, table, rest))
                after.append(measured(found.head, table, rest))
                if found.rows >= 20:
                    y, proba = table.y[rest], found.head.predict_proba(table.stream(rest)[:])
                    least = found.head.bound(0.9).value
                    inside = proba >= np.minimum(least, proba.max(axis=1, keepdims=True)) - 1e-12
                    covered.append(inside[np.arange(len(y)), y].mean())
            gain = np.array(after)[:, 0] - np.array(before)[:, 0]
            one, two = np.mean(before, axis=0), np.mean(after, axis=0)
            print(
                f"| {kind} | {size} | {one[0]:.3f} | {two[0]:.3f} | {gain.mean():+.3f} ({gain.min():+.3f} to "
                f"{gain.max():+.3f}) | {one[2]:.3f} | {two[2]:.3f} | {np.mean(covered):.2f} |",
                flush=True,
            )
        shares = np.bincount(table.y[every]) / len(every)
        true = dict(zip(table.class_names, shares.tolist(), strict=True))
        for how, prior in (("estimated", "estimate"), ("true balance stated", true)):
            found = adapt(head, table, prior=prior)
            one, two = (measured(each, table, every) for each in (head, found.head))
            print(
                f"| {kind} | none, {how} | {one[0]:.3f} | {two[0]:.3f} | {two[0] - one[0]:+.3f} | {one[2]:.3f} | "
                f"{two[2]:.3f} | – |",
                flush=True,
            )


if __name__ == "__main__":
    main()
