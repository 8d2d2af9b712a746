"""The bytes of a feature file do not change: one that was written before the modules moved is written again, alike."""

import hashlib
import os
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featurestore.images.augment import view_key
from featurestore.spec import ExtractionSpec, Tap
from featurestore.store import file_format
from featurestore.store.file_format import Column
from featurestore.store.journal import Journal, JournalHeader, TapLayout
from featurestore.store.lock import store_lock
from featurestore.store.reader import FeatureStore
from featurestore.store.writer import Publication, publish

KEPT = {
    version: Path(__file__).with_name(f"kept_v{version}.h5") for version in (1, 2, 3, "4_multilabel", "4_regression")
}
"""Of version 4 there is one of each task: several labels and numeric columns, and a number without any."""
ROWS, VIEWS = 24, 2
COLUMNS = [Column("age"), Column("séx", ("F", "M"))]
SPEC = ExtractionSpec(
    backbone="vgg16", weights_digest="ab" * 32, taps=(Tap("block4_pool", "avg"), Tap("last", "max")), size=96,
    resize="crop", preprocessing="caffe", dtype="float16", decoder="draft",
)  # fmt: skip


def values(count: int, side: int, start: int) -> np.ndarray:
    """Numbers that no random generator and no mathematical library has a say in."""
    return (np.arange(count * side).reshape(count, side) % 997 + start).astype("<f2") / np.float16(8)


def answers(version: int | str) -> dict[str, Any]:
    """What the rows of a version have beside a class."""
    numbers = [(i / 4 if i % 5 else nan, i % 2) for i in range(ROWS)]
    if version == 3:
        return {"numeric": COLUMNS, "values": numbers}
    if version == "4_multilabel":
        labels = [(i % 2, i % 3 == 0, i % 12 == 11) for i in range(ROWS)]
        return {
            "task": "multilabel",
            "numeric": COLUMNS,
            "values": [(*a, *b) for a, b in zip(labels, numbers, strict=True)],
        }
    return {"task": "regression", "values": [(i / 8,) for i in range(ROWS)]} if version == "4_regression" else {}


def write_again(folder: Path, version: int | str) -> Path:
    """The kept file of a version, from the same inputs, through the journal and the child process that publishes."""
    digests = [hashlib.sha256(f"image {i}".encode()).hexdigest() for i in range(ROWS)]
    splits = [("train", "validation", "test", "duplicate")[i % 8 % 4] for i in range(ROWS)]
    views = [(row, number) for row in range(ROWS) if splits[row] == "train" for number in range(1, VIEWS + 1)]
    keys = [*digests, *(view_key(digests[row], "mild", number) for row, number in views)]
    taps = [TapLayout(name="block4_pool", shape=(5,), dtype="<f2"), TapLayout(name="last", shape=(3,), dtype="<f2")]
    header = JournalHeader(SPEC.fingerprint, "keras", 8, {"engine": "keras", "keras": "3.15.1"}, tuple(taps))
    with Journal.create(folder / "rows.journal", header) as journal:
        for start in range(0, len(keys), 8):
            some = keys[start : start + 8]
            journal.append(
                some, {tap.name: values(len(some), tap.shape[0], start + side) for side, tap in enumerate(taps)}
            )
    target = folder / "data.h5"
    names = [f"ä/{i:02d}.jpg" for i in range(ROWS - 1)] + [os.fsdecode(b"caf\xe9.jpg")]
    publication = Publication(
        target=str(target),
        dataset="data of two taps",
        spec=SPEC.to_json(),
        class_names=["age at scan"] if version == "4_regression" else ["a", "b", "ç"],
        augment="mild",
        provenance={
            "weights": "imagenet",
            "flops": {"block4_pool": 123, "last": None},
            "producers": [header.producer],
        },
        taps=taps,
        columns={
            file_format.ID: names,
            file_format.DIGEST: digests,
            file_format.LABEL: [i % 3 if version in (1, 2, 3) else 0 for i in range(ROWS)],
            file_format.SPLIT: splits,
            file_format.PATH: names,
            **({file_format.GROUP: [f"pérson {i // 4}" if i % 5 else "" for i in range(ROWS)]} if version != 1 else {}),
        },
        views={file_format.ROW: [row for row, _ in views], file_format.NUMBER: [number for _, number in views]},
        failures=[("broken.jpg", "truncated"), ("empty.jpg", "empty file")],
        sources=[str(folder / "rows.journal")],
        **answers(version),
    )
    with store_lock(folder) as lock:
        publish(publication, lock)
    return target


@pytest.mark.parametrize(
    ("version", "digest"),
    [
        (1, "fab448652313cc3a72fb41a54632e25c4714a9f473612c06848284bcb1fe5db9"),
        (2, "6de25c0bc4c4a7aed0a7a73ba05da1a0f9ad6d998c34bd16a74cd5d5b90137f4"),
        (3, "08fd83fc97cbaf1cbeb321562aff30e97ca94743c4553366e9eea139df3c2334"),
        ("4_multilabel", "afdc6d1bf3de84290178fa39ef4b67606cab117a48403c7f52ad7a0e5350e0af"),
        ("4_regression", "fae39a9345be588687f6f082a935885f024bf30eb282e4708c93253c745b3986"),
    ],
)
def test_a_file_of_before_is_read_and_its_fingerprint_stands(version, digest):
    store = FeatureStore(KEPT[version])
    store.verify()
    assert store.spec == SPEC
    assert store.fingerprint == "b922f8937c647a8f5f9d38c8bf1e71b5a70e2b357f58ab9cd418bf030070638c"
    assert store.content_digest == digest
    assert store.grouped == (version != 1) and set(store.groups[5::5]) == {""}
    assert store.columns == (tuple(COLUMNS) if version in (3, "4_multilabel") else ())
    if store.columns:
        assert np.isnan(store.features("tabular")[::5, 0]).all() and store.features("tabular")[7].tolist() == [1.75, 1]


@pytest.mark.parametrize("version", KEPT)
def test_the_same_inputs_give_the_same_bytes(tmp_path, version):
    assert write_again(tmp_path, version).read_bytes() == KEPT[version].read_bytes()


def test_a_file_of_version_4_holds_what_was_asked():
    store = FeatureStore(KEPT["4_multilabel"])
    assert store.task == "multilabel" and store.targets.dtype == np.uint8
    assert store.targets[:3].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]] and not store.labels.any()
    assert store.class_counts.tolist() == [12, 8, 2]
    assert store.samples([1])[0].values[:3] == (1.0, 0.0, 0.0) and store.samples([1])[0].values[3:] == (0.25, 1.0)
    store = FeatureStore(KEPT["4_regression"])
    assert store.task == "regression" and store.class_names == ("age at scan",)
    assert store.targets.dtype == np.float32 and store.targets[:, 0].tolist() == [i / 8 for i in range(ROWS)]
    assert store.samples()[2].values == (0.25,) and FeatureStore(KEPT[3]).targets is None
