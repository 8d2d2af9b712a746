"""Seconds of whole processes, from JPEG files to features on disk: ours against the tutorial's loop.

    python tests/benchmarks/extract_process.py FOLDER [--backbones NAME[=WEIGHTS] ...] [--images 500] [--rounds 5]
        [--decoder turbo]

The rival is ``image_dataset_from_directory`` + ``model.predict`` in a process of its own, which begins with
``import keras``. Ours is ``featurestore extract``, twice: with nothing known of the network, and for a second data set,
when an earlier run has kept it. All three run in turn. A ratio is the median over rounds. The rival resizes without
antialiasing, so of the features the cosine between its row and ours is told, the least of all rows and their median.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from featurestore import FeatureStore
from featurestore.backbones.network_cache import FOLDER
from featurestore.spec import DECODERS, Decoder

BACKBONES = ["mobilenet_v2=random", "resnet50=random", "efficientnet_b0=random"]
RIVALS = {
    "mobilenet_v2": ("MobileNetV2", "mobilenet_v2"),
    "resnet50": ("ResNet50", "resnet50"),
    "efficientnet_b0": ("EfficientNetB0", "efficientnet"),
    "vgg16": ("VGG16", "vgg16"),
}
RIVAL = """
import sys
import keras
import numpy as np
folder, name, module, weights, target = sys.argv[1:]
keras.utils.set_random_seed(0)
weights = None if weights == "random" else weights
build = getattr(keras.applications, name)
model = build(include_top=False, weights=weights, pooling="avg", input_shape=(224, 224, 3))
images = keras.utils.image_dataset_from_directory(
    folder, labels=None, image_size=(224, 224), batch_size=32, shuffle=False, verbose=False
)
images = images.map(getattr(keras.applications, module).preprocess_input)
np.save(target, model.predict(images, verbose=0))
"""


def timed(command: list[object], cache: Path) -> float:
    start = time.perf_counter()
    environment = os.environ | {FOLDER: str(cache), "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(list(map(str, command)), check=True, capture_output=True, env=environment)
    return time.perf_counter() - start


def one_round(images: Path, name: str, weights: str, work: Path, decoder: Decoder) -> dict[str, float]:
    cache, target = work / "networks", work / "rival.npy"
    shutil.rmtree(cache, ignore_errors=True)
    found = {"rival": timed([sys.executable, "-c", RIVAL, images, *RIVALS[name], weights, target], cache)}
    for way in ("first", "second"):
        shutil.rmtree(work / "store", ignore_errors=True)
        ours = [sys.executable, "-m", "featurestore", "extract", images, "--store", work / "store", "--json"]
        found[way] = timed([*ours, "--backbone", name, "--weights", weights, "--decoder", decoder], cache)
    (path,) = (work / "store").glob("*.h5")
    mine, theirs = FeatureStore(path).features()[:].astype(np.float64), np.load(target).astype(np.float64)
    cosines = (mine * theirs).sum(axis=1) / (np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1))
    return found | {"least": float(cosines.min()), "median": float(np.median(cosines))}


def images_in(source: Path, folder: Path, count: int) -> Path:
    """Copy so many images, evenly from the class folders of `source`, and repeated beyond these; return `folder`."""
    files = sorted(source.glob("*/*.jpg"))
    chosen = files[:: max(1, len(files) // count)]
    for i in range(count):
        path = chosen[i % len(chosen)]
        target = folder / path.parent.name / f"{i:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes() + i.to_bytes(8, "little"))  # behind the JPEG's end
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--images", type=int, default=500, help="taken evenly from the folder; repeated beyond it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--decoder", choices=DECODERS, default="pillow", help="of our runs")
    options = parser.parse_args()
    print("| backbone, images | rival, s | first data set, s | × | second, s | × | cosine, median and least |")
    print("|---|---|---|---|---|---|---|", flush=True)
    means: dict[str, list[float]] = {"first": [], "second": []}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        images = images_in(options.folder, work / "images", options.images)
        for name, _, weights in (text.partition("=") for text in options.backbones):
            ways = images, name, weights or "imagenet", work, options.decoder
            rounds = [one_round(*ways) for _ in range(options.rounds)]
            middle = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
            ratios = {way: statistics.median(one["rival"] / one[way] for one in rounds) for way in means}
            for way, ratio in ratios.items():
                means[way].append(ratio)
            cells = [f"{name}, {options.images:,}", f"{middle['rival']:.1f}"]
            cells += [text for way in means for text in (f"{middle[way]:.1f}", f"{ratios[way]:.2f}")]
            print(f"| {' | '.join(cells)} | {middle['median']:.4f}, {middle['least']:.4f} |", flush=True)
    first, second = (statistics.geometric_mean(ratios) for ratios in means.values())
    print(f"\ngeometric mean: {first:.2f} for the first data set, {second:.2f} for the second")


if __name__ == "__main__":
    main()
