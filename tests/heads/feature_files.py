"""Small feature files for the tests of stage 2, written straight from the text of :mod:`featurestore.layout`."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
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
    views: NDArray[Any] | dict[str, NDArray[Any]] | None = None,
    view_rows: Sequence[int] | NDArray[Any] = (),
    flops: dict[str, int] | None = None,
    images: Path | None = None,
    first: int = 0,
) -> Path:
    """Write one valid feature file; a dict of features makes a file of several taps.

    The rows are of the images in a folder, sorted, if it is given; else of images that are numbered from `first` on.
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
        layout.ID: layout.encode(names),
        layout.DIGEST: layout.encode(hashlib.sha256(content).hexdigest() for content in contents),
        layout.LABEL: np.asarray(labels, np.int32),
        layout.SPLIT: layout.encode(splits),
        layout.PATH: layout.encode(names if images else [""] * rows),
    }
    attributes = {
        "format": layout.FORMAT,
        "dataset": path.stem,
        "spec": spec.to_json(),
        "fingerprint": spec.fingerprint,
        "class_names": json.dumps(list(class_names)),
        "augment": "mild" if len(view_rows) else layout.NO_AUGMENT,
        "provenance": json.dumps({"weights": "random", "flops": flops or {}, "producers": []}),
    }
    with h5py.File(path, "w", libver="v110") as file:  # as in a published file: class names may be many
        for group, taps in (("", features), (layout.VIEWS, views)):
            for tap, name in layout.feature_names(spec.tap_names, group).items():
                file.create_dataset(name, data=np.asarray(taps[tap], spec.dtype))
        file[f"{layout.VIEWS}/{layout.ROW}"] = np.asarray(view_rows, np.int32)
        file[f"{layout.VIEWS}/{layout.NUMBER}"] = np.ones(len(view_rows), np.int32)
        for name, values in columns.items():
            file.create_dataset(name, data=values)
        for name in layout.FAILURE_COLUMNS:
            file.create_dataset(f"{layout.FAILURES}/{name}", data=layout.encode([]))
        for name, text in attributes.items():
            file.attrs[name] = np.bytes_(text.encode())
        file.attrs[layout.VERSION_ATTRIBUTE] = np.int64(layout.FORMAT_VERSION)
        file.attrs["content_digest"] = np.bytes_(layout.content_digest(file, spec.tap_names).encode())
    return path
