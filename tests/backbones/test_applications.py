"""The networks of keras.applications. FEATURESTORE_ALL_BACKBONES=1 checks every one, not a few."""

import os

import numpy as np
import pytest
from benchmarks.backbone_parity import parity

from featurestore.backbones import applications, find
from featurestore.errors import BackboneError, WeightsError

# Of each way to prepare pixels, one at least; the two below are mobilenets.
FAMILIES = ["vgg16", "resnet50_v2", "mobilenet_v3_small", "densenet121", "efficientnet_b0"]
EVERY = [architecture.name for architecture in applications.ARCHITECTURES]
CHECKED = EVERY if os.environ.get("FEATURESTORE_ALL_BACKBONES") else FAMILIES


@pytest.mark.parametrize("name", [*CHECKED, "mobilenet:alpha=0.25", "mobilenet_v2:alpha=0.35"])
def test_features_are_those_of_keras_own_model_and_preprocessing(name):
    """Same pixels in, same features out, with the same weights on both sides, at the smallest size."""
    architecture = find(name)
    got = parity(name, architecture.min_size)
    assert got.difference < 1e-4
    assert architecture.channels in (None, got.width)


def test_every_network_of_keras_is_there():
    import keras

    functions = [name for name in dir(keras.applications) if not name.islower() and not name.startswith("_")]
    assert sorted(find(function).name for function in functions) == sorted(EVERY)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("mobilenet:alpha=0.25", "mobilenet:alpha=0.25"),
        ("MobileNetV2: alpha = 0.350", "mobilenet_v2:alpha=0.35"),
        ("mobilenet:alpha=1", "mobilenet"),
        ("mobilenet_v3_small:minimalistic=True,alpha=0.75", "mobilenet_v3_small:alpha=0.75,minimalistic=true"),
    ],
)
def test_variants_have_one_name_each(written, name):
    assert find(written).name == name


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("mobilenet:alpa=0.25", "mobilenet has no option 'alpa': did you mean 'alpha'"),
        ("vgg16:alpha=0.25", "vgg16 has no option 'alpha': it takes none"),
        ("mobilenet:alpha=wide", "alpha takes a number from 0.1 to 10, not 'wide'"),
        ("mobilenet:alpha=nan", "alpha takes a number"),
        ("mobilenet:alpha=0", "alpha takes a number"),
        ("mobilenet_v3_small:minimalistic=2", "minimalistic takes true or false, not '2'"),
    ],
)
def test_options_that_are_refused(written, message):
    with pytest.raises(BackboneError, match=message):
        find(written)


def test_efficientnets_weights_make_the_same_features_from_keras_and_from_a_file(tmp_path, monkeypatch):
    """Keras puts one more layer into the network when it loads ImageNet's weights, and only then."""
    import keras

    path = tmp_path / "b0.weights.h5"
    model = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    normalization = model.layers[2]
    normalization.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), np.array(1)])
    normalization.finalize_state()
    model.save_weights(path)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *args, **options: str(path))
    plain = keras.applications.EfficientNetB0(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
    images = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    expected = np.asarray(plain(images))
    assert np.abs(expected - model(images)).max() > 0.1 * np.abs(expected).max()
    for weights in (path, "imagenet"):
        ours = find("efficientnet_b0").build(32, weights)
        np.testing.assert_allclose(ours(images), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    ours.save_weights(tmp_path / "again.weights.h5")
    again = find("efficientnet_b0").build(32, tmp_path / "again.weights.h5")
    np.testing.assert_array_equal(again(images), ours(images))


def test_a_file_with_the_classifier_is_told_apart(tmp_path):
    import keras

    path = tmp_path / "whole.h5"
    keras.applications.MobileNet(alpha=0.25, weights=None).save(path)
    with pytest.raises(WeightsError, match=r"whole\.h5 holds the ImageNet classifier too.*_no_top\.h5"):
        find("mobilenet:alpha=0.25").build(32, path)
