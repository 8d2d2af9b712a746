"""Images per second, JPEG files to features on disk: us against three usual ways, and against the bare forward pass.

    python tests/benchmarks/extract_speed.py FOLDER [--backbones NAME[=WEIGHTS] ...] [--images 128] [--rounds 3]
        [--decoder turbo]

The rivals, with the same network: ``ImageDataGenerator.flow_from_directory`` + ``predict``;
``image_dataset_from_directory`` + ``predict``; and images decoded one after another, with a ``predict`` per batch.
The bare forward pass is that of our engine on prepared arrays. Building and compiling networks counts for nobody.
Rivals round pixels otherwise when they resize, so features are compared on our pixels (Keras' predict against what is
in our file). A ratio is the median over rounds; the ways run in turn.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from featurestore import FeatureStore, engines, extract
from featurestore.backbones import load_backbone
from featurestore.images.decode import decode_framings
from featurestore.spec import DECODERS, Decoder, Framing

BACKBONES = ["efficientnet_lite0", "mobilenet_v2=random", "resnet50=random", "efficientnet_b0=random", "vgg16=random"]
BATCH = 32


class Ways:
    """Each method takes the images of `folder` through the network, writes features, and returns seconds."""

    def __init__(self, name: str, weights: str, folder: Path, work: Path, decoder: Decoder) -> None:
        self.name, self.weights, self.folder, self.work, self.decoder = name, weights, folder, work, decoder
        self.backbone = load_backbone(name, weights=weights)
        self.size = self.backbone.size
        self.paths = sorted(folder.glob("*/*.jpg"))
        framing = Framing(self.size, decoder=decoder)
        decoded = [decode_framings(path.read_bytes(), [framing]) for path in self.paths]
        self.pixels = np.stack([pixels[framing] for pixels in decoded])
        self.plain = self.backbone.model.predict(self.pixels, batch_size=BATCH, verbose=0)["last"]
        self.engine = engines.fastest(self.backbone)
        self.network = engines.compile_backbone(self.backbone, self.engine)
        self.network(self.pixels[:BATCH])()

    def us(self) -> float:
        shutil.rmtree(self.work / "store", ignore_errors=True)
        marks: dict[str, float] = {}

        def progress(stage: str, done: int, total: int) -> None:
            marks.setdefault(stage, time.perf_counter())
            marks[f"{stage} ended"] = time.perf_counter()

        start = time.perf_counter()
        made = extract(self.folder, self.work / "store", backbone=self.name, weights=self.weights, engine=self.engine,
                       batch_size=BATCH, decoder=self.decoder, progress=progress)  # fmt: skip
        seconds = time.perf_counter() - start - (marks["extracting"] - marks["reading ended"])
        difference = engines.difference(self.plain, FeatureStore(made.path).features())
        assert difference < 1e-3, difference
        return seconds

    def generator(self) -> float:
        from keras.src.legacy.preprocessing.image import ImageDataGenerator

        start = time.perf_counter()
        images = ImageDataGenerator().flow_from_directory(
            self.folder, (self.size, self.size), batch_size=BATCH, class_mode=None, shuffle=False
        )
        np.save(self.work / "generator.npy", self.backbone.model.predict(images, verbose=0)["last"])
        return time.perf_counter() - start

    def dataset(self) -> float:
        import keras

        start = time.perf_counter()
        images = keras.utils.image_dataset_from_directory(
            self.folder, labels=None, image_size=(self.size, self.size), batch_size=BATCH, shuffle=False, verbose=False
        )
        np.save(self.work / "dataset.npy", self.backbone.model.predict(images, verbose=0)["last"])
        return time.perf_counter() - start

    def one_by_one(self) -> float:
        start, found = time.perf_counter(), []
        for i in range(0, len(self.paths), BATCH):
            images = [Image.open(p).convert("RGB").resize((self.size, self.size)) for p in self.paths[i : i + BATCH]]
            found.append(self.backbone.model.predict(np.stack([np.asarray(im) for im in images]), verbose=0)["last"])
        np.save(self.work / "one_by_one.npy", np.concatenate(found))
        return time.perf_counter() - start

    def bare(self) -> float:
        start, before = time.perf_counter(), None
        for i in range(0, len(self.pixels), BATCH):
            running = self.network(self.pixels[i : i + BATCH])
            if before:
                before()
            before = running
        before()
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--images", type=int, default=128, help="a multiple of 32, taken evenly from the folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--decoder", choices=DECODERS, default="pillow", help="of our run")
    options = parser.parse_args()
    names = ("us", "generator", "dataset", "one_by_one", "bare")
    print("| backbone | engine | us, images/s | × generator | × dataset | × one by one | of the bare forward pass |")
    print("|---|---|---|---|---|---|---|", flush=True)
    against: list[float] = []
    with tempfile.TemporaryDirectory() as work:
        files = sorted(options.folder.glob("*/*.jpg"))
        for path in files[:: len(files) // options.images][: options.images]:
            (Path(work) / "images" / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, Path(work) / "images" / path.parent.name)
        for name, _, weights in (text.partition("=") for text in options.backbones):
            ways = Ways(name, weights or "imagenet", Path(work) / "images", Path(work), options.decoder)
            rounds = [{way: getattr(ways, way)() for way in names} for _ in range(options.rounds)]
            ours = statistics.median(taken["us"] for taken in rounds)
            ratios = [statistics.median(taken[way] / taken["us"] for taken in rounds) for way in names[1:]]
            against += ratios[:2]
            cells = [name, ways.engine, f"{len(ways.paths) / ours:.1f}", *(f"{ratio:.2f}" for ratio in ratios)]
            print(f"| {' | '.join(cells)} |", flush=True)
    print(
        f"\ngeometric mean over the first two rivals {statistics.geometric_mean(against):.2f}, least {min(against):.2f}"
    )


if __name__ == "__main__":
    main()
