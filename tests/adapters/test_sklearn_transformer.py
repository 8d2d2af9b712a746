import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from pictures import write_images
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted

from featurestore import FeatureStore, FrozenBackbone, extract
from featurestore.adapters import sklearn_transformer
from featurestore.errors import ImageError, SourceError
from featurestore.sources.digest_cache import DigestCache
from featurestore.store.lock import store_lock

OPTIONS = {"weights": "random", "size": 32, "engine": "keras", "batch_size": 8}


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images") / "colours", 6)


def frozen(folder, **options):
    return FrozenBackbone("small_cnn", store=folder / "store", **OPTIONS | options)


def rows_in(folder):
    (path,) = (folder / "store").glob("images--*.h5")
    return len(FeatureStore(path))


def test_the_same_features_as_an_extraction(colours, tmp_path):
    store = FeatureStore(extract(colours, tmp_path, backbone="small_cnn", **OPTIONS).path)
    paths = [colours / path for path in store.paths]
    step = frozen(tmp_path)
    features = step.fit_transform(paths)
    np.testing.assert_allclose(features, store.features(), atol=1e-6)
    assert features.dtype == np.float32 and step.get_feature_names_out()[255] == "frozenbackbone255"
    np.testing.assert_array_equal(step.transform(list(map(str, paths[::-1]))), features[::-1])


def test_crops_are_those_of_an_extraction(colours, tmp_path):
    store = FeatureStore(extract(colours, tmp_path, backbone="small_cnn", crops=5, **OPTIONS).path)
    step = frozen(tmp_path, crops=5)
    np.testing.assert_allclose(
        step.fit_transform([colours / path for path in store.paths]), store.features(), atol=1e-6
    )
    assert not np.allclose(frozen(tmp_path).transform([colours / store.paths[0]]), store.features()[:1])


def test_in_a_pipeline_each_image_runs_through_the_backbone_once(colours, tmp_path):
    paths = np.array([str(path) for path in sorted(colours.rglob("*.png"))])
    labels = [path.split("/")[-2] for path in paths]
    pipeline = make_pipeline(frozen(tmp_path), LogisticRegression())
    assert cross_val_score(pipeline, paths, labels, cv=3).min() > 0.5
    (journal,) = (tmp_path / "store").glob("*.log.jsonl")
    lines = [line for line in journal.read_text().splitlines() if '"end"' in line]
    assert sum(int(line.split('"computed": ')[1].split(",")[0]) for line in lines) == len(paths) == rows_in(tmp_path)


SCRIPT = """
import sys
import numpy as np
from featurestore import FrozenBackbone
from featurestore.system import stamps
stamps.MARGIN_NS = 0
options = {"weights": "random", "size": 32, "engine": "keras", "batch_size": 8}
step = FrozenBackbone("small_cnn", store=sys.argv[1], **options)
np.save(sys.argv[2], step.transform(sys.argv[3:]))
print("keras" in sys.modules)
"""


def test_where_nothing_is_computed_nothing_is_built(colours, tmp_path):
    paths = [str(path) for path in sorted(colours.rglob("*.png"))]

    def keras_was_imported(wanted, target):
        command = [sys.executable, "-c", SCRIPT, tmp_path / "store", target, *wanted]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout == "True\n"

    assert keras_was_imported(paths, tmp_path / "all.npy")
    assert not keras_was_imported(paths[3:], tmp_path / "some.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "some.npy"), np.load(tmp_path / "all.npy")[3:])
    # The smaller call has not made the store forget the other files' stamps.
    assert len(DigestCache(tmp_path / "store" / "images.stamps")._there) == len(paths)


def test_what_is_there_takes_no_extraction(colours, tmp_path, monkeypatch):
    paths = sorted(colours.rglob("*.png"))
    step = frozen(tmp_path)
    features = step.fit_transform(paths)
    monkeypatch.setattr(sklearn_transformer, "extract", lambda *given, **options: pytest.fail("it was extracted"))
    np.testing.assert_array_equal(clone(step).fit_transform(paths[2:]), features[2:])
    for other in ({"resize": "crop"}, {"pool": "max"}, {"size": 48}, {"store": tmp_path / "another"}):
        with pytest.raises(pytest.fail.Exception, match="it was extracted"):
            clone(step).set_params(**other).transform(paths)


def test_pixels_and_their_duplicates(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 20, 24, 3), dtype=np.uint8)
    step = frozen(tmp_path)
    features = step.transform(pixels[[0, 1, 0, 2]])
    np.testing.assert_array_equal(features[0], features[2])
    later = step.transform(pixels[2:])
    np.testing.assert_array_equal(later[0], features[3])
    assert rows_in(tmp_path) == 5  # rows of images that a later call does not bring stay
    assert step.set_params(tap="block2_pool", pool="flatten").transform(pixels[:1]).shape == (1, 8 * 8 * 64)


def test_conventions(colours, tmp_path):
    step = frozen(tmp_path)
    twin = clone(step).set_params(pool="max")
    assert twin.get_params() == step.get_params() | {"pool": "max"}
    with pytest.raises(NotFittedError):
        step.get_feature_names_out()
    paths = sorted(colours.rglob("*.png"))[:2]
    check_is_fitted(step.fit(paths))
    frame = step.set_output(transform="default").transform(np.array(paths, object)[:, None])
    assert frame.shape == (2, 256)
    table = step.set_output(transform="pandas").transform(paths)
    assert list(table.columns[:2]) == ["frozenbackbone0", "frozenbackbone1"] and table.to_numpy().dtype == np.float32
    again = pickle.loads(pickle.dumps(step.set_output(transform="default")))
    np.testing.assert_array_equal(again.transform(paths), frame)
    check_estimator(FrozenBackbone("small_cnn"), on_skip=None)


def test_another_process_is_waited_for(colours, tmp_path):
    held = threading.Event()

    def hold():
        with store_lock(tmp_path / "store"):
            held.set()
            time.sleep(2.5)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    assert frozen(tmp_path).transform(sorted(colours.rglob("*.png"))[:1]).shape == (1, 256)
    thread.join()


def test_bad_input(colours, tmp_path):
    good = sorted(colours.rglob("*.png"))[:2]
    (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(ImageError, match=r"bad\.png: not an image of a known format: leave it out"):
        frozen(tmp_path).transform([*good, tmp_path / "bad.png"])
    assert rows_in(tmp_path) == 2
    with pytest.raises(ImageError, match=r"gone\.png: no such file: leave it out"):
        frozen(tmp_path).transform([*good, tmp_path / "gone.png"])
    with pytest.raises(SourceError, match="no images"):
        frozen(tmp_path).transform([])
    with pytest.raises(SourceError, match="shape"):
        frozen(tmp_path).transform(np.zeros((2, 5)))
    for wrong in (np.zeros((2, 5)), [], [None], csr_array(np.eye(3)), np.full((1, 4, 4), np.nan)):
        with pytest.raises(ValueError, match=r"^X: "):
            frozen(tmp_path).fit(wrong)
