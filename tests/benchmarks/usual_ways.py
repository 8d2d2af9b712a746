"""Seconds of whole processes, from JPEG files to features on disk, of lite0: ours against Keras' loop and timm's.

    python tests/benchmarks/usual_ways.py FOLDER [--images 3670] [--rounds 1] [--torch PYTHON]

Three ways, in turn, each in a process of its own from the start of Python: ``featurestore extract``; a loop of
``image_dataset_from_directory`` and ``model.predict`` over the same network in a ``.keras`` file; and timm's
``tf_efficientnet_lite0`` in PyTorch, with ``ImageFolder`` and a ``DataLoader`` of as many workers as there are cores,
all cores for the network, and ``inference_mode``. PYTHON is an interpreter with torch, torchvision and timm (by default
this one; without them that way is left out); its weights are random, which changes nothing of the work. Ours is run
with a cache of networks that is empty (first), as the second data set of a machine (second), and on a folder that has
not changed (again). Seconds of the processors are those of a way's processes together: on a machine
that does other work, they say more. A ratio is the median over rounds.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from extract_process import images_in, timed

from featurestore.backbones import load_backbone

KERAS = """
import sys
import keras
import numpy as np
folder, network, target = sys.argv[1:]
model = keras.models.load_model(network)
images = keras.utils.image_dataset_from_directory(
    folder, labels=None, image_size=(224, 224), batch_size=32, shuffle=False, verbose=False
)
np.save(target, model.predict(images, verbose=0))
"""
TORCH = """
import os
import sys
import numpy as np
import timm
import torch
from torchvision.datasets import ImageFolder
folder, target = sys.argv[1:]
model = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
loader = torch.utils.data.DataLoader(ImageFolder(folder, transform), batch_size=32, num_workers=os.cpu_count())
with torch.inference_mode():
    np.save(target, torch.cat([model(pixels) for pixels, _ in loader]).numpy())
"""


def both(command: list[object], cache: Path) -> tuple[float, float]:
    """Return the seconds of a command, and those of the processors."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = timed(command, cache)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def one_round(images: Path, work: Path, torch: str | None) -> dict[str, tuple[float, float]]:
    cache, store = work / "networks", work / "store"
    ours = [sys.executable, "-m", "featurestore", "extract", images, "--store", store, "--json"]
    shutil.rmtree(cache, ignore_errors=True)
    found = {}
    for way in ("first", "second"):
        shutil.rmtree(store, ignore_errors=True)
        found[way] = both(ours, cache)
    found["again"] = both(ours, cache)
    found["keras"] = both([sys.executable, "-c", KERAS, images, work / "lite0.keras", work / "keras.npy"], cache)
    if torch:
        found["timm"] = both([torch, "-c", TORCH, images, work / "torch.npy"], cache)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=3670, help="taken evenly from the folder; repeated beyond it")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--torch", default=sys.executable, metavar="PYTHON")
    options = parser.parse_args()
    there = [options.torch, "-c", "import timm, torchvision"]
    torch = options.torch if subprocess.run(there, capture_output=True, check=False).returncode == 0 else None
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        images = images_in(options.folder, work / "images", options.images)
        load_backbone("efficientnet_lite0").model.save(work / "lite0.keras")
        rounds = [one_round(images, work, torch) for _ in range(options.rounds)]
    print(f"{options.images:,} images, {os.cpu_count()} cores\n")
    print("| way | s | × first | processors, s | × first |\n|---|---|---|---|---|")
    for way in rounds[0]:
        cells = [
            f"{statistics.median(one[way][i] for one in rounds):.1f} | "
            f"{statistics.median(one[way][i] / one['first'][i] for one in rounds):.2f}"
            for i in range(2)
        ]
        print(f"| {way} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
