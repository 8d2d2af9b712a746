"""A folder of shards: the rows of one file, in whatever way they came to be; nothing is lost or computed twice."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import write_images

from featurestore import ArraySource, FeatureStore, backbones, extract, extract_all, open_source
from featurestore.backbones import Request
from featurestore.backbones.network_cache import NetworkCache
from featurestore.errors import FeatureStoreError, SourceError, StoreError, StoreLockedError
from featurestore.extraction import partition
from featurestore.store.lock import store_lock

OPTIONS = {
    "backbone": "small_cnn",
    "weights": "random",
    "size": 32,
    "engine": "keras",
    "batch_size": 4,
    "progress": False,
}


@pytest.fixture
def source(tmp_path):
    return write_images(tmp_path / "colours", 8)


def files(folder: Path) -> dict[str, bytes]:
    """What must be the same however a run went."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".h5", ".json", ".journal")}


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 20, 20, 3), dtype=np.uint8)


def test_added_images_write_the_last_shard_and_new_ones(source, tmp_path):
    store = tmp_path / "store"
    first = extract(source, store, shard_rows=5, **OPTIONS)
    assert first.rows == first.computed == 24 and first.path.suffix == ".shards"
    before = files(first.path)
    assert sorted(before) == [f"{i:05d}.h5" for i in range(5)] + ["index.json"]
    again = extract(source, store, **OPTIONS)
    assert again.computed == 0 and not again.written and files(first.path) == before
    write_images(tmp_path / "more", 1, seed=9)
    for name in ("blue", "green", "red"):  # whose names come before all others
        (tmp_path / "more" / name / "9-000.png").rename(source / name / "!.png")
    grown = extract(source, store, **OPTIONS)
    assert grown.computed == 3 and grown.rows == 27
    after = files(first.path)
    assert {name for name in after if before.get(name) != after[name]} == {"00004.h5", "00005.h5", "index.json"}
    both = FeatureStore(first.path)
    alone = FeatureStore(extract(source, tmp_path / "alone", **OPTIONS).path)
    order = np.argsort(both.ids)
    assert both.ids[order].tolist() == alone.ids.tolist()
    assert (both.features()[order] == alone.features()).all()


def test_a_file_that_is_there_becomes_the_first_shard(source, tmp_path):
    store = tmp_path / "store"
    one = extract(source, store, **OPTIONS)
    before = FeatureStore(one.path)
    splits = dict(zip(before.ids.tolist(), before.splits.tolist(), strict=True))
    write_images(source, 3, seed=9)
    many = extract(source, store, shard_rows=24, **OPTIONS)
    assert not one.path.exists() and many.path == one.path.with_suffix(".shards") and many.computed == 9
    after = FeatureStore(many.path)
    assert splits.items() <= dict(zip(after.ids.tolist(), after.splits.tolist(), strict=True)).items()


def test_a_run_that_was_killed_before_it_moved_the_file(source, tmp_path):
    store = tmp_path / "store"
    one = extract(source, store, **OPTIONS)
    ids = FeatureStore(one.path).ids.tolist()
    partition.taken_over(ids, 24).save(store / "colours.partition")
    write_images(source, 3, seed=9)
    many = extract(source, store, **OPTIONS)
    assert not one.path.exists() and many.computed == 9 and many.rows == 33
    assert FeatureStore(many.path / "00000.h5").ids.tolist() == ids


def test_images_that_are_gone(source, tmp_path):
    store = tmp_path / "store"
    whole = extract(source, store, shard_rows=8, **OPTIONS)
    shutil.move(source / "blue", tmp_path / "blue")
    (source / "green" / "0-000.png").rename(tmp_path / "gone.png")
    with pytest.raises(StoreError, match=r"1 of its 8 rows are of images that the source no longer holds .*--prune"):
        extract(source, store, **OPTIONS)
    (tmp_path / "gone.png").rename(source / "green" / "0-000.png")
    with pytest.raises(StoreError, match=r"00000.h5: the source holds none of its images any more: pass --prune"):
        extract(source, store, **OPTIONS)
    pruned = extract(source, store, prune=True, **OPTIONS)
    assert pruned.rows == 16 and pruned.computed == 0 and set(FeatureStore(whole.path).class_names) == {"green", "red"}


def test_an_image_in_two_shards_stands_in_one_split(source, tmp_path):
    for split in ("train", "test"):
        shutil.copytree(source, tmp_path / "divided" / split)
    (tmp_path / "divided" / "test" / "red" / "0-000.png").write_bytes(b"no image")
    done = extract(tmp_path / "divided", tmp_path / "store", shard_rows=10, **OPTIONS)
    store = FeatureStore(done.path)
    assert "23 images also stand in a stronger split of another shard: left out (split 'duplicate')" in done.notes
    counts = dict(zip(*np.unique(store.splits, return_counts=True), strict=True))
    assert counts == {"duplicate": 23, "test": 23, "train": 1}
    (done.path / "index.json").write_text(
        (done.path / "index.json").read_text().replace('content_digest": "', 'content_digest": "x')
    )
    assert FeatureStore(done.path).splits.tolist() == store.splits.tolist()  # found anew


def test_groups_are_not_divided_by_shards(tmp_path):
    groups = [f"person{i % 9}" for i in range(60)]
    source = ArraySource(pixels(60), np.arange(60) % 2, name="people", groups=groups)
    many = FeatureStore(extract(source, tmp_path / "store", shard_rows=7, **OPTIONS).path)
    assert many.grouped and len(set(zip(many.groups.tolist(), many.splits.tolist(), strict=True))) == 9
    assert set(many.splits.tolist()) <= {"train", "validation", "test"}


