import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.backbones.keras_network import pooled
from featurestore.backbones.taps import Tokens, check_pool, default_pool, matching, resolve, wanted
from featurestore.errors import BackboneError
from featurestore.spec import Tap

LAYERS = {"stem": (8, 8, 4), **{f"block{i}": (7, 4) for i in range(12)}, "blocks": (7, 4), "out": (7, 4)}


@given(st.integers(-14, 14) | st.none(), st.integers(-14, 14) | st.none())
def test_a_slice_is_pythons_over_the_layers_numbers(first, last):
    blocks = [f"block{i}" for i in range(12)]
    shuffled = [*blocks[5:], "blocks", "block", *blocks[:5]]
    pattern = f"block[{'' if first is None else first}:{'' if last is None else last}]"
    expected = blocks[first:last]
    if expected:
        assert set(matching("net", shuffled, [pattern])) == set(expected)
    else:
        with pytest.raises(BackboneError, match="net has no layer"):
            matching("net", shuffled, [pattern])


def test_a_name_or_a_glob_in_brackets_stays_what_it_was():
    assert matching("net", ["a[0:2]", "a0", "a1", "b"], ["a[0:2]"]) == ["a[0:2]"]
    assert matching("net", ["a0", "a1", "b"], ["[ab][1]"]) == ["a1"]


def test_taps_are_pooled_as_suits_them_unless_something_is_asked_for():
    tokens = Tokens(cls=True, registers=4)
    asked = wanted(["block[-2:]", "stem", "out=patches"], None)
    assert resolve("net", LAYERS, "out", asked, tokens) == (
        Tap("stem", "avg"), Tap("block10", "cls+patches"), Tap("block11", "cls+patches"), Tap("last", "patches")
    )  # fmt: skip
    assert resolve("net", LAYERS, "out", wanted(["last"], "cls"), tokens) == (Tap("last", "cls"),)
    assert resolve("net", LAYERS, "out", wanted(["last"], None), Tokens(cls=False)) == (Tap("last", "patches"),)
    # Three dimensions that are not known to be tokens stay as they are, as in earlier versions.
    assert resolve("net", LAYERS, "out", wanted(["last", "stem"], None)) == (Tap("stem", "avg"), Tap("last", "avg"))
    assert default_pool((16,), tokens) == "avg"


@pytest.mark.parametrize(
    ("shape", "pool", "tokens", "message"),
    [
        ((8, 8, 4), "cls", Tokens(), r"gives \(8, 8, 4\) and no tokens: pass another --pool than 'cls'"),
        ((7, 4), "patches", None, "no tokens"),
        ((7, 4), "cls+patches", Tokens(cls=False), "has no class token: pass --pool patches"),
    ],
)
def test_tokens_that_are_not_there(shape, pool, tokens, message):
    with pytest.raises(BackboneError, match=message):
        check_pool("net", shape, pool, tokens)


def test_an_unknown_pooling_is_named():
    with pytest.raises(BackboneError, match="unknown pooling 'patch': did you mean 'patches'"):
        wanted(["last=patch"], None)


@pytest.mark.parametrize("tokens", [Tokens(True, 2), Tokens(True, 0), Tokens(False, 1)])
def test_tokens_are_pooled_by_their_roles(tokens):
    values = np.random.default_rng(0).normal(size=(3, 9, 5)).astype(np.float32)
    patches = values[:, tokens.prefix :].mean(axis=1)
    expected = {
        "patches": patches,
        "cls": values[:, 0],
        "cls+patches": np.concatenate([values[:, 0], patches], axis=1),
        "avg": values.mean(axis=1),
        "max": values.max(axis=1),
        "flatten": values.reshape(3, -1),
        "none": values,
    }
    inputs = keras.Input((9, 5))
    for pool, rows in expected.items():
        found = keras.Model(inputs, pooled(inputs, pool, tokens)).predict(values, verbose=0)
        np.testing.assert_allclose(found, rows, rtol=1e-6, atol=1e-6)
