"""Fine-tuning from the cache against training the whole graph; and a network from scratch against a cached head.

    python tests/benchmarks/finetune.py FOLDER --vgg16 WEIGHTS [--images 200] [--size 128] [--epochs 3] [--work DIR]
    python tests/benchmarks/finetune.py FOLDER --scratch [--scratch-epochs 15] [--work DIR]

FOLDER holds cats_dogs, flowers and cifar10; WEIGHTS are VGG16's without its classifier. The rival of the cache is the
same training with the frozen layers run in every epoch, on pixels that are decoded once: cheaper than the tutorials'
generators. An epoch is the median, with its pass over the rows that choose the best one.
"""

import argparse
import csv
import tempfile
from pathlib import Path

from featurestore import extract, open_source
from featurestore.sources.base import Source
from heads import evaluate, fit_head
from heads.finetuning.finetune import finetune


def interval(found: dict) -> str:
    low, high = found["intervals"]["accuracy"]
    return f"{found['accuracy']:.3f} ({low:.3f}–{high:.3f})"


def subset(folder: Path, images: int, work: Path) -> Source:
    """So many training images of a folder, and half as many validation images, of both classes alike."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "subset.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for split, count in (("train", images), ("validation", images // 2)):
            for kind in sorted(path for path in (folder / split).iterdir() if path.is_dir()):
                for path in sorted(kind.iterdir())[: count // 2]:
                    writer.writerow([path.relative_to(folder), kind.name, split])
    return open_source(folder, labels=work / "subset.csv", name="subset")


def cache_against_graph(options: argparse.Namespace, work: Path) -> None:
    source = subset(options.folder / "cats_dogs", options.images, work)
    network = {"backbone": "vgg16", "weights": str(options.vgg16), "size": options.size}
    fitted = fit_head(extract(source, work, **network).path, out=work / "head")
    same = {"unfreeze": "block5_conv1", "epochs": options.epochs, "patience": options.epochs, "learning_rate": 1e-3}
    runs = {
        cache: finetune(work / "head", source, work / f"cache-{cache}", **same, cache=cache) for cache in (True, False)
    }
    print(
        f"VGG16, block5 trained, {options.images} training images of {options.size} pixels, {options.epochs} epochs\n\n"
        "| | accuracy (95 %) | s an epoch | before the first, s |\n|---|---|---|---|\n"
        f"| frozen head ({fitted.design.kind}) | {interval(runs[True].frozen.to_dict())} | – | – |"
    )
    for cache, name in ((True, "from the cache"), (False, "whole graph")):
        found = runs[cache]
        seconds = f"{found.seconds['epoch']:.1f} | {found.seconds['material']:.1f}"
        print(f"| {name} | {interval(found.finetuned.to_dict())} | {seconds} |")
    ratio = runs[False].seconds["epoch"] / runs[True].seconds["epoch"]
    change = runs[True].difference
    print(f"\nAn epoch from the cache is {ratio:.1f} times as fast. Fine-tuned against frozen: {change}")


def scratch_against_head(options: argparse.Namespace, work: Path) -> None:
    print("| data set | small_cnn from scratch | s | cached head (default backbone) | s | with extraction, s |")
    print("|---|---|---|---|---|---|")
    recipe = {
        "unfreeze": "all",
        "epochs": options.scratch_epochs,
        "patience": options.scratch_epochs,
        "learning_rate": 1e-3,
        "augment": "mild",
        "views": 4,
    }
    for name, size in (("flowers", 128), ("cifar10", 32)):
        source, folder = open_source(options.folder / name), work / name
        made = extract(source, folder)
        fitted = fit_head(made.path, out=folder / "head")
        judged = evaluate(folder / "head", made.path).to_dict()
        blank = extract(source, folder, backbone="small_cnn", weights="random", size=size)
        fit_head(blank.path, out=folder / "blank")
        found = finetune(folder / "blank", source, folder / "scratch", **recipe)
        cells = [name, interval(found.finetuned.to_dict()), f"{found.seconds['training']:.0f}", interval(judged)]
        cells += [f"{fitted.seconds:.1f}", f"{made.seconds + fitted.seconds:.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--vgg16", type=Path)
    what.add_argument("--scratch", action="store_true")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--scratch-epochs", type=int, default=15)
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())
    (scratch_against_head if options.scratch else cache_against_graph)(options, work)


if __name__ == "__main__":
    main()
