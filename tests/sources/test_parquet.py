"""Images in Parquet files."""

import pickle
import random
import sys
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from pyarrow.parquet import write_table
from shards import picture, write_parquet
from source_files import refused, rows

from featurestore import FeatureStore, extract, open_source
from featurestore.errors import ImageError, MissingDependencyError
from featurestore.sources import parquet_reader
from featurestore.sources.digest_cache import DigestCache

PETS = ("cat", "dog", "eel")


def pictures(count, first=0):
    return [picture(i, i) for i in range(first, first + count)]


def hub(folder, rows_each=7):
    """A data set as it lies on the hub of Hugging Face."""
    for i, (split, number) in enumerate([("train", 0), ("train", 1), ("test", 0)]):
        first = i * rows_each
        write_parquet(
            folder / f"data/{split}-{number:05d}-of-0000{2 - i // 2}.parquet",
            pictures(rows_each, first),
            [n % 3 for n in range(first, first + rows_each)],
            PETS,
        )
    return folder


def test_the_layout_of_hugging_face(tmp_path):
    source = open_source(hub(tmp_path / "pets"))
    assert (source.name, source.class_names) == ("pets", PETS)
    found = rows(source)
    assert found[0] == ("data/test-00000-of-00001.parquet/0",) * 2 + ("eel", "test")
    assert [row[3] for row in found] == ["test"] * 7 + ["train"] * 14
    samples = source.dataset().samples
    assert [source.read(each) for each in samples] == pictures(7, 14) + pictures(14)
    assert [each.label for each in samples] == [n % 3 for n in [*range(14, 21), *range(14)]]
    one = open_source(tmp_path / "pets/data/train-00001-of-00002.parquet")
    assert (one.name, {row[3] for row in rows(one)}) == ("train-00001-of-00002", {"train"})
    assert len(rows(open_source(f"{tmp_path}/pets/data/train-*.parquet"))) == 14


def test_extracted_by_two_threads_and_resumed(tmp_path):
    hub(tmp_path / "pets")
    options = {"backbone": "small_cnn", "weights": "random", "size": 32, "engine": "keras"}
    store = FeatureStore(extract(tmp_path / "pets", tmp_path / "store", **options).path)
    assert (len(store), store.class_names) == (21, PETS)
    source = open_source(tmp_path / "pets")
    assert [source.read(each) for each in store.samples([20, 0])] == [picture(13, 13), picture(14, 14)]
    assert extract(tmp_path / "pets", tmp_path / "store", **options).computed == 0


def test_columns_that_are_chosen(tmp_path):
    path = tmp_path / "some.parquet"
    table = pa.table(
        {
            "id": [1, 2, 3],
            "photo": pa.array(pictures(3), pa.large_binary()),
            "fold": ["train", "val", "test"],
            "animal": pa.array(["dog", "cat", None]).dictionary_encode(),
            "patient": [7, 7, 8],
        }
    )
    write_table(table, path)
    assert "choose it with --label-column: its columns are id (int64), photo (large_binary)" in refused(path)
    source = open_source(path, label_column="animal", split_column="fold", group_column="patient")
    assert [row[2:] for row in rows(source)] == [("dog", "train"), ("cat", "validation")]
    assert [each.group for each in source.listing().samples] == ["7", "7"]
    assert source.listing().skipped == {"without a label": 1}
    assert "does not hold the bytes of images" in refused(path, path_column="id", label_column="animal")
    assert "no column 'x'" in refused(path, label_column="x")
    assert "unknown split '1'" in refused(path, label_column="animal", split_column="id")
    assert "does not hold whole numbers or texts" in refused(path, label_column="photo")
    write_table(table.drop(["photo"]), path)
    assert "no column of images" in refused(path, label_column="animal")


