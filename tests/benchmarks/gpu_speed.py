"""Images per second on a GPU, from JPEG files to features on disk, against the two things that bound it.

    python tests/benchmarks/gpu_speed.py FOLDER [--backbones NAME[=WEIGHTS] ...] [--count 20000] [--precision bfloat16]

The bounds: the forward pass alone, compiled, on pixels in memory; and reading and decoding alone, by our processes
(the rate of as many threads as there are cores stands beside it). Images are those of FOLDER, again and again under
other bytes. End to end is counted from the first batch that is on the disk, when the network has been compiled, to the
last. Features are compared with those of Keras' layers.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from extract_cost import repeat

from featurestore import FeatureStore, engines, extract
from featurestore.backbones import load_backbone
from featurestore.engines.base import Compute
from featurestore.extraction.decode_ahead import ImageTask, Wish, decode_ahead
from featurestore.extraction.plan import Item
from featurestore.images.decode import decode, read_file
from featurestore.sources.opener import open_source
from featurestore.sources.samples import Sample
from featurestore.system.parallel import ahead

BACKBONES = ["resnet50=random", "vgg16=random", "efficientnet_v2_s=random"]


def threads(paths: list[Path], size: int) -> float:
    start = time.perf_counter()
    for _ in ahead(paths, lambda path: decode(read_file(path), size, "squash"), window=512):
        pass
    return len(paths) / (time.perf_counter() - start)


def decoding(folder: Path, samples: list[Sample], size: int) -> float:
    items = [Item(key=sample.digest, sample=sample, number=0) for sample in samples]
    tasks = [ImageTask(item.sample, [Wish(size, "mild", [item])]) for item in items]
    moments = [
        time.perf_counter()
        for _ in decode_ahead(open_source(folder), "squash", "pillow", tasks, len(tasks), window=512)
    ]
    first = len(tasks) // 10  # the processes have started
    return (len(tasks) - first) / (moments[-1] - moments[first - 1])


def forward(network: Compute, pixels: np.ndarray, rounds: int = 20) -> float:
    """Of batches that are started ahead of the one that is waited for, as in a run."""
    network(pixels)()
    start, running = time.perf_counter(), [network(pixels)]
    for _ in range(rounds - 1):
        running.append(network(pixels))
        running.pop(0)()
    running.pop()()
    return rounds * len(pixels) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--dtype", default="float16")
    options = parser.parse_args()
    print("| backbone | forward, images/s | decode (threads) | decode | end to end | of the lesser | whole run, s |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as work:
        source = repeat(options.folder, Path(work) / "images", options.count)
        samples = open_source(source).dataset().samples
        paths = [source / sample.path for sample in samples]
        for name, _, weights in (text.partition("=") for text in options.backbones):
            backbone = load_backbone(name, weights=weights or "imagenet", precision=options.precision)
            pixels = [decode(read_file(path), backbone.size, "squash") for path in paths[: engines.batch_size()]]
            bare = forward(engines.compile_backbone(backbone), np.stack(pixels))
            plain, ours = threads(paths[:4096], backbone.size), decoding(source, samples, backbone.size)
            moments: list[tuple[float, int]] = []

            def progress(stage: str, done: int, total: int, to: list = moments) -> None:
                if stage == "extracting":
                    to.append((time.perf_counter(), done))

            made = extract(
                source, Path(work) / f"store-{name}", backbone=name, weights=weights or "imagenet",
                precision=options.precision, dtype=options.dtype,
                progress=progress,
            )  # fmt: skip
            rate = (moments[-1][1] - moments[1][1]) / (moments[-1][0] - moments[1][0])
            assert made.rows == options.count and not made.failures
            expected = engines.keras.reference(backbone, np.stack(pixels[:8]))["last"]
            off = engines.difference(expected, FeatureStore(made.path).features()[:8])
            assert off < engines.TOLERANCE[options.precision], off
            cells = " | ".join(f"{value:,.0f}" for value in (bare, plain, ours, rate))
            print(f"| {name} | {cells} | {rate / min(bare, ours):.2f} | {made.seconds:.1f} |", made.timing, flush=True)
    print(f"\n{os.cpu_count()} cores; {options.count} images; {options.precision}, features in {options.dtype}")


if __name__ == "__main__":
    main()
