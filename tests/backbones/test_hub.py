"""Presets of keras-hub, made here with random weights; nothing is downloaded."""

import json
import shutil

import numpy as np
import pytest
from commands import featurestore
from pictures import write_images

from featurestore import extract
from featurestore.backbones import (
    Request,
    anywhere,
    check,
    find,
    hub,
    hub_preset,
    load_backbone,
    network_cache,
    table,
    taps_of,
)
from featurestore.backbones.preprocessing import Preprocessing
from featurestore.backbones.taps import Tokens
from featurestore.errors import BackboneError, FeatureStoreError, MissingDependencyError, WeightsError
from featurestore.store.reader import FeatureStore
from heads import export, fit_head
from heads.console import text
from heads.finetuning.finetune import finetune
from heads.prediction.predictor import Predictor

pytest.importorskip("keras_hub", reason="the extra hub is not installed")

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
_VIT = {"patch_size": 8, "num_layers": 3, "num_heads": 2, "hidden_dim": 16}
_SHAPE = {"image_shape": (32, 32, 3)}
_BLOCKS = ["block0", "block1", "block2"]


def _two_towers(family, **more):
    from keras_hub import models

    text = {"vocabulary_size": 9, "embedding_dim": 16, "hidden_dim": 16, "num_layers": 1, "num_heads": 2}
    return getattr(models, f"{family}Backbone")(
        vision_encoder=getattr(models, f"{family}VisionEncoder")(**_VIT, **_SHAPE, intermediate_dim=32),
        text_encoder=getattr(models, f"{family}TextEncoder")(**text, intermediate_dim=16, max_sequence_length=8),
        **more,
    )


_MAPS = {
    "EfficientNet": {
        "stackwise_kernel_sizes": [3, 3], "stackwise_num_repeats": [1, 1], "stackwise_input_filters": [8, 8],
        "stackwise_output_filters": [8, 16], "stackwise_expansion_ratios": [1, 4], "stackwise_strides": [1, 2],
        "stackwise_squeeze_and_excite_ratios": [0.0, 0.25], "stackwise_block_types": ["fused", "unfused"],
        "stackwise_width_coefficients": [1.0, 1.0], "stackwise_depth_coefficients": [1.0, 1.0],
    },
    "ResNet": {
        "input_conv_filters": [64], "input_conv_kernel_sizes": [7], "stackwise_num_filters": [64, 64],
        "stackwise_num_blocks": [1, 1], "stackwise_num_strides": [1, 2], "block_type": "basic_block",
    },
    "CSPNet": {
        "stem_filters": 8, "stem_kernel_size": 3, "stem_strides": 1, "stackwise_depth": [1, 1],
        "stackwise_strides": [1, 2], "stackwise_num_filters": [8, 16], "block_type": "dark_block",
        "stage_type": "dark",
    },
    "HGNetV2": {
        "depths": [1, 1], "embedding_size": 8, "hidden_sizes": [16, 32], "stem_channels": [3, 8, 8],
        "hidden_act": "relu", "use_learnable_affine_block": False, "apply_downsample": [False, True],
        "stackwise_stage_filters": [(8, 8, 16, 1, 1, 3), (16, 8, 32, 1, 1, 3)],
        "use_lightweight_conv_block": [False, False],
    },
    "Xception": {"stackwise_conv_filters": [[8, 16], [16, 16]], "stackwise_pooling": [True, False]},
    "DenseNet": {"stackwise_num_repeats": [1, 1], "growth_rate": 8},
    "MiT": {
        "layerwise_depths": [1, 1], "num_layers": 2, "layerwise_num_heads": [1, 2], "layerwise_sr_ratios": [2, 1],
        "max_drop_path_rate": 0.1, "layerwise_patch_sizes": [7, 3], "layerwise_strides": [4, 2],
        "hidden_dims": [8, 16], "image_shape": (32, 32, 3),
    },
}  # fmt: skip


