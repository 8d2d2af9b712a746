"""Several labels, and a number: sweeps of linear heads against scikit-learn on the same features and folds.

    python tests/benchmarks/other_tasks.py FOLDER… [--images 900] [--rounds 3] [--work DIR]

No collection with several labels is at hand, so one is composed: each picture is a square of four cells, in which up to
four pictures lie, of different classes of the folders (class folders, or train/ and test/ of them), each used once, on
a ground of a random colour. Its labels are the classes of the pictures; the number to predict is the share of its area
that they cover. The default backbone extracts it once.

First table: 13 values of C of logistic regression, five folds, against ``OneVsRestClassifier(LogisticRegression)`` with
the same standardisation, folds and values. Second: nine penalties of ridge against ``RidgeCV`` (with the same folds),
whose predictions are compared with ours at the penalty that both choose. Times are of fits and scores in one process,
medians over rounds that take turns; the last column is our whole command, with its start, refit and test.
"""

import argparse
import csv
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import CLI
from PIL import Image
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import average_precision_score
from sklearn.model_selection import PredefinedSplit
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from featurestore import extract, open_source
from heads import load_features
from heads.kinds.design import HeadDesign
from heads.search.judge_linear import judge_linear
from heads.search.judging import Judging
from heads.search.plan import SweepPlan
from heads.tasks.registry import TASKS

SIDE = 224
C = np.geomspace(1e-5, 10, 13)
ALPHA = np.geomspace(1, 1e5, 9)
SUFFIXES = {".jpg", ".jpeg", ".png"}


def classes_of(folders: list[Path]) -> dict[str, list[Path]]:
    """The pictures of each class, wherever it stands below the folders."""
    found: dict[str, list[Path]] = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(path.parent.name, []).append(path)
    return found


def compose(folders: list[Path], out: Path, images: int) -> Path:
    """Write the pictures and their table."""
    rng, pictures = random.Random(0), out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    unused = {name: rng.sample(paths, len(paths)) for name, paths in classes_of(folders).items()}
    lines = []
    for number in range(images):
        there = [name for name, paths in unused.items() if paths]
        chosen = rng.sample(there, min(rng.choice([0, 1, 1, 2, 2, 2, 3, 3, 4]), len(there)))
        canvas = Image.new("RGB", (2 * SIDE, 2 * SIDE), tuple(rng.randrange(256) for _ in range(3)))
        cells, covered = rng.sample([(0, 0), (SIDE, 0), (0, SIDE), (SIDE, SIDE)], 4), 0
        for name, cell in zip(chosen, cells, strict=False):
            side = rng.randrange(SIDE // 2, SIDE + 1)
            canvas.paste(Image.open(unused[name].pop()).convert("RGB").resize((side, side)), cell)
            covered += side * side
        canvas.save(pictures / f"{number:05d}.jpg", quality=90)
        lines.append((f"{number:05d}.jpg", "|".join(chosen), covered / (4 * SIDE * SIDE)))
        if sum(map(len, unused.values())) < 4:
            break
    with (out / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "labels", "covered"), *lines])
    return out


def ours(plan: SweepPlan, designs: list[HeadDesign], folder: Path) -> tuple[float, list[np.ndarray]]:
    """Seconds, and the scores of the held-out rows of each design."""
    start, found = time.perf_counter(), [np.empty(0)] * len(designs)
    with plan.division(None, folder) as division:
        judge_linear(
            designs, Judging(division, 0, lambda i, one: found.__setitem__(i, one.scores), asked=plan.asked)
        )  # fmt: skip
        order = division.judged
        return time.perf_counter() - start, [found[i][np.argsort(plan._source[order])] for i in range(len(designs))]


def planned(file: Path) -> tuple[SweepPlan, np.ndarray, np.ndarray, np.ndarray]:
    """The plan of five folds, and for scikit-learn its rows, their answers, and the fold of each."""
    table = load_features(file)
    plan = SweepPlan(table, 5, False, 0)
    rows = np.sort(table.rows("train", "validation"))
    return plan, np.asarray(table.X[rows], np.float32), table.y[rows], plan._fold[np.argsort(plan._source)]


