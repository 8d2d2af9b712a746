"""A head gives no answer where a user's limits say so, and says why; sets and novelty stand with each prediction."""

import csv
import json

import numpy as np
import pytest
from pictures import write_images
from tasks_asked import asked_file

from featurestore import extract
from featurestore.errors import HeadError
from heads import fit_head, load_head, predict
from heads.prediction.abstaining import Abstaining
from heads.prediction.predictor import Predictor
from heads.prediction.writers import write_predictions


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp("abstaining")
    write_images(work / "colours", 40)
    file = extract(work / "colours", work, backbone="small_cnn", weights="random", size=32, engine="keras").path
    fit_head(file, out=work / "head", novelty=True)
    fit_head(file, out=work / "plain")
    (work / "bad.png").write_text("no image")
    rng = np.random.default_rng(0)
    from PIL import Image

    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(work / f"noise{i}.png")
    return work


def test_noise_is_novel_and_gets_no_class(work):
    images = [work / "noise0.png", work / "noise1.png", work / "colours", work / "bad.png"]
    found = predict(work / "head", images, abstain={"novelty": 0.99}, progress=False)
    assert [each.novelty for each in found[:2]] == [1, 1] and found[-1].novelty is None and found[-1].error
    assert all(each.label is None and each.abstained == "novelty 1.000, above 0.99" for each in found[:2])
    usual = found[2:-1]
    assert np.mean([each.abstained is None for each in usual]) > 0.95
    assert all((each.label is None) == (each.abstained is not None) for each in usual)
    assert all(len(each.probabilities) == 3 for each in found[:-1])
    assert not any(each.abstained for each in predict(work / "head", images, progress=False))


def test_below_a_probability_there_is_no_class(work):
    images = [work / "colours"]
    plain = predict(work / "plain", images, progress=False)
    limit = float(np.median([max(each.probabilities.values()) for each in plain]))
    found = predict(work / "plain", images, abstain=[f"probability={limit}"], progress=False)
    for before, now in zip(plain, found, strict=True):
        certain = max(before.probabilities.values())
        assert now.label == (before.label if certain >= limit else None) and now.probabilities == before.probabilities
        assert (now.abstained is None) == (certain >= limit)
    assert now.novelty is None and "novelty" not in now.to_dict()


def test_sets_and_reasons_in_files_and_as_text(work, tmp_path, capsys):
    predictor = Predictor(work / "head", level=0.9, abstain=["novelty=0.99"])
    inputs = [work / "noise0.png", work / "colours" / "red" / "0-001.png", work / "bad.png"]
    write_predictions(predictor, inputs, out=tmp_path / "found.csv", top=1)
    with (tmp_path / "found.csv").open(newline="") as file:
        noise, red, bad = csv.DictReader(file)
    assert list(red)[-3:] == ["prediction set", "novelty", "abstained"]
    assert noise["class"] == "" and noise["abstained"].startswith("novelty 1.000") and noise["prediction set"]
    assert red["class"] == red["class 1"] and red["class"] in red["prediction set"].split("|") and not red["abstained"]
    assert bad["error"] and not bad["novelty"] and not bad["prediction set"]
    write_predictions(predictor, inputs, out=tmp_path / "found.json", top=1)
    listed = json.loads((tmp_path / "found.json").read_text())
    assert "abstained" not in listed[1] and listed[1]["prediction_set"][0] == listed[1]["label"]
    assert listed[0]["label"] is None and listed[0]["abstained"] and "novelty" not in listed[2]
    write_predictions(predictor, inputs, top=1)
    lines = [line.split("\t")[1:] for line in capsys.readouterr().out.splitlines()]
    assert lines[0][0] == "no answer: novelty 1.000, above 0.99" and lines[0][1].startswith("one of: ")
    assert lines[1][2].startswith("one of: ") and lines[1][3].startswith("novelty 0.")


def test_predictions_without_these_options_are_as_they_were(work, tmp_path):
    write_predictions(Predictor(work / "plain"), [work / "colours"], out=tmp_path / "found.json")
    assert set(json.loads((tmp_path / "found.json").read_text())[0]) == {"path", "label", "probabilities", "error"}
    write_predictions(Predictor(work / "plain"), [work / "colours"], out=tmp_path / "found.csv")
    heading = (tmp_path / "found.csv").read_text().splitlines()[0]
    assert heading == "path,class,error,blue,green,red"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["novelti=0.9"], r"--abstain novelti: did you mean 'novelty'\?; write novelty=0.99 or probability=0.8"),
        (["novelty"], "--abstain novelty=: give a number above 0 and below 1"),
        (["novelty=x"], "--abstain novelty=x: give a number"),
        ({"probability": 1.5}, "--abstain probability=1.5: give a number"),
    ],
)
def test_limits_that_are_none(asked, words):
    with pytest.raises(HeadError, match=words):
        Abstaining.of(asked)


def test_a_head_that_cannot_say_what_the_limits_are_of(work, tmp_path):
    with pytest.raises(HeadError, match="plain: does not know how novel an image is: fit it again with --novelty"):
        predict(work / "plain", work / "colours", abstain=["novelty=0.9"], progress=False)
    head = fit_head(asked_file(tmp_path, "regression"), "ridge")
    with pytest.raises(HeadError, match="has no probability of its own"):
        Abstaining(probability=0.5).check(head)


def test_levels_that_cannot_be_had(work):
    head = load_head(work / "plain")
    for level, words in [(1.0, "above 0 and below 1"), (0.999, "more held-out rows than the")]:
        with pytest.raises(HeadError, match=f"plain: --level {level:g}.*{words}"):
            predict(head, work / "colours", level=level, progress=False)
    data = json.loads((work / "plain" / "head.json").read_text())
    data.pop("conformity")
    old = work / "old"
    old.mkdir()
    for file in (work / "plain").iterdir():
        (old / file.name).write_bytes(file.read_bytes())
    (old / "head.json").write_text(json.dumps(data))
    assert predict(old, work / "colours", progress=False)[0].label
    with pytest.raises(HeadError, match=r"old: --level 0\.9 takes rows that were held out"):
        predict(old, work / "colours", level=0.9, progress=False)


def test_numbers_have_intervals_of_a_level_and_labels_have_none(tmp_path):
    (tmp_path / "numbers").mkdir()
    number = fit_head(asked_file(tmp_path / "numbers", "regression"), "ridge")
    task, link = number.head.task_, number.head.link_
    narrow, usual, wide = (number.bound(level) for level in (0.5, None, 0.97))
    assert narrow.value < usual.value <= wide.value and usual.level == 0.95
    told = task.predicted("a.png", np.array([3.0]), ["length"], link, None, narrow)
    assert told.interval == [3 - narrow.value, 3 + narrow.value]
    assert task.columns(["length"], None, narrow) == ["length", "error", "50 % from", "to"]
    assert task.columns(["length"], None) == ["length", "error", "95 % from", "to"]
    (tmp_path / "labels").mkdir()
    labels = fit_head(asked_file(tmp_path / "labels", "multilabel"), "logreg")
    assert labels.bound(None) is None
    with pytest.raises(HeadError, match=r"--level 0.9: a head of labels has neither sets nor intervals"):
        labels.bound(0.9)
    assert number.bound(0.95) == usual
    assert told.withheld("why").value is None and told.withheld("why").interval is None
