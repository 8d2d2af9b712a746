import json
import shutil

import numpy as np
import onnx
import pytest
from onnx_nets import cnn, transformer
from pictures import write_images

from featurestore import extract, extract_all
from featurestore.errors import BackboneError, ExportError, SpecMismatchError
from featurestore.images.decode import decode_framings, read_file
from heads import fit_head, predict
from heads.exporting import export
from heads.exporting.formats.registry import FORMATS
from heads.finetuning.finetune import finetune


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Heads on the features of small ONNX networks, one of which takes one image at a time."""
    work = tmp_path_factory.mktemp("onnx")
    write_images(work / "colours", 8)
    cnn(work / "net.onnx", sidecar={"size": 16}), transformer(work / "vit.onnx", opset=13)
    transformer(work / "baked.onnx", baked=True)
    source = work / "colours"
    extract(source, work / "one", backbone=str(work / "net.onnx"), taps=["block1.relu=max", "last"], progress=False)
    extract_all(
        source, work / "two", {str(work / name): "imagenet" for name in ("net.onnx", "vit.onnx")}, progress=False
    )
    extract(source, work / "baked", backbone=str(work / "baked.onnx"), progress=False)
    fit_head(work / "one", "linear-svm", tap="block1.relu+last", out=work / "taps")
    names = "+".join(sorted(path.stem for path in (work / "two").glob("*.h5")))
    members = ['{"kind": "logreg", "params": {}}', '{"kind": "lda", "params": {}}']
    fit_head(work / "two", "ensemble", tap=names, params={"members": members}, out=work / "both")
    fit_head(work / "baked", "dense", params={"hidden": "8", "epochs": 2}, out=work / "baked_head")
    return work


@pytest.mark.parametrize("form", ["onnx", "openvino"])
@pytest.mark.parametrize("name", ["taps", "both", "baked_head"])
def test_a_file_says_what_the_head_says(work, tmp_path, form, name):
    path = tmp_path / f"model{FORMATS[form].suffix}"
    done = export.export(work / name, form, path, check=work / "colours")
    assert done.images == 24 and done.difference < 1e-5
    image = work / "colours" / "red" / "0-001.png"
    (found,) = predict(work / name, [image], progress=False)
    pixels = decode_framings(read_file(image), [framing(work / name)])[framing(work / name)][None]
    np.testing.assert_allclose(FORMATS[form].load(path)(pixels)[0], list(found.probabilities.values()), atol=1e-5)
    if form == "onnx":
        model = onnx.load(path)
        assert json.loads({each.key: each.value for each in model.metadata_props}["class_names"]) == [
            "blue", "green", "red"
        ]  # fmt: skip
        batch = model.graph.input[0].type.tensor_type.shape.dim[0]
        assert batch.dim_value == 1 if name == "baked_head" else batch.dim_param == "N"


def framing(folder):
    from heads.storage.saved_head import load_head

    return load_head(folder).inputs[0].spec.framing


def test_formats_that_cannot_hold_one(work, tmp_path):
    for form in ("keras", "saved_model", "litert"):
        with pytest.raises(ExportError, match=f"--format {form} cannot hold .*pass --format onnx or openvino"):
            export.export(work / "taps", form, tmp_path / f"m{FORMATS[form].suffix}")


def test_backbones_of_two_kinds(work, tmp_path):
    extract(work / "colours", tmp_path, backbone="small_cnn", weights="random", size=32, progress=False)
    extract(work / "colours", tmp_path, backbone=str(work / "net.onnx"), size=32, progress=False)
    fit_head(tmp_path, tap="small_cnn+net", out=tmp_path / "head")
    with pytest.raises(ExportError, match="only some of its backbones are ONNX files: fit a head on backbones of one"):
        export.export(tmp_path / "head", "onnx", tmp_path / "m.onnx")


def test_the_file_may_lie_elsewhere(work, tmp_path):
    image = work / "colours" / "red" / "0-001.png"
    (expected,) = predict(work / "taps", [image], progress=False)
    shutil.copy(work / "net.onnx", tmp_path / "moved.onnx")
    with pytest.raises(SpecMismatchError, match="backbone: net here, moved there"):
        predict(work / "taps", [image], weights=str(tmp_path / "moved.onnx"), progress=False)
    (tmp_path / "moved.onnx").rename(tmp_path / "net.onnx")
    (found,) = predict(work / "taps", [image], weights=str(tmp_path / "net.onnx"), progress=False)
    assert found == expected
    cnn(tmp_path / "net.onnx", seed=1)
    with pytest.raises(SpecMismatchError, match="weights_digest"):
        predict(work / "taps", [image], weights=str(tmp_path / "net.onnx"), progress=False)


def test_it_is_not_trained(work, tmp_path):
    with pytest.raises(BackboneError, match="baked is no network of Keras, and only such can be trained"):
        finetune(work / "baked_head", work / "colours", tmp_path / "tuned", progress=False)


@pytest.mark.parametrize("form", ["onnx", "openvino"])
@pytest.mark.parametrize("net", ["net", "baked"])
def test_looks_and_crops_of_an_onnx_file(work, tmp_path, form, net):
    """Also by a graph that takes one image alone: its crops are no batch."""
    networks = {str(work / f"{net}.onnx"): "imagenet"}
    extract_all(work / "colours", tmp_path, networks, resize=["squash", "crop"], crops=[1, 10], progress=False)
    for names in ("@squash-crops10", "@crop-crops10+@squash"):
        fit_head(tmp_path, "logreg", tap=names, out=tmp_path / "head")
        path = tmp_path / f"model{FORMATS[form].suffix}"
        done = export.export(tmp_path / "head", form, path, check=work / "colours")
        assert done.images == 24 and done.difference < 1e-5
    if form == "onnx":
        model = onnx.load(path)
        assert [value.name for value in model.graph.input] == ["pixels_1", "pixels_2"]
        names = [tensor.name for tensor in model.graph.initializer]
        assert len(names) == len(set(names)) and not any(name.startswith("backbone_1") for name in names)
