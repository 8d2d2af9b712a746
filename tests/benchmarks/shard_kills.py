"""SIGKILL of Dask workers and of the client, at random moments: the folder of shards is that of an uninterrupted run.

    python tests/benchmarks/shard_kills.py [--kills 20] [--images 3000] [--shard-rows 400] [--seed 0]

A scheduler and two workers run on this machine. Each time the client (the command) or a worker is killed after some
seconds; a killed worker is replaced, a killed client is started again, and at the end the files are compared byte for
byte.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import CLI
from PIL import Image


def make_images(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"class{i % 5}" / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)


def command(source: Path, store: Path, shard_rows: int, *more: str) -> list[str]:
    return [
        sys.executable, str(CLI), "extract", str(source), "--store", str(store), "--size", "96", "--engine", "keras",
        "--batch-size", "8", "--shard-rows", str(shard_rows), "--quiet", *more,
    ]  # fmt: skip


def dask(work: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments], cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def worker(work: Path) -> subprocess.Popen[bytes]:
    options = ("--scheduler-file", "scheduler.json", "--nthreads", "1", "--no-nanny", "--no-dashboard")
    return dask(work, "worker", *options)


def files(store: Path) -> dict[str, bytes]:
    (folder,) = store.glob("*.shards")
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".h5", ".json", ".journal")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--shard-rows", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_images(work / "images", options.images)
        subprocess.run(command(work / "images", work / "whole", options.shard_rows), check=True)
        expected = files(work / "whole")
        scheduler = dask(work, "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", "scheduler.json")
        while not (work / "scheduler.json").exists():
            time.sleep(0.1)
        address = next(text for text in (work / "scheduler.json").read_text().split('"') if text.startswith("tcp://"))
        workers, killed, finished, store = [worker(work), worker(work)], {"worker": 0, "client": 0}, 0, 0
        while sum(killed.values()) < options.kills or not finished:
            run = command(work / "images", work / f"store{store}", options.shard_rows, "--cluster", address)
            client = subprocess.Popen(run, stderr=subprocess.PIPE)
            while client.poll() is None:
                if sum(killed.values()) < options.kills:
                    time.sleep(rng.uniform(3, 20))
                    if client.poll() is not None:
                        break
                    if rng.random() < 0.5:
                        client.send_signal(signal.SIGKILL)
                        killed["client"] += 1
                    else:
                        victim = rng.randrange(len(workers))
                        workers[victim].kill()
                        workers[victim].wait()
                        workers[victim] = worker(work)
                        killed["worker"] += 1
                else:
                    client.wait()
            if client.returncode == 0:
                assert files(work / f"store{store}") == expected, "the files differ"
                finished, store = finished + 1, store + 1
            elif client.returncode != -signal.SIGKILL:
                # Dask gives a task up whose workers die too often: what is finished is kept, and it is run again.
                print(client.stderr.read().decode().strip().splitlines()[-1] if client.stderr else "", flush=True)
        for process in (*workers, scheduler):
            process.kill()
        print(
            f"killed {killed['client']} clients and {killed['worker']} workers; {finished} folders of {len(expected)} "
            "files were finished in between, each the same, byte for byte, as that of one uninterrupted process"
        )


if __name__ == "__main__":
    main()
