"""Images per second of ``featurestore extract`` by one process, and by local worker processes.

    python tests/benchmarks/workers.py FOLDER [--backbone NAME] [--workers 1 2] [--size N]

The rate is of the extraction alone: from the first report of progress, when one process has its network and the
workers have still to build theirs, to the last. All files must be the same, byte for byte.
"""

import argparse
import tempfile
import time
from pathlib import Path

from featurestore import extract


def rate(source: Path, store: str, cluster: str | None, **options: object) -> tuple[float, float, bytes]:
    """Images per second, seconds in all, and the file."""
    moments: list[tuple[float, int]] = []

    def report(stage: str, done: int, total: int) -> None:
        if stage == "extracting":
            moments.append((time.perf_counter(), done))

    start = time.perf_counter()
    result = extract(source, store, cluster=cluster, progress=report, **options)
    taken = time.perf_counter() - start
    (began, before), (ended, after) = moments[0], moments[-1]
    return (after - before) / (ended - began), taken, result.path.read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--size", type=int)
    parser.add_argument("--workers", nargs="+", default=["1", "2"])
    options = vars(parser.parse_args())
    source, workers = options.pop("source"), options.pop("workers")
    print("| processes | images/s | seconds in all |\n|---|---|---|")
    files = set()
    for cluster in (None, *workers):
        with tempfile.TemporaryDirectory() as store:
            images, taken, file = rate(source, store, cluster, **options)
        files.add(file)
        print(f"| {f'`--cluster {cluster}`' if cluster else 'one, without'} | {images:.1f} | {taken:.1f} |", flush=True)
    print(f"\nfiles that differ: {len(files) - 1}")


if __name__ == "__main__":
    main()
