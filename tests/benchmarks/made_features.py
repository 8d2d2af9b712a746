"""Write a feature file of made features: a centre for each class, and noise around it.

    python tests/benchmarks/made_features.py OUT.h5 --rows 1280000 --columns 1280 --classes 1000

The file is written by the store's own writer: float16, with digests, splits and a spec like those of an extraction. It
takes 2 bytes for each feature, and twice that on the disk while it is written. Every twentieth row is a test row, and
every twentieth a validation row, beside those asked for.
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.spec import ExtractionSpec, Tap
from featurestore.store import file_format, writer
from featurestore.store.journal import TapLayout

_BLOCK = 1024
APART = 0.14
"""The deviation of class centres in each direction, in deviations of the rows around them."""


class MadeRows:
    """The features of rows by their digest, as the writer asks for them: one after the other."""

    def __init__(self, digests: list[str], labels: np.ndarray, columns: int, classes: int, seed: int = 0) -> None:
        self._place = {digest: i for i, digest in enumerate(digests)}
        self._labels, self._seed, self._block = labels, seed, (-1, np.empty(0))
        rng = np.random.default_rng(seed)
        self._centres = rng.standard_normal((classes, columns), np.float32) * np.float32(APART)
        # Some directions vary more than others, as those of a network do.
        self._spread = np.geomspace(3, 0.3, columns).astype(np.float32)

    def __getitem__(self, digest: str) -> dict[str, Any]:
        number, place = divmod(self._place[digest], _BLOCK)
        if number != self._block[0]:
            labels = self._labels[number * _BLOCK : (number + 1) * _BLOCK]
            noise = np.random.default_rng([self._seed, number]).standard_normal(
                (len(labels), self._centres.shape[1]), np.float32
            )
            made = np.maximum((self._centres[labels] + noise) * self._spread + 0.5, 0)
            self._block = number, made.astype(np.float16)
        return {"last": self._block[1][place]}


def columns_of(rows: int, classes: int) -> tuple[dict[str, list[Any]], np.ndarray]:
    """The columns of a file with so many train rows: ids, digests, labels, splits and paths."""
    total = rows + 2 * (rows // 20)
    labels = np.random.default_rng(1).integers(classes, size=total)
    splits = np.full(total, "train", "U10")
    splits[rows:], splits[rows + rows // 20 :] = "validation", "test"
    ids = [f"{i:08d}.jpg" for i in range(total)]
    found = {
        file_format.ID: ids,
        file_format.DIGEST: [hashlib.sha256(each.encode()).hexdigest() for each in ids],
        file_format.LABEL: labels.tolist(),
        file_format.SPLIT: splits.tolist(),
        file_format.PATH: ids,
    }
    return found, labels


def make(path: Path, rows: int, columns: int, classes: int) -> Path:
    """Write such a file, and return its path."""
    spec = ExtractionSpec(
        backbone="made", weights_digest="0" * 64, taps=(Tap(),), size=8, resize="squash", preprocessing="none",
        dtype="float16",
    )  # fmt: skip
    texts, labels = columns_of(rows, classes)
    publication = writer.Publication(
        str(path), path.stem, spec.to_json(), [f"class {i:04d}" for i in range(classes)], file_format.NO_AUGMENT,
        {"weights": "random", "flops": {}, "producers": []}, [TapLayout("last", (columns,), "<f2")], texts,
        {name: [] for name in file_format.VIEW_COLUMNS},
    )  # fmt: skip
    made = MadeRows(texts[file_format.DIGEST], labels, columns, classes)
    with writer.replacing(path) as draft, writer._new_file(draft) as file:
        writer._fill(file, publication, made)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=1_280_000)
    parser.add_argument("--columns", type=int, default=1280)
    parser.add_argument("--classes", type=int, default=1000)
    options = parser.parse_args()
    print(make(options.out, options.rows, options.columns, options.classes))


if __name__ == "__main__":
    main()
