"""Small feature files for the tests of stage 2, written from the text of the specification."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from featurestore.spec import ExtractionSpec, Tap
from featurestore.store import file_format

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
    views: NDArray[Any] | dict[str, NDArray[Any]] | None = None,
    view_rows: Sequence[int] | NDArray[Any] = (),
    flops: dict[str, int] | None = None,
    images: Path | None = None,
    first: int = 0,
    numbers: dict[str, Sequence[float]] | None = None,
) -> Path:
    """Write one valid feature file; a dict of features makes a file of several taps.

    The rows are of the images in a folder, sorted, if it is given; else of images that are numbered from `first` on.
    `numbers` are numeric columns by name.
    """
    rows = len(labels)
    files = sorted(images.rglob("*.png")) if images else []
    names = [file.relative_to(images).as_posix() for file in files] or [f"{row:05d}.png" for row in range(rows)]
    if not isinstance(features, dict):
        features = dict.fromkeys(spec.tap_names, features)
    elif spec is SPEC:
        spec = replace(spec, taps=tuple(map(Tap, features)))
    contents = [file.read_bytes() for file in files] or [str(row).encode() for row in range(first, first + rows)]
    if not isinstance(views, dict):
        views = {tap: values[:0] if views is None else views for tap, values in features.items()}
    columns = {
        file_format.ID: file_format.encode(names),
        file_format.DIGEST: file_format.encode(hashlib.sha256(content).hexdigest() for content in contents),
        file_format.LABEL: np.asarray(labels, np.int32),
        file_format.SPLIT: file_format.encode(splits),
        file_format.PATH: file_format.encode(names if images else [""] * rows),
    }
    attributes = {
        "format": file_format.FORMAT,
        "dataset": path.stem,
        "spec": spec.to_json(),
        "fingerprint": spec.fingerprint,
        "class_names": json.dumps(list(class_names)),
        "augment": "mild" if len(view_rows) else file_format.NO_AUGMENT,
        "provenance": json.dumps({"weights": "random", "flops": flops or {}, "producers": []}),
    }
    if numbers:
        columns[file_format.GROUP] = file_format.encode([""] * rows)
        columns[file_format.TABULAR] = np.array([*numbers.values()], np.float32).T
        attributes["columns"] = json.dumps([{"name": name, "codes": []} for name in numbers])
    with h5py.File(path, "w", libver="v110") as file:  # as in a published file: class names may be many
        for group, taps in (("", features), (file_format.VIEWS, views)):
            for tap, name in file_format.feature_names(spec.tap_names, group).items():
                file.create_dataset(name, data=np.asarray(taps[tap], spec.dtype))
        file[f"{file_format.VIEWS}/{file_format.ROW}"] = np.asarray(view_rows, np.int32)
        file[f"{file_format.VIEWS}/{file_format.NUMBER}"] = np.ones(len(view_rows), np.int32)
        for name, values in columns.items():
            file.create_dataset(name, data=values)
        for name in file_format.FAILURE_COLUMNS:
            file.create_dataset(f"{file_format.FAILURES}/{name}", data=file_format.encode([]))
        for name, text in attributes.items():
            file.attrs[name] = np.bytes_(text.encode())
        file.attrs[file_format.VERSION_ATTRIBUTE] = np.int64(3 if numbers else 1)
        file.attrs["content_digest"] = np.bytes_(file_format.content_digest(file, spec.tap_names).encode())
    return path
