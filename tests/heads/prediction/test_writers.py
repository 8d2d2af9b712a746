import csv
import json

import pytest
from pictures import write_images

from featurestore import extract
from featurestore.errors import SourceError, WriteError
from heads import fit_head
from heads.prediction.predictor import Predictor
from heads.prediction.writers import write_predictions


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp("predictions")
    write_images(work / "colours", 8)
    file = extract(work / "colours", work, backbone="small_cnn", weights="random", size=32, engine="keras").path
    fit_head(file, out=work / "head")
    (work / "bad.png").write_text("no image")
    return work


def test_files_of_predictions(work, tmp_path):
    inputs = [work / "bad.png", work / "colours"]
    assert write_predictions(Predictor(work / "head"), inputs, out=tmp_path / "top.csv", top=2) == 1
    with (tmp_path / "top.csv").open(newline="") as file:
        bad, *rows = csv.DictReader(file)
    assert bad["error"] and not bad["class 1"] and len(rows) == 24
    assert all(row["class"] == row["class 1"] != row["class 2"] for row in rows)
    assert all(float(row["probability 1"]) >= float(row["probability 2"]) for row in rows)
    assert write_predictions(Predictor(work / "head"), inputs, out=tmp_path / "all.json") == 1
    listed = json.loads((tmp_path / "all.json").read_text())
    assert [item["label"] for item in listed] == [None, *(row["class"] for row in rows)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.json", "top.csv"]


def test_the_likeliest_classes_as_text(work, capsys):
    image = work / "colours" / "red" / "0-001.png"
    write_predictions(Predictor(work / "head"), [image, work / "bad.png"], top=3)
    good, bad = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    chances = list(map(float, good[2::2]))
    assert good[:2] == [str(image), "red"] and set(good[1::2]) == {"red", "green", "blue"}
    assert chances == sorted(chances, reverse=True) and abs(sum(chances) - 1) < 0.002
    assert bad[1] == "error: not an image of a known format"


def test_what_was_found_before_an_interruption_is_kept(work, tmp_path):
    def interrupt(stage, done, total):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_predictions(Predictor(work / "head"), [work / "colours"], out=tmp_path / "all.csv", progress=interrupt)
    (part,) = tmp_path.iterdir()
    assert part.name == "all.csv.part" and len(part.read_text().splitlines()) == 10


def test_bad_input(work, tmp_path):
    with pytest.raises(SourceError, match=r"call the file \*\.csv or \*\.json"):
        write_predictions(Predictor(work / "head"), [work / "colours"], out=tmp_path / "all.txt")
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="a file is in the way"):
        write_predictions(Predictor(work / "head"), [work / "colours"], out=tmp_path / "file" / "all.csv")


def test_two_at_once_do_not_share_a_draft(work, tmp_path):
    def again(stage, done, total):
        with pytest.raises(WriteError, match="another process is writing it"):
            write_predictions(Predictor(work / "head"), [work / "colours"], out=tmp_path / "all.csv")

    write_predictions(Predictor(work / "head"), [work / "colours"], out=tmp_path / "all.csv", progress=again)
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 25
