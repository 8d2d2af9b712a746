"""Manifests that ask for several labels of each image, or for a number."""

import pytest
from source_files import refused, table, tree

from featurestore.sources.opener import open_source


@pytest.fixture
def pictures(tmp_path):
    tree(tmp_path, *(f"{i}.jpg" for i in range(4)))
    return tmp_path


def values(source):
    return {sample.id: sample.values for sample in source.listing().samples}


def test_several_labels_in_a_cell(pictures):
    manifest = table(pictures / "t.csv", "file,label", "0.jpg,cat | dog", "1.jpg,", "2.jpg,dog|dog|", "3.jpg,eel")
    source = open_source(manifest, label_separator="|")
    listing = source.listing()
    assert listing.task == "multilabel" and source.class_names == ("cat", "dog", "eel")
    assert values(source) == {"0.jpg": (1, 1, 0), "1.jpg": (0, 0, 0), "2.jpg": (0, 1, 0), "3.jpg": (0, 0, 1)}
    assert {sample.label for sample in listing.samples} == {0}


def test_labels_in_columns_of_0_and_1_beside_a_number(pictures):
    rows = ("0.jpg,1,0,61", "1.jpg,0,0,", "2.jpg,1,1,48", "3.jpg,0,1,50")
    manifest = table(pictures / "t.csv", "file,has_cat,has_dog,age", *rows)
    expected = {"0.jpg": (1, 0), "1.jpg": (0, 0), "2.jpg": (1, 1), "3.jpg": (0, 1)}
    for names in (["has_cat", "has_dog"], ["has_*"]):
        source = open_source(manifest, label_column=names)
        assert source.class_names == ("has_cat", "has_dog") and values(source) == expected
    source = open_source(manifest, label_column=["has_*"], columns=["age"])
    assert source.listing().columns == ("age",) and values(source)["2.jpg"] == (1, 1, 48)


def test_a_number_to_predict(pictures):
    manifest = table(pictures / "t.csv", "file,age,sex", "0.jpg,61,M", "1.jpg,-0.5,F", "2.jpg,1e3,M", "3.jpg,61,F")
    source = open_source(manifest, target_column="age", columns=["sex"])
    listing = source.listing()
    assert (listing.task, source.class_names, listing.columns) == ("regression", ("age",), ("sex",))
    assert values(source) == {"0.jpg": (61, 1), "1.jpg": (-0.5, 0), "2.jpg": (1000, 1), "3.jpg": (61, 0)}


LABELS = ("file,label,has_a,has_b,age", "0.jpg,a,1,0,1", "1.jpg,b,0,1,2")


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (LABELS, {"label_separator": "|"}, "no label cell holds '|' (the first is 'a'): check --label-separator"),
        (LABELS, {"label_separator": ""}, "--label-separator is empty"),
        (LABELS, {"label_separator": "|", "target_column": "age"}, "--label-separator and --target-column: each asks"),
        (LABELS, {"label_column": ["has_a", "has_b"], "target_column": "age"}, "give one of them"),
        (LABELS, {"label_column": "label", "target_column": "age"}, "--label-column asks for classes"),
        (LABELS, {"label_column": "nix_*"}, "no column is called like 'nix_*': its columns are file, label, has_a"),
        (LABELS, {"label_column": ["has_a", "nix"]}, "no column 'nix'"),
        (LABELS, {"target_column": "nix"}, "no column 'nix'"),
        (LABELS, {"target_column": "label"}, "column 'label' holds 'a': write a number for each image"),
        (LABELS, {"target_column": "age", "exclude": ["a"]}, "--exclude leaves out classes"),
        (("file,a,b", "0.jpg,1,0", "1.jpg,0,0"), {"label_column": ["a", "b"]}, "no image has the label 'b'"),
        (("file,a,b", "0.jpg,1,", "1.jpg,0,1"), {"label_column": ["a", "b"]}, "column 'b' holds an empty cell"),
        (("file,a,b", "0.jpg,1,-1", "1.jpg,0,1"), {"label_column": ["a", "b"]}, "column 'b' holds -1: write 0 or 1"),
        (("file,a,b", "0.jpg,y,0", "1.jpg,n,1"), {"label_column": ["a", "b"]}, "column 'a' holds 'n': write 0 or 1"),
        (("file,label", "0.jpg,a|a", "1.jpg,"), {"label_separator": "|"}, "only one label, 'a'"),
        (("file,age", "0.jpg,1", "1.jpg,inf"), {"target_column": "age"}, "column 'age' holds 'inf' in line 3"),
        (("file,age", "0.jpg,1", "1.jpg,"), {"target_column": "age"}, "1 images have no 'age'"),
        (("file,age", "0.jpg,2", "1.jpg,2"), {"target_column": "age"}, "all images have the same 'age', 2"),
    ],
)
def test_bad_input_has_its_own_message(pictures, lines, options, message):
    assert message in refused(table(pictures / "t.csv", *lines), **options)


def test_a_folder_has_one_class_for_each_image(tmp_path):
    folder = tree(tmp_path, "cat/0.jpg", "dog/1.jpg")
    assert "taken from a CSV" in refused(folder, target_column="age") or "no CSV" in refused(
        folder, target_column="age"
    )
