import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.backbones.preprocessing import PREPROCESSINGS, Preprocessing
from featurestore.backbones.sidecar import Sidecar, read_sidecar, write_sidecar
from featurestore.backbones.taps import Tokens
from featurestore.errors import BackboneError

POSITIVE = st.floats(0.001, 255)
TRIPLES = st.tuples(POSITIVE, POSITIVE, POSITIVE)


@given(TRIPLES, TRIPLES, st.booleans())
def test_what_is_written_is_read(tmp_path_factory, mean, std, bgr):
    path = tmp_path_factory.mktemp("sidecar") / "m.onnx"
    wanted = Preprocessing(mean, std, bgr)
    contract = Sidecar.stating(wanted, size=32, tokens=Tokens(False, 4), resize="shortest", crop_share=0.875)
    assert write_sidecar(path, contract).name == "m.json"
    assert read_sidecar(path) == contract
    assert Preprocessing.of(contract.pixels) == wanted


def test_mean_and_std_are_of_red_green_and_blue():
    stated = Sidecar(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), channels="BGR").pixels
    assert stated == "mean=3,2,1 std=6,5,4 channels=BGR"
    assert Sidecar(preprocessing="torch", channels="BGR").pixels == (
        "mean=103.53,116.28,123.675 std=57.375,57.12,58.395 channels=BGR"
    )
    pixels = np.array([[[[11, 22, 33]]]], np.uint8)
    np.testing.assert_allclose(Preprocessing.of(stated)(pixels)[0, 0, 0], [5, 4, 2.5])


def test_known_ones_are_called_by_their_names():
    for name, known in PREPROCESSINGS.items():
        assert Sidecar.stating(known).preprocessing == Sidecar.stating(known).pixels == name
    assert Sidecar(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)).pixels == "torch"
    assert Sidecar(mean=(0, 0, 0), std=(1, 1, 1)).pixels == "none"
    assert Sidecar().pixels is None


def test_there_may_be_none(tmp_path):
    assert read_sidecar(tmp_path / "m.onnx") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "Expected `object`"),
        ('{"size": "224"}', "Expected `int"),
        ('{"size": 0}', "size 0: it is 1 to 4,096"),
        ('{"resize": "stretch"}', "Invalid enum value"),
        ('{"crop_share": 1.5}', "crop_share 1.5"),
        ('{"mean": [1, 2]}', "length 3"),
        ('{"mean": [1, 2, 3]}', "it takes mean and std, or a preprocessing"),
        ('{"mean": [1, 2, 3], "std": [1, 1, 1], "preprocessing": "tf"}', "it takes mean and std, or"),
        ('{"mean": [1, 2, 3], "std": [1, 0, 1]}', "unknown preprocessing"),
        ('{"mean": [NaN, 2, 3], "std": [1, 1, 1]}', "unknown preprocessing"),
        ('{"preprocessing": "mean=1,2,3 std=1,1,1 channels=GBR"}', "unknown preprocessing"),
        ('{"preprocessing": "tff"}', "did you mean 'tf'"),
        ('{"tokens": {"registers": -1}}', "registers -1"),
        ('{"name": "a+b"}', "name 'a\\+b'"),
        ('{"name": "../x"}', "name '../x'"),
        ('{"licence": "a\\nb"}', "printable"),
    ],
)
def test_damaged_ones_are_refused(tmp_path, text, reason):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(BackboneError, match=rf"m\.json does not state what m\.onnx wants .*{reason}.*--preprocessing"):
        read_sidecar(tmp_path / "m.onnx")


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "m.json")
    with pytest.raises(BackboneError, match="not a regular file"):
        read_sidecar(tmp_path / "m.onnx")


def test_unknown_keys_are_passed_over_and_defaults_left_out(tmp_path):
    (tmp_path / "m.json").write_text('{"size": 64, "later": {"x": 1}}')
    assert read_sidecar(tmp_path / "m.onnx") == Sidecar(size=64)
    assert json.loads(write_sidecar(tmp_path / "n.onnx", Sidecar(size=64)).read_text()) == {"size": 64}
