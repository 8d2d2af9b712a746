import shutil

import h5py
import numpy as np
import pytest
from storage import SPEC, TWO_TAPS, feature_file

from featurestore import FeatureStore
from featurestore.errors import CorruptFileError, StoreError, UnsafeFileError
from featurestore.store import file_format
from featurestore.store.reader import find_file, find_files, verify_files


@pytest.fixture
def file(tmp_path):
    return feature_file(tmp_path)


def test_everything_comes_back(file):
    store = FeatureStore(file)
    assert len(store) == 30
    assert store.spec == SPEC
    assert store.dataset == "data"
    assert store.class_names == ("a", "b", "ç")
    assert store.ids[3] == store.paths[3] == "ä/3.jpg"
    assert store.labels.tolist() == [i % 3 for i in range(30)]
    assert store.failures == (("broken.jpg", "truncated"),)
    assert store.provenance["weights"] == "imagenet"
    assert store.features().shape == (30, 7)
    assert set(store.rows("train")) | set(store.rows("validation")) | set(store.rows("test")) == set(range(30))
    store.verify()


def test_features_are_mapped_and_read_only(file):
    features = FeatureStore(file).features()
    assert isinstance(features, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        features[0, 0] = 1


def test_an_open_store_outlives_its_replacement(file, tmp_path):
    store = FeatureStore(file)
    before = np.array(store.features())
    (tmp_path / "new").mkdir()
    feature_file(tmp_path / "new", rows=5).replace(file)
    np.testing.assert_array_equal(store.features(), before)
    assert len(FeatureStore(file)) == 5


@pytest.mark.parametrize("names", [["a", "bb", ""], ["a", "ä/b", "caf\udce9"], ["日本", "x" * 300, "a"]])
def test_texts_one_by_one_are_those_of_the_arrays(names):
    raw = file_format.encode(names)
    assert list(file_format.decode_each(raw)) == file_format.decode(raw).tolist() == names


def test_several_taps(tmp_path):
    store = FeatureStore(feature_file(tmp_path, spec=TWO_TAPS))
    assert store.taps == ("block4_pool", "block5_pool")
    assert store.features("block5_pool").shape == (30, 8)
    with pytest.raises(StoreError, match="name a tap: it has block4_pool, block5_pool"):
        store.features()
    with pytest.raises(StoreError, match="no tap 'block9'"):
        store.features("block9")


def test_a_file_with_more_class_names_than_an_hdf5_attribute_used_to_hold(tmp_path):
    file = feature_file(tmp_path)
    names = [f"class number {i}" for i in range(20_000)]
    import json
    from dataclasses import replace

    from storage import publication

    from featurestore.store.writer import write

    write(replace(publication(tmp_path), class_names=names))
    assert FeatureStore(file).class_names == tuple(json.loads(json.dumps(names)))


def test_finding_files(file, tmp_path):
    assert find_file(file) == find_file(tmp_path) == file
    shutil.copy(file, tmp_path / "other.h5")
    assert find_files(tmp_path) == [file, tmp_path / "other.h5"]
    with pytest.raises(StoreError, match=r"2 feature files: name one of data.h5, other.h5"):
        find_file(tmp_path)
    with pytest.raises(StoreError, match="no such file or folder"):
        find_file(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="no feature file"):
        find_file(tmp_path / "empty")


# ------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize("keep", [0, 1, 100, 2000, -200, -1])
def test_a_truncated_file_is_refused(file, keep):
    raw = file.read_bytes()
    file.write_bytes(raw[:keep])
    with pytest.raises(CorruptFileError, match=r"data\.h5"):
        FeatureStore(file)


def test_verify_finds_one_flipped_bit_anywhere_in_the_data(file):
    with h5py.File(file) as opened:
        found = [opened[name] for name in file_format.schema(SPEC.tap_names, 1)]
        names = [(d.id.get_offset(), d.nbytes) for d in found if d.nbytes]
    raw = file.read_bytes()
    for offset, nbytes in names:
        for where in (offset, offset + nbytes - 1):
            damaged = bytearray(raw)
            damaged[where] ^= 1
            file.write_bytes(damaged)
            with pytest.raises(CorruptFileError):
                FeatureStore(file).verify()
    file.write_bytes(raw)
    FeatureStore(file).verify()


def test_the_digest_does_not_depend_on_the_size_of_blocks(tmp_path, monkeypatch):
    """A row may be larger than the memory: one flattened map of a file from anybody."""
    store = FeatureStore(feature_file(tmp_path))
    for size in (1, 13, 28, 100):
        monkeypatch.setattr(file_format, "BLOCK_BYTES", size)
        store.verify()
        with h5py.File(store.path) as opened:
            assert max(block.nbytes for block in file_format._pieces(opened["features"])) <= max(size, 4)


def test_verify_files_names_the_damaged_one(file, tmp_path):
    other = tmp_path / "other.h5"
    shutil.copy(file, other)
    assert verify_files(tmp_path).intact == [str(file), str(other)]
    with h5py.File(other, "r+") as opened:
        opened["features"][3, 3] += 1
    with pytest.raises(CorruptFileError, match=r"other\.h5: content digest"):
        verify_files(tmp_path)


@pytest.mark.parametrize(
    ("attribute", "value", "error"),
    [
        ("spec", SPEC.to_json().replace("224", "225"), "fingerprint does not match"),
        ("format", "other", "upgrade featurestore"),
        ("class_names", '["a"]', "labels point outside"),
        ("class_names", "3", "not a readable feature file"),
        ("provenance", "{", "not a readable feature file"),
    ],
)
def test_altered_attributes(file, attribute, value, error):
    with h5py.File(file, "r+") as opened:
        opened.attrs[attribute] = np.bytes_(value)
    with pytest.raises(CorruptFileError, match=error):
        FeatureStore(file)


def test_a_newer_format_is_named(file):
    with h5py.File(file, "r+") as opened:
        opened.attrs["format_version"] = np.int64(file_format.FORMAT_VERSION + 1)
    with pytest.raises(CorruptFileError, match=f"version {file_format.FORMAT_VERSION + 1}, this program reads"):
        FeatureStore(file)


def test_foreign_files(tmp_path):
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(CorruptFileError, match="not a readable feature file"):
        FeatureStore(tmp_path / "text.h5")
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["features"] = np.zeros((3, 3))
    with pytest.raises(CorruptFileError, match="not one written by featurestore"):
        FeatureStore(tmp_path / "plain.h5")
    with pytest.raises(StoreError, match="no such feature file"):
        FeatureStore(tmp_path / "nothing.h5")


# ------------------------------------------------------------------------------------- hostile files


def external_storage(file, secret):
    """h5py would read any file of the machine as if it were features."""
    del file["features"]
    file.create_dataset("features", (30, 1), "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def external_label(file, secret):
    del file["label"]
    file.create_dataset("label", (30,), "i4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def external_link(file, secret):
    del file["features"]
    file["features"] = h5py.ExternalLink(str(secret), "/features")


def soft_link(file, secret):
    del file["path"]
    file["path"] = h5py.SoftLink("/id")


def failures_link(file, secret):
    del file["failures/path"]
    file["failures/path"] = h5py.ExternalLink(str(secret), "/id")


def virtual_dataset(file, secret):
    del file["features"]
    virtual = h5py.VirtualLayout((30, 7), "f4")
    virtual[:] = h5py.VirtualSource(str(secret), "features", (30, 7))
    file.create_virtual_dataset("features", virtual)


def terabytes_never_allocated(file, secret):
    del file["label"]
    file.create_dataset("label", (2**40,), "i4")


def terabytes_compressed(file, secret):
    del file["label"]
    file.create_dataset("label", (2**40,), "i4", chunks=(1024,), compression="gzip")


def variable_length(file, secret):
    del file["id"]
    file.create_dataset("id", data=["x"] * 30, dtype=h5py.string_dtype())


def references(file, secret):
    del file["label"]
    file.create_dataset("label", data=[file["id"].ref] * 30, dtype=h5py.ref_dtype)


def compound(file, secret):
    del file["features"]
    file.create_dataset("features", (30,), np.dtype([("a", "f4"), ("b", "f4")]))


def other_length(file, secret):
    del file["label"]
    file["label"] = np.zeros(7, "i4")


def label_is_a_group(file, secret):
    del file["label"]
    file.create_group("label/deeper")


def features_below_features(file, secret):
    del file["features"]
    file["features/last/deeper"] = np.zeros((30, 3), "f4")


def something_more(file, secret):
    file["payload"] = np.zeros(3)


def variable_length_attribute(file, secret):
    file.attrs["class_names"] = '["a", "b", "c"]'


def big_endian(file, secret):
    del file["features"]
    file["features"] = np.zeros((30, 3), ">f4")


HOSTILE = [
    external_storage, external_label, external_link, soft_link, failures_link, virtual_dataset,
    terabytes_never_allocated, terabytes_compressed, variable_length, references, compound, other_length,
    label_is_a_group, features_below_features, something_more, variable_length_attribute, big_endian,
]  # fmt: skip


@pytest.mark.parametrize("attack", HOSTILE, ids=lambda attack: attack.__name__)
def test_hostile_files_are_refused_before_a_value_is_read(file, tmp_path, attack):
    (tmp_path / "other").mkdir()
    secret = feature_file(tmp_path / "other")
    with h5py.File(file, "r+") as opened:
        attack(opened, secret)
    with pytest.raises(CorruptFileError, match=r"data\.h5") as refused:
        FeatureStore(file)
    if attack in (external_storage, external_label, external_link, soft_link, virtual_dataset, terabytes_compressed):
        assert isinstance(refused.value, UnsafeFileError)


def test_metadata_beyond_the_budget_is_refused(file, monkeypatch):
    monkeypatch.setattr(file_format, "SPARE_BYTES", 1000)
    monkeypatch.setattr(file_format, "ROW_BYTES", 10)
    with pytest.raises(UnsafeFileError, match="of 1,310: file refused"):
        FeatureStore(file)


def test_a_file_is_read_whatever_locks_others_hold(file):
    """Some network file systems know no locks, and others hang over them; a published file is never written to."""
    fcntl = pytest.importorskip("fcntl")
    with file.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(OSError, match="lock"):
            h5py.File(file, "r", locking=True)
        assert len(FeatureStore(file)) == 30 and find_file(file.parent) == file