def labels_table(file: Path, folder: Path, rounds: int) -> str:
    plan, X, y, fold = planned(file)
    designs = [HeadDesign("logreg", {"C": float(f"{value:.7g}")}) for value in C]
    seconds: dict[str, list[float]] = {"ours": [], "sklearn": []}
    for _ in range(rounds):
        spent, scores = ours(plan, designs, folder)
        seconds["ours"].append(spent)
        start, theirs = time.perf_counter(), []
        for value in C:
            held = np.empty(y.shape)
            for f in range(5):
                one = LogisticRegression(C=value, max_iter=1000)
                model = make_pipeline(StandardScaler(), OneVsRestClassifier(one, n_jobs=2)).fit(
                    X[fold != f], y[fold != f]
                )
                held[fold == f] = model.decision_function(X[fold == f])
            theirs.append(held)
        seconds["sklearn"].append(time.perf_counter() - start)

    def mean_ap(held: np.ndarray) -> float:
        return float(
            np.mean([average_precision_score(y[fold == f], held[fold == f], average="macro") for f in range(5)])
        )

    mine, other = [mean_ap(each) for each in scores], [mean_ap(each) for each in theirs]
    a, b = (statistics.median(seconds[name]) for name in ("ours", "sklearn"))
    return (
        f"| {len(X)} × {X.shape[1]}, {y.shape[1]} labels | {max(mine):.4f} | {max(other):.4f} "
        f"| {max(abs(p - q) for p, q in zip(mine, other, strict=True)):.4f} | {a:.2f} s | {b:.2f} s | {b / a:.1f} |"
    )


def number_table(file: Path, folder: Path, rounds: int) -> str:
    plan, X, y, fold = planned(file)
    designs = [HeadDesign("ridge", {"alpha": float(f"{value:.7g}")}) for value in ALPHA]
    seconds: dict[str, list[float]] = {"ours": [], "once": []}
    task, link = plan.asked
    for _ in range(rounds):
        spent, scores = ours(plan, designs, folder)
        seconds["ours"].append(spent)
        start = time.perf_counter()
        chosen = make_pipeline(StandardScaler(), RidgeCV(ALPHA, cv=PredefinedSplit(fold))).fit(X, y)
        seconds["once"].append(time.perf_counter() - start)
    answers = [task.outputs(each, link, are_answers=False)[:, 0] for each in scores]
    errors = [float(np.mean([np.mean((a[fold == f] - y[fold == f]) ** 2) for f in range(5)])) for a in answers]
    alpha = float(ALPHA[int(np.argmin(errors))])
    held = np.empty(len(y))
    for f in range(5):
        held[fold == f] = (
            make_pipeline(StandardScaler(), Ridge(alpha)).fit(X[fold != f], y[fold != f]).predict(X[fold == f])
        )
    apart = float(np.abs(held - answers[int(np.argmin(errors))]).max() / y.std())
    a, b = statistics.median(seconds["ours"]), statistics.median(seconds["once"])
    return (
        f"| {len(X)} × {X.shape[1]} | {alpha:.3g} | {chosen[-1].alpha_:.3g} | {apart:.1e} | {a:.2f} s | {b:.2f} s "
        f"| {b / a:.1f} |"
    )


def whole(file: Path, folder: Path, kind: str) -> float:
    """Seconds of our command, of the grid above."""
    values = {"logreg": "C = { log = [1e-5, 10.0], num = 13 }", "ridge": "alpha = { log = [1.0, 1e5], num = 9 }"}[kind]
    (folder / "space.toml").write_text(f'[[heads]]\nkind = "{kind}"\n{values}\n')
    start = time.perf_counter()
    command = [sys.executable, CLI, "sweep", file, "--space", folder / "space.toml", "--cv", "5", "--quiet"]
    with tempfile.TemporaryDirectory(dir=folder) as out:
        subprocess.run([*map(str, command), "--out", f"{out}/run"], check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=900)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        made = compose(options.folders, work, options.images)
        pictures, table = made / "pictures", made / "table.csv"
        sources = {
            "labels": open_source(pictures, labels=table, label_separator="|", label_column="labels", name="labels"),
            "number": open_source(pictures, labels=table, target_column="covered", name="number"),
        }
        files = {name: extract(source, work / "store", progress=False).path for name, source in sources.items()}
        assert load_features(files["labels"]).task in TASKS
        print("| rows | best mAP, ours | scikit-learn | greatest difference of any C | ours | scikit-learn | ratio |")
        print("|---|---|---|---|---|---|---|")
        print(labels_table(files["labels"], work, options.rounds))
        print(f"\nwhole command: {whole(files['labels'], work, 'logreg'):.1f} s\n")
        print("| rows | alpha, ours | RidgeCV | difference, deviations of the number | ours | RidgeCV | ratio |")
        print("|---|---|---|---|---|---|---|")
        print(number_table(files["number"], work, options.rounds))
        print(f"\nwhole command: {whole(files['number'], work, 'ridge'):.1f} s")


if __name__ == "__main__":
    main()
