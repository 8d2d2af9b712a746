"""Images per second out of tars and Parquet files, against a folder, and against WebDataset's own loader.

    pip install webdataset
    python tests/benchmarks/source_throughput.py [--backbone small_cnn=random] [--size 32] [--images 6000] [--side 64]
        [--rounds 3] [--whole-rounds 3]

The same JPEG files lie in class folders, in four tars of WebDataset's conventions, and in four Parquet files of Hugging
Face's layout. Our ``extract`` takes each through the network and writes a feature file. The rival is
``wds.WebDataset(…).decode("pilrgb")``, resized by Pillow, in batches through the same compiled network: its features
are saved by NumPy, and must be ours. It reads each image once, and knows nothing of digests, splits or a crash.

`steady` is one process in which networks are built and compiled before, with the time of all processors an image;
`whole` is a process from its start to its end, with the network from the user's cache, where that has it, for all ways.
A ratio is that of the medians over rounds, in which the ways run in turn. img2dataset has no reader of its own: what it
downloads are such tars.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from common import CLI, featurestore
from PIL import Image

from featurestore import FeatureStore, engines, extract
from featurestore.backbones import Request
from featurestore.backbones.network_cache import NetworkCache

BATCH, SHARDS, CLASSES = 64, 4, 10
WAYS = ("folder", "tar", "parquet", "webdataset")


def make(work: Path, count: int, side: int) -> None:
    """Write the same images in three ways: blurred noise, which a JPEG compresses as it does photographs."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    rng = np.random.default_rng(0)
    images = []
    for i in range(count):
        small = Image.fromarray(rng.integers(0, 256, (side // 4, side // 4, 3), np.uint8))
        file = io.BytesIO()
        small.resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        images.append((f"{i:07d}", i % CLASSES, file.getvalue()))
    for name in ("tar", "parquet"):
        (work / name).mkdir()
    for key, label, data in images:
        folder = work / "folder" / f"{label:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{key}.jpg").write_bytes(data)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for shard in range(SHARDS):
        part = images[shard * count // SHARDS : (shard + 1) * count // SHARDS]
        with tarfile.open(work / f"tar/images-{shard:03d}.tar", "w") as tar:
            for key, label, data in part:
                for name, content in ((f"{key}.jpg", data), (f"{key}.cls", str(label).encode())):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        cells = pa.array([{"bytes": data, "path": f"{key}.jpg"} for key, _, data in part], kind)
        table = pa.table({"image": cells, "label": [label for _, label, _ in part]})
        write_table(table, work / f"parquet/images-{shard:03d}.parquet", row_group_size=100)


class Ways:
    """Each way takes all images through the network; `keys` name the rows of its features."""

    def __init__(self, backbone: str, size: int, work: Path) -> None:
        self.name, _, weights = backbone.partition("=")
        self.weights, self.size, self.work = weights or "imagenet", size, work
        request = Request(self.name, self.weights, size)
        cache = NetworkCache([request])  # where `extract` finds its network too
        network = cache.network(request)
        self.engine = cache.engine(request) or engines.fastest(network)
        self.network = engines.compile_backbone(network, self.engine)
        self.network(np.zeros((BATCH, size, size, 3), np.uint8))()

    def ours(self, way: str, round_: int) -> tuple[float, list[str], np.ndarray]:
        """Return seconds without those in which networks are built, and the features by the names of the images."""
        marks: dict[str, float] = {}

        def progress(stage: str, done: int, total: int) -> None:
            marks.setdefault(stage, time.perf_counter())
            marks[f"{stage} ended"] = time.perf_counter()

        start = time.perf_counter()
        made = extract(
            self.work / way, self.work / f"store-{way}-{round_}", backbone=self.name, weights=self.weights,
            size=self.size, engine=self.engine, batch_size=BATCH, progress=progress,
        )  # fmt: skip
        seconds = time.perf_counter() - start - (marks["extracting"] - marks["reading ended"])
        store = FeatureStore(made.path)
        return seconds, [Path(path).stem for path in store.paths], store.features()

    def webdataset(self, round_: int) -> tuple[float, list[str], np.ndarray]:
        import webdataset as wds

        start = time.perf_counter()
        tars = sorted(map(str, (self.work / "tar").glob("*.tar")))
        images = (
            wds.WebDataset(tars, shardshuffle=False, empty_check=False)
            .decode(lambda key, data: Image.open(io.BytesIO(data)).convert("RGB") if key.endswith("jpg") else None)
            .to_tuple("__key__", "jpg")
        )
        keys: list[str] = []
        rows: list[np.ndarray] = []
        pixels: list[np.ndarray] = []
        running = None
        for key, image in images:
            keys.append(key)
            pixels.append(np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR)))
            if len(pixels) == BATCH:
                running = self._run(pixels, running, rows)
                pixels = []
        if pixels:
            running = self._run(pixels, running, rows)
        rows += [running()["last"]] if running else []
        features = np.concatenate(rows)[: len(keys)]
        np.save(self.work / f"webdataset-{round_}.npy", features)
        return time.perf_counter() - start, keys, features

    def _run(self, pixels: list[np.ndarray], before, rows: list[np.ndarray]):
        """Start a batch, and then take what the one before has given, so that decoding and computing overlap."""
        batch = np.stack(pixels + pixels[:1] * (BATCH - len(pixels)))
        started = self.network(batch)
        if before:
            rows.append(before()["last"])
        return started


def steady(ways: Ways, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the median seconds of each way, and those of its processors; their features must be the same."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    busy: dict[str, list[float]] = {way: [] for way in WAYS}
    for round_ in range(rounds):
        features: dict[str, np.ndarray] = {}
        for way in WAYS:
            before = os.times()
            took, keys, rows = ways.webdataset(round_) if way == "webdataset" else ways.ours(way, round_)
            seconds[way].append(took)
            busy[way].append(sum(os.times()[:4]) - sum(before[:4]))
            features[way] = rows[np.argsort([key.rpartition("/")[2] for key in keys])] if way != "parquet" else rows
        for way in ("tar", "webdataset"):
            assert engines.difference(features["folder"], features[way]) < 1e-3, way
        # Rows of Parquet files are in the order in which the images were made, as those of the tars are.
        assert engines.difference(features["folder"], features["parquet"]) < 1e-3
    return tuple({way: statistics.median(found) for way, found in each.items()} for each in (seconds, busy))


def whole(arguments: argparse.Namespace, work: Path) -> dict[str, float]:
    """Return the median seconds of processes from start to end."""
    name, _, weights = arguments.backbone.partition("=")
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for round_ in range(arguments.whole_rounds + 1):
        for way in WAYS:
            start = time.perf_counter()
            if way == "webdataset":
                rival = [sys.executable, __file__, "--backbone", arguments.backbone, "--size", arguments.size]
                subprocess.run([*map(str, rival), "--rival", str(work)], check=True, env=environment())
            else:
                featurestore(
                    "extract", work / way, "--store", work / f"whole-{way}-{round_}", "--backbone", name, "--weights",
                    weights or "imagenet", "--size", arguments.size, "--batch-size", BATCH,
                )  # fmt: skip
            seconds[way].append(time.perf_counter() - start)
    # The first round builds the network, and fills the caches of files.
    return {way: statistics.median(found[1:]) for way, found in seconds.items()}


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{CLI.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="small_cnn=random")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--whole-rounds", type=int, default=3)
    parser.add_argument("--rival", type=Path, help="only run WebDataset's loader, on images that are there")
    arguments = parser.parse_args()
    if arguments.rival:
        Ways(arguments.backbone, arguments.size, arguments.rival).webdataset(0)
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make(work, arguments.images, arguments.side)
        runs = whole(arguments, work) if arguments.whole_rounds else dict.fromkeys(WAYS, float("nan"))
        ways = Ways(arguments.backbone, arguments.size, work)
        rates, busy = steady(ways, arguments.rounds)
        what = f"{arguments.images:,} JPEGs of {arguments.side} px"
        print(f"{arguments.backbone}, {arguments.size} px, {what}, {ways.engine}")
        print(
            "| input | steady, images/s | of folder | of WebDataset | CPU, ms | whole, s | of folder | of WebDataset |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for way in WAYS:
            rate, run = rates[way], runs[way]
            print(
                f"| {way} | {arguments.images / rate:,.0f} | {rates['folder'] / rate:.2f} | "
                f"{rates['webdataset'] / rate:.2f} | {busy[way] / arguments.images * 1000:.2f} | "
                f"{run:.1f} | {runs['folder'] / run:.2f} | {runs['webdataset'] / run:.2f} |"
            )


if __name__ == "__main__":
    main()
