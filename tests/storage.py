"""A small feature file, written the real way, for tests that are about files and not about images."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.spec import ExtractionSpec, Tap
from featurestore.store import file_format
from featurestore.store.journal import Journal, JournalHeader, TapLayout
from featurestore.store.writer import Publication, write

SPEC = ExtractionSpec("vgg16", "0" * 64, (Tap(),), 224, "squash", "caffe", "float32")
TWO_TAPS = replace(SPEC, taps=(Tap("block4_pool"), Tap("block5_pool")))


def publication(folder: Path, rows: int = 30, spec: ExtractionSpec = SPEC, width: int = 7) -> Publication:
    """Rows of random features in a journal, and what is to be published of them."""
    rng = np.random.default_rng(0)
    taps = [TapLayout(tap.layer, (width + i,), np.dtype(spec.dtype).str) for i, tap in enumerate(spec.taps)]
    digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(rows)]
    path = folder / "rows.journal"
    path.unlink(missing_ok=True)
    with Journal.create(path, JournalHeader(spec.fingerprint, "keras", 8, {"keras": "3"}, tuple(taps))) as journal:
        journal.append(digests, {tap.name: rng.normal(size=(rows, *tap.shape)).astype(tap.dtype) for tap in taps})
    columns: dict[str, list[Any]] = {
        file_format.ID: [f"ä/{i}.jpg" for i in range(rows)],
        file_format.DIGEST: digests,
        file_format.LABEL: [i % 3 for i in range(rows)],
        file_format.SPLIT: [("train", "validation", "test")[i % 5 % 3] for i in range(rows)],
        file_format.PATH: [f"ä/{i}.jpg" for i in range(rows)],
    }
    return Publication(
        target=str(folder / "data.h5"),
        dataset="data",
        spec=spec.to_json(),
        class_names=["a", "b", "ç"],
        augment="none",
        provenance={"weights": "imagenet", "producers": [{"engine": "keras"}]},
        taps=taps,
        columns=columns,
        views={file_format.ROW: [], file_format.NUMBER: []},
        failures=[("broken.jpg", "truncated")],
        sources=[str(path)],
    )


def feature_file(folder: Path, **options: Any) -> Path:
    """A published file."""
    made = publication(folder, **options)
    write(made)
    return Path(made.target)
