"""Cached views against none: accuracy with its interval, and what the head's training costs.

    python tests/benchmarks/views.py FOLDER [--views 8] [--work DIR]

FOLDER holds flowers and dog_breeds (with labels.csv). The same file serves both sides: heads fitted with its views, and
with its plain rows alone, on the same training rows, measured on the same test rows.
"""

import argparse
import tempfile
from pathlib import Path

from featurestore import extract, open_source
from heads import evaluate, fit_head

PRESETS = {"flowers": "mild", "dog_breeds": "dog-breeds"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())
    print("| data set | head | views | test accuracy (95 %) | log loss | training, s |\n|---|---|---|---|---|---|")
    for name, preset in PRESETS.items():
        labels = options.folder / name / "labels.csv"
        source = open_source(options.folder / name, labels=labels if labels.exists() else None)
        made = extract(source, work, views=options.views, augment=preset)
        for kind in ("logreg", "dense"):
            for use in (False, True):
                fitted = fit_head(made.path, kind, views=use, out=work / "head")
                found = evaluate(work / "head", made.path)
                low, high = found.intervals["accuracy"]
                accuracy = f"{found.accuracy:.3f} ({low:.3f}–{high:.3f})"
                count = options.views if use else 0
                print(
                    f"| {name} | {kind} | {count} | {accuracy} | {found.log_loss:.3f} | {fitted.seconds:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
