"""Manifests: which file a cell names, and what makes a table ambiguous."""

import pytest
from source_files import put, refused, rows, table, tree

from featurestore.sources.opener import open_source
from featurestore.sources.samples import Failure


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
