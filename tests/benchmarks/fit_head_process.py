"""Whole-process time of ``featurestore fit-head --head logreg`` against a ten-line scikit-learn script, same arrays.

    python tests/benchmarks/fit_head_process.py FEATURE_FILE [--runs 7]

The two run in turn; the table gives medians and the median of the ratios pair by pair. The answers are compared: the
share of rows on which the two classifiers agree.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import CLI

RIVAL = """
import sys, h5py, numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
with h5py.File(sys.argv[1]) as file:
    X, y, split = file["features"][:], file["label"][:], file["split"][:]
train, validation = split == b"train", split == b"validation"
scaler = StandardScaler().fit(X[train])
model = LogisticRegression(C=float(sys.argv[2]), max_iter=300).fit(scaler.transform(X[train]), y[train])
print(model.score(scaler.transform(X[validation]), y[validation]) if validation.any() else "")
np.save(sys.argv[3], model.predict(scaler.transform(X)))
"""


def seconds(command: list[object]) -> float:
    start = time.perf_counter()
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--C", default="0.01")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp())
    (work / "rival.py").write_text(RIVAL)
    ours = [sys.executable, CLI, "fit-head", options.file, "--out", work / "head", "--set", f"C={options.C}"]
    rival = [sys.executable, work / "rival.py", options.file, options.C, work / "rival.npy"]
    pairs = [(seconds(ours), seconds(rival)) for _ in range(options.runs + 1)][1:]

    import numpy as np

    from featurestore import FeatureStore
    from heads import load_head

    store = FeatureStore(options.file)
    mine = load_head(work / "head").predict_proba(store.features().reshape(len(store), -1)).argmax(axis=1)
    agree = (mine == np.load(work / "rival.npy")).mean()
    print(f"| {store.dataset}, {len(store)} rows | median s | ratio |\n|---|---|---|")
    print(f"| scikit-learn script | {statistics.median(theirs for _, theirs in pairs):.2f} | 1 |")
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"| featurestore fit-head | {statistics.median(a for a, _ in pairs):.2f} | {ratio:.2f} |")
    print(f"\nsame answer on {agree:.2%} of all rows")


if __name__ == "__main__":
    main()
