import json

import numpy as np
import pytest
from pictures import write_images
from shards import write_parquet, write_tar

from featurestore import extract, extract_all, open_source
from featurestore.errors import BackboneError, ExportError, HeadError, SourceError, SpecMismatchError
from heads import evaluate, export, finetune, fit_head, load_features
from heads.prediction import predictor
from heads.prediction.inputs import find_images
from heads.prediction.predictor import Predictor


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    work = tmp_path_factory.mktemp("deploy")
    write_images(work / "colours", 8)
    file = extract(work / "colours", work, size=32, batch_size=8, pool="flatten").path
    fit_head(file, "knn", out=work / "head")
    return work


def test_predictions_are_in_the_order_of_the_inputs_and_pass_over_bad_ones(head, tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    inputs = [head / "colours" / "red" / "0-001.png", tmp_path / "bad.jpg", head / "colours" / "blue"]
    found = list(Predictor(head / "head").predict(inputs))
    assert [item.path for item in found[:2]] == [str(inputs[0]), str(inputs[1])]
    assert (found[0].label, found[1].label, found[1].error) == ("red", None, "not an image of a known format")
    assert len(found) == 10 and all(item.label == "blue" for item in found[2:])
    assert abs(sum(found[0].probabilities.values()) - 1) < 1e-9
    assert json.loads(json.dumps(found[1].to_dict()))["probabilities"] == {}


def test_images_in_tars_and_parquet_files_need_no_labels(head, tmp_path):
    files = sorted((head / "colours").rglob("*.png"))
    for i, file in enumerate(files[::8]):
        write_tar(tmp_path / f"shards/{i}.tar", [(f"{i}.png", file.read_bytes()), (f"{i}.json", b"{}"), ("x.txt", b"")])
    write_parquet(tmp_path / "new.parquet", [file.read_bytes() for file in files[::8]] + [b"?"], [None] * 4)
    inputs = [f"{tmp_path}/shards/{{0..2}}.tar", tmp_path / "new.parquet"]
    found = list(Predictor(head / "head").predict(inputs))
    assert [item.label for item in found] == ["blue", "green", "red", "blue", "green", "red", None]
    assert [item.path for item in found[2:4]] == ["2.tar/2.png", "new.parquet/0"]
    assert len(list(Predictor(head / "head").predict([tmp_path / "shards"]))) == 3
    write_tar(tmp_path / "empty.tar", [("x.txt", b"")])
    with pytest.raises(SourceError, match="no images in it"):
        find_images([tmp_path / "empty.tar"])


def test_a_head_of_two_classes_says_what_its_threshold_says(tmp_path):
    write_images(tmp_path / "colours", 8)
    for file in (tmp_path / "colours" / "red").iterdir():
        file.unlink()
    (tmp_path / "colours" / "red").rmdir()
    file = extract(tmp_path / "colours", tmp_path, size=32, backbone="small_cnn", weights="random").path
    found = {}
    for threshold in (1e-9, 1 - 1e-9):
        found[threshold] = list(Predictor(fit_head(file, threshold=threshold)).predict([tmp_path / "colours"]))
        assert {each.label for each in found[threshold]} == {"green" if threshold < 0.5 else "blue"}
    assert [each.probabilities for each in found[1e-9]] == [each.probabilities for each in found[1 - 1e-9]]


def test_the_same_image_twice(head):
    image = head / "colours" / "red" / "0-001.png"
    one, two = Predictor(head / "head").predict([image, image])
    assert one == two


def test_another_backbone_than_the_heads_is_refused(head):
    with pytest.raises(SpecMismatchError, match=r"weights_digest.*--weights"):
        Predictor(head / "head", weights="random")


def test_a_keras_file_as_the_backbone(head, tmp_path):
    import keras

    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3, strides=4, activation="relu")])
    model.save(tmp_path / "mine.keras")
    made = extract(head / "colours", tmp_path, backbone=str(tmp_path / "mine.keras"), preprocessing="tf", batch_size=8)
    fit_head(made.path, out=tmp_path / "head")
    (found,) = Predictor(tmp_path / "head").predict([head / "colours" / "red" / "0-001.png"])
    assert found.error is None
    (tmp_path / "mine.keras").unlink()
    with pytest.raises(BackboneError, match=r"mine\.keras"):
        Predictor(tmp_path / "head")


