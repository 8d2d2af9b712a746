"""Top-1 and top-5 of EfficientNet-Lite0 on pictures of ImageNet dogs: does the port carry the real weights?

    python tests/benchmarks/lite0_imagenet.py DOG_BREEDS_FOLDER

The folder holds `labels.csv` (columns id, breed) and `train/<id>.jpg`: Stanford Dogs, which are pictures of ImageNet's
training set, so the figures are above those published for its validation set (top-1 75.1 %). All 1000 classes compete.
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from featurestore.backbones import efficientnet_lite

SIZE = 224

CLASS_INDEX = {
    "japanese_spaniel": 152,
    "maltese_dog": 153,
    "shih-tzu": 155,
    "rhodesian_ridgeback": 159,
    "afghan_hound": 160,
    "beagle": 162,
    "bloodhound": 163,
    "english_foxhound": 167,
    "ibizan_hound": 173,
    "norwegian_elkhound": 174,
    "saluki": 176,
    "scottish_deerhound": 177,
    "bedlington_terrier": 181,
    "norfolk_terrier": 185,
    "lakeland_terrier": 189,
    "airedale": 191,
    "cairn": 192,
    "australian_terrier": 193,
    "silky_terrier": 201,
    "curly-coated_retriever": 206,
    "chesapeake_bay_retriever": 209,
    "irish_setter": 213,
    "gordon_setter": 214,
    "welsh_springer_spaniel": 218,
    "schipperke": 223,
    "kelpie": 227,
    "old_english_sheepdog": 229,
    "collie": 231,
    "bouvier_des_flandres": 233,
    "miniature_pinscher": 237,
    "bernese_mountain_dog": 239,
    "appenzeller": 240,
    "entlebucher": 241,
    "malamute": 249,
    "siberian_husky": 250,
    "basenji": 253,
    "samoyed": 258,
    "toy_poodle": 265,
    "standard_poodle": 267,
    "dhole": 274,
}


def squash(image: Image.Image) -> Image.Image:
    """To 224 x 224, whatever the proportions."""
    return image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)


def crop(image: Image.Image, short_side: int) -> Image.Image:
    """The middle 224 x 224, once the short side has this length."""
    side = min(image.size) * SIZE / short_side
    left, upper = ((length - side) / 2 for length in image.size)
    box = (left, upper, left + side, upper + side)
    return image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box)


RULES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "squash to 224": squash,
    "short side 224, crop 224": lambda image: crop(image, 224),
    "short side 256, crop 224": lambda image: crop(image, 256),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds labels.csv and train/<id>.jpg")
    folder = parser.parse_args().folder
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    truth = np.array([CLASS_INDEX[row["breed"]] for row in rows])
    images = [Image.open(folder / "train" / f"{row['id']}.jpg").convert("RGB") for row in rows]

    model = efficientnet_lite.build(SIZE, include_top=True)
    efficientnet_lite.load_weights(model, efficientnet_lite.default_weights())

    print(f"{'resize':<26}{'images':>8}{'top-1':>9}{'top-5':>9}")
    for name, rule in RULES.items():
        pixels = np.stack([np.asarray(rule(image), np.float32) for image in images])
        logits = model.predict((pixels - 127) / 128, batch_size=32, verbose=0)
        hits = np.argsort(-logits)[:, :5] == truth[:, None]
        print(f"{name:<26}{len(truth):>8}{hits[:, 0].mean():>9.1%}{hits.any(axis=1).mean():>9.1%}")


if __name__ == "__main__":
    main()
