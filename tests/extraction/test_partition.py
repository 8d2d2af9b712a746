"""Each image keeps its shard, whatever comes after it; a damaged file is refused."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import CorruptFileError
from featurestore.extraction import partition
from featurestore.extraction.partition import Partition, hashes, read, taken_over

IDS = st.lists(st.text("abc/é", min_size=1, max_size=4), unique=True)


@given(st.integers(1, 5), st.lists(IDS, max_size=4))
def test_images_keep_their_shards_and_new_ones_fill_up_the_last(shard_rows, batches):
    found, placed = Partition(shard_rows), {}
    for ids in batches:
        before, count = dict(placed), found.count
        found = found.with_images(hashes(ids))
        shards, there = found.find(hashes(ids))
        assert there.all()
        placed |= dict(zip(ids, shards.tolist(), strict=True))
        assert all(placed[key] == shard for key, shard in before.items())
        new = [placed[key] for key in ids if key not in before]
        assert new == sorted(new) and all(shard >= count - 1 for shard in new)
    sizes = Counter(placed.values())
    assert all(sizes[shard] == shard_rows for shard in range(found.count - 1))
    assert (np.diff(found.keys.astype(object)) > 0).all()


def test_what_was_one_file_is_the_first_shard():
    found = taken_over(["b", "a", "c"], 2).with_images(hashes(["a", "d", "e", "f"]))
    assert found.taken == 3 and found.find(hashes("abcdef"))[0].tolist() == [0, 0, 0, 1, 1, 2]


def test_images_whose_hashes_are_the_same_stay_together():
    found = Partition(1).with_images(np.array([7, 5, 7, 3], np.uint64))
    assert found.find(np.array([7, 5, 3], np.uint64))[0].tolist() == [0, 1, 2]


def test_the_file_is_read_as_it_was_written(tmp_path, monkeypatch):
    path = tmp_path / "flowers.partition"
    assert read(path) is None
    made = taken_over(["a"], 3).with_images(hashes("abcde"))
    made.save(path)
    again = read(path)
    assert (again.shard_rows, again.taken) == (3, 1)
    assert (again.keys == made.keys).all() and (again.shards == made.shards).all()
    raw = path.read_bytes()
    for damaged in (b"", raw[:20], raw[:-1], raw[:-1] + b"x", b"FSP2" + raw[4:]):
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=r"flowers.partition: damaged: copy it anew"):
            read(path)
    monkeypatch.setattr(partition, "_LIMIT", 30)
    path.write_bytes(raw)
    with pytest.raises(Exception, match=r"flowers.partition: cannot be read"):
        read(path)
