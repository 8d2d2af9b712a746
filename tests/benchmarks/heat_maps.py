"""Do heat maps lie on the object? Flowers are drawn at known places; and the picture of docs/explaining.md is written.

    python tests/benchmarks/heat_maps.py [PNG]

A head of each kind is fitted on 160 drawn flowers, and asked of 80 others: how often is the greatest value of the map
of the true class on the flower ("pointing game": Zhang et al., "Top-down neural attention by excitation backprop",
ECCV 2016), within half a place of the map; and what part of the picture is that, which is how often
chance would hit?
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "notebooks")]

from drawn_flowers import CLASSES, SIDE, write_flowers  # noqa: E402

from featurestore import extract  # noqa: E402
from heads import fit_head  # noqa: E402
from heads.explaining.explain import pictures_of  # noqa: E402
from heads.explaining.explainer import Explainer  # noqa: E402
from heads.prediction.inputs import find_images  # noqa: E402

KINDS = ("logreg", "lda", "ridge", "dense", "svm", "knn")
MARGIN = SIDE / 14
"""Half a place of the network's map, in pixels: no map is finer."""
SHOWN = 100
"""Side of each picture in the sheet."""


def hits(explainer: Explainer, places: dict) -> tuple[float, float]:
    """Return the share of maps that are greatest on the flower, and the share of pixels that are."""
    _, wanted = find_images(places)
    classes = [[Path(path).parent.name] for path in places]
    y, x = np.mgrid[:SIDE, :SIDE]
    found, chance = [], []
    for (cx, cy, radius), each in zip(places.values(), explainer.explain(wanted, classes), strict=True):
        inside = (x - cx) ** 2 + (y - cy) ** 2 <= (radius + MARGIN) ** 2
        values = each.classes[0].drawn(SIDE, each.exact)
        found.append(inside.flat[values.argmax()] and np.ptp(values) > 0)
        chance.append(inside.mean())
    return float(np.mean(found)), float(np.mean(chance))


def sheet(explainer: Explainer, places: dict, file: str) -> None:
    """Write twelve pictures, each with the map of its likeliest class."""
    chosen = [path for i in range(3) for name in CLASSES for path in places if path.endswith(f"{name}/{i:03d}.png")]
    whole = Image.new("RGB", (4 * (2 * SHOWN + 12) - 12, 3 * (SHOWN + 12) - 12), "white")
    for i, each in enumerate(explainer.explain(find_images(chosen)[1], top=1)):
        for j, picture in enumerate(pictures_of(each)[0]):
            small = Image.fromarray(picture).resize((SHOWN, SHOWN), Image.Resampling.LANCZOS)
            whole.paste(small, ((i % 4) * (2 * SHOWN + 12) + j * SHOWN, (i // 4) * (SHOWN + 12)))
    whole.save(file, optimize=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_flowers(work / "flowers", 40)
        places = write_flowers(work / "others", 20, seed=1)
        file = extract(work / "flowers", work / "store", progress=False).path
        print("head    on the flower  by chance")
        for kind in KINDS:
            explainer = Explainer(fit_head(file, kind, out=work / kind))
            print("{:7} {:13.2f} {:10.2f}".format(kind, *hits(explainer, places)), flush=True)
            if kind == "logreg" and len(sys.argv) > 1:
                sheet(explainer, places, sys.argv[1])


if __name__ == "__main__":
    main()
