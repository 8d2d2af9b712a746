"""bfloat16 against float32 on a processor that has it: images a second, errors of features, accuracy of a head.

    python tests/benchmarks/precision.py FOLDER [--backbones NAME[=WEIGHTS] ...] [--images 256] [--rounds 5]

Both precisions run by OpenVINO, in turn, on the same decoded pixels; a speed is the median over the rounds. The head is
a logistic one at its defaults, over all images of the folder, five folds and five seeds of the folds.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from featurestore import engines
from featurestore.backbones import load_backbone
from featurestore.images.decode import decode_framings
from featurestore.spec import Precision
from heads.kinds.linear import LogisticHead
from heads.solvers.calibration import stratified_folds

BACKBONES = ["vgg16", "resnet50=random"]
PRECISIONS: list[Precision] = ["float32", "bfloat16"]
BATCH, FOLDS, SEEDS = 32, 5, 5


def features(compute: engines.Compute, pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([compute(pixels[i : i + BATCH])()["last"] for i in range(0, len(pixels), BATCH)])


def accuracy(X: np.ndarray, y: np.ndarray, seed: int) -> float:
    fold, right = stratified_folds(y, FOLDS, seed), 0
    for i in range(FOLDS):
        head = LogisticHead(random_state=0).fit(X[fold != i], y[fold != i], temperature=1.0)
        right += int((head.predict(X[fold == i]) == y[fold == i]).sum())
    return right / len(y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    paths = sorted(options.folder.glob("*/*.jpg"))
    y = np.unique([path.parent.name for path in paths], return_inverse=True)[1]
    print("| backbone | float32, images/s | bfloat16, images/s | × | largest error | least cosine | accuracy, float32 |"
          " bfloat16 |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for given in options.backbones:
        name, _, weights = given.partition("=")
        networks = {p: load_backbone(name, weights=weights or "imagenet", precision=p) for p in PRECISIONS}
        framing = networks["float32"].spec().framing
        pixels = np.stack([decode_framings(path.read_bytes(), [framing])[framing] for path in paths])
        compiled = {p: engines.compile_backbone(network, "openvino") for p, network in networks.items()}
        found = {p: features(compute, pixels).astype(np.float64) for p, compute in compiled.items()}
        seconds: dict[str, list[float]] = {p: [] for p in PRECISIONS}
        for _ in range(options.rounds):
            for p, compute in compiled.items():
                start = time.perf_counter()
                features(compute, pixels[: options.images])
                seconds[p].append(time.perf_counter() - start)
        plain, short = found.values()
        norms = np.linalg.norm(plain, axis=1) * np.linalg.norm(short, axis=1)
        rates = {p: min(options.images, len(pixels)) / statistics.median(each) for p, each in seconds.items()}
        ratio = statistics.median(a / b for a, b in zip(*seconds.values(), strict=True))
        heads = {p: [accuracy(X.astype(np.float32), y, seed) for seed in range(SEEDS)] for p, X in found.items()}
        told = " | ".join(f"{100 * np.mean(each):.1f} ± {100 * np.std(each, ddof=1):.1f}" for each in heads.values())
        print(f"| {name} | {rates['float32']:.1f} | {rates['bfloat16']:.1f} | {ratio:.2f} | "
              f"{engines.difference(plain, short):.1e} | {((plain * short).sum(axis=1) / norms).min():.5f} | {told} |",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