def test_a_folder_without_images(tmp_path):
    with pytest.raises(SourceError, match="no images in this folder"):
        find_images([tmp_path])


def test_of_many_images_only_a_portion_is_lined_up(head, monkeypatch):
    monkeypatch.setattr(predictor, "_PORTION", 32)
    images = sorted((head / "colours").rglob("*.png")) * 3
    steps = []
    found = list(Predictor(head / "head").predict(images, top=2, progress=lambda *step: steps.append(step)))
    assert [item.path for item in found] == list(map(str, images))
    assert steps[0] == ("predicting", 1, 72) and steps[-1] == ("predicting", 72, 72)
    for one, *others in zip(found[:24], found[24:48], found[48:], strict=True):
        for other in others:  # how an image's features are rounded may depend on those that are computed with it
            assert (other.path, other.label) == (one.path, one.label)
            assert other.probabilities == pytest.approx(one.probabilities, abs=1e-6)
    whole = next(iter(Predictor(head / "head").predict(images[:1])))
    # Of a training image, whose neighbour at distance 0 votes alone, so that the other classes draw.
    assert list(found[0].probabilities.values()) == sorted(whole.probabilities.values())[:0:-1]
    assert found[0].probabilities.items() <= whole.probabilities.items()
    assert found[0].label == next(iter(found[0].probabilities))


