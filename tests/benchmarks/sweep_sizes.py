"""A whole sweep at the tutorials' real sizes, against ONE logistic head by scikit-learn on the same folds.

    python tests/benchmarks/sweep_sizes.py FOLDER [--sizes flowers-cv …] [--runs 1] [--keep WORK]

FOLDER holds ``cifar_full/*.h5``, features of CIFAR-10 in full, and for the size ``xray`` also ``xray_flat/*.h5``, maps
of chest X-rays that VGG16 computed, flattened (25,088 columns). ``cifar`` is that file as it is; the flowers' size
are rows of five of its classes; ``caltech`` is made (102 classes of unequal size); ``xray`` are mixtures of two rows of
one class, with a little noise. Both sides are whole processes, from the feature file to the answer: ours ends with a
refitted, calibrated, saved head and its test accuracy; the rival is ``cross_val_score`` (or one fit, where ours judges
on a validation split) of ``StandardScaler`` and ``LogisticRegression(max_iter=1000)`` at its defaults, and a refit.
Memory is the peak of what all processes have for themselves, measured from outside, see common.watched.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
from common import own_memory, watched

sys.path.append(str(Path(__file__).parents[1] / "heads"))
from feature_files import write_features

SIZES = {
    "flowers": (["--cv", "0"], 0),
    "flowers-cv": (["--cv", "5"], 5),
    "caltech": (["--cv", "0"], 0),
    "xray": (["--cv", "5"], 5),
    "cifar": (["--cv", "5"], 5),
    "cifar-quick": (["--cv", "5", "--preset", "quick"], 5),
}
"""The options of each sweep, and the number of folds of the rival."""

RIVAL = """
import sys, json
import h5py, numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
with h5py.File(sys.argv[1]) as file:
    X, y, split = file["features"][:].astype(np.float32), file["label"][:], file["split"].asstr()[:]
train, held, test = (np.isin(split, some) for some in (["train", "validation"], ["validation"], ["test"]))
head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
if folds := int(sys.argv[2]):
    found = cross_val_score(head, X[train], y[train], cv=folds, n_jobs=-1).mean()
else:
    found = head.fit(X[split == "train"], y[split == "train"]).score(X[held], y[held])
print(json.dumps([float(found), head.fit(X[train], y[train]).score(X[test], y[test])]))
"""


def make(size: str, folder: Path, work: Path) -> Path:
    """Return the feature file of a size; all but the one in full are written to `work`."""
    (cifar,) = (folder / "cifar_full").glob("*.h5")
    path, rng = work / f"{size.partition('-')[0]}.h5", np.random.default_rng(0)
    if size.startswith("cifar"):
        return cifar
    if path.exists():
        return path
    if size.startswith("flowers"):
        with h5py.File(cifar) as file:
            y = file["label"][:]
            rows = np.sort(rng.permutation(np.flatnonzero(y < 5))[:3670])
            X, y = file["features"][:][rows], y[rows]
    elif size == "caltech":
        # Centres and noise share a falling spectrum, as those of a network's features do.
        y = rng.choice(102, 9144, p=(share := rng.gamma(2.0, size=102) + 0.5) / share.sum())
        basis = rng.standard_normal((1280, 1280), np.float32) * np.arange(1, 1281, dtype=np.float32)[:, None] ** -0.5
        centres = 0.25 * rng.standard_normal((102, 1280), np.float32)
        X = np.maximum((centres[y] + rng.standard_normal((len(y), 1280), np.float32)) @ basis / 5, 0)
    else:
        (file,) = (folder / "xray_flat").glob("*.h5")
        with h5py.File(file) as opened:
            known, labels = opened["features"][:].astype(np.float32), opened["label"][:]
        one = rng.integers(len(known), size=5856)
        other = np.array([rng.choice(np.flatnonzero(labels == labels[i])) for i in one])
        X, y = np.empty((len(one), known.shape[1]), np.float16), labels[one]
        for i, (a, b, share) in enumerate(zip(one, other, rng.uniform(0.5, 1.0, len(one)), strict=True)):
            mixed = share * known[a] + (1 - share) * known[b]
            X[i] = np.maximum(mixed + 0.1 * rng.standard_normal(len(mixed), np.float32) * (mixed > 0), 0)
    split = rng.choice(
        ["train", "validation", "test"], len(y), p=[0.81, 0.08, 0.11] if size == "xray" else [0.7, 0.15, 0.15]
    )
    names = [f"class {i}" for i in range(int(y.max()) + 1)]
    return write_features(path, X, y, split, class_names=names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    work = options.keep or Path(tempfile.mkdtemp())
    work.mkdir(exist_ok=True)
    print("| size | rows × columns, classes | heads | not judged | sweep, s | GB | held out | test | one head by "
          "scikit-learn, s | GB | held out | test | ratio |\n" + "|---" * 13 + "|", flush=True)  # fmt: skip
    for size in options.sizes:
        file, (given, folds) = make(size, options.folder, work), SIZES[size]
        with h5py.File(file) as opened:
            rows = int(np.isin(opened["split"].asstr()[:], ["train", "validation"]).sum())
            shape = f"{rows:,} × {opened['features'].shape[1]:,}, {int(opened['label'][:].max()) + 1}"
        ours, theirs = [], []
        for _ in range(options.runs):
            out = Path(tempfile.mkdtemp(dir=work))
            ours.append(own_memory("sweep", file, "--out", out / "run", *given, "--json"))
            theirs.append(watched([sys.executable, "-c", RIVAL, file, folds]))
        found, (held, test) = json.loads(ours[-1][2]), json.loads(theirs[-1][2])
        (work / f"{size}.json").write_text(ours[-1][2])
        (peak, mine), (other_peak, other) = (
            [statistics.median(run[i] for run in runs) for i in (0, 1)] for runs in (ours, theirs)
        )
        judged = sum(bool(trial["scores"]) for trial in found["trials"])
        print(f"| {size} | {shape} | {judged} | {'; '.join(found['notes']) or '–'} | {mine:.1f} | {peak / 1e9:.2f} "
              f"| {found['winner']['mean']:.4f} | {found['test']['accuracy']:.4f} | {other:.1f} "
              f"| {other_peak / 1e9:.2f} | {held:.4f} | {test:.4f} | {other / mine:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
