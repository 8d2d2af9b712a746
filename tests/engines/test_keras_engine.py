import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from featurestore.engines.keras_engine import InParts
from featurestore.errors import BackboneError

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), dtype=np.uint8)


class SmallDevice:
    """Averages pixels, of at most `room` images at a time; like a GPU, it may say so only when asked for the result."""

    def __init__(self, room: int, late: bool) -> None:
        self.room, self.late, self.ran = room, late, []

    def __call__(self, pixels):
        if len(pixels) > self.room and not self.late:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes")
        return [{"last": Late(self, pixels)}]


class Late:
    def __init__(self, device, pixels) -> None:
        self.device, self.pixels = device, pixels

    def __array__(self, dtype=None, copy=None):
        if len(self.pixels) > self.device.room:
            raise RuntimeError("CUDA out of memory")
        self.device.ran.append(len(self.pixels))
        return self.pixels.mean(axis=(1, 2))


@pytest.mark.parametrize("late", [False, True])
def test_a_batch_that_does_not_fit_is_halved_and_stays_so(late):
    device = SmallDevice(3, late)
    run = InParts(device)
    started = [run(PIXELS), run(PIXELS[::-1])]
    np.testing.assert_array_equal(started[0]()["last"], PIXELS.mean(axis=(1, 2)))
    np.testing.assert_array_equal(started[1]()["last"], PIXELS[::-1].mean(axis=(1, 2)))
    assert set(device.ran) == {2, 3}
    device.ran.clear()
    run(PIXELS)()
    assert device.ran == [3, 3, 2, 2]


def test_when_not_even_one_image_fits():
    with pytest.raises(BackboneError, match="does not hold the forward pass of one image: lower --size"):
        InParts(SmallDevice(0, late=False))(PIXELS)()


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def broken(pixels):
        raise ZeroDivisionError("out of luck")

    with pytest.raises(ZeroDivisionError):
        InParts(broken)(PIXELS)()


COMPARE = """
import numpy as np
from featurestore.backbones import load_backbone
from featurestore.engines import compile_backbone, difference
{devices}
backbone = load_backbone("efficientnet_lite0", size=32, taps=["block2a_expand_conv=none", "last"])
pixels = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
plain = backbone.model.predict_on_batch(pixels)
run = compile_backbone(backbone)
for batch in (10, 5):
    found = run(pixels[:batch])()
    for tap, values in found.items():
        assert values.shape == (batch, *backbone.shapes[tap]), values.shape
        assert difference(np.asarray(plain[tap])[:batch], values) < 1e-5
print(count())
"""
TWO_CPUS = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
count = lambda: len(tf.config.list_logical_devices("CPU"))
"""


WITH_JAX = pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed")
ON_JAX = "import jax; count = jax.local_device_count"


@pytest.mark.parametrize(
    ("backend", "devices"), [("tensorflow", TWO_CPUS), pytest.param("jax", ON_JAX, marks=WITH_JAX)]
)
def test_a_batch_is_shared_by_all_devices(backend, devices):
    environment = os.environ | {"KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [sys.executable, "-c", COMPARE.format(devices=devices)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-1] == "2"
