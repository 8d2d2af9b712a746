"""What ``curve`` expects of more images, and what came: fitted to few, looked ahead to many that are there.

    python tests/benchmarks/learning_curve.py FILE… [--most 400] [--seeds 3] [--head logreg] [--held-out folds]

For each seed the curve of at most so many training images (or half of those that there are, if these are fewer) looks
ahead to twice, four times … as many, and these are then measured: the mean of five training sets, with its interval.
``in`` counts the seeds whose interval of the forecast holds what was measured.
"""

import argparse
from pathlib import Path

import numpy as np

from heads import curve, load_features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--most", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--head", default="logreg")
    parser.add_argument("--metric", default="accuracy")
    parser.add_argument("--held-out", default=None)
    options = parser.parse_args()
    print("| data set | fitted up to | there | images | expected | 95 % | seen | its 95 % | in |\n" + "|---" * 9 + "|")
    for file in options.files:
        table, found = load_features(file), {}
        classes = len(table.class_names)
        for seed in range(options.seeds):
            how = {"head": options.head, "metric": options.metric, "held_out": options.held_out, "seed": seed}
            shared = 0.8 if options.held_out in (None, "folds") else 1
            whole = int(shared * len(table.rows("train", "validation"))) - classes
            most = min(options.most, whole // 2)
            later = [most * 2**i for i in range(1, 10) if most * 2**i <= whole]
            low = max(2 * classes, 10, most // 16)
            sizes = np.unique(np.geomspace(low, most, 7).astype(int)).tolist()
            before = curve(table, sizes=sizes, ahead=later, progress=False, **how)
            after = curve(table, sizes=later, progress=False, **how)
            for expected, seen in zip(before.ahead, after.points, strict=True):
                found.setdefault(expected.images, []).append((before.points[-1].value, expected, seen))
        for images, rows in found.items():
            (there, first, seen), inside = rows[0], sum(e.interval[0] <= s.value <= e.interval[1] for _, e, s in rows)
            cells = [
                file.stem.split("--")[0], str(most), f"{there:.3f}", str(images), f"{first.value:.3f}",
                "{:.3f}–{:.3f}".format(*first.interval), f"{seen.value:.3f}", "{:.3f}–{:.3f}".format(*seen.interval),
                f"{inside} of {len(rows)}",
            ]  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