def test_parts_make_the_folder_of_one_run(source, tmp_path):
    whole = extract(source, tmp_path / "whole", shard_rows=5, **OPTIONS)
    parts = [extract(source, tmp_path / "store", shard_rows=5, shard=f"{i}/2", **OPTIONS) for i in (2, 1)]
    assert [part.rows for part in parts] == [10, 14]
    assert parts[0].notes == ["2 of 5 files are there: the folder is read when all are"] and not parts[1].notes
    assert files(parts[0].path) == files(whole.path)
    with pytest.raises(StoreError, match=r"24 images are 5 files of up to 5, fewer than 9 parts: pass --shard-rows 3"):
        extract(source, tmp_path / "store", shard="1/9", **OPTIONS)
    for wrong in ("3/2", "0/2", "2", "a/b"):
        with pytest.raises(FeatureStoreError, match="write I/N"):
            extract(source, tmp_path / "store", shard=wrong, **OPTIONS)


def test_a_shard_has_one_writer(source, tmp_path):
    done = extract(source, tmp_path / "store", shard_rows=9, **OPTIONS)
    write_images(source, 1, seed=9)
    with store_lock(done.path, "00001.lock"), pytest.raises(StoreLockedError, match="is writing to this store"):
        extract(source, tmp_path / "store", **OPTIONS)


def test_a_network_that_is_another_one_than_was_recalled_is_planned_twice(source, tmp_path, monkeypatch):
    network = backbones.load(Request("small_cnn", "random", 32, None, ("last",), None))
    recalled = backbones.Outline(**network.facts() | {"flops": {"last": 1}})
    monkeypatch.setattr(NetworkCache, "recall", lambda self, request: recalled)
    assert extract(source, tmp_path / "store", shard_rows=20, **OPTIONS).computed == 24


def test_a_shard_without_a_readable_image_is_passed_over(source, tmp_path):
    for path in (source / "blue").iterdir():
        path.write_bytes(path.name.encode())
    done = extract(source, tmp_path / "store", shard_rows=8, **OPTIONS)
    assert done.rows == 16 and "none of 8 images could be read" in done.notes[0]
    assert len(FeatureStore(done.path)) == 16
    for path in source.glob("*/*"):
        path.write_bytes(path.name.encode())
    with pytest.raises(SourceError, match="none of"):
        extract(source, tmp_path / "other", shard_rows=8, **OPTIONS)


def test_several_backbones_share_their_shards(tmp_path):
    source = ArraySource(pixels(20), np.arange(20) % 2, name="noise")
    networks = {"small_cnn": "random", "mobilenet:alpha=0.25": "random"}
    options = {key: value for key, value in OPTIONS.items() if key not in ("backbone", "weights")}
    one, other = extract_all(source, tmp_path / "store", networks, shard_rows=8, **options)
    assert FeatureStore(one.path).ids.tolist() == FeatureStore(other.path).ids.tolist()


def test_processes_of_a_cluster_make_the_folder_of_one(source, tmp_path):
    whole = extract(source, tmp_path / "whole", shard_rows=9, **OPTIONS)
    shared = extract(source, tmp_path / "store", shard_rows=9, cluster="2", **OPTIONS)
    assert shared.computed == 24 and files(shared.path) == files(whole.path)


SCRIPT = """
import os, signal, sys
from featurestore import extract

def die(stage, done, total):
    if stage == "extracting" and done >= int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

extract(sys.argv[1], sys.argv[2], progress=die, shard_rows=10, backbone="small_cnn", weights="random", size=32,
        engine="keras", batch_size=4)
"""


def test_what_a_killed_run_has_finished_is_kept(source, tmp_path):
    whole = extract(source, tmp_path / "whole", shard_rows=10, **OPTIONS)
    killed = subprocess.run([sys.executable, "-c", SCRIPT, str(source), str(tmp_path / "store"), "18"], check=False)
    assert killed.returncode == -9
    folder = tmp_path / "store" / whole.path.name
    assert (folder / "00000.h5").exists() and not (folder / "index.json").exists()
    done = extract(source, tmp_path / "store", shard_rows=10, **OPTIONS)
    assert done.resumed >= 8 and done.resumed + done.computed == 14 and files(done.path) == files(whole.path)


def test_options(tmp_path, source):
    with pytest.raises(FeatureStoreError, match="shard rows 0: it must be at least 1"):
        extract(source, tmp_path / "store", shard_rows=0, **OPTIONS)
    with pytest.raises(FeatureStoreError, match="both divide the work"):
        extract(source, tmp_path / "store", shard="1/2", cluster="2", **OPTIONS)
    assert len(open_source(source).listing().samples) == 24


def test_each_look_is_a_folder_of_shards(source, tmp_path):
    """Their rows are those of one file for each look."""
    options = {name: value for name, value in OPTIONS.items() if name not in ("backbone", "weights")}
    looks = {"resize": ["squash", "crop"], "crops": 5}
    parts = extract_all(source, tmp_path / "parts", {"small_cnn": "random"}, shard_rows=10, **looks, **options)
    whole = extract_all(source, tmp_path / "whole", {"small_cnn": "random"}, **looks, **options)
    assert [each.look for each in parts] == ["squash-crops5", "crop-crops5"]
    for one, other in zip(parts, whole, strict=True):
        shards, file = FeatureStore(one.path), FeatureStore(other.path)
        assert one.path.suffix == ".shards" and shards.spec == file.spec
        rows = {digest: row for row, digest in enumerate(file.digests)}
        np.testing.assert_array_equal(file.features()[[rows[d] for d in shards.digests]], np.asarray(shards.features()))
