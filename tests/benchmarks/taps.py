"""Three taps of VGG16 in one forward pass against its last one alone: images per second, in turn.

    python tests/benchmarks/taps.py [--weights random] [--batches 4] [--pairs 3]

The features of the last tap are compared: both passes must give the same.
"""

import argparse
import statistics
import time

import numpy as np

from featurestore.backbones import load_backbone
from featurestore.engines import compile_backbone

TAPS = {"last": ["last"], "block3_pool, block4_pool, last": ["block3_pool", "block4_pool", "last"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="random")
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3), dtype=np.uint8)
    runs = {
        name: compile_backbone(load_backbone("vgg16", weights=options.weights, taps=taps))
        for name, taps in TAPS.items()
    }
    last = [np.asarray(run(pixels)()["last"]) for run in runs.values()]
    difference = np.abs(last[0] - last[1]).max() / np.abs(last[0]).max()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.pairs):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(options.batches):
                run(pixels)()
            seconds[name].append(time.perf_counter() - start)
    one, three = seconds.values()
    print("| taps of VGG16 at 224 px | images/s | cost |\n|---|---|---|")
    ratios = [1.0, statistics.median(b / a for a, b in zip(one, three, strict=True))]
    for (name, taken), ratio in zip(seconds.items(), ratios, strict=True):
        print(f"| {name} | {16 * options.batches / statistics.median(taken):.1f} | {ratio:.2f} |")
    print(f"\nlargest difference of the last tap, relative: {difference:.1e}")


if __name__ == "__main__":
    main()
