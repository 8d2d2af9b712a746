"""What a file system can hold: links, loops, FIFOs, names that are no text, files that change."""

import os

import pytest
from source_files import link, put, tree

from featurestore.errors import ImageError, SourceError
from featurestore.sources.opener import open_source
from featurestore.sources.samples import Failure


def test_files_that_cannot_be_read_are_failures(tmp_path):
    tree(tmp_path, "a/1.jpg", "b/2.jpg")
    put(tmp_path / "a/empty.jpg", b"")
    os.mkfifo(tmp_path / "a/fifo.jpg")
    link(tmp_path / "b/dangling.jpg", "gone.jpg")
    link(tmp_path / "b/loop.jpg", "loop.jpg")
    link(tmp_path / "b/up", "..")
    calls = []
    dataset = open_source(tmp_path).dataset(lambda *call: calls.append(call))
    assert [s.id for s in dataset.samples] == ["a/1.jpg", "b/2.jpg"]
    assert dataset.failures == [
        Failure(path="a/empty.jpg", reason="empty file"),
        Failure(path="a/fifo.jpg", reason="not a regular file"),
        Failure(path="b/dangling.jpg", reason="no such file"),
        Failure(path="b/loop.jpg", reason="symlink loop"),
        Failure(path="b/up", reason="symlink loop: the folder contains itself"),
    ]
    assert calls[-1] == (6, 6)


def test_no_file_can_be_read(tmp_path):
    put(tmp_path / "a/1.jpg", b"")
    put(tmp_path / "b/2.jpg", b"")
    with pytest.raises(SourceError, match=r"none of its 2 images can be read \(first: 'a/1.jpg', empty file\)"):
        open_source(tmp_path).dataset()


def test_a_folder_may_be_called_like_an_image(tmp_path):
    tree(tmp_path, "a/x.jpg/1.png", "b/2.jpg")
    assert [s.id for s in open_source(tmp_path).listing().samples] == ["a/x.jpg/1.png", "b/2.jpg"]


def test_symlinked_folders_are_followed(tmp_path):
    tree(tmp_path / "elsewhere", "1.jpg", "deep/2.jpg")
    tree(tmp_path / "pets", "dog/3.jpg")
    link(tmp_path / "pets/cat", tmp_path / "elsewhere")
    link(tmp_path / "pets/dog/4.jpg", tmp_path / "elsewhere/1.jpg")
    assert [s.id for s in open_source(tmp_path / "pets").listing().samples] == [
        "cat/1.jpg",
        "cat/deep/2.jpg",
        "dog/3.jpg",
        "dog/4.jpg",
    ]


def test_symlink_loops_end(tmp_path):
    tree(tmp_path, "a/1.jpg", "b/2.jpg")
    link(tmp_path / "a/up", "..")
    link(tmp_path / "a/self", "self")
    link(tmp_path / "b/c/down", "../../b")
    dataset = open_source(tmp_path).listing()
    assert [s.id for s in dataset.samples] == ["a/1.jpg", "b/2.jpg"]
    assert [(f.path, f.reason.split(":")[0]) for f in dataset.failures] == [
        ("a/up", "symlink loop"),
        ("b/c/down", "symlink loop"),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_listed(tmp_path):
    tree(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg")
    (tmp_path / "c").chmod(0)
    try:
        assert open_source(tmp_path).listing().failures == [Failure(path="c", reason="permission denied")]
    finally:
        (tmp_path / "c").chmod(0o700)


def test_names_that_are_not_utf8_survive(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    try:
        tree(tmp_path, f"a/{name}", "b/2.jpg")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    source = open_source(tmp_path)
    sample = source.dataset().samples[0]
    assert os.fsencode(sample.path) == b"a/caf\xe9.jpg"
    assert source.read(sample) == b"caf\xe9.jpg@a"
    (tmp_path / "labels.csv").write_bytes(b"file,label\na/caf\xe9.jpg,x\nb/2.jpg,y\n")
    assert open_source(tmp_path / "labels.csv").dataset().samples[0].digest == sample.digest


def test_deep_trees(tmp_path):
    tree(tmp_path, "a/" + "d/" * 900 + "1.jpg", "b/2.jpg")
    assert len(open_source(tmp_path).dataset().samples) == 2


def test_a_file_that_changes_is_noticed(tmp_path):
    tree(tmp_path, "a/1.jpg", "b/2.jpg")
    source = open_source(tmp_path)
    sample = source.dataset().samples[0]
    put(tmp_path / "a/1.jpg", b"other")
    with pytest.raises(ImageError, match="changed since it was read first"):
        source.read(sample)
    (tmp_path / "a/1.jpg").unlink()
    with pytest.raises(ImageError, match="no such file"):
        source.read(sample)
