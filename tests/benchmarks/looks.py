"""What several looks at one picture are worth: resize rules and crops, averaged and side by side, against one look.

    python tests/benchmarks/looks.py FOLDER… [--backbone efficientnet_lite0] [--seeds 10] [--store FOLDER]

Each look is extracted by itself, so that its time is known; passes are those of an image through the network. Then each
seed divides all images anew, 70 % for training and 30 % to judge, each class alike, and `logreg` as it is by default is
fitted to every choice of looks. Differences to the first look are paired by seed: their mean and its standard error, in
points of accuracy. The divisions overlap, so that the true error is somewhat greater (Nadeau & Bengio, "Inference for
the generalization error", Machine Learning 2003).
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from common import labels_of

from featurestore import extract, open_source
from heads import load_features
from heads.feature_table import FeatureTable
from heads.kinds.linear import LogisticHead

LOOKS = {
    "squash": {"resize": "squash"},
    "crop": {"resize": "crop"},
    "squash, 5 crops": {"resize": "squash", "crops": 5},
    "squash, 10 crops": {"resize": "squash", "crops": 10},
    "crop, 5 crops": {"resize": "crop", "crops": 5},
}
CHOICES = {
    **{name: [name] for name in LOOKS},
    "squash + crop": ["squash", "crop"],
    "mean of squash and crop": ["squash", "crop"],
    "squash + squash, 5 crops": ["squash", "squash, 5 crops"],
    "squash, 5 crops + crop, 5 crops": ["squash, 5 crops", "crop, 5 crops"],
}


def looked(folder: Path, store: Path, backbone: str) -> tuple[dict[str, FeatureTable], dict[str, float]]:
    """The features of each look at a folder's images, and the seconds of each, but for reading what is known."""
    labels = dict(zip(("labels",), labels_of(folder)[1:], strict=False))
    tables, seconds = {}, {}
    for name, look in LOOKS.items():
        made = extract(open_source(folder, **labels), store, backbone=backbone, progress=False, **look)
        tables[name], seconds[name] = load_features(made.path), made.timing["total"]
    return tables, seconds


def columns(tables: dict[str, FeatureTable], choice: str, rows: np.ndarray) -> np.ndarray:
    """The features of some rows as a choice has them: side by side, or their mean."""
    parts = [np.asarray(tables[look].X[rows], np.float32) for look in CHOICES[choice]]
    return np.mean(parts, axis=0) if choice.startswith("mean") else np.concatenate(parts, axis=1)


def divided(y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows to judge, of each class 70 % and 30 %."""
    order = np.random.default_rng(seed).permutation(len(y))
    judge = [
        of_class[: round(0.3 * len(of_class))] for label in np.unique(y) for of_class in [order[y[order] == label]]
    ]
    held = np.concatenate(judge)
    return np.setdiff1d(order, held), held


def accuracies(tables: dict[str, FeatureTable], choice: str, seeds: int) -> np.ndarray:
    """Accuracy for each seed, (seeds,)."""
    y, part = next(iter(tables.values())).y, partial(columns, tables, choice)
    found = []
    for seed in range(seeds):
        train, held = divided(y, seed)
        head = LogisticHead().fit(part(train), y[train], temperature=1.0)
        found.append(np.mean(head.predict(part(held)) == y[held]))
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--store", type=Path, help="where features are kept, and found by the next run")
    options = parser.parse_args()
    print(f"| data set | images | look | passes | seconds | accuracy | points against {next(iter(LOOKS))} |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for folder in options.folders:
            tables, seconds = looked(folder, options.store or Path(scratch), options.backbone)
            first = accuracies(tables, next(iter(CHOICES)), options.seeds)
            for choice, looks in CHOICES.items():
                found = accuracies(tables, choice, options.seeds)
                points = 100 * (found - first)
                error = points.std(ddof=1) / np.sqrt(options.seeds)
                spent = sum(seconds[look] for look in looks)
                passes = sum(int(LOOKS[look].get("crops", 1)) for look in looks)
                print(
                    f"| {folder.name} | {len(tables[looks[0]].y)} | {choice} | {passes} | {spent:.0f} | "
                    f"{found.mean():.3f} | {points.mean():+.1f} ± {error:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
