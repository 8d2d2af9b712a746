"""Folders of class folders, and of split folders: what is found in them, and what is refused."""

import hashlib

import pytest
from source_files import put, refused, rows, tree

from featurestore.sources.base import digest_of
from featurestore.sources.opener import open_source


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
