"""A run with nothing to do builds no network; and nothing that a network depends on changes unnoticed."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featurestore.backbones import FrozenNetwork, Outline, Request, network_cache
from featurestore.backbones.network_cache import NetworkCache
from featurestore.backbones.portable import PortableNetwork, portable, sample_pixels
from featurestore.spec import Tap
from featurestore.system import stamps

SCRIPT = """
import json, sys
from featurestore import extract
from featurestore.system import stamps
stamps.MARGIN_NS = 0
result = extract(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3]))
print(json.dumps([result.computed, result.written, len(result.failures), "keras" in sys.modules]))
"""


def run(source, store, env=None, **options):
    """In a new process: rows computed, whether the file was written, failures, whether Keras was imported."""
    options = {"size": 32, "batch_size": 8, **options}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, source, store, json.dumps(options)],
        env=os.environ | (env or {}), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_keras_is_imported_only_when_something_is_missing(images, tmp_path):
    (images / "red" / "broken.png").write_bytes((images / "red" / "0-000.png").read_bytes()[:500])
    store = tmp_path / "store"
    assert run(images, store) == [30, True, 1, True]
    assert run(images, store) == [0, False, 1, False]
    (images / "red" / "0-003.png").rename(images / "red" / "renamed.png")
    assert run(images, store) == [0, True, 1, False]
    (images / "red" / "broken.png").write_bytes((images / "red" / "0-000.png").read_bytes() + b"repaired")
    assert run(images, store) == [1, True, 0, True]


REQUEST = Request("vgg16", "imagenet", 32, "avg", ("last",), None)


@pytest.fixture
def home(tmp_path, monkeypatch):
    (tmp_path / "keras" / "models").mkdir(parents=True)
    (tmp_path / "keras" / "models" / "vgg16.h5").write_text("weights")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(stamps, "MARGIN_NS", 0)
    for name in [name for name in sys.modules if name.partition(".")[0] == "keras"]:
        monkeypatch.delitem(sys.modules, name)  # as in a process that has not needed it yet
    time.sleep(0.02)
    return tmp_path / "keras"


def name(request=REQUEST):
    return NetworkCache([request])._names[request]


def test_the_name_covers_all_that_a_network_depends_on(tmp_path, home, monkeypatch):
    seen = [name()]
    assert name() == seen[0]

    def differs():
        time.sleep(0.02)
        seen.append(name())
        assert seen[-1] and seen[-1] not in seen[:-1]

    (home / "models" / "vgg16.h5").write_text("another")
    differs()
    (home / "models" / "downloaded.h5").write_text("more")
    differs()
    (home / "keras.json").write_text('{"floatx": "float16"}')
    differs()
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    differs()
    monkeypatch.setattr(network_cache, "version_of", lambda name: "99")
    differs()
    own = tmp_path / "mine.weights.h5"
    own.write_text("weights")
    changes = ({"size": 48}, {"pool": "max"}, {"taps": ("block1_pool",)}, {"precision": "bfloat16"},
               {"weights": "random"}, {"weights": str(own)})  # fmt: skip
    time.sleep(0.02)
    for change in changes:
        request = replace(REQUEST, **change)
        seen.append(name(request))
    own.write_text("others")
    time.sleep(0.02)
    seen.append(name(request))
    assert all(seen) and len(set(seen)) == len(seen)


def described():
    """What vgg16 would be, without building it."""
    taps = (Tap("last", "avg"),)
    return Outline("vgg16", 32, "caffe", taps, "imagenet", "0" * 64, {"last": (512,)}, {"last": None}, "float32")


class Answers(FrozenNetwork):
    """A network that gives one number for all pixels."""

    def run(self, pixels):
        return {"last": np.full((len(pixels), 512), self.value, np.float32)}

    def libraries(self):
        return ("keras",)


def network(value=1.0):
    found = Answers(**described().facts())
    object.__setattr__(found, "value", value)
    return found


def converted(value=1.0):
    return portable(network(value), b"<net/>", np.arange(100, dtype=np.uint8))


@pytest.fixture
def folder(tmp_path, monkeypatch, home):
    monkeypatch.setenv(network_cache.FOLDER, str(tmp_path / "networks"))
    return tmp_path / "networks"


def test_what_is_kept_is_recalled_unless_it_is_not_to_be_trusted(folder, home, monkeypatch):
    NetworkCache([REQUEST]).keep(REQUEST, converted(), "openvino")
    found = NetworkCache([REQUEST])
    assert found.recall(REQUEST) == described() and found.engine(REQUEST) == "openvino"
    kept = found.network(REQUEST)
    assert isinstance(kept, PortableNetwork) and kept.xml == b"<net/>" and kept.libraries() == ("keras",)
    np.testing.assert_array_equal(kept.numbers, np.arange(100))
    pixels, expected = kept.sample()
    np.testing.assert_array_equal(pixels, sample_pixels(32))
    np.testing.assert_array_equal(expected["last"], np.ones((2, 512)))
    assert NetworkCache([REQUEST], trust=False).recall(REQUEST) is None
    monkeypatch.setenv(network_cache.FOLDER, "off")
    assert NetworkCache([REQUEST]).recall(REQUEST) is None
    monkeypatch.setenv(network_cache.FOLDER, str(folder))
    time.sleep(0.02)
    (home / "models" / "vgg16.h5").write_text("another")
    assert NetworkCache([REQUEST]).recall(REQUEST) is None


def built(monkeypatch):
    """What the cache gives where it has to build the network."""
    monkeypatch.setattr(network_cache, "load", lambda request: network())
    return NetworkCache([REQUEST]).network(REQUEST)


def test_a_model_that_was_changed_is_not_run(folder, monkeypatch):
    NetworkCache([REQUEST]).keep(REQUEST, converted(), "openvino")
    (model,) = folder.glob("*.safetensors")
    raw = bytearray(model.read_bytes())
    raw[-1] ^= 1
    model.write_bytes(raw)
    assert not isinstance(built(monkeypatch), PortableNetwork)
    model.unlink()
    assert not isinstance(built(monkeypatch), PortableNetwork)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_nothing_is_taken_from_a_folder_that_others_can_write_to(folder):
    NetworkCache([REQUEST]).keep(REQUEST, converted(), "openvino")
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert NetworkCache([REQUEST]).recall(REQUEST) is None
    folder.chmod(0o700)
    assert NetworkCache([REQUEST]).recall(REQUEST) == described()
    real = folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(real)
    assert NetworkCache([REQUEST]).recall(REQUEST) is None


def test_features_that_tell_nothing_are_not_kept(folder):
    NetworkCache([REQUEST]).keep(REQUEST, converted(0.0), "openvino")
    assert not list(folder.glob("*.safetensors"))
    assert NetworkCache([REQUEST]).recall(REQUEST) == described()


def test_what_was_used_longest_ago_goes_first(folder, monkeypatch):
    requests = [replace(REQUEST, pool=pool) for pool in ("avg", "max", "flatten")]
    for age, request in enumerate(requests):
        NetworkCache([request]).keep(request, converted(), "openvino")
        for path in folder.glob(f"{name(request)}*"):
            os.utime(path, (1000 + age, 1000 + age))
    NetworkCache([requests[0]]).network(requests[0])  # used just now
    both = sum(path.stat().st_size for path in folder.glob(f"{name(requests[0])}*"))
    monkeypatch.setattr(network_cache, "LIMIT", int(2.5 * both))
    newest = replace(REQUEST, pool="none")
    NetworkCache([newest]).keep(newest, converted(), "openvino")
    left = [request.pool for request in (*requests, newest) if (folder / f"{name(request)}.safetensors").exists()]
    assert left == ["avg", "none"]


def test_files_of_today_are_not_trusted_yet(home, monkeypatch):
    monkeypatch.setattr(stamps, "MARGIN_NS", 3600 * 10**9)
    assert name() is None


def test_a_process_that_has_keras_recalls_what_it_built_itself_with_the_same_settings(tmp_path, monkeypatch):
    import keras

    monkeypatch.setattr(stamps, "MARGIN_NS", 0)
    monkeypatch.setenv(network_cache.FOLDER, str(tmp_path / "networks"))
    monkeypatch.setattr(network_cache, "_built", {})  # what other tests of this process built
    request = Request("small_cnn", "random", 32, "avg", ("last",), None)
    assert NetworkCache([request]).recall(request) is None
    facts = NetworkCache([request]).network(request).facts()
    assert NetworkCache([request]).recall(request).facts() == facts
    assert NetworkCache([request], trust=False).recall(request) is None
    assert not list((tmp_path / "networks").iterdir())
    monkeypatch.setattr(keras.config, "epsilon", lambda: 0.5)
    assert NetworkCache([request]).recall(request) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', "null", '"x"', "[" * 10**5, '{"taps": 3}'])
def test_a_damaged_entry_counts_as_none(folder, text):
    NetworkCache([REQUEST]).keep(REQUEST, converted(), "openvino")
    (entry,) = folder.glob("*.json")
    entry.write_text(text)
    assert NetworkCache([REQUEST]).recall(REQUEST) is None


FLOWERS = """
import json, sys
from featurestore import extract
from featurestore.system import stamps
stamps.MARGIN_NS = 0
result = extract(sys.argv[1], sys.argv[2], engine=sys.argv[3], backbone="small_cnn", weights="random", size=64)
print(json.dumps([result.path.read_bytes().hex(), "keras" in sys.modules]))
"""


def test_a_second_data_set_needs_no_keras_and_has_the_same_features(images, tmp_path, monkeypatch):
    from pictures import write_images

    many = write_images(tmp_path / "many", 90)
    monkeypatch.setenv(network_cache.FOLDER, str(tmp_path / "networks"))

    def features(store, engine="auto"):
        command = [sys.executable, "-c", FLOWERS, many, tmp_path / store, engine]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    first, second = features("first"), features("second")
    assert (first[1], second[1]) == (True, False)
    assert first[0] == second[0]
    assert features("third", "keras")[1]


def test_the_code_that_builds_networks_is_watched():
    names = {Path(path).name for path in network_cache._files(REQUEST)}
    assert {"registry.py", "applications.py", "efficientnet_lite.py", "graph.py", "keras_file.py"} <= names
