import json
import os
from pathlib import Path

import numpy as np
import onnx_nets
import pytest
from pictures import write_images
from PIL import Image

from featurestore import FeatureStore, extract, open_source
from featurestore.backbones.sidecar import Sidecar, write_sidecar
from featurestore.backbones.taps import Tokens
from featurestore.errors import HeadError, SourceError
from heads import explain, fit_head, load_features
from heads.explaining.explainer import Explainer
from heads.prediction.inputs import find_images


def write_spots(folder, count=8, side=64):
    """Images of two classes with a coloured square on noise; the square's place (row, column) by path."""
    rng, places = np.random.default_rng(0), {}
    for channel, name in enumerate(("red", "green")):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(90, 130, (side, side, 3), dtype=np.uint8)
            row, column = rng.integers(0, side - 20, 2)
            pixels[row : row + 20, column : column + 20] = 40
            pixels[row : row + 20, column : column + 20, channel] = 230
            path = folder / name / f"{i}.png"
            Image.fromarray(pixels).save(path)
            places[str(path)] = row + 10, column + 10
    return places


@pytest.fixture(scope="module")
def spots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spots")
    return folder, write_spots(folder / "images")


def centred(head, table, row):
    scores = head.scores(table.X[row : row + 1])[0]
    return scores - scores.mean()


def parts(one):
    return sum(np.mean(each.values) for each in one.maps)


def test_on_a_real_network_the_mean_of_a_map_and_the_intercept_are_the_score(spots, tmp_path):
    folder, places = spots
    file = extract(folder / "images", tmp_path, weights="imagenet", batch_size=8, progress=False).path
    head, table = fit_head(file, "logreg", out=tmp_path / "head"), load_features(file)
    found = explain(tmp_path / "head", folder / "images", tmp_path / "why", progress=False)
    assert found.exact and found.notes == [] and len(found.images) == len(places)
    intercept = head.head.intercept_ - head.head.intercept_.mean()
    inside = []
    for image in found.images:
        row = list(table.ids).index(str(image.path).split("images/")[-1])
        for one in image.classes:
            code = head.class_names.index(one.name)
            assert one.score == pytest.approx(centred(head, table, row)[code], abs=2e-4)
            assert one.base == pytest.approx(intercept[code], abs=1e-4)
            assert parts(one) + intercept[code] == pytest.approx(one.score, abs=1e-4)
            assert one.drawn(224).mean() == pytest.approx(one.score, abs=1e-4)
            assert np.shape(one.maps[0].values) == (7, 7)
        first = image.classes[0]
        assert first.name == image.label and first.probability >= image.classes[1].probability
        drawn = first.drawn(64)
        row, column = places[image.path]
        around = drawn[max(row - 16, 0) : row + 16, max(column - 16, 0) : column + 16].mean()
        inside.append(around > drawn.mean())
    assert np.mean(inside) > 0.8  # the maps lie on the squares


def test_the_folder_has_a_page_numbers_and_a_png_of_each_image(spots, tmp_path):
    folder, _ = spots
    file = extract(folder / "images", tmp_path, backbone="small_cnn", weights="random", size=64, progress=False).path
    head = fit_head(file, "lda", out=tmp_path / "head")
    (tmp_path / "bad<b>.jpg").write_text("no image")
    given = [tmp_path / "bad<b>.jpg", folder / "images" / "red"]
    found = explain(head, given, tmp_path / "why", top=1, progress=False)
    assert [path for path, _ in found.failures] == [str(given[0])] and len(found.images) == 8
    written = json.loads((tmp_path / "why" / "explanation.json").read_text())
    assert written == json.loads(json.dumps(found.to_dict()))
    page = (tmp_path / "why" / "explanation.html").read_text()
    assert page.count("<img ") == 2 * 8 and "bad&lt;b&gt;.jpg" in page and "<script" not in page
    with Image.open(found.images[0].png) as sheet:
        assert sheet.size[0] == 2 * 224 + 8  # the picture and one map, enlarged
    with pytest.raises(SourceError, match="no images in this folder"):
        (tmp_path / "empty").mkdir()
        explain(head, tmp_path / "empty", tmp_path / "why", progress=False)


