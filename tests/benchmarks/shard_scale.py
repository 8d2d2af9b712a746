"""The cost of an image, and the memory, as the number of images grows: tiny JPEGs in tars, through a small network.

    python tests/benchmarks/shard_scale.py [--folder FOLDER] [--sizes 10000 100000 1300000] [--shard-rows 1000000]

Makes the tars in FOLDER (10,000 images each, all different, in WebDataset's layout), unless they are there. Each
size is a process of its own on an empty store: the whole command is timed, its own memory (without mapped files) is
watched from outside, and the steady rate is what the command says.
"""

import argparse
import io
import json
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from common import CLI, watched
from PIL import Image

PER_TAR = 10_000


def make_tar(path: Path, number: int) -> None:
    """Write a tar of images that differ: a class has a colour, each image its own noise."""
    rng, draft = np.random.default_rng(number), path.with_suffix(".draft")
    with tarfile.open(draft, "w") as tar:
        for i in range(PER_TAR):
            label = int(rng.integers(10))
            pixels = rng.integers(0, 100, (4, 4, 3), dtype=np.uint8) + np.uint8(15 * label)
            image = io.BytesIO()
            Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR).save(image, "JPEG", quality=80)
            for suffix, raw in ((".jpg", image.getvalue()), (".cls", str(label).encode())):
                member = tarfile.TarInfo(f"{number:05d}{i:05d}{suffix}")
                member.size = len(raw)
                tar.addfile(member, io.BytesIO(raw))
    draft.rename(path)


def extracted(source: str, shard_rows: int) -> tuple[float, float, int]:
    """Run the command on an empty store: seconds, images a second in the loop, and bytes of its own memory."""
    with tempfile.TemporaryDirectory() as store:
        memory, seconds, out = watched([
            sys.executable, CLI, "extract", source, "--store", store, "--backbone", "small_cnn", "--weights", "random",
            "--size", 32, "--dtype", "float16", "--shard-rows", shard_rows, "--name", "tiny", "--json",
        ])  # fmt: skip
        result = json.loads(out)
        return seconds, result["computed"] / result["timing"]["total"], memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_300_000])
    parser.add_argument("--shard-rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = options.folder or Path(work)
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(-(-max(options.sizes) // PER_TAR)):
            path = folder / f"tiny-{number:05d}.tar"
            if not path.exists():
                make_tar(path, number)
        print("| images | seconds, whole | per image | images/s, loop | own memory |\n|---|---|---|---|---|")
        for size in options.sizes:
            last = -(-size // PER_TAR) - 1
            seconds, rate, memory = extracted(f"{folder}/tiny-{{00000..{last:05d}}}.tar", options.shard_rows)
            print(
                f"| {size:,} | {seconds:.1f} | {seconds / size * 1e6:.0f} µs | {rate:,.0f} "
                f"| {memory / 2**20:,.0f} MiB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
