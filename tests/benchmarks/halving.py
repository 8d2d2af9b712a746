"""Halving over rows against judging everything: test accuracy of the winner, and seconds, over repeated divisions.

    python tests/benchmarks/halving.py FILE… [--seeds 20] [--rows 2500] [--least 400] [--preset standard] [--caltech]

Each seed divides the rows anew, each class alike: 70 % for train and validation, 30 % for the test, and each side
judges by five folds. ``--least`` lowers the number of images from which on a part judges first, so that files of a few
thousand rows have parts too (0: as it is). ``--caltech`` adds made features of Caltech-101's shape (7,363 × 1,280, 102
unequal classes). Differences are paired by seed, in points of accuracy: their mean and its standard error.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from selection import divided

from heads import evaluate, sweep
from heads.search import halving

sys.path.insert(0, str(Path(__file__).parents[1] / "heads"))
from feature_files import write_features


def caltech(folder: Path) -> Path:
    """Make a feature file with as many rows, columns and classes as Caltech-101 has; its classes overlap a little."""
    rng = np.random.default_rng(0)
    counts = 31 + 769 * rng.random(102) ** 9
    labels = np.resize(np.repeat(np.arange(102), np.round(counts * 7363 / counts.sum()).astype(int)), 7363)
    hidden = 3 * rng.normal(size=(102, 60))[labels] / 2 + 2.2 * rng.normal(size=(len(labels), 60))
    X = hidden @ rng.normal(size=(60, 1280)) / 8 + 0.3 * rng.normal(size=(len(labels), 1280))
    names = [f"class {number}" for number in range(102)]
    X = np.maximum(X, 0).astype(np.float32)
    return write_features(folder / "caltech.h5", X, labels, ["train"] * len(labels), class_names=names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--caltech", action="store_true")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=2500)
    parser.add_argument("--least", type=int, default=400)
    parser.add_argument("--preset", default="standard")
    options = parser.parse_args()
    if options.least:
        halving.LEAST, halving.EACH = options.least, min(halving.EACH, options.least // 20)
    print("| data set | everything | s | halving | s | difference | same winner | heads on all rows |")
    print(f"|{'---|' * 8}")
    made = Path(tempfile.mkdtemp())
    for file in [*options.files, *([caltech(made)] if options.caltech else [])]:
        found: dict[str, list[tuple[float, float]]] = {"everything": [], "halving": []}
        same, whole = 0, []
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                path, winners = divided(file, Path(folder), seed, options.rows), []
                for name, measured in found.items():
                    out = Path(folder) / name
                    result = sweep(path, out, preset=options.preset, cv=5, seed=seed, exhaustive=name == "everything",
                                   progress=False)  # fmt: skip
                    measured.append((evaluate(out / "winner", path).accuracy, result.seconds))
                    winners.append(result.winner.design)
                same += winners[0] == winners[1]
                whole.append(sum(not trial.part for trial in result.trials))
                lines = [f"{name} {each[-1][0]:.4f} in {each[-1][1]:.0f} s" for name, each in found.items()]
                print(f"{file.stem.split('--')[0]}, seed {seed}: {', '.join(lines)}", file=sys.stderr, flush=True)
        (all_of_it, slow), (halved, fast) = (np.array(each).T for each in found.values())
        lost = 100 * (halved - all_of_it)
        print(
            f"| {file.stem.split('--')[0]} | {all_of_it.mean():.4f} | {np.median(slow):.1f} | {halved.mean():.4f} "
            f"| {np.median(fast):.1f} | {lost.mean():+.2f} ± {lost.std(ddof=1) / len(lost) ** 0.5:.2f} "
            f"| {same} of {options.seeds} | {np.median(whole):.0f} of {len(result.trials)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
