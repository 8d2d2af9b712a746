"""From a table and pictures to a prediction, a model and a report, for several labels and for a number."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from tasks_asked import asked_file

from featurestore import FeatureStore, extract, open_source
from featurestore.errors import HeadError
from heads import evaluate, export, finetune, fit_head, predict, report
from heads.curating.look_at import look_at
from heads.explaining.explainer import Explainer
from heads.forecasting.curve import curve

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (40, 40, 220)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Pictures with a stripe of each of their colours; the number is the share that is red."""
    folder = tmp_path_factory.mktemp("stripes")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(90):
        names = [name for name in COLOURS if rng.random() < 0.5]
        pixels = rng.integers(90, 130, (32, 32, 3)).astype(np.uint8)
        width = int(rng.integers(4, 10))
        for place, name in enumerate(names):
            pixels[:, place * 10 : place * 10 + width] = COLOURS[name]
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
        rows.append(
            [f"{i:03d}.png", "|".join(names), width * ("red" in names) / 32, *(int(n in names) for n in COLOURS)]
        )
    with (folder / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "labels", "red share", *(f"has_{name}" for name in COLOURS)], *rows])
    return folder


def features(pictures, folder, **options):
    source = open_source(pictures / "t.csv", label_column="labels", **options) if "label_separator" in options else None
    source = source or open_source(pictures / "t.csv", **options)
    return extract(source, folder, backbone="small_cnn", weights="random", size=32, progress=False), source


def test_labels_all_the_way(pictures, tmp_path):
    made, source = features(pictures, tmp_path / "store", label_separator="|")
    assert sum(made.splits.values()) == 90 and sum(sum(c.values()) for c in made.classes.values()) != 90
    again = extract(source, tmp_path / "store", backbone="small_cnn", weights="random", size=32, progress=False)
    assert (again.computed, again.written) == (0, False)
    head = fit_head(made.path, "ridge", params={"alpha": 10}, out=tmp_path / "head")
    assert evaluate(tmp_path / "head", made.path).average_precision > 0.6
    found = predict(head, [pictures / "000.png", tmp_path / "none.png"], progress=False)
    assert set(found[0].probabilities) == set(COLOURS) and found[0].labels is not None
    assert found[1].labels is None and found[1].failure
    assert found[0].columns(head.class_names, None) == ["labels", "error", *head.class_names]
    assert len(found[0].cells(5)) == 5 and len(found[1].cells(5)) == 5
    written = export(head, "keras", tmp_path / "m.keras", check=pictures)
    assert written.difference < 1e-4
    page = report(tmp_path / "head", tmp_path / "p.html", features=made.path, source=pictures, progress=False)
    assert page.evaluation.per_label and "label too many or too few" in (tmp_path / "p.html").read_text()


def test_columns_of_0_and_1_are_the_same_labels_and_features_are_copied(pictures, tmp_path):
    features(pictures, tmp_path / "store", label_separator="|")
    made, _ = features(pictures, tmp_path / "store", label_column=["has_*"])
    assert made.computed == 0 and FeatureStore(made.path).class_names == ("has_red", "has_green", "has_blue")


def test_a_number_all_the_way(pictures, tmp_path):
    made, _ = features(pictures, tmp_path / "store", target_column="red share")
    head = fit_head(made.path, "ridge", params={"alpha": 1}, out=tmp_path / "head")
    (found,) = predict(head, pictures / "000.png", progress=False)
    low, high = found.interval
    assert low < found.value < high and found.cells(4)[0] == f"{found.value:.7g}"
    written = export(head, "keras", tmp_path / "m.keras", check=pictures)
    assert written.difference < 1e-4
    import keras

    model = keras.saving.load_model(written.path, compile=False)
    pixels = np.asarray(Image.open(pictures / "000.png"))[None]
    assert np.asarray(model(pixels)).item() == pytest.approx(found.value, abs=1e-4)
    page = report(tmp_path / "head", tmp_path / "p.html", features=made.path, progress=False)
    assert page.evaluation.r2 is not None and "red share" in (tmp_path / "p.html").read_text()
    with pytest.raises(HeadError, match="predicts a number"):
        finetune(head, open_source(pictures / "t.csv", target_column="red share"), tmp_path / "tuned", progress=False)


@pytest.mark.parametrize("cache", [True, False])
def test_a_backbone_is_tuned_with_a_head_of_labels(pictures, tmp_path, cache):
    made, source = features(pictures, tmp_path / "store", label_separator="|")
    head = fit_head(made.path, "logreg", out=tmp_path / "head")
    before = evaluate(tmp_path / "head", made.path)
    tuned = finetune(head, source, tmp_path / "tuned", epochs=2, cache=cache, progress=False)
    assert tuned.frozen.average_precision == pytest.approx(before.average_precision, abs=1e-3)
    assert json.loads((tmp_path / "tuned/finetune.json").read_text())["finetuned"]["per_label"]
    (found,) = predict(tuned.path, pictures / "000.png", progress=False)
    assert set(found.probabilities) == set(COLOURS)
    classes = open_source(pictures / "t.csv", label_column="has_red")
    with pytest.raises(HeadError, match=r"one class of each image \(classification\), and .*several labels"):
        finetune(head, classes, tmp_path / "other", progress=False)


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_what_is_made_of_classes_refuses_other_tasks(task, tmp_path):
    made = asked_file(tmp_path, task)
    kind = {"multilabel": "logreg", "regression": "ridge"}[task]
    head = fit_head(made, kind, out=tmp_path / "head")
    for refused in (lambda: curve(made), lambda: look_at("doubtful-labels", made), lambda: Explainer(head)):
        with pytest.raises(HeadError, match=rf"\({task}\), and an? .+ is of one class of each image"):
            refused()
