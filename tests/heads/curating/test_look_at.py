"""Images to look at: one list and one page for all modes, and errors that say what is wrong."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from browsing import NOT_UTF8, in_browsers, look, sound
from feature_files import write_features
from pictures import write_images
from PIL import Image

from featurestore.errors import HeadError, WriteError
from heads import look_at
from heads.console import examined
from heads.curating.modes import MODES

NAMES = ("<b onclick=x>", "a & b", NOT_UTF8)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with images and their features; one image stands under two classes, and one is grey."""
    folder = tmp_path_factory.mktemp("look")
    images = write_images(folder / "images", 14, NAMES)
    files = sorted(images.rglob("*.png"))
    files[20].write_bytes(files[0].read_bytes())
    Image.new("RGB", (40, 48), (90, 90, 90)).save(files[3])
    X = np.stack([np.asarray(Image.open(file).resize((4, 4)), np.float32).ravel() for file in files])
    names = sorted({file.parent.name for file in files})
    y = [names.index(file.parent.name) for file in files]
    splits = np.resize(["train", "train", "validation", "test"], len(y))
    write_features(folder / "f.h5", X, y, splits, class_names=names, images=images)
    return folder


def ask(made, mode, tmp_path, **options):
    options |= {"to": "4"} if mode == "neighbours" else {}
    return look_at(
        mode, made / "f.h5", count=6, out=tmp_path / "list.csv", page=tmp_path / "page.html", source=made / "images",
        progress=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "label-next"])
def test_every_mode_writes_the_same_columns_and_a_page(made, tmp_path, mode):
    found = ask(made, mode, tmp_path)
    with (tmp_path / "list.csv").open(newline="", errors="surrogateescape") as stream:
        lines = list(csv.DictReader(stream))
    assert list(lines[0]) == ["rank", "id", "split", "label", "score", "other", "other_label", "why"]
    assert [line["id"] for line in lines] == [each.id for each in found.looks] and lines[0]["rank"] == "1"
    assert [float(line["score"]) for line in lines] == pytest.approx([each.score for each in found.looks], abs=1e-6)
    page, words = sound(tmp_path / "page.html")
    pictures = sum(1 + bool(each.other) for each in found.looks)
    assert len(page.all("img")) == pictures and all(each.why in words for each in found.looks)
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict() and found.compared == 42
    assert found.looks[0].why in examined.looks(found.to_dict()) and not found.notes


def test_what_was_put_there_is_found(made, tmp_path):
    pairs = look_at("near-duplicates", made / "f.h5", count=1000, progress=False).looks
    assert len(pairs) == look_at("near-duplicates", made / "f.h5", progress=False).found
    pair = max(pairs, key=lambda each: each.score)
    assert pair.score == pytest.approx(1, abs=1e-5) and {pair.label, pair.other_label} == {NAMES[0], NAMES[1]}
    assert "under two classes" in pair.why and "under two classes" in pairs[0].why
    assert ask(made, "outliers", tmp_path).looks[0].id.endswith("0-003.png")
    doubt = ask(made, "doubtful-labels", tmp_path).looks[0]
    assert doubt.id == max(pair.id, pair.other, key=lambda name: name.endswith("0-006.png"))


def test_neighbours_by_id_path_and_number(made, tmp_path):
    found = ask(made, "neighbours", tmp_path)
    name = found.looks[0].other
    assert look_at("neighbours", made / "f.h5", to=name, count=6, progress=False).looks == found.looks
    assert [each.score for each in found.looks] == sorted((each.score for each in found.looks), reverse=True)
    assert name not in [each.id for each in found.looks]
    everyone = look_at("neighbours", made / "f.h5", to="4", count=1000, progress=False)
    assert len(everyone.looks) == 41  # more than there are rows


@in_browsers
def test_a_browser_shows_the_page(made, tmp_path, width, dark):
    ask(made, "near-duplicates", tmp_path)
    look(tmp_path / "page.html", width, dark)


def test_without_a_source_there_are_no_pictures(made, tmp_path):
    found = look_at("outliers", made / "f.h5", page=tmp_path / "page.html", progress=False)
    assert found.notes == [
        "pictures are left out of the page: --source FOLDER, the folder that was extracted, adds them"
    ]
    assert not sound(tmp_path / "page.html")[0].all("img")


def test_pictures_that_are_gone(made, tmp_path):
    found = look_at("outliers", made / "f.h5", page=tmp_path / "page.html", source=tmp_path, count=2, progress=False)
    assert len(found.notes) == 2 and "pictures cannot be shown, the first is" in found.notes[0]


@pytest.mark.parametrize(
    ("mode", "options", "words"),
    [
        ("neighbours", {}, "--to: say whose neighbours"),
        ("neighbours", {"to": "nobody.png"}, "no row is called 'nobody.png', and no image file: give one such as '"),
        ("neighbours", {"to": "42"}, "no row is called '42'"),
        ("outliers", {"to": "1"}, "--to is an option of neighbours: leave it out of outliers"),
        ("outliers", {"pool": "p"}, "--pool is an option of label-next: leave it out of outliers"),
        (
            "neighbours",
            {"to": "1", "unlabelled_class": "a"},
            "--unlabelled-class is an option of doubtful-labels and label-next",
        ),
        ("outliers", {"count": 0}, "--count 0: give 1 or more"),
        ("outlier", {}, "unknown mode 'outlier'"),
    ],
)
def test_errors(made, mode, options, words):
    with pytest.raises(HeadError, match=words):
        look_at(mode, made / "f.h5", progress=False, **options)


def test_a_file_of_one_class_and_of_one_row(digits, tmp_path):
    file = write_features(tmp_path / "d.h5", digits[0][:20], [0] * 20, ["train"] * 20, class_names=["a", "b"])
    with pytest.raises(HeadError, match="all train rows are of class 'a'"):
        look_at("doubtful-labels", file, progress=False)
    assert len(look_at("outliers", file, progress=False).looks) == 20
    one = write_features(tmp_path / "one.h5", digits[0][:1], [0], ["train"], class_names=["a", "b"])
    for mode, options in (("outliers", {}), ("near-duplicates", {}), ("neighbours", {"to": "0"})):
        with pytest.raises(HeadError, match=r"one.h5: 1 rows: to be compared, there must be two"):
            look_at(mode, one, progress=False, **options)


def test_a_page_that_cannot_be_written_is_known_before_the_work(made):
    with pytest.raises(WriteError):
        look_at("outliers", made / "f.h5", page=Path("/dev/null/page.html"), progress=False)
