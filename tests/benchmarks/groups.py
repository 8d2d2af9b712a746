"""Row-wise against group-wise cross-validation, and near-duplicates as groups.

    python tests/benchmarks/groups.py FOLDER --pattern 'person\\d+' [--seeds 10] [--copies 300] [--work DIR]

First table: the winner of a quick sweep of five folds, and the mean of all its heads, with rows divided one by one and
by the groups that the pattern finds. Differences are paired by seed. Second table: some training images get copies
(mirrored, brightened, cropped, recompressed), and near-duplicates are looked for at several similarities: how many
copies are in the group of their original, how many other pairs are in one, and what sweeps say then.
"""

import argparse
import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from featurestore import extract, open_source
from heads import load_features, sweep
from heads.evaluation.alike import find_alike

SIMILARITIES = (0.95, 0.9, 0.8, 0.7)


def recompressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": ImageOps.mirror,
    "brightened": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "cropped": lambda image: image.crop(
        [round(0.02 * side) for side in image.size] + [round(0.98 * side) for side in image.size]
    ),
    "recompressed": recompressed,
}


def judged(file: Path, work: Path, seed: int, **options: float) -> tuple[float, float]:
    """The accuracy of the winner and the mean of all heads that were fitted."""
    shutil.rmtree(work / "run", ignore_errors=True)
    found = sweep(file, work / "run", preset="quick", cv=5, seed=seed, progress=False, **options)
    return found.winner.mean, float(np.nanmean([trial.mean for trial in found.trials]))


def row(name: str, one: list[tuple[float, float]], other: list[tuple[float, float]]) -> str:
    cells = [name]
    for a, b in zip(np.array(one).T, np.array(other).T, strict=True):
        error = (b - a).std(ddof=1) / len(a) ** 0.5
        cells += [f"{a.mean():.3f}", f"{b.mean():.3f}", f"{(b - a).mean():+.4f} ± {error:.4f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pattern", required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--copies", type=int, default=300)
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    work, seeds = options.work or Path(tempfile.mkdtemp()), range(options.seeds)
    rows = extract(open_source(options.folder, name="rows"), work / "rows").path
    grouped = extract(open_source(options.folder, name="groups", group_pattern=options.pattern), work / "groups").path
    print("| data set | winner, rows | groups | difference | all heads, rows | groups | difference |")
    print("|---|---|---|---|---|---|---|")
    found = [[judged(file, work, seed) for seed in seeds] for file in (rows, grouped)]
    print(row(options.folder.name, *found), flush=True)

    table = load_features(rows)
    alike = find_alike(table, SIMILARITIES[-1])
    print(f"\nno copies: {alike.notes[0]}")
    copied = work / "copied"
    shutil.copytree(options.folder, copied, dirs_exist_ok=True)
    train = table.ids[table.rows("train")]
    for path in np.random.default_rng(0).choice(train, options.copies, replace=False):
        image = Image.open(copied / path).convert("RGB")
        for name, change in COPIES.items():
            change(image).save(copied / f"{path}-{name}.png")
    file = extract(open_source(copied, name="copied"), work / "copies").path
    table = load_features(file)
    originals = np.array([name.split("-" + kind + ".png")[0] for name in table.ids for kind in [_kind(name)]])
    print("\n| similarity | " + " | ".join(COPIES) + " | rows alike that are no copies | winner, rows | groups | "
          "difference | all heads, rows | groups | difference |")  # fmt: skip
    print("|" + "---|" * (8 + len(COPIES)))
    plain = [judged(file, work, seed) for seed in seeds]
    for similarity in SIMILARITIES:
        names = find_alike(table, similarity).names
        place = dict(zip(table.ids, names, strict=True))
        cells = [f"{similarity:g}"]
        for kind in COPIES:
            mine = [name for name in table.ids if _kind(name) == kind]
            hits = sum(place[name] != "" and place[name] == place[name.split(f"-{kind}.png")[0]] for name in mine)
            cells.append(f"{hits} of {len(mine)}")
        several = {name: set(originals[names == name]) for name in set(names) - {""}}
        cells.append(str(sum(len(each) for each in several.values() if len(each) > 1)))
        kept = [judged(file, work, seed, group_near_duplicates=similarity) for seed in seeds]
        print(row(" | ".join(cells), plain, kept), flush=True)


def _kind(name: str) -> str:
    return next((kind for kind in COPIES if name.endswith(f"-{kind}.png")), "none")


if __name__ == "__main__":
    main()
