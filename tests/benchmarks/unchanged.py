"""An unchanged folder, recognised by stamps, against reading and hashing its files; and the whole command on it.

    python tests/benchmarks/unchanged.py [--files 60000] [--bytes 4096 65536] [--source FOLDER] [--pairs 5]

Makes files of random bytes; all are in the page cache, which favours reading. The rival is a plain loop, faster here
than threads for small files; it must find the same digests. FOLDER is a data set to run the command on.
"""

import argparse
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import CLI

from featurestore.sources.digest_cache import DigestCache
from featurestore.sources.folder import FolderSource
from featurestore.system.stamps import MARGIN_NS


def make_files(root: Path, count: int, size: int) -> None:
    rng = np.random.default_rng(0)
    for i in range(count):
        target = root / f"class{i % 10}" / f"{i:06d}.jpg"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(rng.bytes(size))
    time.sleep(MARGIN_NS / 1e9)


def hashed(root: Path, source: FolderSource) -> dict[str, str]:
    found = {}
    for sample in source.listing().samples:
        with open(f"{root}/{sample.path}", "rb") as file:  # noqa: PTH123 (a Path would be slower)
            found[sample.id] = hashlib.sha256(file.read()).hexdigest()
    return found


def recognised(source: FolderSource, cache: Path) -> dict[str, str]:
    return {sample.id: sample.digest for sample in source.dataset(cache=DigestCache(cache)).samples}


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(count: int, size: int, pairs: int) -> None:
    with tempfile.TemporaryDirectory() as work:
        root, cache = Path(work) / "files", Path(work) / "files.stamps"
        root.mkdir()
        make_files(root, count, size)
        source = FolderSource(root, name="files")
        first = seconds(lambda: recognised(source, cache))
        assert recognised(source, cache) == hashed(root, source)
        times = [
            (seconds(lambda: recognised(source, cache)), seconds(lambda: hashed(root, source))) for _ in range(pairs)
        ]
    ours, rival = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(b / a for a, b in times)
    print(f"| {count:,} files of {size:,} bytes | {first:.2f} | {ours:.3f} | {rival:.2f} | {ratio:.1f}× |", flush=True)


def command(source: Path, runs: int) -> None:
    with tempfile.TemporaryDirectory() as store:
        arguments = [sys.executable, str(CLI), "extract", str(source), "--store", store, "--quiet"]
        subprocess.run(arguments, check=True)
        print("\n| `featurestore extract` on an unchanged folder | seconds |\n|---|---|")
        for name, options in {"nothing to do": [], "the same with `--rehash`": ["--rehash"]}.items():
            taken = [seconds(lambda: subprocess.run([*arguments, *options], check=True)) for _ in range(runs)]  # noqa: B023
            print(f"| {name} | {statistics.median(taken):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=60_000)
    parser.add_argument("--bytes", type=int, nargs="+", default=[4096, 65536])
    parser.add_argument("--source", type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    print("| unchanged | first run, s | recognised, s | plain hashing, s | ratio |\n|---|---|---|---|---|")
    for size in options.bytes:
        compare(options.files, size, options.pairs)
    if options.source:
        command(options.source, options.pairs)


if __name__ == "__main__":
    main()