def _made(kind):
    """A tiny backbone, how its tokens begin, and what of its layers is to be there to tap."""
    from keras_hub import models

    if kind == "DINOV2":
        more = {"num_register_tokens": 2, "position_embedding_shape": (48, 48, 3), "intermediate_dim": 32}
        return models.DINOV2Backbone(**_VIT, **_SHAPE, **more), Tokens(registers=2), [*_BLOCKS, "norm"]
    if kind == "DINOV3":
        return models.DINOV3Backbone(**_VIT, **_SHAPE, intermediate_dim=32), Tokens(registers=4), [*_BLOCKS, "norm"]
    if kind == "ViT":
        return models.ViTBackbone(**_VIT, **_SHAPE, mlp_dim=32), Tokens(), [*_BLOCKS, "norm"]
    if kind == "DeiT":
        return models.DeiTBackbone(**_VIT, **_SHAPE, intermediate_dim=32), Tokens(registers=1), [*_BLOCKS, "norm"]
    if kind == "SigLIP":
        return _two_towers(kind), Tokens(cls=False), [*_BLOCKS, "norm", "head"]
    if kind in ("CLIP", "MetaCLIP2"):
        return _two_towers(kind, projection_dim=12), Tokens(), [*_BLOCKS, "pooled", "projection"]
    if kind in _MAPS:
        made = getattr(models, f"{kind}Backbone")(**_MAPS[kind])
        return made, None, []
    if kind == "SwinTransformer":
        more = {"embed_dim": 8, "depths": (1, 2), "num_heads": (1, 2), "window_size": 4}
        return models.SwinTransformerBackbone(**_SHAPE, **more), Tokens(cls=False), ["stage_0", "stage_1", "norm"]
    return models.VGGBackbone([1, 1], [4, 8]), None, ["block1_pool", "block2_pool"]


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    """A preset with an image converter, in a folder."""
    from keras_hub import layers

    folder = tmp_path_factory.mktemp("presets") / "tiny"
    _made("DINOV2")[0].save_to_preset(folder)
    torch = Preprocessing.of("torch")
    layers.DINOV2ImageConverter(
        image_size=(32, 32), interpolation="bicubic", antialias=True, scale=[1 / each for each in torch.std],
        offset=[-mean / std for mean, std in zip(torch.mean, torch.std, strict=True)],
    ).save_to_preset(folder)  # fmt: skip
    return folder


@pytest.mark.parametrize(
    "kind", ["DINOV2", "DINOV3", "ViT", "DeiT", "SigLIP", "CLIP", "MetaCLIP2", "SwinTransformer", "VGG", *_MAPS]
)
def test_features_are_those_of_keras_hub(tmp_path, kind):
    backbone, tokens, layers = _made(kind)
    backbone.save_to_preset(tmp_path / "tiny")
    network = load_backbone(f"hub:{tmp_path}/tiny", size=32, pool="none", taps=[*layers[-3:], "last"])
    images = Preprocessing.of(network.preprocessing)(PIXELS)
    if hasattr(backbone, "get_vision_embeddings"):
        expected = backbone.get_vision_embeddings(images)
    else:
        expected = backbone(dict.fromkeys(backbone.input, images) if isinstance(backbone.input, dict) else images)
    found = network.run(PIXELS)
    expected = expected["stage2"] if isinstance(expected, dict) else expected
    np.testing.assert_allclose(found["last"], np.asarray(expected), rtol=1e-5, atol=1e-6)
    # What a layer says of its shape, which is what a file is made for, and what it gives are the same.
    assert {tap: values.shape[1:] for tap, values in found.items()} == network.shapes
    architecture = find(f"hub:{tmp_path}/tiny")
    assert architecture.tokens == tokens
    table = taps_of(f"hub:{tmp_path}/tiny", size=32)
    assert set(layers) <= {row["layer"] for row in table}
    assert table[-1]["flops"] is None or kind in ("VGG", *_MAPS)
    # The weights of the text tower are no part of the network.
    assert not any("text" in variable.path for variable in network.model.variables)


