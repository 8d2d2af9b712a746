import json
import zipfile

import numpy as np
import pytest
from pictures import write_images

from featurestore import extract, extract_all, open_source
from featurestore.errors import ExportError, HeadError, SourceError
from featurestore.images.decode import decode
from heads import fit_head, load_features
from heads.exporting import export
from heads.exporting.formats.base import PROBABILITIES, Format
from heads.exporting.formats.registry import FORMATS
from heads.exporting.joined_model import nets_of
from heads.prediction.predictor import Predictor
from heads.solvers.scores import softmax

EXTRACTION = {"backbone": "small_cnn", "weights": "random", "size": 32, "batch_size": 8, "engine": "keras"}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Heads on the features of a small network."""
    work = tmp_path_factory.mktemp("export")
    write_images(work / "colours", 8)
    file = extract(work / "colours", work, **EXTRACTION).path
    fit_head(file, "linear-svm", out=work / "linear")
    fit_head(file, "knn", out=work / "knn")
    return work


def described(form, path, what):
    """What a file says of its model, as somebody without this package would read it."""
    match form:
        case "keras" | "litert":
            return json.loads(zipfile.ZipFile(path).read("featurestore.json"))[what]
        case "saved_model":
            return json.loads((path / "assets.extra" / "featurestore.json").read_text())[what]
        case "onnx":
            import onnxruntime

            known = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
            return json.loads(known[what])
        case "openvino":
            import openvino

            return json.loads(openvino.Core().read_model(path).get_rt_info(["featurestore", what]).astype(str))


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_says_what_the_head_says(work, tmp_path, form):
    path = tmp_path / f"model{FORMATS[form].suffix}"
    done = export.export(work / "linear", form, path, check=work / "colours")
    assert done.images == 24 and done.bytes > 0 and done.difference < 1e-5
    assert described(form, path, "class_names") == ["blue", "green", "red"]
    image = work / "colours" / "red" / "0-001.png"
    (found,) = Predictor(work / "linear").predict([image])
    pixels = decode(image.read_bytes(), 32, "squash")[None]
    np.testing.assert_allclose(FORMATS[form].load(path)(pixels)[0], list(found.probabilities.values()), atol=1e-5)
    assert {item.stem for item in tmp_path.iterdir()} == {"model"}  # no drafts


@pytest.mark.parametrize("form", FORMATS)
def test_several_heads_as_one_model(work, tmp_path, form):
    (file,) = work.glob("*.h5")
    members = ['{"kind": "logreg", "params": {"C": 0.1}}', '{"kind": "lda", "params": {}}']
    fit_head(file, "ensemble", params={"members": members}, out=tmp_path / "head")
    done = export.export(tmp_path / "head", form, tmp_path / f"model{FORMATS[form].suffix}", check=work / "colours")
    assert done.difference < 1e-5


@pytest.fixture(scope="module")
def looks(work):
    """Features of several looks at the images by one network."""
    options = {name: value for name, value in EXTRACTION.items() if name not in ("backbone", "weights")}
    extract_all(work / "colours", work / "looks", {"small_cnn": "random"}, resize=["squash", "crop"],
                crops=[1, 5, 10], **options)  # fmt: skip
    return work / "looks"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("crops", [5, 10])
def test_a_model_cuts_its_crops_itself(work, looks, tmp_path, form, crops):
    fit_head(looks, "linear-svm", tap=f"@squash-crops{crops}", out=tmp_path / "head")
    path = tmp_path / f"model{FORMATS[form].suffix}"
    done = export.export(tmp_path / "head", form, path, check=work / "colours")
    assert done.images == 24 and done.difference < 1e-5
    image = work / "colours" / "red" / "0-001.png"
    (found,) = Predictor(tmp_path / "head").predict([image])
    square = decode(image.read_bytes(), 36, "squash")[None]
    np.testing.assert_allclose(FORMATS[form].load(path)(square)[0], list(found.probabilities.values()), atol=1e-5)
    assert described(form, path, "size") == 36 and described(form, path, "crops") == crops


@pytest.mark.parametrize("form", FORMATS)
def test_a_model_of_several_looks_has_an_input_for_each(work, looks, tmp_path, form):
    fit_head(looks, "logreg", tap="@crop+@squash-crops5+@squash", out=tmp_path / "head")
    path = tmp_path / f"model{FORMATS[form].suffix}"
    done = export.export(tmp_path / "head", form, path, check=work / "colours")
    assert done.images == 24 and done.difference < 1e-5
    inputs = described(form, path, "inputs")
    assert {name: (how["size"], how["resize"]) for name, how in inputs.items()} == {
        "pixels_1": (32, "crop"), "pixels_2": (36, "squash"), "pixels_3": (32, "squash")
    }  # fmt: skip
    image = (work / "colours" / "red" / "0-001.png").read_bytes()
    (found,) = Predictor(tmp_path / "head").predict([work / "colours" / "red" / "0-001.png"])
    squares = [decode(image, how["size"], how["resize"])[None] for how in inputs.values()]
    np.testing.assert_allclose(FORMATS[form].load(path)(*squares)[0], list(found.probabilities.values()), atol=1e-5)


def test_a_network_is_in_the_model_once(work, looks, tmp_path):
    sizes = []
    for names in ("@squash", "@crop+@squash-crops5+@squash"):
        fit_head(looks, "logreg", tap=names, out=tmp_path / "head")
        sizes.append(export.export(tmp_path / "head", "onnx", tmp_path / "m.onnx", check=work / "colours").bytes)
    assert sizes[1] < 1.2 * sizes[0]


def test_an_ensemble_with_a_head_that_is_no_net(work, tmp_path):
    (file,) = work.glob("*.h5")
    members = ['{"kind": "logreg", "params": {}}', '{"kind": "svm", "params": {}}']
    fit_head(file, "ensemble", params={"members": members}, out=tmp_path / "head")
    with pytest.raises(ExportError, match="mean of 2 heads: logreg; svm cannot be written as a network"):
        export.export(tmp_path / "head", "keras", tmp_path / "a.keras")


def test_photographs_when_no_images_are_given(work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = export.export(work / "linear", "keras")
    assert done.images == 30 and (tmp_path / "linear.keras").is_file()


def test_a_dense_head_on_two_cuts_of_a_network_with_a_class_it_never_saw(work, tmp_path):
    lines = ["path,label,split"]
    for name, split in (("red", "train"), ("blue", "train"), ("green", "test")):
        lines += [f"{name}/0-00{i}.png,{name},{split}" for i in range(8)]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    source = open_source(work / "colours", labels=tmp_path / "labels.csv")
    names = "+".join(extract(source, tmp_path, pool=pool, **EXTRACTION).path.stem for pool in ("flatten", "max"))
    fit_head(tmp_path, "dense", tap=names, params={"hidden": "8,4", "epochs": 2}, out=tmp_path / "head")
    done = export.export(tmp_path / "head", "keras", tmp_path / "head.keras", check=work / "colours")
    assert done.difference < 1e-5
    found = FORMATS["keras"].load(tmp_path / "head.keras")(np.zeros((1, 32, 32, 3), np.uint8))
    assert found[0, 1] == 0 and abs(found.sum() - 1) < 1e-6


@pytest.mark.parametrize("kind", ["logreg", "linear-svm", "ridge", "lda", "centroid", "dense"])
def test_heads_as_nets(kind, gap_file, tmp_path):
    head = fit_head(gap_file, kind, out=tmp_path / "head", params={"epochs": 2} if kind == "dense" else {})
    table = load_features(gap_file)
    values = np.asarray(table.X)
    [[*inner, last]] = nets_of(head)
    for weights, bias in inner:
        values = np.maximum(values @ weights + bias, 0)
    np.testing.assert_allclose(softmax(values @ last[0] + last[1]), head.predict_proba(table.X), atol=1e-5)


def test_what_cannot_be_one_model(work, tmp_path):
    with pytest.raises(
        ExportError, match=r"knn: knn cannot be .* fit one of logreg, linear-svm, ridge, lda, centroid, dense$"
    ):
        export.export(work / "knn", "keras", tmp_path / "knn.keras")
    assert not (tmp_path / "knn.keras").exists()


def test_backbones_of_two_sizes_have_an_input_each(work, tmp_path):
    extract(work / "colours", tmp_path, **EXTRACTION)
    extract(work / "colours", tmp_path, **EXTRACTION | {"backbone": "mobilenet:alpha=0.25", "size": 40})
    fit_head(tmp_path, tap="small_cnn+mobilenet:alpha=0.25", out=tmp_path / "head")
    done = export.export(tmp_path / "head", "keras", tmp_path / "head.keras", check=work / "colours")
    assert done.difference < 1e-5
    shapes = [(32, 32), (40, 40)]
    found = FORMATS["keras"].load(tmp_path / "head.keras")(*(np.zeros((1, *side, 3), np.uint8) for side in shapes))
    assert found.shape == (1, 3)


def test_a_file_that_differs_is_deleted(work, tmp_path, monkeypatch):
    (tmp_path / "model.xml").write_text("an older one")
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    for form, name in (("keras", "model.keras"), ("openvino", "model.xml")):
        with pytest.raises(
            ExportError, match=r"differs from what the head says by \S+ on 30 images.*deleted; export to another"
        ):
            export.export(work / "linear", form, tmp_path / name)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["an older one"]


def test_bad_input(work, tmp_path):
    with pytest.raises(ExportError, match="unknown format 'onx': did you mean 'onnx'"):
        export.export(work / "linear", "onx")
    with pytest.raises(ExportError, match=r"call it \*\.keras"):
        export.export(work / "linear", "keras", tmp_path / "model.h5")
    (tmp_path / "mine").mkdir()
    with pytest.raises(ExportError, match="other things"):
        export.export(work / "linear", "saved_model", tmp_path / "mine")
    (tmp_path / "mine" / "bad.png").write_text("no image")
    with pytest.raises(SourceError, match="no image there can be read"):
        export.export(work / "linear", "keras", tmp_path / "model.keras", check=tmp_path / "mine")
    with pytest.raises(HeadError):
        export.export(tmp_path / "nothing", "keras", tmp_path / "model.keras")


def test_a_format_is_one_module_and_a_line(work, tmp_path, monkeypatch):
    """What the module holds: a function that writes the model, one that runs what was written, and a FORMAT."""

    def save(model, path, info):
        import keras

        model = keras.Model(model.input, model.output[PROBABILITIES])
        path.write_text(json.dumps({"info": dict(info), "config": model.to_json()}))
        model.save_weights(path.parent / "model.weights.h5")

    def load(path):
        import keras

        model = keras.models.model_from_json(json.loads(path.read_text())["config"])
        model.load_weights(path.parent / "model.weights.h5")
        return lambda pixels: model.predict(pixels, verbose=0)

    monkeypatch.setitem(FORMATS, "json", Format("json", ".json", (), save, load))
    done = export.export(work / "linear", "json", tmp_path / "model.json", check=work / "colours")
    assert (done.format, done.images) == ("json", 24) and done.difference < 1e-5
    assert json.loads((tmp_path / "model.json").read_text())["info"]["class_names"] == ["blue", "green", "red"]
    assert (tmp_path / "model.weights.h5").is_file()
    with pytest.raises(ExportError, match=r"other\.txt: call it \*\.json, as json does"):
        export.export(work / "linear", "json", tmp_path / "other.txt")
