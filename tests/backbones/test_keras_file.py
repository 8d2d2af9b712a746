"""Networks from files. Keras is imported inside the tests, as everywhere."""

import os
import zipfile

import numpy as np
import pytest

from featurestore.backbones import find
from featurestore.backbones.graph import cut, tap_table
from featurestore.errors import BackboneError

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")


def saved(path, side=None, *, lambda_layer=None):
    import keras
    from keras import layers

    image = keras.Input((side, side, 3))
    normalization = layers.Normalization()
    normalization.adapt(IMAGES)
    x = keras.Sequential([layers.Conv2D(4, 3, name="inside")], name="nested")(normalization(image))
    x = layers.Conv2D(5, 3, activation="relu", name="second")(x + 1.0)
    if lambda_layer:
        x = layers.Lambda(lambda_layer, output_shape=(None, None, 5))(x)
    model = keras.Model(image, x)
    model.save(path)
    return model


@pytest.mark.parametrize(("side", "size", "min_size"), [(None, 224, 1), (32, 32, 32)])
def test_the_files_network_with_its_own_weights(tmp_path, side, size, min_size):
    model = saved(tmp_path / "mine.keras", side)
    architecture = find(str(tmp_path / "mine.keras"), "tf")
    assert (architecture.name, architecture.preprocessing, architecture.channels) == ("mine", "tf", 5)
    assert (architecture.size, architecture.min_size) == (size, min_size)
    built = architecture.build(32, "imagenet")
    np.testing.assert_allclose(built(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-5)
    assert tap_table(built)[-1]["shape"] == (28, 28, 5)
    # The model inside was built without a size.
    assert tap_table(built)[-1]["flops"] == (2 * (30 * 30 * 27 * 4 + 28 * 28 * 36 * 5) if side else None)
    assert np.abs(np.asarray(architecture.build(32, "random")(IMAGES)) - model(IMAGES)).max() > 1e-3
    model.save_weights(tmp_path / "w.weights.h5")
    built = architecture.build(32, tmp_path / "w.weights.h5")
    np.testing.assert_allclose(built(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["sequential", "list", "dict"])
def test_other_forms_of_model(tmp_path, form):
    import keras

    image = keras.Input((None, None, 3), name="image")
    layer = keras.layers.Conv2D(4, 3)
    if form == "sequential":
        model = keras.Sequential([image, layer])
    else:
        model = keras.Model([image] if form == "list" else {"image": image}, layer(image))
    model.save(tmp_path / "m.keras")
    built = find(str(tmp_path / "m.keras"), "none").build(32, "imagenet")
    part = cut(built, ["last"])
    assert part(keras.Input((32, 32, 3)))["last"].shape == (None, 30, 30, 4)
    np.testing.assert_allclose(part(IMAGES)["last"], layer(IMAGES), rtol=1e-5, atol=1e-4)


def test_sizes_that_it_cannot_take(tmp_path):
    saved(tmp_path / "fixed.keras", 32)
    with pytest.raises(BackboneError, match=r"fixed\.keras: its network takes 32 pixels, not 48"):
        find(str(tmp_path / "fixed.keras"), "tf").build(48, "imagenet")
    saved(tmp_path / "any.keras")
    with pytest.raises(BackboneError, match=r"any\.keras: its network cannot take 3 pixels"):
        find(str(tmp_path / "any.keras"), "tf").build(3, "imagenet")


def test_the_config_tells_networks_apart_and_not_the_process_that_wrote_them(tmp_path):
    import keras

    texts = []
    for kernel in (3, 3, 5):
        keras.utils.clear_session()
        layers = [keras.Input((32, 32, 3)), keras.layers.MaxPooling2D(kernel), keras.layers.Conv2D(4, 3)]
        keras.Sequential(layers).save(tmp_path / "n.keras")
        texts.append(find(str(tmp_path / "n.keras"), "none").config)
    assert texts[0] == texts[1] != texts[2]


def test_the_preprocessing_must_be_stated_and_only_here(tmp_path):
    saved(tmp_path / "m.keras")
    with pytest.raises(BackboneError, match=r"m\.keras: say how .*--preprocessing caffe or tf or torch or "):
        find(str(tmp_path / "m.keras"))
    with pytest.raises(BackboneError, match="unknown preprocessing 'TF': did you mean 'tf'"):
        find(str(tmp_path / "m.keras"), "TF")
    with pytest.raises(BackboneError, match="vgg16 has its own preprocessing, 'caffe'"):
        find("vgg16", "tf")


def test_files_with_code_are_refused(tmp_path):
    import keras

    path = tmp_path / "code.keras"
    for function in (lambda x: x, keras.ops.relu):
        saved(path, lambda_layer=function)
        with pytest.raises(BackboneError, match=r"code\.keras holds code, in a Lambda layer"):
            find(str(path), "tf")

    @keras.saving.register_keras_serializable("here")
    class Mine(keras.layers.Layer):
        def call(self, x):
            return x

    keras.Sequential([keras.Input((32, 32, 3)), Mine()]).save(path)
    keras.saving.get_custom_objects().clear()
    with pytest.raises(BackboneError, match=r"code\.keras cannot be used as a backbone .*Keras' own layers"):
        find(str(path), "tf")


def test_other_files_and_other_shapes_are_refused(tmp_path):
    import keras

    path = tmp_path / "m.keras"
    with pytest.raises(BackboneError, match=r"m\.keras is no \.keras file"):
        find(str(path), "tf")
    path.write_bytes(b"hello")
    with pytest.raises(BackboneError, match=r"m\.keras is no \.keras file"):
        find(str(path), "tf")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", '{"config": {}}')
    with pytest.raises(BackboneError, match=r"m\.keras is no \.keras file"):
        find(str(path), "tf")

    a, b = keras.Input((32, 32, 3)), keras.Input((32, 16, 3))
    for model in (
        keras.Model(b, keras.layers.Conv2D(1, 1)(b)),
        keras.Model([a, b], keras.layers.Flatten()(a)),
        keras.Model(a, [keras.layers.Conv2D(1, 1)(a), keras.layers.Conv2D(2, 1)(a)]),
    ):
        model.save(path)
        with pytest.raises(BackboneError, match=r"m\.keras: it takes .* and a backbone takes one square RGB image"):
            find(str(path), "tf")


def test_a_fifo_is_not_waited_for(tmp_path):
    """A saved head may name one as its backbone."""
    os.mkfifo(tmp_path / "fifo.keras")
    ours = os.open(tmp_path / "fifo.keras", os.O_RDWR)  # who opens it now would not wait
    with pytest.raises(BackboneError, match=r"fifo.keras is no .keras file \(not a regular file\)"):
        find(str(tmp_path / "fifo.keras"), "tf")
    os.close(ours)
