"""Where samples come from: folder trees, manifests, arrays; and what is said when they cannot serve."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from featurestore.errors import ImageError, SourceError
from featurestore.images.decode import decode
from featurestore.sources.arrays import ArraySource
from featurestore.sources.base import digest_of
from featurestore.sources.opener import open_source
from featurestore.sources.samples import Failure
from featurestore.sources.split_names import split_of


def put(path, data=None):
    """A file and the folders above it; by default with its own path as its bytes, so that digests differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.fsencode(path.name) + b"@" + os.fsencode(path.parent.name) if data is None else data)
    return path


def tree(root, *paths):
    for path in paths:
        put(root / path)
    return root


def table(path, *lines, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding=encoding)
    return path


def rows(source):
    return [(s.id, s.path, source.class_names[s.label], s.split) for s in source.listing().samples]


def refused(*args, **options):
    with pytest.raises(SourceError) as caught:
        open_source(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Folder trees


def test_class_folders(tmp_path):
    tree(tmp_path / "pets", "dog/b.jpg", "cat/z.PNG", "cat/deep/er/a.jpeg")
    source = open_source(tmp_path / "pets")
    assert source.name == "pets" and source.class_names == ("cat", "dog")
    assert rows(source) == [
        ("cat/deep/er/a.jpeg", "cat/deep/er/a.jpeg", "cat", ""),
        ("cat/z.PNG", "cat/z.PNG", "cat", ""),
        ("dog/b.jpg", "dog/b.jpg", "dog", ""),
    ]
    assert {s.digest for s in source.listing().samples} == {""}


def test_the_name_may_be_given_and_keeps_a_folders_dot(tmp_path, monkeypatch):
    tree(tmp_path / "pets.v1", "dog/b.jpg", "cat/z.png")
    assert open_source(tmp_path / "pets.v1").name == "pets.v1"
    assert open_source(tmp_path / "pets.v1", name="mine").name == "mine"
    monkeypatch.chdir(tmp_path / "pets.v1")
    assert open_source(".").name == "pets.v1"


def test_the_dataset_has_digests(tmp_path):
    tree(tmp_path, "dog/b.jpg", "cat/a.jpg")
    source = open_source(tmp_path)
    calls = []
    dataset = source.dataset(lambda done, total: calls.append((done, total)))
    assert [s.digest for s in dataset.samples] == [
        hashlib.sha256((tmp_path / s.path).read_bytes()).hexdigest() for s in dataset.samples
    ]
    assert calls == [(2, 2)]
    assert source.read(dataset.samples[0]) == b"a.jpg@cat"


def test_many_files_keep_their_order(tmp_path):
    tree(tmp_path, *[f"{'ab'[i % 2]}/{i:04}.jpg" for i in range(1100)])  # more than one portion
    dataset = open_source(tmp_path).dataset(workers=7)
    assert [s.id for s in dataset.samples] == sorted(s.id for s in dataset.samples)
    assert all(s.digest == digest_of((tmp_path / s.path).read_bytes()) for s in dataset.samples)
    assert len(dataset.samples) == 1100


def test_hidden_files_and_others_are_passed_over_and_counted(tmp_path):
    tree(tmp_path, "a/1.jpg", "b/2.jpg", "a/.hidden.jpg", ".git/3.jpg", "a/notes.txt", "LICENSE.txt", "b/README")
    put(tmp_path / "0.jpg")
    dataset = open_source(tmp_path).listing()
    assert len(dataset.samples) == 2
    assert dataset.skipped == {
        "hidden": 2,
        "with suffix .txt": 2,
        "without a class folder": 1,
        "without a suffix": 1,
    }


def test_exclude(tmp_path):
    tree(tmp_path, "a/1.jpg", "b/2.jpg", "b/thumbnails/2.jpg", "BACKGROUND_Google/3.jpg")
    source = open_source(tmp_path, exclude=["BACKGROUND_Google", "thumbnails"])
    assert [s.id for s in source.listing().samples] == ["a/1.jpg", "b/2.jpg"]
    assert source.listing().skipped == {"excluded folders": 2}


def test_exclude_that_matches_nothing(tmp_path):
    tree(tmp_path, "roses/1.jpg", "tulips/2.jpg")
    assert "'rose'" in (message := refused(tmp_path, exclude=["rose"])) and "did you mean 'roses'?" in message


@pytest.mark.parametrize(
    "names", [("train", "validation", "test"), ("Training", "val", "Testing"), ("TRAIN", "dev", "test")]
)
def test_split_folders(tmp_path, names):
    tree(tmp_path, *[f"{name}/{c}/{name}.jpg" for name in names for c in "ab"], f"{names[2]}/c/x.jpg")
    source = open_source(tmp_path)
    assert source.class_names == ("a", "b", "c")
    words = dict(zip(names, ("train", "validation", "test"), strict=True))
    assert {(path.split("/")[0], split) for _, path, _, split in rows(source)} == set(words.items())


WORDS = {
    "train": ["train", "training"],
    "validation": ["val", "valid", "validation", "dev", "eval", "evaluation"],
    "test": ["test", "testing", "holdout", "hold-out", "hold_out", "hold out"],
}
SUFFIXES = ("set", "data", "images", "image", "imgs", "dir", "folder", "split", "dataset", "data_set")


@st.composite
def names_of_splits(draw):
    """What somebody may call the folder of a split, and the split."""
    split = draw(st.sampled_from(sorted(WORDS)))
    name = draw(st.sampled_from(WORDS[split]))
    separator = draw(st.sampled_from(["_", "-", " ", ""]))
    suffix = draw(st.sampled_from(["", *SUFFIXES]))
    prefix = draw(st.sampled_from(["", "seg", "images", "data"]))
    name = (f"{prefix}{separator or '_'}" if prefix else "") + name + (f"{separator}{suffix}" if suffix else "")
    return draw(st.sampled_from([name, name.upper(), name.title(), name.title().replace("_", "")])), split


@given(names_of_splits())
def test_what_splits_are_called(named):
    name, split = named
    assert split_of(name) == split


@given(names_of_splits(), st.sampled_from(["q", "_1", "2", "_old", " cats", "é", "con"]), st.booleans())
def test_a_split_is_not_read_out_of_other_words(named, more, before):
    name, _ = named
    assert split_of(f"{more}{name}" if before else f"{name}{more}") is None


@pytest.mark.parametrize(
    ("train", "test"),
    [("training_set", "test_set"), ("seg_train", "seg_test"), ("TrainData", "TestData"), ("train-images", "holdout")],
)
def test_splits_are_not_taken_for_two_classes(tmp_path, train, test):
    tree(tmp_path, f"{train}/cat/1.jpg", f"{train}/dog/2.jpg", f"{test}/cat/3.jpg")
    source = open_source(tmp_path)
    assert source.class_names == ("cat", "dog")
    assert {(path.split("/")[0], split) for _, path, _, split in rows(source)} == {(train, "train"), (test, "test")}


def test_two_folders_of_one_split(tmp_path):
    tree(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg", "valid/b/4.jpg", "eval/b/5.jpg")
    assert [row[3] for row in rows(open_source(tmp_path))] == ["validation", "train", "train", *["validation"] * 2]


@pytest.mark.parametrize(
    "names",
    [("train_1", "train_2"), ("trainA", "trainB"), ("fold1", "fold_2"), ("old test", "rest"), ("valid.v2", "x"),
     ("my_training_set_2", "other")],
)  # fmt: skip
def test_classes_that_are_probably_splits(tmp_path, names):
    tree(tmp_path, *[f"{name}/{kind}/{name}.jpg" for name in names for kind in ("cat", "dog")], f"{names[0]}/stray.jpg")
    message = refused(tmp_path)
    assert names[0] in message and "train/, validation/ or test/" in message
    assert f"--exclude {names[0]}" in message and "--labels" in message
    assert ("x" in names or "rest" in names or "other" in names) or names[1] in message


@pytest.mark.parametrize("names", [("train2017", "val2017"), ("fold1", "fold2"), ("train", "test")])
def test_folders_that_are_all_called_like_splits_are_no_classes(tmp_path, names):
    tree(tmp_path, *[f"{name}/{i}.jpg" for name in names for i in range(3)])
    assert "hold images but no class folders" in refused(tmp_path)


def test_a_mixture_says_what_a_split_must_be_called(tmp_path):
    tree(tmp_path, "train/a/1.jpg", "train/b/2.jpg", *[f"foo_test_old{i}/a/3.jpg" for i in range(20)])
    message = refused(tmp_path)
    assert "foo_test_old0" in message and "and 14 more" in message and "validation/" in message


def test_splits_within_splits(tmp_path):
    """As one well-known archive unpacks."""
    tree(tmp_path, *[f"seg_{s}/seg_{s}/{kind}/1.jpg" for s in ("train", "test") for kind in ("sea", "street")])
    message = refused(tmp_path)
    assert "seg_test/seg_test, seg_train/seg_train" in message and "move the class folders up" in message


@pytest.mark.parametrize(
    "classes",
    [("train", "bus", "car"), ("test_tube", "beaker"), ("contestant", "jury/2020"), ("training shoes", "boots"),
     ("trainers/left", "boots/left"), ("fold", "crease/x"), ("trainspotting/1996", "testament/old")],
)  # fmt: skip
def test_classes_whose_names_only_sound_like_splits(tmp_path, classes):
    tree(tmp_path, *[f"{name}/{i}.jpg" for i, name in enumerate(classes)])
    assert open_source(tmp_path).class_names == tuple(sorted(name.split("/")[0] for name in classes))


def test_a_class_with_a_few_images_in_a_folder_is_no_split(tmp_path):
    tree(tmp_path, "test_tube/1.jpg", "test_tube/2.jpg", "test_tube/old/3.jpg", "beaker/4.jpg")
    assert open_source(tmp_path).class_names == ("beaker", "test_tube")
    tree(tmp_path / "train", "test/1.jpg", "exam/2.jpg")
    assert open_source(tmp_path / "train").class_names == ("exam", "test")


def test_images_beside_the_class_folders_of_a_split(tmp_path):
    tree(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "train/3.jpg", "test/a/4.jpg")
    assert open_source(tmp_path).listing().skipped == {"without a class folder": 1}


def test_a_class_may_be_called_test(tmp_path):
    tree(tmp_path, "test/1.jpg", "exam/2.jpg")
    assert open_source(tmp_path).class_names == ("exam", "test")


def test_a_folder_without_images_is_no_class_and_no_odd_one(tmp_path):
    tree(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/a/3.jpg", "docs/read.txt", "__MACOSX/train/a/._1.jpg")
    assert open_source(tmp_path).class_names == ("a", "b")


@pytest.mark.parametrize("odd", ["unlabelled/x/3.jpg", "unlabelled/3.jpg", "test/3.jpg"])
def test_a_mixture_of_layouts(tmp_path, odd):
    tree(tmp_path, "train/a/1.jpg", "train/b/2.jpg", odd)
    name = odd.split("/")[0]
    assert f"--exclude {name}" in refused(tmp_path)
    assert open_source(tmp_path, exclude=[name]).class_names == ("a", "b")


def test_split_folders_without_class_folders(tmp_path):
    message = refused(tree(tmp_path, "train/1.jpg", "test/2.jpg"))
    assert "test, train" in message and "--labels" in message


def test_one_class(tmp_path):
    message = refused(tree(tmp_path, "flowers/rose/1.jpg", "flowers/tulip/2.jpg"))
    assert str(tmp_path) in message and "'flowers'" in message and "one folder of images per class" in message


def test_no_images(tmp_path):
    message = refused(tmp_path)
    assert str(tmp_path) in message and "nothing" in message
    tree(tmp_path, "a/1.txt", "a/2.txt", ".hidden", "3.jpg")
    message = refused(tmp_path)
    assert "1 hidden, 2 with suffix .txt, 1 without a class folder" in message


def test_no_source(tmp_path):
    assert "no such file" in refused(tmp_path / "gone")
    assert "neither a folder" in refused(put(tmp_path / "picture.jpg"))
    assert "symlink loop" in refused(link(tmp_path / "loop", "loop"))
    assert "no CSV" in refused(tree(tmp_path / "x", "a/1.jpg", "b/2.jpg"), label_column="breed")


# What a file system can hold


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


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


# Manifests


def test_manifest_with_paths_and_splits(tmp_path):
    tree(tmp_path, "x/1.jpg", "x/2.jpg", "y/3.png")
    manifest = table(
        tmp_path / "list.csv", "path,label,split", "x/2.jpg,dog,Eval", "./x/1.jpg,cat,Train set", "y/3.png,cat,hold-out"
    )
    source = open_source(manifest)
    assert source.name == "list" and source.class_names == ("cat", "dog")
    assert rows(source) == [
        ("./x/1.jpg", "x/1.jpg", "cat", "train"),
        ("x/2.jpg", "x/2.jpg", "dog", "validation"),
        ("y/3.png", "y/3.png", "cat", "test"),
    ]
    assert source.read(source.dataset().samples[0]) == b"1.jpg@x"


def test_kaggles_ids(tmp_path):
    tree(tmp_path / "dogs", "train/00a.jpg", "train/00b.JPG", "test/00c.jpg")
    manifest = table(tmp_path / "dogs/labels.csv", "id,breed", "00b,cairn", "00a,pug")
    for source in (open_source(manifest), open_source(tmp_path / "dogs", labels=manifest)):
        assert rows(source) == [("00a", "train/00a.jpg", "pug", ""), ("00b", "train/00b.JPG", "cairn", "")]
    assert open_source(tmp_path / "dogs", labels=manifest).name == "dogs"


def test_a_manifest_elsewhere(tmp_path):
    tree(tmp_path / "pictures", "1.jpg", "2.jpg")
    manifest = table(tmp_path / "tables/labels.csv", "file,class", "1.jpg,a", "2.jpg,b")
    assert [s.path for s in open_source(tmp_path / "pictures", labels=manifest).listing().samples] == ["1.jpg", "2.jpg"]
    message = refused(manifest)
    assert "none of its 2 images" in message and "'1.jpg'" in message and "--labels" in message


@pytest.mark.parametrize(
    ("cell", "path"),
    [
        ("train/v1.2", "train/v1.2.jpg"),  # the dot is no suffix
        ("v1.2.jpg", "train/v1.2.jpg"),
        ("train/v1.2.jpg", "data/train/v1.2.jpg"),
        ("cat", "train/cat.jpg"),  # beside a folder of that name
    ],
)
def test_ways_to_name_a_file(tmp_path, cell, path):
    tree(tmp_path, path, "cat/other.jpg", "b.jpg")
    source = open_source(table(tmp_path / "t.csv", "file,class", f"{cell},a", "b.jpg,b"))
    assert {s.id: s.path for s in source.listing().samples}[cell] == path


def test_absolute_paths(tmp_path):
    tree(tmp_path, "x/1.jpg", "2.jpg")
    source = open_source(table(tmp_path / "t.csv", "file,class", f"{tmp_path}/x/1.jpg,a", "2.jpg,b"))
    assert {s.path for s in source.listing().samples} == {"x/1.jpg", "2.jpg"}


def test_a_path_is_not_found_in_another_folder(tmp_path):
    tree(tmp_path, "dogs/1.jpg", "b.jpg", "c.jpg")
    manifest = table(tmp_path / "t.csv", "file,class", "cats/1.jpg,cat", "b.jpg,b", "c.jpg,c")
    assert open_source(manifest).listing().failures == [
        Failure(path="cats/1.jpg", reason="no such file (t.csv, line 2)")
    ]


def test_an_ambiguous_name(tmp_path):
    tree(tmp_path, "x/1.jpg", "y/1.jpg", "2.jpg")
    message = refused(table(tmp_path / "t.csv", "file,class", "2,b", "1,a"))
    assert "line 3" in message and "'x/1.jpg'" in message and "'y/1.jpg'" in message
    put(tmp_path / "1.jpg")  # nearer than both
    assert rows(open_source(tmp_path / "t.csv"))[0][:2] == ("1", "1.jpg")


def test_listed_files_that_are_not_there(tmp_path):
    tree(tmp_path, "1.jpg", "2.jpg")
    manifest = table(tmp_path / "t.csv", "file,class", "1.jpg,a", "gone.jpg,a", "2.jpg,b", "lost,c")
    dataset = open_source(manifest).dataset()
    assert dataset.class_names == ("a", "b")
    assert dataset.failures == [
        Failure(path="gone.jpg", reason="no such file (t.csv, line 3)"),
        Failure(path="lost", reason="no such file (t.csv, line 5)"),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_delimiters_byte_order_mark_quotes_and_blank_lines(tmp_path, delimiter, encoding):
    tree(tmp_path, "a, b; c.jpg", "2.jpg")
    lines = ["Image ID|Species", '"a, b; c.jpg"|"häuslich\nzahm"', "", "|", "2.jpg| wild "]
    source = open_source(table(tmp_path / "t.csv", *[x.replace("|", delimiter) for x in lines], encoding=encoding))
    assert source.class_names == ("häuslich\nzahm", "wild")


def test_columns_by_option(tmp_path):
    tree(tmp_path, "1.jpg", "2.jpg")
    manifest = table(tmp_path / "t.csv", "file,label,who,fold", "x,x,1.jpg,train", "x,y,2.jpg,test")
    source = open_source(manifest, path_column="who", label_column="label", split_column="fold")
    assert rows(source) == [("1.jpg", "1.jpg", "x", "train"), ("2.jpg", "2.jpg", "y", "test")]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["file,class", "1.jpg,a", "2.jpg,b", "1.jpg,b"], ["line 4", "line 2", "'1.jpg'"]),
        (["file,class", "1.jpg,a", "2.jpg,"], ["line 3", "no label"]),
        (["file,class", "1.jpg,a", "2.jpg"], ["line 3", "no label"]),
        (["file,class", "1.jpg,a", " ,b"], ["line 3", "no path"]),
        (["file,class,split", "1.jpg,a,train", "2.jpg,b,vali"], ["line 3", "'vali'", "did you mean 'val"]),
        (["file,class,split", "1.jpg,a,train", "2.jpg,b"], ["line 3", "unknown split ''"]),
        (["file,weight", "1.jpg,a"], ["--label-column", "'file', 'weight'"]),
        (["1.jpg,a", "2.jpg,b"], ["--path-column", "'1.jpg', 'a'"]),
        (["file,class", '1.jpg,"a', "2.jpg,b"], ["not a table"]),
        (["file,class", "1.jpg,a", "2.jpg,a"], ["only one class, 'a'", "--label-column"]),
        (["file,class"], ["no images"]),
        ([], ["--path-column"]),
    ],
)
def test_tables_that_cannot_serve(tmp_path, lines, words):
    tree(tmp_path, "1.jpg", "2.jpg")
    message = refused(table(tmp_path / "t.csv", *lines))
    assert str(tmp_path / "t.csv") in message
    for word in words:
        assert word in message


def test_options_that_do_not_fit_a_manifest(tmp_path):
    tree(tmp_path, "1.jpg", "2.jpg")
    manifest = table(tmp_path / "t.csv", "file,class", "1.jpg,a", "2.jpg,b")
    assert "'file', 'class'" in refused(manifest, label_column="breed")
    assert "must be the folder" in refused(manifest, labels=manifest)
    assert "no such file" in refused(tmp_path, labels=tmp_path / "gone.csv")
    assert "nothing to exclude is called 'c'" in refused(manifest, exclude=["c"])


def test_classes_left_out_of_a_manifest(tmp_path):
    tree(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    manifest = table(tmp_path / "t.csv", "file,class", "1.jpg,a", "2.jpg,b", "3.jpg,c")
    source = open_source(manifest, exclude=["b"])
    assert source.class_names == ("a", "c") and source.listing().skipped == {"of an excluded class": 1}


# Arrays


def images(n=4, shape=(5, 6), dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, (n, *shape)).astype(dtype)


def test_arrays():
    x = images(12)
    source = ArraySource(x, [3, 7] * 6, name="digits")
    dataset = source.dataset()
    assert dataset.class_names == ("3", "7") and [s.label for s in dataset.samples] == [0, 1] * 6
    assert [s.id for s in dataset.samples][:3] == ["00", "01", "02"] and dataset.samples[0].path == ""
    assert dataset.samples[1].digest == hashlib.sha256(b"|u1 (5, 6) " + x[1].tobytes()).hexdigest()
    assert (decode(source.read(dataset.samples[5]), 6, "squash") == decode(x[5], 6, "squash")).all()


def test_equal_bytes_of_another_shape_have_another_digest():
    assert digest_of(np.zeros((2, 8), np.uint8)) != digest_of(np.zeros((4, 4), np.uint8))


def test_sixteen_bits_and_floats_are_the_same_pictures():
    x = images(shape=(5, 6, 3))
    others = (x, x.astype(np.uint16) * 257, x / 255, (x / 255).astype(np.float32))
    sources = [ArraySource(array, list("abab"), name="x") for array in others]
    digests = [[s.digest for s in source.dataset().samples] for source in sources]
    assert all(other == digests[0] for other in digests)


def test_floats_are_rounded():
    source = ArraySource([[[0.0, 0.999]], [[0.001, 1.0]]], [0, 1], name="x")
    assert [source.read(s).tolist() for s in source.dataset().samples] == [[[0, 255]], [[0, 255]]]


def test_class_names_splits_and_ids_of_arrays():
    source = ArraySource(
        images(),
        [[2], [0], [0], [2]],
        name="x",
        class_names=["zoo", "ape", "bee"],
        splits=["val", "train", "test", "dev"],
        ids="dcba",
    )
    assert source.class_names == ("zoo", "ape", "bee")
    assert rows(source) == [
        ("a", "", "bee", "validation"),
        ("b", "", "zoo", "test"),
        ("c", "", "zoo", "train"),
        ("d", "", "bee", "validation"),
    ]
    named = ArraySource(images(), ["bee", "ape", "ape", "bee"], name="x", class_names=["bee", "ape"])
    assert [s.label for s in named.listing().samples] == [0, 1, 1, 0]


def test_an_array_that_changes_is_noticed():
    x = images()
    source = ArraySource(x, [0, 1, 0, 1], name="x")
    sample = source.dataset().samples[0]
    x[0, 0, 0] ^= 1
    with pytest.raises(ImageError, match="changed"):
        source.read(sample)


@pytest.mark.parametrize(
    ("x", "y", "options", "words"),
    [
        (images(dtype=np.float64), [0, 1, 0, 1], {}, "scale"),
        (np.full((2, 3, 3), np.nan), [0, 1], {}, "scale"),
        (images(dtype=np.int64), [0, 1, 0, 1], {}, "convert"),
        (images(shape=(3, 8, 8)), [0, 1, 0, 1], {}, r"\(4, 3, 8, 8\)"),
        (images(shape=(8,)), [0, 1, 0, 1], {}, "shape"),
        (images(n=0), [], {}, "shape"),
        (images(), [0, 1, 0], {}, "4 images, 3 labels"),
        (images(), [0.5, 1, 0, 1], {}, "whole numbers"),
        (images(), np.eye(4, dtype=int), {}, "labels must be"),
        (images(), [1, 1, 1, 1], {}, "only one class, '1'"),
        (images(), [0, 1, 2, -1], {"class_names": ["a", "b", "c"]}, "label -1"),
        (images(), ["a", "b", "c", "d"], {"class_names": ["a", "b", "c"]}, "label 'd'"),
        (images(), [0, 1, 0, 1], {"splits": ["train", "test", "x", "x"]}, "unknown split 'x'"),
        (images(), [0, 1, 0, 1], {"splits": ["train"]}, "1 splits"),
        (images(), [0, 1, 0, 1], {"ids": ["a", "a", "b", "c"]}, "1 ids stand twice"),
    ],
)
def test_arrays_that_cannot_serve(x, y, options, words):
    with pytest.raises(SourceError, match=f"^digits: .*{words}"):
        ArraySource(x, y, name="digits", **options)


@pytest.mark.parametrize("keys", [("x", "y"), ("images", "labels")])
def test_npz(tmp_path, keys):
    arrays = dict(zip(keys, (images(), [0, 1, 1, 0]), strict=True))
    np.savez(tmp_path / "some.npz", **arrays, class_names=["no", "yes"], split=["train", "train", "test", "test"])
    source = open_source(tmp_path / "some.npz")
    assert source.name == "some" and source.class_names == ("no", "yes")
    assert [s.split for s in source.listing().samples] == ["train", "train", "test", "test"]


def test_npz_as_keras_writes_them(tmp_path):
    x = images(5)
    np.savez_compressed(tmp_path / "mnist.npz", x_train=x[:3], y_train=[[0], [1], [0]], x_test=x[3:], y_test=[[1], [1]])
    source = open_source(tmp_path / "mnist.npz")
    assert [(s.label, s.split) for s in source.listing().samples] == [
        (0, "train"),
        (1, "train"),
        (0, "train"),
        (1, "test"),
        (1, "test"),
    ]
    assert (source.read(source.dataset().samples[3]) == x[3]).all()


def test_npz_that_cannot_serve(tmp_path):
    path = tmp_path / "some.npz"
    np.savez(path, pixels=images(), y=[0, 1, 0, 1])
    assert "it has pixels, y" in refused(path)
    np.savez(path, x=images(), y=np.array([0, "a", None, 1], dtype=object))
    assert "plain arrays" in refused(path)
    np.savez(path, x_train=images(), y_train=[0, 1, 0, 1], x_test=images(shape=(9, 9)), y_test=[0, 1, 0, 1])
    assert "plain arrays" in refused(path)
    put(path, b"PK\x03\x04 and no more")
    assert "plain arrays" in refused(path)
    with path.open("wb") as file:
        np.save(file, images())
    assert "plain arrays" in refused(path)
    np.savez(path, x=images(), y=[0, 1, 0, 1])
    assert "--exclude" in refused(path, exclude=["0"])
    put(path, path.read_bytes()[:-40])
    assert str(path) in refused(path)


# The whole way


def test_from_files_to_pixels(tmp_path):
    for name, color in {"red/1.png": (255, 0, 0), "blue/2.png": (0, 0, 255)}.items():
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (9, 9), color).save(tmp_path / name)
    source = open_source(tmp_path)
    blue, red = (decode(source.read(sample), 4, "squash") for sample in source.dataset().samples)
    assert (blue == (0, 0, 255)).all() and (red == (255, 0, 0)).all()


def test_importing_is_light():
    code = "import sys, featurestore.sources.base; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tensorflow", "keras", "sklearn", "scipy", "pandas", "openvino"} & set(loaded)
