import time

import numpy as np
import pytest

from featurestore.backbones.graph import boundary, cut, from_layer, resolve_taps, split, tap_table
from featurestore.errors import BackboneError


@pytest.fixture(scope="module")
def model():
    """Two branches, a shared layer, a model inside, and a layer that gives integers."""
    import keras
    from keras import layers

    image = keras.Input((16, 16, 3))
    a = layers.Conv2D(4, 3, strides=2, padding="same", name="_stem")(image)
    shared = layers.Conv2D(4, 1, name="shared")
    left = layers.SeparableConv2D(8, 3, padding="same", depth_multiplier=2, name="block1_sep")(shared(a))
    right = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="block2_dw")(shared(shared(a)))
    inner = keras.Sequential([keras.Input((8, 8, 8)), layers.Conv2D(6, 3, groups=2)], name="inner")
    x = layers.Add(name="add")([left, right * 2.0])
    x = layers.GlobalAveragePooling2D(name="gap")(inner(x))
    return keras.Model(image, layers.Dense(5, name="dense")(x), name="toy")


STEM = 2 * 8 * 8 * (3 * 3 * 3 * 4)
SHARED = 2 * 8 * 8 * (4 * 4)
LEFT = 2 * 8 * 8 * (3 * 3 * 4 * 2 + 8 * 8)
RIGHT = 2 * 8 * 8 * (3 * 3 * 4 * 2)
INNER = 2 * 6 * 6 * (3 * 3 * 4 * 6)


def test_each_layers_row_counts_what_it_needs_and_no_other_branch(model):
    rows = {row["layer"]: row for row in tap_table(model)}
    # Keras' order is by distance from the output; "shared" has no one output.
    assert list(rows) == ["_stem", "block2_dw", "block1_sep", "add", "inner", "gap", "dense"]
    assert rows["_stem"] == {"layer": "_stem", "type": "Conv2D", "shape": (8, 8, 4), "flops": STEM}
    assert rows["block1_sep"]["flops"] == STEM + SHARED + LEFT
    assert rows["block2_dw"]["flops"] == STEM + 2 * SHARED + RIGHT
    assert rows["add"]["flops"] == STEM + 3 * SHARED + LEFT + RIGHT
    assert (rows["inner"]["type"], rows["inner"]["shape"]) == ("Sequential", (6, 6, 6))
    assert rows["dense"]["flops"] == rows["add"]["flops"] + INNER + 2 * 6 * 5


def test_patterns(model):
    assert resolve_taps(model, ["last", "block*", "_stem", "add", "block2_dw"]) == [
        "_stem",
        "block2_dw",
        "block1_sep",
        "add",
        "last",
    ]
    assert resolve_taps(model, ["*"])[-1] == "dense"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("block1_spe", "toy has no layer 'block1_spe' to tap: did you mean 'block1_sep'"),
        ("shared", "toy has no layer 'shared' to tap"),
        ("blok*", "toy has no layer 'blok"),
        ("zzz", "to tap: such as inner, gap, dense, last"),
    ],
)
def test_unknown_layers(model, pattern, message):
    with pytest.raises(BackboneError, match=message):
        resolve_taps(model, ["add", pattern])


def test_a_cut_computes_the_same_and_holds_only_what_it_needs(model):
    import keras

    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    part = cut(model, ["block2_dw", "_stem"])
    assert {layer.name for layer in part.layers[1:]} == {"_stem", "shared", "block2_dw"}
    outputs = part(images)
    assert set(outputs) == {"block2_dw", "_stem"}
    np.testing.assert_array_equal(outputs["_stem"], model.get_layer("_stem")(images))
    whole = cut(model, ["dense", "last"])(images)
    np.testing.assert_array_equal(whole["dense"], model(images))
    np.testing.assert_array_equal(whole["last"], model(images))
    pixels = keras.Input((16, 16, 3))
    assert keras.Model(pixels, cut(model, ["inner"])(pixels * 2.0))(images)["inner"].shape == (2, 6, 6, 6)


def test_a_thousand_layers_and_a_sequential_model():
    import keras
    from keras import layers

    x = image = keras.Input((4, 4, 3))
    for i in range(500):
        x = layers.Add()([x, layers.ReLU(name=f"r{i}")(x)])
    start = time.perf_counter()
    model = keras.Model(image, x)
    built = time.perf_counter() - start
    start = time.perf_counter()
    assert len(tap_table(model)) == 1000
    assert len(resolve_taps(model, ["r*"])) == 500
    assert time.perf_counter() - start < 1 + 2 * built
    sequential = keras.Sequential([image, layers.Conv2D(2, 3, name="c"), layers.Flatten(name="f")])
    assert [(row["layer"], row["flops"]) for row in tap_table(sequential)] == [("c", 432), ("f", 432)]
    assert resolve_taps(sequential, ["?"]) == ["c", "f"]


def test_unknown_sizes_have_no_flops():
    import keras

    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 3)])
    assert [row["flops"] for row in tap_table(model)] == [None]


@pytest.mark.parametrize(
    ("what", "weighted", "cut_at"),
    [
        ("block1_sep", ["block1_sep", "inner", "dense"], "_stem"),  # the other branch goes round it
        ("shared", ["shared", "block2_dw", "block1_sep", "inner", "dense"], "_stem"),
        ("add", ["inner", "dense"], "add"),
        ("inner", ["inner", "dense"], "add"),
        ("1", ["dense"], "gap"),
        ("2", ["inner", "dense"], "add"),
        ("last-block", ["inner", "dense"], "add"),
        ("_stem", ["_stem", "shared", "block2_dw", "block1_sep", "inner", "dense"], None),
    ],
)
def test_what_is_trained_and_where_the_network_is_cut_for_that(model, what, weighted, cut_at):
    trained = from_layer(model, what)
    assert sorted(trained) == sorted(weighted)
    assert boundary(model, trained) == cut_at
    if cut_at:
        bottom, top = split(model, cut_at)
        images = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
        np.testing.assert_allclose(top(bottom(images)), model(images), rtol=1e-5)
        assert not {id(v) for v in bottom.variables} & {id(v) for v in top.trainable_variables}


def test_all_of_it(model):
    assert boundary(model, from_layer(model, "all")) is None


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("iner", "toy has no layer 'iner' to unfreeze: did you mean 'inner'"),
        ("7", "'7' to unfreeze: such as .*, or a number from 1 to 6"),
        ("0", "a number from 1 to 6"),
    ],
)
def test_no_such_layer_to_train(model, what, message):
    with pytest.raises(BackboneError, match=message):
        from_layer(model, what)


def test_nothing_to_train_behind_a_layer():
    import keras

    pixels = keras.Input((8, 8, 3))
    model = keras.Model(pixels, keras.layers.MaxPooling2D(name="pool")(keras.layers.Conv2D(2, 3, name="conv")(pixels)))
    with pytest.raises(BackboneError, match="no weights from layer 'pool' on: unfreeze from 'conv' or before"):
        from_layer(model, "pool")
    empty = keras.Model(pixels, keras.layers.MaxPooling2D()(pixels))
    with pytest.raises(BackboneError, match="no weights that could be trained"):
        from_layer(empty, "all")
