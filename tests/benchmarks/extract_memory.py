"""Peak memory of ``featurestore extract`` over few and many images: it must not grow with their number.

    python tests/benchmarks/extract_memory.py [--counts 500 5000] [--size 64]

Makes JPEG files of noise, each different. The figure is the largest resident set of the extracting process.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from common import CLI


def make_images(folder: Path, count: int) -> Path:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(count)
    for i in range(count):
        target = folder / f"class{i % 5}" / f"{i:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)).save(target)
    return folder


def peak(source: Path, store: Path, size: int) -> float:
    """Peak resident memory in MiB of one extraction, measured by a parent of its own."""
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, CLI, "extract", source, "--store", store, "--size", size]
    done = subprocess.run([sys.executable, "-c", script, *map(str, command)], stdout=subprocess.PIPE, check=True)
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    print("| images | peak memory, MiB | against the first |\n|---|---|---|")
    first = None
    for count in options.counts:
        with tempfile.TemporaryDirectory() as work:
            used = peak(make_images(Path(work) / "images", count), Path(work) / "store", options.size)
        first = first or used
        print(f"| {count:,} | {used:,.0f} | {used / first:.3f} |")


if __name__ == "__main__":
    main()