def test_what_a_preset_says_is_what_the_registry_knows(dinov2, monkeypatch):
    architecture = find(f"hub:{dinov2}")
    assert (architecture.name, architecture.size, architecture.min_size) == ("hub:tiny", 32, 8)
    assert (architecture.resize, architecture.interpolation) == ("crop", "bicubic")
    assert (architecture.preprocessing, architecture.licence, architecture.revision) == ("torch", "apache-2.0", "")
    monkeypatch.chdir(dinov2.parent)
    network = load_backbone("hub:./tiny", taps=["block[-2:]", "block0=patches", "last=cls"])
    assert network.shapes == {"block0": (16,), "block1": (32,), "block2": (32,), "last": (16,)}
    assert network.weights == "hub:./tiny"
    assert anywhere(Request("hub:./tiny")).name == f"hub:{dinov2}"
    again, other = (load_backbone("hub:./tiny", weights="random") for _ in range(2))
    assert network.weights_digest != again.weights_digest == other.weights_digest
    assert find("hub:./tiny", "tf").preprocessing == "tf"


def test_position_embeddings_are_interpolated_as_keras_hub_does(dinov2):
    from keras_hub import models

    larger = models.Backbone.from_preset(str(dinov2), image_shape=(40, 40, 3))
    pixels = np.random.default_rng(1).integers(0, 256, (1, 40, 40, 3), np.uint8)
    network = load_backbone(f"hub:{dinov2}", size=40, pool="none")
    expected = larger({"images": Preprocessing.of(network.preprocessing)(pixels)})
    np.testing.assert_allclose(network.run(pixels)["last"], np.asarray(expected), atol=1e-6)
    with pytest.raises(BackboneError, match="multiples of 8: pass --size 40"):
        load_backbone(f"hub:{dinov2}", size=42)


def test_a_size_that_a_preset_does_not_take(tmp_path):
    _made("ViT")[0].save_to_preset(tmp_path / "vit")
    with pytest.raises(BackboneError, match="pass --size 32"):
        load_backbone(f"hub:{tmp_path}/vit", size=48)


def test_weights_from_a_file(dinov2, tmp_path):
    other = _made("DINOV2")[0]
    other.save_weights(tmp_path / "other.weights.h5")
    network = load_backbone(f"hub:{dinov2}", weights=str(tmp_path / "other.weights.h5"), pool="none")
    expected = other({"images": Preprocessing.of("torch")(PIXELS)})
    np.testing.assert_allclose(network.run(PIXELS)["last"], np.asarray(expected), atol=1e-6)


def test_the_whole_path(dinov2, tmp_path, monkeypatch):
    images = write_images(tmp_path / "colours", 8)
    monkeypatch.chdir(tmp_path)
    card = "---\nlicense: other\nlicense_name: dinov3-license\n---\n# A card\n"
    shutil.copytree(dinov2, "tiny")
    (tmp_path / "tiny" / "README.md").write_text(card)
    asked = {"backbone": "hub:./tiny", "engine": "openvino", "progress": False}
    made = extract(images, tmp_path / "store", **asked)
    assert "hub:tiny have a licence of their own, 'dinov3-license'" in made.notes[-1]
    assert not extract(images, tmp_path / "store", **asked).written
    file = FeatureStore(made.path)
    assert (file.spec.backbone, file.provenance["licence"]) == ("hub:tiny", "dinov3-license")
    assert file.features().shape == (24, 32)
    assert "dinov3-license" in featurestore("info", str(made.path)).stdout
    fit_head(made.path, out="head")
    assert not any(found.error for found in Predictor("head").predict([images / "red"]))
    for form, suffix in (("openvino", "xml"), ("onnx", "onnx")):
        written = export("head", form, f"head.{suffix}", check=images)
        assert "dinov3-license" in written.notes[0] and written.difference < 1e-4
    assert "dinov3-license" in (tmp_path / "head.xml").read_text()
    tuned = finetune("head", images, "tuned", epochs=1, batch_size=12, unfreeze="block2")
    assert tuned.boundary == "block1"
    assert not any(found.error for found in Predictor(tuned.path).predict([images / "red"]))


def test_a_changed_folder_is_another_network(dinov2, tmp_path):
    shutil.copytree(dinov2, tmp_path / "tiny")
    files = network_cache._files(Request(f"hub:{tmp_path}/tiny"))
    assert {"config.json", "model.weights.h5"} <= {path.name for path in files}
    assert tmp_path / "tiny" / "model.weights.h5" not in network_cache._files(Request("vgg16", "random"))


