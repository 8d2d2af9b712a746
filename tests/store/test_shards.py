"""Several feature files as one: what is asked for is what one array would give, and damage is named."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import write_images

from featurestore import FeatureStore, extract
from featurestore.errors import CorruptFileError, StoreError
from featurestore.store.reader import find_files, verify_files
from featurestore.store.shards import JoinedRows

OPTIONS = {"backbone": "small_cnn", "weights": "random", "size": 32, "engine": "keras", "progress": False}


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.data())
def test_joined_rows_are_an_array(lengths, data):
    whole = np.arange(3 * sum(lengths), dtype=np.float32).reshape(-1, 3)
    rows = JoinedRows(np.split(whole, np.cumsum(lengths)[:-1]))
    assert rows.shape == whole.shape and len(rows) == len(whole) and rows.nbytes == whole.nbytes and rows.ndim == 2
    part = data.draw(st.slices(len(whole)))
    assert (rows[part] == whole[part]).all()
    assert (np.asarray(rows) == whole).all() and (rows.reshape(len(whole), 3, 1)[:] == whole[..., None]).all()
    chosen = data.draw(st.lists(st.integers(-len(whole), len(whole) - 1))) if len(whole) else []
    assert (rows[chosen] == whole[np.array(chosen, int)]).all() and (
        rows[chosen, 1] == whole[np.array(chosen, int), 1]
    ).all()
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(whole), max_size=len(whole))), bool)
    assert (rows[mask] == whole[mask]).all()
    with pytest.raises(IndexError):
        rows[[len(whole)]]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set with given splits, as one file and as a folder of shards."""
    folder = tmp_path_factory.mktemp("shards")
    for split, (count, seed) in {"train": (6, 0), "validation": (2, 1), "test": (4, 2)}.items():
        write_images(folder / "colours" / split, count, seed=seed)
    one = extract(folder / "colours", folder / "one", views=2, **OPTIONS)
    return one, extract(folder / "colours", folder / "many", views=2, shard_rows=7, **OPTIONS)


@pytest.fixture
def copied(made, tmp_path):
    for file in made[1].path.iterdir():
        (tmp_path / "x.shards").mkdir(exist_ok=True)
        (tmp_path / "x.shards" / file.name).write_bytes(file.read_bytes())
    return tmp_path / "x.shards"


def test_shards_are_one_store(made):
    one, many = (FeatureStore(result.path) for result in made)
    assert len(many) == 36 and repr(many).endswith("36 rows, small_cnn)")
    assert many.ids.tolist() == one.ids.tolist() and many.splits.tolist() == one.splits.tolist()
    assert many.digests.tolist() == one.digests.tolist() and (many.labels == one.labels).all()
    assert (many.features()[:] == one.features()).all() and (many.views()[:] == one.views()).all()
    assert (many.view_rows == one.view_rows).all() and (many.view_numbers == one.view_numbers).all()
    assert many.samples() == one.samples() and many.samples([3, 30]) == one.samples([3, 30])
    rows = np.array([30, 2, 17])
    assert (many.features()[rows] == one.features()[rows]).all()
    summary = many.summary()
    assert summary["shards"] == 6 and summary["classes"] == one.summary()["classes"]
    assert find_files(made[1].path.parent) == find_files(made[1].path) == [made[1].path]
    assert verify_files(made[1].path).intact == [str(made[1].path)]
    many.close()
    with pytest.raises(StoreError, match="is closed"):
        many.features()


def test_what_is_not_finished_is_not_seen(copied):
    (copied / "index.json").unlink()
    with pytest.raises(StoreError, match="its extraction is under way, or was interrupted"):
        FeatureStore(copied)
    with pytest.raises(StoreError, match="no feature file"):
        find_files(copied.parent)


def test_a_damaged_folder_is_named(copied, made):
    index = json.loads((copied / "index.json").read_text())

    def with_index(**changes):
        (copied / "index.json").write_text(json.dumps(index | changes))
        return FeatureStore(copied)

    for changes, said in (
        ({"format": "other"}, "'other' of version 1"),
        ({"format_version": 2}, "upgrade featurestore"),
        ({"shards": []}, "names no shards"),
        ({"shards": [{"file": "../x.h5", "rows": 1, "content_digest": ""}]}, "or files that are none"),
        ({"shards": index["shards"][:1] * 2}, "names no shards, or"),
        ({"repeats": [99]}, "names rows that no shard has"),
        ({"shards": 3}, "not an index of shards"),
    ):
        with pytest.raises(CorruptFileError, match=said):
            with_index(**changes)
    with_index()
    (copied / "00001.h5").write_bytes(made[0].path.read_bytes())  # a whole file of the same spec: rows come twice
    again = with_index()
    assert len(again) == 36 - 7 + 36 and not (again.splits == "duplicate").any()
    (copied / "00001.h5").unlink()
    with pytest.raises(StoreError, match=r"00001.h5: this shard is gone"):
        FeatureStore(copied)
    (copied / "00001.h5").write_bytes(b"nothing")
    with pytest.raises(CorruptFileError, match=r"00001.h5: not a readable feature file"):
        FeatureStore(copied)
