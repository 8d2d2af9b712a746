"""Images per second of whole processes, from servers on this machine against a folder: is the latency hidden?

    python tests/benchmarks/remote_images.py FOLDER [--images 2000] [--wait 0.05] [--size 64] [--rounds 3] [--reading]

JPEG files from anywhere below FOLDER are put into a folder, into tars of 250, onto a web server that waits before each
answer, and into a bucket of moto's S3 server, each server in a process of its own. ``small_cnn`` is so small that
reading and decoding decide. Each round begins with no copy on the disk, except where "again" says that a second network
computes what the first has fetched. Seconds are the median over rounds. With ``--reading`` no network computes: seconds
to open a source, to have all digests, and to read all images again, in this process.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from common import CLI

from featurestore import open_source
from featurestore.sources.base import brought

ROOT = Path(__file__).parents[2]
PER_TAR = 250
WEB = """
import sys, threading
from pathlib import Path
sys.path[:0] = [sys.argv[3]]
from servers import serving
with serving(Path(sys.argv[1])) as server:
    server.wait = float(sys.argv[2])
    print(server.address(), flush=True)
    sys.stdin.readline()
"""
BUCKET = """
import logging, sys
logging.getLogger("werkzeug").setLevel(logging.ERROR)
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
sys.stdin.readline()
"""


def gathered(folder: Path, count: int, to: Path) -> list[str]:
    """Copy JPEG files, chosen evenly, into ten folders; return their paths there."""
    names = []
    paths = sorted(path for path in folder.rglob("*.jp*g") if path.stat().st_size > 1500)
    for path in paths[:: max(1, len(paths) // count)]:
        name = f"class-{len(names) % 10}/{len(names):05d}.jpg"
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to / name)
        names.append(name)
        if len(names) == count:
            break
    for number, start in enumerate(range(0, len(names), PER_TAR)):
        with tarfile.open(to.parent / f"images-{number:03d}.tar", "w") as tar:
            for name in names[start : start + PER_TAR]:
                tar.add(to / name, name)
    rows = "".join(f"{name},{name.partition('/')[0]}\n" for name in names)
    (to / "list.csv").write_text("path,label\n" + rows)
    return names


@contextmanager
def child(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def extract(source: object, work: Path, size: int) -> float:
    """Seconds of a whole process."""
    command = [sys.executable, CLI, "extract", source, "--store", work / "store", "--backbone", "small_cnn"]
    command += ["--weights", "random", "--size", size, "--name", "images", "--json"]
    environment = os.environ | {"XDG_CACHE_HOME": str(work / "cache"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    start = time.perf_counter()
    done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, env=environment)
    seconds = time.perf_counter() - start
    found = json.loads(done.stdout)
    assert not found["failures"], found["failures"][:3]
    return seconds


def measured(name: str, source: object, size: int, rounds: int, count: int, again: bool = False) -> float:
    seconds = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as work:
            first = extract(source, Path(work), size)
            seconds.append(extract(source, Path(work), size + 16) if again else first)
    taken = statistics.median(seconds)
    print(f"| {name} | {taken:.1f} | {count / taken:.0f} |", flush=True)
    return taken


def read(name: str, source: object) -> None:
    """Seconds of opening, digesting and reading, by themselves."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        moments = [time.perf_counter()]
        opened = open_source(str(source))
        moments.append(time.perf_counter())
        samples = opened.dataset().samples
        moments.append(time.perf_counter())
        for sample in brought(opened, samples, lambda sample: sample):
            with opened.reading(sample):
                pass
        moments.append(time.perf_counter())
    parts = [end - start for start, end in pairwise(moments)]
    print(f"| {name} | {' | '.join(f'{part:.2f}' for part in parts)} | {len(samples) / sum(parts):.0f} |", flush=True)


def web(work: Path, wait: float, names: list[str], options: argparse.Namespace) -> None:
    """A web server, with and without a wait before each answer."""
    many = -(-len(names) // PER_TAR) - 1
    told = f"{1000 * wait:.0f} ms before each answer"
    with child(WEB, work, wait, ROOT / "tests") as process:
        assert process.stdout
        root = process.stdout.readline().strip()
        count = len(names)
        if options.reading:
            read(f"http, CSV of addresses, {told}", f"{root}images/list.csv")
            read(f"http, tars of {PER_TAR}, {told}", f"{root}images-{{000..{many:03d}}}.tar")
            return
        measured(f"http, CSV of addresses, {told}", f"{root}images/list.csv", options.size, options.rounds, count)
        if wait:
            rows = f"{root}images/list.csv"
            measured(f"the same, again by a second network, {told}", rows, options.size, options.rounds, count, True)
        tars = f"{root}images-{{000..{many:03d}}}.tar"
        measured(f"http, tars of {PER_TAR}, {told}", tars, options.size, options.rounds, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--wait", type=float, default=0.05)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reading", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        names = gathered(options.folder, options.images, work / "images")
        total = sum((work / "images" / name).stat().st_size for name in names)
        print(f"{len(names)} JPEG files of {total / len(names) / 1000:.0f} kB\n")
        if options.reading:
            print("| images from | open, s | digests, s | read, s | images/s |\n|---|---|---|---|---|")
            read("a folder", work / "images")
            for wait in (0.0, options.wait):
                web(work, wait, names, options)
            return
        print("| images from | s | images/s |\n|---|---|---|")
        measured("a folder", work / "images", options.size, options.rounds, len(names))
        for wait in (0.0, options.wait):
            web(work, wait, names, options)
        with child(BUCKET) as process:
            assert process.stdout
            os.environ |= {
                "AWS_ENDPOINT_URL": process.stdout.readline().strip(), "AWS_ACCESS_KEY_ID": "a",
                "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1",
            }  # fmt: skip
            import s3fs

            bucket = s3fs.S3FileSystem()
            bucket.mkdir("bucket")
            bucket.put(str(work / "images"), "bucket/images", recursive=True)
            measured("s3, class folders", "s3://bucket/images/", options.size, options.rounds, len(names))


if __name__ == "__main__":
    main()
