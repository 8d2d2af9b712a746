"""What ``curve`` expects of more images, and what came: the law through the smaller sizes, seen at the greater ones.

    python tests/benchmarks/learning_curve.py FILE… [--head logreg] [--held-out folds|test] [--seeds 1] [--show 400]

The curve of each file has all training images, half of them, a quarter … as its sizes. A law is fitted to the sizes up
to each of them, four at least, and looks ahead to those that are two, four and eight times as great, which it has not
seen. The rows that are held out are the same, so that the doubt about these has no part. The first table shows the
forecasts from the greatest size that is at most `--show`, the second one all of them: how many intervals hold what was
measured, and how far the middles are from it.
"""

import argparse
from pathlib import Path

import numpy as np

from heads import curve, load_features
from heads.forecasting.curve import law_of


def ladder(table, how, least):
    """All rows that can be trained on, a half of them, and so on."""
    rows = len(table.rows("train", "validation"))
    top = rows if how == "test" else int(0.8 * rows) - len(table.class_names)
    sizes = []
    while top >= least:
        sizes.append(top)
        top //= 2
    return sizes[::-1]


def forecasts(found):
    """Each forecast: up to which size, of which size, the forecast, and the mean of what was measured."""
    points, repeats = found.points, len(found.points[0].repeats)
    for last in range(4, len(points)):
        law = law_of(points[:last], np.zeros((repeats, last)), found.metric, same=True)
        for later in points[last : last + 3]:
            yield points[last - 1].images, law.at(later.images), later


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--head", default="logreg")
    parser.add_argument("--held-out", default="folds")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--show", type=int, default=400)
    options = parser.parse_args()
    shown = ["| data set | fitted up to | images | expected | 95 % | seen |\n" + "|---" * 6 + "|"]
    summed = ["| data set | forecasts | held | mean error | mean distance | mean width |\n" + "|---" * 6 + "|"]
    for file in options.files:
        table, name, rows = load_features(file), file.stem.split("--")[0], []
        sizes = ladder(table, options.held_out, max(10, 2 * len(table.class_names)))
        for seed in range(options.seeds):
            found = curve(table, head=options.head, held_out=options.held_out, sizes=sizes, seed=seed, progress=False)
            told = [*forecasts(found)]
            first = max((start for start, _, _ in told if start <= options.show), default=0)
            shown += [
                f"| {name} | {start} | {ahead.images} | {ahead.value:.3f} | {ahead.interval[0]:.3f}–"
                f"{ahead.interval[1]:.3f} | {seen.value:.3f} |"
                for start, ahead, seen in told
                if start == first and seed == 0
            ]
            rows += [
                (ahead.interval[0] <= seen.value <= ahead.interval[1], ahead.value - seen.value,
                 abs(ahead.value - seen.value), ahead.interval[1] - ahead.interval[0])
                for _, ahead, seen in told
            ]  # fmt: skip
        if rows:
            error, distance, width = np.mean([row[1:] for row in rows], axis=0)
            held = sum(row[0] for row in rows)
            summed.append(f"| {name} | {len(rows)} | {held} | {error:+.3f} | {distance:.3f} | {width:.3f} |")
    print("\n".join([*shown, "", *summed]), flush=True)


if __name__ == "__main__":
    main()
