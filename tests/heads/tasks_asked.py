"""Feature files that ask for several labels of each row, or for a number."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from storage import publication

from featurestore.spec import ExtractionSpec
from featurestore.store import file_format
from featurestore.store.journal import Journal, JournalHeader, TapLayout
from featurestore.store.writer import write


def made(rows: int = 240, columns: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, D), labels (N, 3) that they tell mostly, and numbers (N,) that they tell to some noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, columns)).astype(np.float32)
    odds = 2 * X @ rng.normal(size=(columns, 3)) + [1, 0, -3]
    y = (rng.random((rows, 3)) < 1 / (1 + np.exp(-odds))).astype(np.uint8)
    number = 50 + 10 * (X @ rng.normal(size=columns) + 0.5 * rng.normal(size=rows))
    return X, y, number


def asked_file(folder: Path, task: str, rows: int = 240, seed: int = 0, columns: int = 12) -> Path:
    """Write such a file the real way: 0.6 train, 0.2 validation, 0.2 test."""
    X, y, number = made(rows, columns, seed)
    found = publication(folder, rows, width=X.shape[1])
    tap = TapLayout("last", (X.shape[1],), "<f4")
    path = folder / "asked.journal"
    fingerprint = ExtractionSpec.from_json(found.spec).fingerprint
    header = JournalHeader(fingerprint, "keras", 8, {"keras": "3"}, (tap,))
    with Journal.create(path, header) as journal:
        journal.append(found.columns[file_format.DIGEST], {"last": X})
    values: dict[str, Any] = {
        "multilabel": {"values": [tuple(map(float, row)) for row in y]},
        "regression": {"values": [(float(v),) for v in number], "class_names": ["length"]},
    }[task]
    others = found.columns | {
        file_format.LABEL: [0] * rows,
        file_format.SPLIT: [("train", "train", "train", "validation", "test")[i % 5] for i in range(rows)],
    }
    made_of = replace(
        found, target=str(folder / f"{task}.h5"), columns=others, task=task, sources=[str(path)], **values
    )
    write(made_of)
    return Path(made_of.target)
