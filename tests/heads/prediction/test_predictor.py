import json

import numpy as np
import pytest
from pictures import write_images
from shards import write_parquet, write_tar

from featurestore import extract
from featurestore.errors import BackboneError, SourceError, SpecMismatchError
from heads import fit_head, load_features
from heads.prediction import predictor
from heads.prediction.predictor import Predictor, find_images


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
