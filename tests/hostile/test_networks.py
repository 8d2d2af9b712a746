"""Networks and weights that mean harm: refused from what they declare, before anything is built or read."""

import json
import os
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from measured import run

from featurestore.backbones import keras_file
from featurestore.backbones.registry import load_backbone
from featurestore.errors import BackboneError, WeightsError


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    path = tmp_path_factory.mktemp("networks") / "net.keras"
    image = keras.Input((32, 32, 3))
    maps = layers.Conv2D(4, 3)(image)
    keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(layers.UpSampling2D(2)(maps)))).save(path)
    return path


def rewritten(honest, path, *, change=lambda config: None, config=None, weights=None, compression=zipfile.ZIP_STORED):
    """The honest file with another config, or other weights."""
    with zipfile.ZipFile(honest) as old, zipfile.ZipFile(path, "w", compression) as new:
        values = json.loads(old.read("config.json"))
        change(values)
        new.writestr("metadata.json", old.read("metadata.json"))
        new.writestr("config.json", config or json.dumps(values))
        new.writestr("model.weights.h5", old.read("model.weights.h5") if weights is None else weights)
    return path


def layer(values, kind):
    return next(item["config"] for item in values["config"]["layers"] if item["class_name"] == kind)


def units(count):
    return lambda values: layer(values, "Dense").update(units=count)


def upsampling(values):
    layer(values, "UpSampling2D")["size"] = [20_000, 20_000]


def many_layers(values):
    values["config"]["layers"] += [{"class_name": "Dense", "config": {}}] * 100_001


def a_loss_of_code(values):
    values["compile_config"] = {"loss": {"class_name": "__lambda__", "config": {"value": "x"}}}


def swollen(path, **options):
    """Weights of 400 MB, in next to no bytes."""
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/dense/vars/0", data=np.zeros(10**8, np.float32), **options)
    return path.read_bytes()


def elsewhere(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/dense/vars/0", (16,), "f4", external=[("/etc/hostname", 0, 64)])
    return path.read_bytes()


def spoilt(**options):
    return lambda honest, new: rewritten(honest, new, **options)


def packed(**options):
    return spoilt(compression=zipfile.ZIP_DEFLATED, **options)


CASES = {
    "a config of zeros": (packed(config=b" " * 3 * 10**8), "members would take"),
    "weights of zeros": (packed(weights=bytes(3 * 10**8)), "members would take"),
    "150 million units": (spoilt(change=units(150_000_000)), "its layers would take"),
    "units beyond all numbers": (spoilt(change=units(10**30)), "cannot be used"),
    "an output of terabytes": (spoilt(change=upsampling), "for one image"),
    "a hundred thousand layers": (spoilt(change=many_layers), "objects, more than"),
    "900 deep": (spoilt(config='{"config":' * 900 + "1" + "}" * 900), "deep"),
    "a list": (spoilt(config="[]"), "Expected `object`"),
    "no config": (spoilt(config="{}"), "config"),
    "compressed datasets": (
        lambda honest, new: rewritten(honest, new, weights=swollen(new, compression="gzip")), "weights would take",
    ),
    "datasets elsewhere": (
        lambda honest, new: rewritten(honest, new, weights=elsewhere(new)), "in another file",
    ),
    "weights that are none": (spoilt(weights=b"no HDF5"), "damaged weights"),
    "no archive": (lambda honest, new: new.write_bytes(b"x" * 1000), "no .keras file"),
    "an endless device": (lambda honest, new: new.symlink_to("/dev/zero"), "not a regular file"),
    "a FIFO": (lambda honest, new: os.mkfifo(new), "not a regular file"),
    "a folder": (lambda honest, new: new.mkdir(), "not a regular file"),
    "nothing": (lambda honest, new: None, "no such file"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_asks_for_more_than_it_holds_is_refused(honest, tmp_path, case):
    make, said = CASES[case]
    make(honest, tmp_path / "bad.keras")
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(tmp_path / "bad.keras"), preprocessing="none")
    assert said in str(caught.value) and "\n" not in str(caught.value) and "bad.keras" in str(caught.value)


def test_honest_networks_pass(honest, tmp_path):
    repacked = rewritten(honest, tmp_path / "repacked.keras", compression=zipfile.ZIP_DEFLATED)
    compiled = rewritten(honest, tmp_path / "compiled.keras", change=a_loss_of_code)  # which nobody needs, nor runs
    for path in (honest, repacked, compiled):
        assert keras_file.architecture(path, "none").channels == 5


@pytest.mark.parametrize("make", ["swollen", "elsewhere", "fifo", "device"])
def test_files_of_weights(tmp_path, make):
    path = tmp_path / "weights.h5"
    match make:
        case "swollen":
            swollen(path, compression="gzip")
        case "elsewhere":
            elsewhere(path)
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
    for backbone in ("small_cnn", "mobilenet", "efficientnet_lite0"):
        with pytest.raises(WeightsError) as caught:
            load_backbone(backbone, weights=str(path))
        assert "\n" not in str(caught.value) and "weights.h5" in str(caught.value)


@pytest.mark.slow_hostile
@pytest.mark.parametrize("case", CASES)
def test_memory_beside_that_of_tensorflow(honest, tmp_path, case):
    """Peak of the whole process: TensorFlow itself takes some 700 MB."""
    CASES[case][0](honest, tmp_path / "bad.keras")
    found = run("backbones", tmp_path / "bad.keras", "--taps", "--preprocessing", "none")
    assert found.code == 1 and len(found.lines) == 1, found.lines
    assert found.peak < 1200
