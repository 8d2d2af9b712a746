"""Cost of an extraction as work grows: images, taps, and several backbones in one run against one run each.

    python tests/benchmarks/extract_cost.py FOLDER [--counts 1000 5000] [--size 96] [--rounds 3]

Images are those of FOLDER, again and again under other bytes (some behind the JPEG's end). Seconds are those of the
loop over the images as the run reports them; for the backbones, of whole runs.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from common import featurestore

TAPS = ("last", "block3_pool", "block4_pool", "block2_pool")
NETWORKS = ("efficientnet_lite0", "mobilenet_v2=random", "small_cnn=random")


def repeat(folder: Path, target: Path, count: int) -> Path:
    """`count` different files of the pictures in `folder`, in its classes."""
    files = sorted(folder.glob("*/*.jpg"))
    for i in range(count):
        path = files[i % len(files)]
        (target / path.parent.name).mkdir(parents=True, exist_ok=True)
        (target / path.parent.name / f"{i:06d}.jpg").write_bytes(path.read_bytes() + i.to_bytes(8, "little"))
    return target


def run(folder: Path, size: int, networks: tuple[str, ...], taps: tuple[str, ...] = ("last",)) -> list[dict]:
    with tempfile.TemporaryDirectory() as store:
        options: list[object] = ["--size", size, "--engine", "keras"]
        for name, _, weights in (network.partition("=") for network in networks):
            options += ["--backbone", name, "--weights", weights or "imagenet"]
        for tap in taps:
            options += ["--tap", tap]
        found = featurestore("extract", folder, "--store", store, *options)
        return found if isinstance(found, list) else [found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folders = {count: repeat(options.folder, Path(work) / str(count), count) for count in options.counts}
        print("| vgg16 (random), images | taps | seconds | images/s |\n|---|---|---|---|", flush=True)
        for count, taps in [(n, TAPS[:1]) for n in folders] + [(options.counts[0], TAPS[:k]) for k in (2, 3, 4)]:
            (found,) = run(folders[count], options.size, ("vgg16=random",), taps)
            total = found["timing"]["total"]
            print(f"| {count:,} | {len(taps)} | {total:.1f} | {count / total:.1f} |", flush=True)
        ratios = []
        for _ in range(options.rounds):
            together = run(folders[options.counts[0]], options.size, NETWORKS)[-1]["seconds"]
            apart = sum(run(folders[options.counts[0]], options.size, (one,))[0]["seconds"] for one in NETWORKS)
            ratios.append(together / apart)
        print(f"\nthree backbones in one run against three runs: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
