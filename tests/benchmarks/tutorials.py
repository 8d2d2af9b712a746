"""The six tutorials of docs/recipes.md on full folders: accuracy beside their claims, and what it cost.

    python tests/benchmarks/tutorials.py FOLDER --vgg16 WEIGHTS [--work DIR]

FOLDER holds flowers, cats_dogs, cifar10, dog_breeds (with labels.csv) and xray; WEIGHTS are VGG16's without its
classifier. InceptionV3 and ResNet50 are stood in for by the default backbone, whose ImageNet weights come with the
installation, and Caltech-101 by the dog breeds.
"""

import argparse
import tempfile
from pathlib import Path

from common import accuracy, featurestore, held_out, labels_of

VGG = ["--backbone", "vgg16"]
ROWS: list[tuple[str, str, list[str], str, str]] = [
    ("VGG16 on flowers", "flowers", VGG, "flowers", "96 % (CNN 83 %)"),
    ("VGG16 on cats and dogs", "cats_dogs", [*VGG, "--views", "1", "--augment", "cats-dogs"], "cats-dogs", "–"),
    ("ResNet50 on Caltech-101: here lite0 on dog breeds", "dog_breeds", [], "caltech101", "92.8 %"),
    ("VGG16 block3_pool at 48 px on CIFAR-10", "cifar10", [*VGG, "--size", "48", "--tap", "block3_pool"], "cifar10",
     "far above 65 %"),
    ("InceptionV3 on dog breeds: here lite0", "dog_breeds", ["--views", "4", "--augment", "dog-breeds"], "dog-breeds",
     "85 %, F1 0.85"),
    ("VGG16 flattened on X-rays", "xray", [*VGG, "--pool", "flatten", "--views", "1", "--augment", "xray"], "xray",
     "91.5 % validation"),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vgg16", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=None, help="keep the features here, for another run")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())
    print("| tutorial | its claim | accuracy here (95 %) | macro F1 | rows + views | extraction, s | head, s |")
    print("|---|---|---|---|---|---|---|")
    for number, (title, name, extra, head, claim) in enumerate(ROWS):
        folder = options.folder / name
        arguments = [*extra, "--weights", options.vgg16] if "vgg16" in extra else extra
        made = featurestore("extract", folder, "--store", work / str(number), *arguments, *labels_of(folder))
        fitted = featurestore("fit-head", made["path"], "--head", head, "--out", work / f"head-{number}")
        split = held_out(made)
        found = featurestore("evaluate", work / f"head-{number}", made["path"], "--split", split)
        cost = f"{made['rows']} + {made['views']} | {made['seconds']:.0f} | {fitted['seconds']:.1f}"
        print(f"| {title} | {claim} | {accuracy(found)}, {split} | {found['macro_f1']:.3f} | {cost} |", flush=True)


if __name__ == "__main__":
    main()