def test_downloads_are_found_where_they_lie(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    there = tmp_path / "models/keras/dinov2/keras/dinov2_small/1"
    snapshot = tmp_path / "hf/models--me--mine/snapshots/abc"
    for folder in (there, snapshot):
        folder.mkdir(parents=True)
        (folder / "config.json").touch()
    for name in (
        "dinov2_small",
        "kaggle://keras/dinov2/keras/dinov2_small/1",
        "kaggle://keras/dinov2/keras/dinov2_small",
    ):
        assert hub.files(f"hub:{name}") == [there / "config.json"]
    assert hub.files("hub:hf://me/mine") == [snapshot / "config.json"]
    assert hub.files("hub:./nothing") == []


def test_the_list_of_presets():
    rows = {row["backbone"]: row for row in table("hub")}
    assert rows == {row["backbone"]: row for row in table("hub:")}
    assert rows["hub:dinov2_small"]["width"] == 384
    assert rows["hub:siglip_base_patch16_224"]["size"] == 224
    assert rows["hub:dinov3_vit_small_lvd1689m"]["licence"] == "dinov3-license"
    assert not any("bert" in name for name in rows)
    assert "hub:dinov2_small" in text.backbones(list(rows.values()))


def _config(folder, **changes):
    text = (folder / "config.json").read_text()
    config = json.loads(text)
    for key, value in changes.items():
        (config if key in config else config["config"])[key] = value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_dim": 2**20}, "its layers would take"),
        ({"position_embedding_shape": [2**20, 2**20, 3]}, "its layers would take"),
        ({"num_layers": 10**9}, "more than 256: it is refused"),
        ({"activation": {"module": "os", "class_name": "system", "config": "id"}}, "only Keras' and keras-hub's"),
        ({"activation": {"module": "keras.layers", "class_name": "Lambda", "config": {}}}, "Lambda"),
        ({"registered_name": "keras_hub>BertBackbone"}, "no image backbone"),
        ({"registered_name": "keras_hub>Nothing"}, "cannot be used as a backbone"),
        ({"num_heads": "many"}, "cannot be used as a backbone"),
        ({"config": []}, "cannot be used as a backbone"),
    ],
)
def test_hostile_configs_are_refused(dinov2, tmp_path, changes, message):
    shutil.copytree(dinov2, tmp_path / "tiny")
    _config(tmp_path / "tiny", **changes)
    with pytest.raises(BackboneError, match=message):
        load_backbone(f"hub:{tmp_path}/tiny")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": [32, 64]}, "64 × 32"),
        ({"interpolation": "nearest"}, "'nearest'"),
        ({"scale": 0.0}, "scales by"),
        ({"class_name": "Lambda"}, "Lambda"),
    ],
)
def test_image_converters_that_are_not_offered(dinov2, tmp_path, changes, message):
    shutil.copytree(dinov2, tmp_path / "tiny")
    path = tmp_path / "tiny" / "image_converter.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        (config if key in config else config["config"])[key] = value
    path.write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=message):
        find(f"hub:{tmp_path}/tiny")


def test_names_that_lead_nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dinov2_tiny").mkdir()
    with pytest.raises(BackboneError, match=r"did you mean 'dinov2_.*hub:\./dinov2_tiny for the folder"):
        find("hub:dinov2_tiny")
    with pytest.raises(BackboneError, match="no image backbone"):
        find("hub:bert_tiny_en_uncased")
    with pytest.raises(BackboneError, match="no such folder"):
        find("hub:./nothing")
    with pytest.raises(BackboneError, match=r"is no preset, it holds no config\.json"):
        find("hub:./dinov2_tiny")

    def gated(name, file):
        raise hub_preset._not_had(name, OSError("403 Client Error"))

    monkeypatch.setattr(hub_preset, "_fetched", gated)
    with pytest.raises(WeightsError, match=r"from Kaggle \(403.*accepted.*hub:\./FOLDER"):
        find("hub:dinov2_small")
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"featurestore\[hub\]"):
        table("hub")


def test_a_map_has_no_class_token(tmp_path):
    _made("VGG")[0].save_to_preset(tmp_path / "vgg")
    with pytest.raises(FeatureStoreError, match="no tokens"):
        load_backbone(f"hub:{tmp_path}/vgg", size=32, pool="cls")
    assert check(Request(f"hub:{tmp_path}/vgg", size=32)).tokens is None
