"""Every format of ``featurestore export`` against the head itself, and Keras' own ONNX export beside ours.

    python tests/benchmarks/export_parity.py FOLDER [BACKBONE[=WEIGHTS] ...]

FOLDER holds class folders of images. For each backbone a logistic head is fitted on it; a difference is the largest of
a probability on 32 of its images, and milliseconds are the median time of one image, decoded already, with what runs
such a file. ``as cached`` is the path that ``featurestore predict`` takes.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from featurestore import extract
from featurestore.engines import compile_backbone
from featurestore.errors import FeatureStoreError
from featurestore.sources.photographs import framed
from featurestore.system.keras import import_keras
from heads import fit_head, load_head
from heads.exporting import export as exporting
from heads.exporting.formats.base import PIXELS
from heads.exporting.formats.registry import FORMATS
from heads.exporting.joined_model import join, nets_of
from heads.prediction.predictor import load_networks, probabilities

DEFAULTS = ("efficientnet_lite0", "mobilenet_v2=random", "resnet50_v2=random", "efficientnet_b0=random", "vgg16=random")
REPEATS = 15


keras = import_keras("the benchmark")


def milliseconds(run: Callable[[np.ndarray], object], pixels: np.ndarray) -> float:
    """Median over single images, after a first one that is not counted."""
    seconds = []
    for i in range(REPEATS + 1):
        image = pixels[i % len(pixels)][None]
        start = time.perf_counter()
        run(image)
        seconds.append(time.perf_counter() - start)
    return 1000 * median(seconds[1:])


def row(name: str, form: str, difference: str, size: int | None = None, speed: float | None = None) -> None:
    cells = [name, form, difference, f"{size / 2**20:.1f}" if size else "–", f"{speed:.1f}" if speed else "–"]
    print(f"| {' | '.join(cells)} |", flush=True)


def rival(whole: Any, path: Path, pixels: np.ndarray, expected: np.ndarray) -> tuple[Any, ...]:
    """Keras' own export of the same model."""
    import onnxruntime

    try:
        model = keras.Model(whole.input, whole.output)
        model(pixels[:1])
        model.export(path, format="onnx", verbose=False)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        found = session.run(None, {PIXELS: pixels})[0]
    except Exception as error:
        return (f"fails: {type(error).__name__} {error}"[:100].replace("\n", " "),)
    speed = milliseconds(lambda image: session.run(None, {PIXELS: image}), pixels)
    return f"{np.abs(found - expected).max():.1e}", path.stat().st_size, speed


def compare(folder: Path, name: str, weights: str, work: Path) -> None:
    file = extract(folder, work, backbone=name, weights=weights).path
    fit_head(file, out=work / name)
    head = load_head(work / name)
    networks = load_networks(head)
    (spec,) = networks
    pixels = framed(folder, spec.framing)
    compute = compile_backbone(networks[spec])

    def cached(image: np.ndarray) -> np.ndarray:
        return probabilities(head, {spec: compute(image)()})

    row(name, "as cached", "–", None, milliseconds(cached, pixels))
    for form, chosen in FORMATS.items():
        path = work / f"{name}-{form}{chosen.suffix}"
        try:
            done = exporting.export(work / name, form, path, check=folder)
        except FeatureStoreError as error:
            row(name, form, f"refused: {error}")
        else:
            run = keras.saving.load_model(path).predict_on_batch if form == "keras" else chosen.load(path)
            row(name, form, f"{done.difference:.1e}", done.bytes, milliseconds(run, pixels))
    whole = join(head, nets_of(head), networks)
    row(name, "Keras' onnx", *rival(whole, work / f"{name}-keras.onnx", pixels, cached(pixels)))


def main(folder: str, *names: str) -> None:
    print("| backbone | format | largest difference | MiB | one image, ms |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        for name in names or DEFAULTS:
            backbone, _, weights = name.partition("=")
            compare(Path(folder), backbone, weights or "imagenet", Path(work))


if __name__ == "__main__":
    main(*sys.argv[1:])
