"""A store at an address, a real S3 server's: whoever comes next goes on with what is there, and reads it by address."""

import shutil

import numpy as np
import pytest
from pictures import write_images
from servers import s3

from featurestore import FeatureStore, extract
from featurestore.errors import AddressError, StoreError
from featurestore.store.place import Place
from featurestore.store.reader import find_files
from heads import fit_head

OPTIONS = {"backbone": "small_cnn", "weights": "random", "size": 32, "engine": "keras", "progress": False}
STORE = "s3://bucket/features"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Go to another machine: one whose user has nothing in the cache."""

    def go(name: str) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))

    go("first")
    return go


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    (tmp_path / "nothing").mkdir()
    with s3(monkeypatch, tmp_path / "nothing") as files:
        yield files


@pytest.fixture
def source(tmp_path):
    return write_images(tmp_path / "colours", 8)


def test_a_file_at_an_address_is_gone_on_with(source, bucket, machine, tmp_path):
    first = extract(source, STORE, **OPTIONS)
    name = first.path.name
    assert first.notes == [f"the file is at {STORE}/{name}"]
    assert first.computed == 24 and bucket.cat_file(f"{STORE}/{name}") == first.path.read_bytes()
    assert first.path.read_bytes() == extract(source, tmp_path / "here", **OPTIONS).path.read_bytes()
    machine("second")
    shutil.copytree(write_images(tmp_path / "more", 1, seed=9), source, dirs_exist_ok=True)
    grown = extract(source, STORE, **OPTIONS)
    assert grown.rows == 27 and grown.computed == 3
    machine("first")
    again = extract(source, STORE, **OPTIONS)
    assert again.computed == 0 and not again.written and len(FeatureStore(again.path)) == 27
    assert fit_head(f"{STORE}/{name}").metrics


def test_parts_on_machines_that_share_nothing_else_make_one_folder(source, bucket, machine, tmp_path):
    whole = extract(source, tmp_path / "here", shard_rows=5, **OPTIONS)
    address = f"{STORE}/{whole.path.name}"
    machine("first")
    first = extract(source, STORE, shard_rows=5, shard="1/2", **OPTIONS)
    assert first.notes == ["3 of 5 files are there: the folder is read when all are"]
    with pytest.raises(StoreError, match="no folder of shards there"):
        find_files(address)
    machine("second")
    second = extract(source, STORE, shard_rows=5, shard="2/2", **OPTIONS)
    assert second.notes == [f"the folder is at {address}"] and second.computed == 10
    for path in whole.path.glob("*.h5"):
        assert bucket.cat_file(f"{address}/{path.name}") == path.read_bytes()
    machine("third")
    (found,) = find_files(address)
    there, here = FeatureStore(found), FeatureStore(whole.path)
    assert there.ids.tolist() == here.ids.tolist() and there.splits.tolist() == here.splits.tolist()
    assert (there.features()[:] == np.asarray(here.features())).all()
    shutil.copytree(write_images(tmp_path / "more", 2, seed=9), source, dirs_exist_ok=True)
    assert extract(source, STORE, **OPTIONS).computed == 6
    assert len(FeatureStore(find_files(address)[0])) == 30


def test_where_nothing_can_be_written(source, bucket, machine):
    with pytest.raises(StoreError, match=r"nothing can be written there: give --store a folder, or s3://"):
        extract(source, "https://example.org/features", **OPTIONS)
    with pytest.raises(AddressError, match=r"s3://nobodys/features/.*: cannot be (had|written) .*check your rights"):
        extract(source, "s3://nobodys/features", **OPTIONS)


def test_a_folder_is_a_place_without_an_address(tmp_path):
    place = Place.of(tmp_path / "store")
    assert place == Place(tmp_path / "store") and place.name == str(tmp_path / "store")
    place.pull(tmp_path / "x.h5")
    place.push(tmp_path / "x.h5")
