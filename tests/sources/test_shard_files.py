"""Which files an address means, and what their names say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_files import tree

from featurestore.errors import SourceError
from featurestore.sources.shard_files import OpenFiles, Stream, open_file, shard_files, shards_name


def names(where):
    return shard_files(str(where), ".tar").names


def test_files_folders_and_patterns(tmp_path):
    tree(tmp_path, "a-0.tar", "a-1.tar", "b/c-10.tar", "b/c-9.tar", "b/x.txt", "[odd].tar", ".hidden.tar")
    assert names(tmp_path) == ["[odd].tar", "a-0.tar", "a-1.tar", "b/c-10.tar", "b/c-9.tar"]
    assert names(f"{tmp_path}/a-*.tar") == ["a-0.tar", "a-1.tar"]
    assert names(f"{tmp_path}/**/c-*.tar") == ["b/c-10.tar", "b/c-9.tar"]
    assert names(tmp_path / "[odd].tar") == ["[odd].tar"]
    # A range names files, there or not: who opens them says which is not.
    assert names(f"{tmp_path}/{{a-0,b/c-{{08..10}}}}.tar") == ["a-0.tar", "b/c-08.tar", "b/c-09.tar", "b/c-10.tar"]
    with pytest.raises(SourceError, match=r"no \.tar file is there"):
        names(tmp_path / "*.zip")


@given(st.integers(0, 999), st.integers(0, 30), st.integers(0, 4))
def test_a_range_counts_with_leading_zeros(first, more, width):
    written = f"x-{{{first:0{width}d}..{first + more:0{width}d}}}.tar"
    padded = any(len(str(n)) < width for n in (first, first + more))
    wide = max(width, len(str(first + more))) if padded else 0
    assert sorted(names(written)) == sorted(f"x-{n:0{wide}d}.tar" for n in range(first, first + more + 1))


def test_the_name_of_a_data_set(tmp_path):
    tree(tmp_path, "pets/train-0.tar")
    found = [f"{tmp_path}/pets", f"{tmp_path}/pets/", f"{tmp_path}/pets/train-0.tar", f"{tmp_path}/pets/*.tar"]
    assert [shards_name(each) for each in found] == ["pets", "pets", "train-0", "pets"]
    assert shards_name("cats-{000..009}.tar") == "cats"


def test_any_place_of_a_file_is_read(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(range(100)))
    file = open_file(str(path))
    assert (file.size, file.read(90, 20), file.read(200, 5)) == (100, bytes(range(90, 100)), b"")
    stream = Stream(file)
    assert (stream.seek(-3, 2), stream.read(2), stream.tell(), stream.read()) == (97, b"ab", 99, b"c")
    several = OpenFiles([str(path)] * 70)
    assert [several[i].read(i, 1)[0] for i in range(70)] == list(range(70))
