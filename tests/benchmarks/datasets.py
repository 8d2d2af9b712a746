"""Test accuracy of every kind of head on the data sets of the tutorials, each extracted with one command.

    python tests/benchmarks/datasets.py FOLDER [--work DIR]

FOLDER holds flowers, dog_breeds (with labels.csv), xray, cats_dogs and cifar10; what is missing is left out. Data sets
without test rows are evaluated on their validation rows, which only the dense head sees before (to stop training).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

KINDS = ("logreg", "linear-svm", "svm", "knn", "dense")
CLI = Path(__file__).parents[2] / "cli.py"


def featurestore(*arguments: object) -> dict:
    done = subprocess.run([sys.executable, CLI, *map(str, arguments), "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path, default=None, help="keep the features here, for another run")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())
    print("| data set | rows | classes | split (rows) | images/s | " + " | ".join(KINDS) + " |")
    print("|---|---|---|---|---|" + "---|" * len(KINDS))
    for name in ("flowers", "dog_breeds", "xray", "cats_dogs", "cifar10"):
        folder = options.folder / name
        if not folder.is_dir():
            continue
        labels = ["--labels", folder / "labels.csv"] if (folder / "labels.csv").exists() else []
        extraction = featurestore("extract", folder, "--store", work, *labels)
        rate = f"{extraction['computed'] / extraction['seconds']:.0f}" if extraction["computed"] else "cached"
        split = "test" if any(counts.get("test") for counts in extraction["classes"].values()) else "validation"
        cells = []
        for kind in KINDS:
            head = work / "heads" / f"{name}-{kind}"
            featurestore("fit-head", extraction["path"], "--head", kind, "--out", head)
            found = featurestore("evaluate", head, extraction["path"], "--split", split)
            low, high = found["intervals"]["accuracy"]
            cells.append(f"{found['accuracy']:.3f} ({low:.3f}–{high:.3f})")
        first = [name, extraction["rows"], len(extraction["classes"]), f"{split} ({found['rows']})", rate]
        print(f"| {' | '.join(map(str, [*first, *cells]))} |")


if __name__ == "__main__":
    main()