@pytest.mark.parametrize("pool", ["avg+max", "flatten"])
def test_other_poolings_of_a_linear_head_are_exact(spots, tmp_path, pool):
    folder, _ = spots
    source = open_source(folder / "images")
    taps = ["block1_pool", "last"]
    file = extract(source, tmp_path, backbone="small_cnn", weights="random", size=32, taps=taps, pool=pool,
                   progress=False).path  # fmt: skip
    head, table = fit_head(file, "ridge", tap="block1_pool+last"), load_features(file, "block1_pool+last")
    found = explain(head, folder / "images", tmp_path / "why", progress=False)
    intercept = head.head.intercept_ - head.head.intercept_.mean()
    for image in found.images[::5]:
        row = list(table.ids).index(image.path.split("images/")[-1])
        for one in image.classes:
            code = head.class_names.index(one.name)
            sides = [np.shape(each.values)[0] for each in one.maps]
            assert [each.tap for each in one.maps] == taps and sides[0] > sides[1]
            assert one.score == pytest.approx(centred(head, table, row)[code], abs=1e-4)
            assert parts(one) + intercept[code] == pytest.approx(one.score, abs=1e-4)
            assert one.drawn(32).mean() == pytest.approx(one.score, abs=1e-4)  # summed at one resolution
    assert found.exact and bool(found.notes) == ("max" in pool)


def test_a_tap_that_is_pooled_twice_and_two_backbones(spots, tmp_path):
    folder, _ = spots
    extract(folder / "images", tmp_path, backbone="small_cnn", weights="random", size=32,
            taps=["last=avg", "last=max"], progress=False)  # fmt: skip
    extract(folder / "images", tmp_path, backbone="mobilenet:alpha=0.25", weights="random", size=64, progress=False)
    names = "small_cnn.last.max+mobilenet:alpha=0.25+small_cnn.last.avg"
    head, table = fit_head(tmp_path, "lda", tap=names), load_features(tmp_path, names)
    found = explain(head, folder / "images", tmp_path / "why", progress=False)
    one = found.images[3].classes[0]
    row = list(table.ids).index(found.images[3].path.split("images/")[-1])
    code = head.class_names.index(one.name)
    assert [each.tap for each in one.maps] == ["last.max", "last", "last.avg"]
    assert one.score == pytest.approx(centred(head, table, row)[code], rel=1e-3, abs=1e-3)
    assert one.base == pytest.approx((head.head.intercept_ - head.head.intercept_.mean())[code], rel=1e-3, abs=1e-3)


def test_a_head_that_is_not_linear_says_that_its_maps_are_approximate(spots, tmp_path):
    folder, _ = spots
    file = extract(folder / "images", tmp_path, backbone="small_cnn", weights="random", size=32, progress=False).path
    for kind, params in (("knn", ["n_neighbors=9"]), ("dense", ["epochs=3"])):
        found = explain(fit_head(file, kind, params=params), folder / "images", tmp_path / kind, progress=False)
        assert not found.exact and "Approximate" in found.notes[0] and kind in found.notes[0]
        for one in found.images[0].classes:
            assert parts(one) + one.base == pytest.approx(one.score, abs=1e-5)
        assert "Approximate" in (tmp_path / kind / "explanation.html").read_text()


def test_of_tokens_the_patches_have_places(spots, tmp_path):
    folder, _ = spots
    net = onnx_nets.transformer(tmp_path / "vit.onnx")
    write_sidecar(net, Sidecar(size=16, preprocessing="torch", tokens=Tokens(registers=2)))
    how = {"backbone": str(net), "progress": False}
    for pool in ("patches", "cls+patches"):
        file = extract(folder / "images", tmp_path / pool, pool=pool, **how).path
        head, table = fit_head(file, "lda"), load_features(file)
        found = explain(head, folder / "images", tmp_path / "why", progress=False)
        one, row = found.images[0].classes[0], list(table.ids).index(found.images[0].path.split("images/")[-1])
        code = head.class_names.index(one.name)
        intercept = (head.head.intercept_ - head.head.intercept_.mean())[code]
        assert np.shape(one.maps[0].values) == (4, 4)
        assert one.score == pytest.approx(centred(head, table, row)[code], rel=1e-3)
        if pool == "patches":
            assert one.base == pytest.approx(intercept, rel=1e-3) and found.notes == []
        else:
            weights = head.head.coef_ - head.head.coef_.mean(axis=1, keepdims=True)
            alone = table.X[row, :8] @ weights[:8, code]
            assert one.base == pytest.approx(intercept + alone, rel=1e-2, abs=1e-3) and "class token" in found.notes[0]
    file = extract(folder / "images", tmp_path / "cls", pool="cls", **how).path
    with pytest.raises(HeadError, match=r"class token.*--pool patches"):
        explain(fit_head(file, "lda", out=tmp_path / "head"), folder / "images", tmp_path / "why", progress=False)


