"""Test accuracy of every kind of head on the data sets of the tutorials, each extracted with one command.

    python tests/benchmarks/datasets.py FOLDER [--work DIR]

FOLDER holds flowers, dog_breeds (with labels.csv), xray, cats_dogs and cifar10; what is missing is left out. Data sets
without test rows are evaluated on their validation rows, which only the dense head sees before (to stop training).
"""

import argparse
import tempfile
from pathlib import Path

from common import accuracy, featurestore, held_out, labels_of

KINDS = ("logreg", "linear-svm", "svm", "knn", "dense")


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
        extraction = featurestore("extract", folder, "--store", work, *labels_of(folder))
        rate = f"{extraction['computed'] / extraction['seconds']:.0f}" if extraction["computed"] else "cached"
        split = held_out(extraction)
        cells = []
        for kind in KINDS:
            head = work / "heads" / f"{name}-{kind}"
            featurestore("fit-head", extraction["path"], "--head", kind, "--out", head)
            found = featurestore("evaluate", head, extraction["path"], "--split", split)
            cells.append(accuracy(found))
        first = [name, extraction["rows"], len(extraction["classes"]), f"{split} ({found['rows']})", rate]
        print(f"| {' | '.join(map(str, [*first, *cells]))} |")


if __name__ == "__main__":
    main()
