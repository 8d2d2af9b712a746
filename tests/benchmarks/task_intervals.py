"""How often the 95 % intervals of several labels, and of numbers, hold the true value.

    python tests/benchmarks/task_intervals.py [--times 500]

Rows are drawn from known distributions. The true value of a metric is that on 200,000 rows; of a mean over labels, it
is the mean of the labels that occur in the drawn rows. With 500 repetitions a coverage of 0.95 is known to 0.02.
"""

import argparse
from collections import defaultdict

import numpy as np

from heads.metrics.label_outcomes import LabelOutcomes, estimates_of_labels, per_label
from heads.metrics.number_outcomes import NumberOutcomes, conformal_quantile, estimates_of_numbers

MANY = 200_000
MEANS = {"average_precision": "average_precision", "roc_auc": "roc_auc", "macro_f1": "f1"}
"""Metrics that are means over labels, and what they are means of."""
ALONE = ("average_precision", "roc_auc", "f1")


def labels(rng, rows, shares, signal, together=0.0, each=1):
    """Labels and right probabilities; with `together` the answers about one row are wrong together, and those about a
    group of `each` rows."""
    y = (rng.random((rows, len(shares))) < shares).astype(np.uint8)
    common = np.repeat(rng.normal(size=(rows // each, 1)), each, axis=0)
    scores = signal * y + np.sqrt(1 - together**2) * rng.normal(size=y.shape) + together * common * (2.0 * y - 1)
    odds = signal * (scores - signal / 2) + np.log(shares / (1 - shares))
    return LabelOutcomes(y, (1 / (1 + np.exp(-odds))).astype(np.float32))


def numbers(rng, rows, kind, noise, each=1):
    """Numbers and predictions with errors of some kind."""
    y = rng.lognormal(size=rows) / 2 if kind == "skewed targets" else rng.normal(size=rows)
    error = {
        "normal": rng.normal, "skewed targets": rng.normal, "Laplace": rng.laplace, "groups of 5": rng.normal,
        "Student, 5": lambda size: rng.standard_t(5, size=size),
    }[kind](size=rows)  # fmt: skip
    if each > 1:
        y, error = (0.3 * part + np.repeat(rng.normal(size=rows // each), each) for part in (y, error))
    return NumberOutcomes(y, y + noise * error)


class Counts:
    """Of each metric: how often its interval held the true value, and how wide it was."""

    def __init__(self):
        self.held, self.width, self.true = defaultdict(list), defaultdict(list), defaultdict(list)

    def add(self, name, interval, true):
        if interval is not None:
            self.held[name].append(interval[0] <= true <= interval[1])
            self.width[name].append(interval[1] - interval[0])
            self.true[name].append(true)

    def show(self, rows, case):
        for name, held in self.held.items():
            shown = [rows, case, name.replace("_", " "), f"{np.mean(self.true[name]):.3f}", f"{np.mean(held):.2f}"]
            print(f"| {' | '.join(map(str, shown))} | {np.median(self.width[name]):.3f} |", flush=True)


def of_labels(rng, times, rows, case, each=1, **options):
    shares, names = options["shares"], [str(i) for i in range(len(options["shares"]))]
    whole = labels(rng, MANY, each=each, **options)
    true = {name: found.value for name, found in estimates_of_labels(whole).items()}
    alone, counts = per_label(whole, names), Counts()
    groups = np.arange(rows) // each if each > 1 else None
    for _ in range(times):
        drawn = labels(rng, rows, each=each, **options)
        occurs = drawn.y.any(axis=0)
        answered = occurs | drawn.answers().any(axis=0)
        for name, found in estimates_of_labels(drawn, groups).items():
            some = answered if name == "macro_f1" else occurs
            mean = (
                [one[MEANS[name]] for one, on in zip(alone, some, strict=True) if on] if name in MEANS else [true[name]]
            )
            counts.add(name, found.interval, np.mean(mean))
        rarest = per_label(drawn, names, None, groups)[int(np.argmin(shares))]
        for name in ALONE:
            truth = alone[int(np.argmin(shares))][name]
            counts.add(f"{name}, rarest label", rarest.get(f"{name}_interval"), truth)
    counts.show(rows, case)


def of_numbers(rng, times, rows, kind, noise, each=1):
    true = {name: found.value for name, found in estimates_of_numbers(numbers(rng, MANY, kind, noise, each)).items()}
    groups, counts = np.arange(rows) // each if each > 1 else None, Counts()
    for _ in range(times):
        for name, found in estimates_of_numbers(numbers(rng, rows, kind, noise, each), groups).items():
            counts.add(name, found.interval, true[name])
    counts.show(rows, f"{kind}, noise {noise}")


def conformal(rng, splits=200):
    """Share of rows within the conformal width, over random splits of rows into held-out and new ones."""
    print("| held-out rows | errors | level | mean share of new rows within | least and greatest of 200 splits |")
    print("|---|---|---|---|---|")
    for rows in (40, 200, 1000):
        for kind in ("normal", "Student, 5"):
            for level in (0.9, 0.95):
                held = []
                for _ in range(splits):
                    errors = numbers(rng, rows + 2000, kind, 1.0).residuals
                    errors = rng.permutation(errors)
                    held.append((np.abs(errors[rows:]) <= conformal_quantile(errors[:rows], level)).mean())
                ends = f"{min(held):.3f} – {max(held):.3f}"
                print(f"| {rows} | {kind} | {level} | {np.mean(held):.3f} | {ends} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=500)
    times, rng = parser.parse_args().times, np.random.default_rng(0)
    print("| rows | case | metric | true | held | width |\n|---|---|---|---|---|---|")
    frequent, rare = np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.geomspace(0.02, 0.5, 12)
    for rows, case, options in (
        (75, "5 labels", {"shares": frequent, "signal": 1.0}),
        (75, "5 labels, nearly no errors", {"shares": frequent, "signal": 4.5}),
        (150, "12 labels, the rarest 2 %", {"shares": rare, "signal": 2.0}),
        (600, "12 labels, the rarest 2 %", {"shares": rare, "signal": 2.0}),
        (300, "5 labels, wrong together", {"shares": frequent, "signal": 1.5, "together": 0.7}),
        (300, "5 labels, groups of 5", {"shares": frequent, "signal": 1.5, "together": 0.7, "each": 5}),
    ):
        of_labels(rng, times, rows, case, **options)
    for rows, kind, noise, each in (
        (12, "normal", 0.5, 1), (50, "normal", 0.1, 1), (200, "normal", 1.5, 1), (50, "Laplace", 0.5, 1),
        (50, "Student, 5", 0.5, 1), (100, "skewed targets", 0.5, 1), (200, "groups of 5", 0.5, 5),
    ):  # fmt: skip
        of_numbers(rng, times, rows, kind, noise, each)
    print()
    conformal(rng)


if __name__ == "__main__":
    main()