def test_features_without_places_are_refused(spots, tmp_path):
    folder, _ = spots
    net = onnx_nets.cnn(tmp_path / "net.onnx", sidecar={})
    file = extract(folder / "images", tmp_path, backbone=str(net), taps=["last", "block1.relu"], progress=False).path
    head = fit_head(file, "lda", tap="last", out=tmp_path / "head")
    with pytest.raises(HeadError, match=r"head: its features .*'last'.* are no map.*--tap"):
        explain(head, folder / "images", tmp_path / "why", progress=False)
    both, table = fit_head(file, "lda", tap="block1.relu+last"), load_features(file, "block1.relu+last")
    (first, *_) = explain(both, folder / "images", tmp_path / "why", progress=False).images
    row = list(table.ids).index(first.path.split("images/")[-1])
    one = first.classes[0]
    assert len(one.maps) == 1
    assert one.score == pytest.approx(centred(both, table, row)[both.class_names.index(one.name)], rel=1e-3, abs=1e-3)


def test_pictures_that_backbones_cut_differently_are_refused(tmp_path):
    write_images(tmp_path / "colours", 6)
    for name, resize in (("small_cnn", "crop"), ("mobilenet:alpha=0.25", "squash")):
        extract(tmp_path / "colours", tmp_path, backbone=name, weights="random", size=32, resize=resize, progress=False)
    head = fit_head(tmp_path, "lda", tap="small_cnn+mobilenet:alpha=0.25", out=tmp_path / "head")
    with pytest.raises(HeadError, match=r"different parts of an image.*--resize"):
        Explainer(head)


def test_numbers_belong_to_no_place(tmp_path):
    write_images(tmp_path / "colours", 6)
    paths = sorted((tmp_path / "colours").rglob("*.png"))
    lines = [f"{path.relative_to(tmp_path)},{path.parent.name},{i % 7}" for i, path in enumerate(paths)]
    (tmp_path / "m.csv").write_text("\n".join(["path,label,age", *lines]))
    source = open_source(tmp_path / "m.csv", columns=["age"])
    file = extract(source, tmp_path, backbone="small_cnn", weights="random", size=32, progress=False).path
    head = fit_head(file, "lda", tap="last+tabular")
    found = explain(head, tmp_path / "m.csv", tmp_path / "why", progress=False)
    assert "numeric columns" in found.notes[0]
    table = load_features(file, "last+tabular")
    one, row = found.images[0].classes[0], list(table.ids).index("colours/blue/0-000.png")
    assert one.score == pytest.approx(centred(head, table, row)[head.class_names.index(one.name)], rel=1e-3)
    with pytest.raises(HeadError, match="numeric columns alone"):
        explain(fit_head(file, "lda", tap="tabular"), tmp_path / "m.csv", tmp_path / "why", progress=False)


def test_names_that_are_no_text_are_spelt_out(tmp_path):
    write_images(tmp_path / "colours", 4, ("a\nb", "<c>"))
    file = extract(tmp_path / "colours", tmp_path, backbone="small_cnn", weights="random", size=32, progress=False).path
    image = tmp_path / os.fsdecode(b"caf\xe9\n.png")
    image.write_bytes((tmp_path / "colours" / "<c>" / "0-000.png").read_bytes())
    found = explain(fit_head(file, "lda"), [image], tmp_path / "why", progress=False)
    assert Path(found.images[0].png).name == "00001-caf__.png" and Path(found.images[0].png).is_file()
    page = (tmp_path / "why" / "explanation.html").read_text()
    assert "caf\\udce9" in page and "&lt;c&gt;" in page and "<c>" not in page


def test_classes_can_be_chosen_and_those_without_training_rows_have_no_map(spots, tmp_path):
    folder, _ = spots
    file = extract(folder / "images", tmp_path, backbone="small_cnn", weights="random", size=32, progress=False).path
    explainer = Explainer(fit_head(file, "centroid"))
    _, wanted = find_images([folder / "images" / "red"])
    found = list(explainer.explain(wanted, [["green", "unknown"]] * 8))
    assert all([one.name for one in each.classes] == ["green"] for each in found)
    assert FeatureStore(file).class_names == ("green", "red")