def test_two_backbones_of_which_one_has_two_taps(head, tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    extract(head / "colours", tmp_path, backbone="mobilenet:alpha=0.25", weights="random", size=32, pool="flatten")
    taps = ["block_3_expand", "last"]
    extract(head / "colours", tmp_path, backbone="mobilenet_v2:alpha=0.35", weights="random", size=40, taps=taps)
    names = "mobilenet_v2:alpha=0.35.last+mobilenet:alpha=0.25+block_3_expand"
    fitted = fit_head(tmp_path, "knn", tap=names, out=tmp_path / "head", params={"n_neighbors": 1})
    table = load_features(tmp_path, names)
    predictor = Predictor(tmp_path / "head")
    images = [head / "colours" / name for name in table.ids]
    found = list(predictor.predict([tmp_path / "bad.jpg", *images]))
    assert found[0].error and len(found) == 25
    chances = [list(item.probabilities.values()) for item in found[1:]]
    np.testing.assert_allclose(chances, fitted.predict_proba(table.X), atol=1e-6)
    with pytest.raises(SpecMismatchError, match="weights_digest"):
        Predictor(head / "head", weights={fitted.inputs[0].spec.backbone: "imagenet", "efficientnet_lite0": "random"})


@pytest.fixture(scope="module")
def aged(tmp_path_factory):
    """Images whose class an age tells, and the CSV that names them."""
    work = tmp_path_factory.mktemp("aged")
    write_images(work / "colours", 8)
    paths = sorted((work / "colours").rglob("*.png"))
    lines = [
        f"{path.relative_to(work)},{path.parent.name},{'' if i % 5 == 0 else 20 * (i // 8) + i % 8},{'FM'[i % 2]}"
        for i, path in enumerate(paths)
    ]
    (work / "m.csv").write_text("\n".join(["path,label,age,sex", *lines]))
    source = open_source(work / "m.csv", columns=["age", "sex"])
    return work, extract(source, work / "store", backbone="small_cnn", weights="random", size=32, batch_size=8).path


def test_a_csv_gives_the_numbers_that_a_head_needs(aged, tmp_path):
    work, file = aged
    head = fit_head(file, "lda", tap="last+tabular", out=tmp_path / "head")
    table = load_features(file, "last+tabular")
    (work / "new.csv").write_text((work / "m.csv").read_text().replace(",label,", ",whatever,"))
    found = list(Predictor(tmp_path / "head").predict([work / "new.csv"]))
    assert [item.path for item in found] == [str(work / name) for name in table.ids]
    expected = head.predict_proba(table.X)
    np.testing.assert_allclose([[*item.probabilities.values()] for item in found], expected, atol=1e-4)
    assert np.isnan(table.X).any() and str(head).count("'age', 'sex'") == 1

    alone = fit_head(file, "lda", tap="tabular", out=tmp_path / "alone")
    probabilities = [[*item.probabilities.values()] for item in Predictor(alone).predict([work / "new.csv"])]
    np.testing.assert_allclose(probabilities, alone.predict_proba(load_features(file, "tabular").X), atol=1e-6)


def test_numbers_that_are_missing_or_wrong_are_named(aged, tmp_path):
    work, file = aged
    head, lines = fit_head(file, "lda", tap="last+tabular", out=tmp_path / "head"), (work / "m.csv").read_text()
    for text, words in [
        (lines.replace("age", "years"), "no column 'age': its columns are 'path', 'label', 'years', 'sex'"),
        (lines.replace(",M", ",m"), "line 3: column 'sex' holds 'm': write 'F' or 'M'"),
        ("path,age,sex\n", "names no images"),
        ("picture,age,sex\na.png,1,F\n", "choose the path column with --path-column"),
    ]:
        (work / "wrong.csv").write_text(text)
        with pytest.raises(SourceError, match=words):
            list(Predictor(head).predict([work / "wrong.csv"]))
    with pytest.raises(SourceError, match="needs 'age', 'sex' of each image: give a CSV of paths with these columns"):
        list(Predictor(head).predict([work / "colours"]))
    (work / "wrong.csv").write_text("picture,age,sex\ngone.png,1,F\ncolours/red/0-001.png,1,\n")
    gone, there = Predictor(head).predict([work / "wrong.csv"], path_column="picture")
    assert gone.error == "no such file" and there.error is None and there.label
    with pytest.raises(ExportError, match="takes the numeric columns 'age', 'sex' beside the image"):
        export(head, "keras", tmp_path / "x.keras")
    with pytest.raises(
        HeadError, match="'age', 'sex' beside the image, and only a head on features of the image alone"
    ):
        finetune(head, work / "colours", tmp_path / "tuned")
    plain = extract(work / "colours", tmp_path, backbone="small_cnn", weights="random", size=32, batch_size=8).path
    with pytest.raises(
        SpecMismatchError, match=r"takes 'age', 'sex' \(F = 0, M = 1\), not none: extract with --column age"
    ):
        evaluate(tmp_path / "head", plain)


def test_several_looks_by_one_network(head, tmp_path, monkeypatch):
    """New images are seen as those were that the head was fitted on, and the network is built once."""
    extract_all(head / "colours", tmp_path, {"small_cnn": "random"}, resize=["squash", "crop"], crops=[1, 5], size=32)
    names = "@crop-crops5+@squash+@crop"
    fitted = fit_head(tmp_path, "logreg", tap=names, out=tmp_path / "head")
    built, load = [], predictor.load_backbone
    monkeypatch.setattr(predictor, "load_backbone", lambda name, **given: built.append(name) or load(name, **given))
    table = load_features(tmp_path, names)
    found = list(Predictor(tmp_path / "head").predict([head / "colours" / name for name in table.ids]))
    assert built == ["small_cnn"]
    expected = fitted.predict_proba(np.asarray(table.X))
    for item, row in zip(found, expected, strict=True):
        assert [item.probabilities[name] for name in fitted.class_names] == pytest.approx(row.tolist(), abs=1e-5)
    assert evaluate(tmp_path / "head", tmp_path, "train").rows == len(table.rows("train"))
