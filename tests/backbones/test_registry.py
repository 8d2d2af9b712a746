import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featurestore.backbones import ARCHITECTURES, Request, check, find, framed, load, load_backbone, table
from featurestore.errors import BackboneError, WeightsError
from featurestore.spec import Framing

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("MobileNetV2", "mobilenet_v2"),
        ("mobilenet_v2", "mobilenet_v2"),
        ("VGG16", "vgg16"),
        ("ResNet50", "resnet50"),
        ("EfficientNet-Lite0", "efficientnet_lite0"),
        ("ResNet50V2", "resnet50_v2"),
        ("EfficientNetV2S", "efficientnet_v2_s"),
        ("NASNetMobile", "nasnet_mobile"),
    ],
)
def test_names_as_keras_writes_them_or_in_snake_case(written, name):
    assert find(written).name == name


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(BackboneError, match="unknown backbone 'vg16': did you mean 'vgg16'"):
        find("vg16")
    with pytest.raises(BackboneError, match="known: convnext_base, "):
        find("zzz")


def test_random_weights_are_the_same_on_every_call_and_leave_the_callers_randomness_alone():
    random.seed(5)
    np.random.seed(5)
    expected = random.random(), np.random.random()
    random.seed(5)
    np.random.seed(5)
    digests = {load_backbone("mobilenet_v2", weights="random", size=size).weights_digest for size in (32, 64, 32)}
    assert len(digests) == 1
    assert (random.random(), np.random.random()) == expected


def test_the_digest_is_of_the_values_and_not_of_the_file(tmp_path):
    import keras

    one = load_backbone("vgg16", weights="random", size=32)
    trunk = next(layer for layer in one.model.layers if isinstance(layer, keras.Model))
    trunk.save_weights(tmp_path / "same.weights.h5")
    same = load_backbone("vgg16", weights=str(tmp_path / "same.weights.h5"), size=48)
    assert same.weights_digest == one.weights_digest
    values = trunk.get_weights()
    values[0][0, 0, 0, 0] += 1e-3
    trunk.set_weights(values)
    trunk.save_weights(tmp_path / "other.weights.h5")
    assert load_backbone("vgg16", weights=str(tmp_path / "other.weights.h5")).weights_digest != one.weights_digest


@pytest.mark.parametrize(
    ("pool", "shape"), [("avg", (1280,)), ("max", (1280,)), ("flatten", (5120,)), ("none", (2, 2, 1280))]
)
def test_pooling(pool, shape):
    backbone = load_backbone("efficientnet_lite0", size=64, pool=pool)
    assert backbone.shapes == {"last": shape}
    whole = load_backbone("efficientnet_lite0", size=64, pool="none").model.predict(PIXELS, verbose=0)["last"]
    expected = {"avg": whole.mean((1, 2)), "max": whole.max((1, 2)), "flatten": whole.reshape(2, -1), "none": whole}
    features = backbone.model.predict(PIXELS, verbose=0)["last"]
    np.testing.assert_allclose(features, expected[pool], rtol=1e-4, atol=1e-5)


def test_weights_that_cannot_be_downloaded(tmp_path, monkeypatch):
    """A proxy on a closed port of this machine stands for a machine without a network."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match=r"VGG16 cannot be had .*vgg16_weights\S*notop.h5 into .*--weights FILE"):
        load_backbone("vgg16", size=32)


@pytest.mark.parametrize("content", [b"", b"no weights", None])
def test_weights_that_do_not_fit(tmp_path, content):
    path = tmp_path / "foreign.weights.h5"
    if content is None:
        import keras

        trunk = load_backbone("mobilenet_v2", weights="random", size=32).model
        next(layer for layer in trunk.layers if isinstance(layer, keras.Model)).save_weights(path)
    else:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"foreign\.weights\.h5: no weights for VGG16"):
        load_backbone("vgg16", weights=str(path), size=32)


def test_what_check_refuses():
    check(Request("vgg16"))
    for request, message in [
        (Request("vgg16", size=31), "size 31 is too small for vgg16: it takes 32 and more, 224 by default"),
        (Request("vgg16", size=32, pool="mean"), "unknown pooling 'mean'"),
        (Request("vgg16", "/no/such.h5", 32), "no such weights file"),
        (Request("vgg16", crops=3), "3 crops: pass --crops 1, 5 or 10"),
        (Request("vgg16", crops=5, crop_share=1.0), "share of 1 leaves nothing of 224 pixels to cut 5 crops from"),
        (Request("vgg16", crops=5, crop_share=0.9999), r"leaves nothing .* smaller --crop-share, such as 0\.875"),
        (Request("vgg16", crops=5, crop_share=0.05), r"makes 4,480 pixels of 224: pass a larger --crop-share"),
        (Request("vgg16", size=4000, crops=5), r"0\.875 makes 4,571 pixels of 4000: .* 4,096 at most"),
        (Request("vgg16", crop_share=0.9), "goes with --resize shortest, or --crops 5: pass both, or neither"),
        (Request("vgg16", crop_share=0.0, crops=5), "crop share 0: it must be more than 0, and at most 1"),
    ]:
        with pytest.raises(BackboneError, match=message):
            check(request)


def test_the_share_of_crops():
    """Seven eighths, the network's own where it has one, or what is asked for."""
    plain = ARCHITECTURES["vgg16"]
    assert plain.framing(Request("vgg16")) == Framing(224)
    assert plain.framing(Request("vgg16", crops=5)) == Framing(224, crop_share=0.875, crops=5)
    assert plain.framing(Request("vgg16", crops=5, crop_share=0.7)).side == 320
    own = replace(plain, resize="shortest", crop_share=0.95)
    assert own.framing(Request("vgg16", crops=10)) == Framing(224, "shortest", crop_share=0.95, crops=10)
    assert own.framing(Request("vgg16", resize="pad")) == Framing(224, "pad")


def test_a_network_for_another_framing_is_the_same_one():
    network = load_backbone("small_cnn", weights="random", size=32)
    request = Request("small_cnn", "random", 32, resize="crop", crops=5)
    other = framed(network, request)
    assert other.model is network.model and other.spec() == load(request).spec() != network.spec()
    assert other.spec().network == network.spec().network


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite1", "small_cnn", "mobilenet_v2"])
def test_the_registrys_lines_are_true(name):
    """At its smallest size each network gives features of the width that its line tells."""
    architecture = ARCHITECTURES[name]
    backbone = load_backbone(name, weights="random", size=architecture.min_size)
    assert backbone.shapes == {"last": (architecture.channels,)}
    assert any(str(row["backbone"]).split()[0] == name and row["size"] == architecture.size for row in table())


def test_relative_weights_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.h5").write_bytes(b"")
    check(Request("vgg16", "x.h5"))
