"""A run with nothing to do builds no network; and nothing that a network depends on changes unnoticed."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from featurestore.backbones import Outline, Request, load_backbone, outline_cache
from featurestore.backbones.outline_cache import Memo
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


def witness(tmp_path, request=REQUEST):
    return Memo(tmp_path, [request])._witness(request)


def test_the_witness_covers_all_that_a_network_depends_on(tmp_path, home, monkeypatch):
    seen = [witness(tmp_path)]
    assert witness(tmp_path) == seen[0]

    def differs():
        time.sleep(0.02)
        seen.append(witness(tmp_path))
        assert seen[-1] and seen[-1] not in seen[:-1]

    (home / "models" / "vgg16.h5").write_text("another")
    differs()
    (home / "models" / "downloaded.h5").write_text("more")
    differs()
    (home / "keras.json").write_text('{"floatx": "float16"}')
    differs()
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    differs()
    monkeypatch.setattr(outline_cache, "version_of", lambda name: "99")
    differs()
    own = tmp_path / "mine.weights.h5"
    own.write_text("weights")
    changes = ({"size": 48}, {"pool": "max"}, {"taps": ("block1_pool",)}, {"precision": "bfloat16"},
               {"weights": "random"}, {"weights": str(own)})  # fmt: skip
    time.sleep(0.02)
    for change in changes:
        request = replace(REQUEST, **change)
        seen.append(witness(tmp_path, request))
    own.write_text("others")
    time.sleep(0.02)
    seen.append(witness(tmp_path, request))
    assert all(seen) and len(set(seen)) == len(seen)


def test_what_is_remembered_is_recalled_unless_it_is_not_to_be_trusted(tmp_path, home):
    taps = (Tap("last", "avg"),)
    outline = Outline("vgg16", 32, "caffe", taps, "imagenet", "0" * 64, {"last": (512,)}, {"last": None}, "float32")
    Memo(tmp_path, [REQUEST]).remember(REQUEST, outline)
    assert Memo(tmp_path, [REQUEST]).recall(REQUEST) == outline
    assert Memo(tmp_path, [REQUEST], trust=False).recall(REQUEST) is None
    time.sleep(0.02)
    (home / "models" / "vgg16.h5").write_text("another")
    assert Memo(tmp_path, [REQUEST]).recall(REQUEST) is None


def test_files_of_today_are_not_trusted_yet(tmp_path, home, monkeypatch):
    monkeypatch.setattr(stamps, "MARGIN_NS", 3600 * 10**9)
    assert witness(tmp_path) is None


def test_a_process_that_has_keras_recalls_and_remembers_nothing(tmp_path, monkeypatch):
    backbone = load_backbone("small_cnn", weights="random", size=32)
    request = Request("small_cnn", "random", 32, "avg", ("last",), None)
    Memo(tmp_path, [request]).remember(request, backbone)
    assert not (tmp_path / outline_cache.NAME).exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', "null", '"x"'])
def test_a_damaged_memo_counts_as_empty(tmp_path, home, text):
    (tmp_path / outline_cache.NAME).write_text(text)
    assert Memo(tmp_path, [REQUEST]).recall(REQUEST) is None


def test_the_code_that_builds_networks_is_watched():
    names = {Path(path).name for path in outline_cache._files(REQUEST)}
    assert {"registry.py", "applications.py", "efficientnet_lite.py", "graph.py", "keras_file.py"} <= names
