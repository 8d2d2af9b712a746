"""Small feature files for the tests of stage 2, written straight from the text of :mod:`featurestore.layout`."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from featurestore import layout
from featurestore.spec import ExtractionSpec, Tap

SPEC = ExtractionSpec(
    backbone="pixels",
    weights_digest="0" * 64,
    taps=(Tap(),),
    size=8,
    resize="squash",
    preprocessing="none",
    dtype="float32",
)


def write_features(
    path: Path,
    features: NDArray[Any] | dict[str, NDArray[Any]],
    labels: Sequence[int] | NDArray[Any],
    splits: Sequence[str] | NDArray[Any],
    *,
    class_names: Sequence[str],
    spec: ExtractionSpec = SPEC,
) -> Path:
    """Write one valid feature file; a dict of features makes a file of several taps."""
    rows = len(labels)
    columns = {
        layout.ID: layout.encode(f"{row:05d}.png" for row in range(rows)),
        layout.DIGEST: layout.encode(hashlib.sha256(str(row).encode()).hexdigest() for row in range(rows)),
        layout.LABEL: np.asarray(labels, np.int32),
        layout.SPLIT: layout.encode(splits),
        layout.PATH: layout.encode([""] * rows),
    }
    attributes = {
        "format": layout.FORMAT,
        "dataset": path.stem,
        "spec": spec.to_json(),
        "fingerprint": spec.fingerprint,
        "class_names": json.dumps(list(class_names)),
        "provenance": json.dumps({"weights": "random", "producers": []}),
    }
    with h5py.File(path, "w") as file:
        if isinstance(features, dict):
            for tap, values in features.items():
                file.create_dataset(f"{layout.FEATURES}/{tap}", data=values)
        else:
            file.create_dataset(layout.FEATURES, data=features)
        for name, values in columns.items():
            file.create_dataset(name, data=values)
        for name in layout.FAILURE_COLUMNS:
            file.create_dataset(f"{layout.FAILURES}/{name}", data=layout.encode([]))
        for name, text in attributes.items():
            file.attrs[name] = np.bytes_(text.encode())
        file.attrs[layout.VERSION_ATTRIBUTE] = np.int64(layout.FORMAT_VERSION)
        file.attrs["content_digest"] = np.bytes_(layout.content_digest(file).encode())
    return path