def test_numbers_without_names_and_names_that_lack(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", pictures(3), [10, 9, -1])
    assert open_source(path).class_names == ("-1", "9", "10")
    path = write_parquet(tmp_path / "b.parquet", pictures(5), [0, 1, 3, -1, None], PETS)
    listing = open_source(path).listing()
    assert len(listing.samples) == 2 and listing.skipped == {"without a label": 2}
    assert listing.failures[0].reason == "label '3' is none of the 3 class names in its metadata"
    assert "only one class" in refused(write_parquet(tmp_path / "c.parquet", pictures(2), ["x", "x"]))
    twice = write_parquet(tmp_path / "d.parquet", pictures(2), [0, 1], ["x", "x"])
    assert "class name 'x' stands twice" in refused(twice)


def test_names_of_images_tell_groups(tmp_path):
    paths = ["person1_0.png", "person1_1.png", "person2.png"]
    path = write_parquet(tmp_path / "a.parquet", pictures(3), [0, 1, 1], paths=paths)
    source = open_source(path, group_pattern=r"person\d")
    assert source.listing().samples[0].path == "a.parquet/0/person1_0.png"
    assert [each.group for each in source.listing().samples] == ["person1", "person1", "person2"]


def test_texts_that_no_file_can_hold(tmp_path):
    paths = ["x\0y.png", None, None]
    path = write_parquet(tmp_path / "a.parquet", pictures(3), ["a\0b", "c", "c"], paths=paths)
    made = extract(path, tmp_path, backbone="small_cnn", weights="random", size=32, engine="keras")
    store = FeatureStore(made.path)
    assert store.class_names == ("a\ufffdb", "c") and store.paths[0] == "a.parquet/0/x\ufffdy.png"
    for name in ("\0", "\ud800"):
        assert "is no text" in refused(write_parquet(path, pictures(2), [0, 1], ["a", name]))


def test_images_that_cannot_be_read(tmp_path):
    images = [picture(0), None, b"", b"no image"]
    path = write_parquet(tmp_path / "a.parquet", images, [0, 1, 0, 1])
    source = open_source(path)
    found = source.dataset()
    assert [each.id for each in found.samples] == ["a.parquet/0", "a.parquet/3"]
    assert [each.reason for each in found.failures] == ["no bytes in the Parquet file", "empty file"]


def test_damaged_files(tmp_path):
    folder = hub(tmp_path / "pets")
    first, second = sorted(folder.glob("data/train*"))
    second.write_bytes(second.read_bytes()[:-100])
    source = open_source(folder)
    (failure,) = source.listing().failures
    assert failure.path == "data/train-00001-of-00002.parquet" and "cut off, or damaged" in failure.reason
    assert len(source.listing().samples) == 14
    raw = bytearray(first.read_bytes())
    raw[4:60] = bytes(56)  # the first page of images: the labels can still be read
    first.write_bytes(raw)
    found = open_source(folder).dataset()
    assert any("cannot be read from the Parquet file" in each.reason for each in found.failures)
    assert [each.id for each in found.samples if "test" in each.id] == [
        f"data/test-00000-of-00001.parquet/{i}" for i in range(7)
    ]
    first.write_bytes(b"PAR1" * 9)
    write_parquet(tmp_path / "pets/data/test-00000-of-00001.parquet", pictures(2), [0, 1]).write_bytes(b"")
    assert "cut off, or damaged" in refused(folder)
    assert "no such file" in refused(tmp_path / "gone.parquet")
    write_parquet(tmp_path / "two/a.parquet", pictures(2), [0, 1])
    write_table(pa.table({"x": [1]}), tmp_path / "two/b.parquet")
    assert "no column 'image.bytes'" in open_source(tmp_path / "two").listing().failures[0].reason


def test_rows_in_any_order_by_many_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_reader, "_AT_ONCE", 5000)
    monkeypatch.setattr(parquet_reader, "_KEPT", 20_000)
    write_parquet(tmp_path / "pets/a.parquet", pictures(150), [i % 3 for i in range(150)], row_group_size=70)
    write_parquet(tmp_path / "pets/b.parquet", pictures(50, 150), [i % 3 for i in range(50)], row_group_size=70)
    source = open_source(tmp_path / "pets")
    samples = list(source.dataset().samples)
    random.Random(0).shuffle(samples)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(source.read, samples))
    assert found == [picture(each.index, each.index) for each in samples]
    assert source._rows._bytes <= 25_000


def test_a_part_reads_its_samples_in_another_process(tmp_path, monkeypatch):
    hub(tmp_path / "pets")
    monkeypatch.chdir(tmp_path)
    source = open_source("pets")
    samples = source.dataset().samples
    some = [samples[i] for i in (20, 8, 3)]
    raw = pickle.dumps(source.part(some))
    assert len(raw) < 2000
    monkeypatch.chdir("/")
    part = pickle.loads(raw)
    assert [part.read(each) for each in some] == [picture(n, n) for n in (13, 1, 17)]
    assert part.part(some[1:]).read(some[2]) == picture(17, 17)
    assert part._stamps(some) == source._stamps(some)


def test_unchanged_files_are_not_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr("featurestore.system.stamps.MARGIN_NS", -(10**12))
    hub(tmp_path / "pets")
    read = []
    load = parquet_reader.RowReader.read
    monkeypatch.setattr(parquet_reader.RowReader, "read", lambda *args: read.append(args) or load(*args))

    def digests():
        found = open_source(tmp_path / "pets").dataset(cache=DigestCache(tmp_path / "cache"))
        return [each.digest for each in found.samples], len(read)

    first, count = digests()
    assert count == 21
    # A file more moves all rows behind it, but they stand where they stood in their own.
    write_parquet(tmp_path / "pets/data/test-00000-of-00000.parquet", pictures(4, 50), [0, 1, 2, 0], PETS)
    second, count = digests()
    assert (second[4:], count) == (first, 25)


def test_a_file_that_changes_is_noticed(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", pictures(4), [0, 1, 0, 1])
    samples = open_source(path).dataset().samples
    other = open_source(write_parquet(path, pictures(3, 10), [0, 1, 0]))
    with pytest.raises(ImageError, match="changed since it was read first"):
        other.read(samples[0])
    with pytest.raises(ImageError):
        other.read(samples[3])


def test_pyarrow_is_named_where_it_is_missing(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "a.parquet", pictures(2), [0, 1])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingDependencyError, match=r"featurestore\[parquet\]"):
        open_source(path)
