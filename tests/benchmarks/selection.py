"""The winner of a sweep against the best of a ``GridSearchCV`` over the same rows, on test rows of repeated divisions.

    python tests/benchmarks/selection.py FILE… [--seeds 5] [--preset standard] [--ensemble 5] [--rows 2000]

Each seed divides the rows anew, each class alike: 70 % for train and validation, 30 % for the test. Both sides choose
by five folds of the former and refit on all of them; the rival chooses among logistic regressions (standardised) and
RBF SVMs (as they are), C from 1e-4 to 100. Differences are paired by seed: their mean and its standard error. The
divisions overlap, so that the true error is somewhat greater (Nadeau & Bengio, "Inference for the generalization
error", Machine Learning 2003).
"""

import argparse
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from featurestore.store import file_format
from heads import evaluate, load_features, sweep


def divided(file: Path, folder: Path, seed: int, rows: int) -> Path:
    """The feature file with splits of our own, of at most so many rows; the others are in none of them."""
    path = shutil.copy(file, folder / "features.h5")
    with h5py.File(path, "r+") as opened:
        labels, rng = opened[file_format.LABEL][()], np.random.default_rng(seed)
        splits = np.full(len(labels), "duplicate", dtype="U10")
        for label in np.unique(labels):
            mine = rng.permutation(np.flatnonzero(labels == label))
            mine = mine[: max(4, rows * len(mine) // len(labels))]
            test, validation = max(1, round(0.3 * len(mine))), max(1, round(0.1 * len(mine)))
            splits[mine] = "train"
            splits[mine[:test]], splits[mine[test : test + validation]] = "test", "validation"
        del opened[file_format.SPLIT]
        opened.create_dataset(file_format.SPLIT, data=file_format.encode(splits.tolist()))
    return Path(path)


def rival(file: Path, seed: int) -> tuple[float, float]:
    """Test accuracy of the best of two grid searches, and their seconds."""
    table = load_features(file)
    (X, y), (X_test, y_test) = table.select("train", "validation"), table.select("test")
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    grids: list[tuple[Any, dict[str, Any]]] = [
        (make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
         {"logisticregression__C": np.logspace(-4, 1, 6)}),
        (SVC(), {"C": [0.1, 1, 10, 100]}),
    ]  # fmt: skip
    start = time.perf_counter()
    searches = [GridSearchCV(model, grid, cv=folds, n_jobs=-1).fit(X, y) for model, grid in grids]
    best = max(searches, key=lambda search: search.best_score_)
    return float(best.score(X_test, y_test)), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--ensemble", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2000)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    ways: dict[str, dict[str, Any]] = {
        "sweep": {}, f"--ensemble {options.ensemble}": {"ensemble": options.ensemble}, "--smallest": {"smallest": True},
    }  # fmt: skip
    print(f"| data set | GridSearchCV | s | {' | '.join(ways)} | s | {' | '.join(f'{w} − grid' for w in ways)} |")
    print(f"|{'---|' * (4 + 2 * len(ways))}")
    for file in options.files:
        found: dict[str, list[float]] = {name: [] for name in ("grid", *ways)}
        seconds: dict[str, list[float]] = {"grid": [], "sweep": []}
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                path = divided(file, Path(folder), seed, options.rows)
                accuracy, taken = rival(path, seed)
                found["grid"].append(accuracy)
                seconds["grid"].append(taken)
                out = Path(folder) / "run"
                for name, how in ways.items():  # the second and third go on from the first one's trials
                    result = sweep(path, out, preset=options.preset, cv=5, seed=seed, **how)
                    if name == "sweep":
                        seconds["sweep"].append(result.seconds)
                    found[name].append(evaluate(out / "winner", path).accuracy)
        grid = np.array(found["grid"])
        means = [f"{np.mean(found[way]):.3f}" for way in ways]
        gains = [f"{d.mean():+.3f} ± {d.std(ddof=1) / len(d) ** 0.5:.3f}" for d in (found[way] - grid for way in ways)]
        times = {name: f"{np.median(taken):.0f}" for name, taken in seconds.items()}
        cells = [file.stem.split("--")[0], f"{grid.mean():.3f}", times["grid"], *means, times["sweep"], *gains]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
