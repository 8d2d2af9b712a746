import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from pictures import write_images
from PIL import Image

from featurestore import ArraySource, FeatureStore, engines, extract, open_source
from featurestore.backbones import load_backbone, network_cache
from featurestore.errors import (
    BackboneError,
    CorruptFileError,
    DiskFullError,
    SourceError,
    SpecMismatchError,
    StoreError,
    StoreLockedError,
    WeightsError,
)
from featurestore.extraction.extract import extract_all
from featurestore.images import decode as decode_module
from featurestore.images.decode import decode
from featurestore.store.lock import store_lock

SIZE = 32
LITE = {"size": SIZE, "batch_size": 8}
FAST = LITE | {"backbone": "small_cnn", "weights": "random"}
SCRIPT = Path(__file__).with_name("extracting.py")


def test_features_are_those_of_the_plain_model(images, tmp_path):
    result = extract(images, tmp_path / "store", **LITE)
    store = FeatureStore(result.path)
    assert result.computed == result.rows == len(store) == 30
    store.verify()
    pixels = np.stack([decode((images / path).read_bytes(), SIZE, "squash") for path in store.paths])
    plain = load_backbone("efficientnet_lite0", size=SIZE).model.predict(pixels, verbose=0)["last"]
    np.testing.assert_allclose(store.features(), plain, rtol=1e-4, atol=1e-5)
    assert store.ids.tolist() == sorted(store.ids)
    assert [store.class_names[label] for label in store.labels] == [Path(path).parent.name for path in store.paths]


def test_a_second_run_computes_nothing_and_leaves_the_file(images, tmp_path):
    first = extract(images, tmp_path / "store", **FAST)
    before = first.path.stat().st_ino, first.path.stat().st_mtime_ns
    second = extract(images, tmp_path / "store", **FAST)
    assert (second.computed, second.written, second.rows) == (0, False, 30)
    assert (first.path.stat().st_ino, first.path.stat().st_mtime_ns) == before


def test_a_file_is_not_written_through_a_link_to_nowhere(images, tmp_path):
    path = extract(images, tmp_path / "store", **FAST).path
    path.rename(tmp_path / "moved.h5")
    path.symlink_to(tmp_path / "elsewhere.h5")
    with pytest.raises(StoreError, match="a link to a file that is not there"):
        extract(images, tmp_path / "store", **FAST)
    assert not (tmp_path / "elsewhere.h5").exists()
    (tmp_path / "moved.h5").rename(tmp_path / "elsewhere.h5")
    assert not extract(images, tmp_path / "store", **FAST).written


def test_only_new_images_run_and_old_ones_keep_their_split(images, tmp_path):
    old = FeatureStore(extract(images, tmp_path / "store", **FAST).path)
    write_images(images, 4, seed=1)
    result = extract(images, tmp_path / "store", **FAST)
    assert (result.computed, result.rows, result.written) == (12, 42, True)
    new = FeatureStore(result.path)
    splits = dict(zip(new.digests, new.splits, strict=True))
    assert all(splits[digest] == split for digest, split in zip(old.digests, old.splits, strict=True))
    rows = {digest: i for i, digest in enumerate(new.digests)}
    np.testing.assert_array_equal(new.features()[[rows[digest] for digest in old.digests]], old.features())


def test_a_renamed_image_costs_nothing(images, tmp_path):
    extract(images, tmp_path / "store", **FAST)
    (images / "red" / "0-003.png").rename(images / "red" / "renamed.png")
    result = extract(images, tmp_path / "store", **FAST)
    assert (result.computed, result.written) == (0, True)
    assert "red/renamed.png" in FeatureStore(result.path).ids


def test_the_same_images_in_another_data_set_are_copied(images, tmp_path):
    first = FeatureStore(extract(images, tmp_path / "store", **FAST).path)
    other = tmp_path / "other"
    shutil.copytree(images, other)
    write_images(other, 1, seed=2)
    result = extract(other, tmp_path / "store", **FAST)
    assert (result.computed, result.copied, result.rows) == (3, 30, 33)
    assert set(first.digests) < set(FeatureStore(result.path).digests)


def test_another_spec_makes_another_file(images, tmp_path):
    paths = {extract(images, tmp_path / "store", **FAST, **options).path
             for options in ({}, {"resize": "crop"}, {"pool": "max"}, {"dtype": "float16"}, {"precision": "bfloat16"},
                             {"decoder": "draft"}, {"decoder": "turbo"})}  # fmt: skip
    assert len(paths) == 7
    assert extract(images, tmp_path / "store", **(FAST | {"size": 48})).computed == 30


def test_the_libraries_of_a_decoder_are_provenance(images, tmp_path):
    (producer,) = FeatureStore(extract(images, tmp_path / "store", **FAST, decoder="turbo").path).producers
    assert {"pillow", "simplejpeg", "cykooz-resizer"} <= set(producer)


@pytest.mark.parametrize(("pool", "shape"), [("avg", (256,)), ("flatten", (1024,)), ("none", (2, 2, 256))])
def test_pooling(images, tmp_path, pool, shape):
    store = FeatureStore(extract(images, tmp_path / "store", **FAST, pool=pool).path)
    assert store.features().shape[1:] == shape


def test_rows_that_would_be_lost_are_not(images, tmp_path):
    extract(images, tmp_path / "store", **FAST)
    (images / "blue" / "0-000.png").unlink()
    with pytest.raises(StoreError, match=r"1 of its 30 rows .*blue/0-000.png.*--prune"):
        extract(images, tmp_path / "store", **FAST)
    assert extract(images, tmp_path / "store", **FAST, prune=True).rows == 29


def test_bad_files_are_recorded_and_stop_nothing(images, tmp_path):
    (images / "red" / "cut.png").write_bytes((images / "red" / "0-000.png").read_bytes()[:500])
    (images / "red" / "empty.jpg").write_bytes(b"")
    os.mkfifo(images / "red" / "fifo.jpg")
    result = extract(images, tmp_path / "store", **FAST)
    assert result.rows == 30
    assert [failure.path for failure in result.failures] == ["red/cut.png", "red/empty.jpg", "red/fifo.jpg"]
    store = FeatureStore(result.path)
    assert [list(f) for f in store.failures] == [[f.path, f.reason] for f in result.failures]
    assert not extract(images, tmp_path / "store", **FAST).written


def test_a_failed_image_that_is_repaired_gets_its_row(images, tmp_path):
    whole = (images / "red" / "0-000.png").read_bytes()
    (images / "red" / "0-000.png").write_bytes(whole[:500])
    assert extract(images, tmp_path / "store", **FAST).rows == 29
    (images / "red" / "0-000.png").write_bytes(whole)
    result = extract(images, tmp_path / "store", **FAST)
    assert (result.rows, result.computed, result.failures) == (30, 1, [])


def test_when_no_image_can_be_decoded(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "bad" / name).mkdir(parents=True)
        (tmp_path / "bad" / name / "x.jpg").write_text(name)
    with pytest.raises(SourceError, match="none of 2 images could be read"):
        extract(tmp_path / "bad", tmp_path / "store", **FAST)


def test_arrays(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 20, 3), dtype=np.uint8)
    source = ArraySource(pixels, np.arange(12) % 2, name="noise", class_names=["even", "odd"])
    store = FeatureStore(extract(source, tmp_path / "store", **FAST).path)
    assert store.dataset == "noise" and len(store) == 12 and set(store.paths) == {""}


# --------------------------------------------------------------------------------- taps, backbones, views


def test_several_taps_of_one_pass_are_those_of_single_passes(images, tmp_path):
    taps = ("block2_pool", "block4_pool=max", "last=avg+max")
    options = {**FAST, "backbone": "vgg16", "weights": "random"}
    together = FeatureStore(extract(images, tmp_path / "store", **options, taps=taps).path)
    assert together.taps == ("block2_pool", "block4_pool", "last")
    for tap, width in zip(taps, (128, 512, 1024), strict=True):
        alone = FeatureStore(extract(images, tmp_path / "store", **options, taps=[tap]).path)
        assert alone.features().shape == (30, width)
        np.testing.assert_allclose(together.features(tap.partition("=")[0]), alone.features(), rtol=1e-4, atol=1e-6)
    assert list(together.provenance["flops"].values()) == sorted(together.provenance["flops"].values())


def test_a_glob_stands_for_layers_and_an_unknown_layer_gets_the_nearest(images, tmp_path):
    options = {**FAST, "backbone": "vgg16", "weights": "random"}
    store = FeatureStore(extract(images, tmp_path / "store", **options, taps=["block[1-3]_pool"]).path)
    assert store.taps == ("block1_pool", "block2_pool", "block3_pool")
    with pytest.raises(BackboneError, match="no layer 'block4_pol' to tap: did you mean 'block4_pool'"):
        extract(images, tmp_path / "store", **options, taps=["block4_pol"])


def test_the_same_layer_pooled_in_two_ways(images, tmp_path):
    store = FeatureStore(extract(images, tmp_path / "store", **FAST, taps=["last=avg", "last=max"]).path)
    assert store.taps == ("last.avg", "last.max")
    assert (store.features("last.max") >= store.features("last.avg")).all()


def test_several_backbones_read_each_image_once_and_give_what_single_runs_give(images, tmp_path):
    source = open_source(images)
    read, seen = source.read, []
    source.read = lambda sample: (seen.append(sample.id), read(sample))[1]
    networks = {"efficientnet_lite0": "imagenet", "mobilenet_v2": "random"}
    together = extract_all(source, tmp_path / "store", networks, **LITE)
    assert sorted(seen) == sorted(sample.id for sample in source.listing().samples)
    for (name, weights), result in zip(networks.items(), together, strict=True):
        alone = extract(images, tmp_path / "alone", backbone=name, weights=weights, **LITE)
        assert result.path.read_bytes() == alone.path.read_bytes()


def test_views_of_training_images_are_added_to_a_file_and_the_same_on_every_run(images, tmp_path):
    plain = FeatureStore(extract(images, tmp_path / "store", **FAST).path)
    result = extract(images, tmp_path / "store", **FAST, views=2, augment="strong")
    train = int((plain.splits == "train").sum())
    assert (result.views, result.computed) == (2 * train, 2 * train)
    store = FeatureStore(result.path)
    store.verify()
    np.testing.assert_array_equal(store.features(), plain.features())
    assert set(store.view_rows) == set(store.rows("train")) and set(store.view_numbers) == {1, 2}
    difference = np.abs(store.views() - store.features()[store.view_rows]).max(axis=1)
    assert (difference > 0.01).all()
    at_once = extract(images, tmp_path / "other", **FAST, views=2, augment="strong")
    np.testing.assert_allclose(FeatureStore(at_once.path).views(), store.views(), rtol=1e-4, atol=1e-5)


def test_views_grow_and_stay(images, tmp_path):
    def go(**options):
        return extract(images, tmp_path / "store", **FAST, **options)

    assert go(views=1, augment="flip").computed == 51
    assert (go().computed, go(views=0).written) == (0, False)
    assert go(views=3).computed == 2 * 21
    with pytest.raises(StoreError, match=r"has views made by 'flip'.*--name"):
        go(views=3, augment="mild")
    with pytest.raises(BackboneError, match="unknown augmentation 'flipp': did you mean 'flip'"):
        go(views=3, augment="flipp")


def test_a_batch_that_would_not_fit_memory_is_refused_with_its_size(images, tmp_path):
    with pytest.raises(BackboneError, match=r"GiB of memory, most of it tap 'block1_conv1' with 12.2 MiB an image"):
        extract(images, tmp_path / "store", backbone="vgg16", weights="random", taps=["block1_conv1=none"],
                batch_size=100_000)  # fmt: skip


# --------------------------------------------------------------------------------- several looks


def test_a_row_of_crops_is_the_mean_of_the_rows_of_images_cut_by_hand(images, tmp_path):
    options = LITE | {"taps": ["block2a_expand_conv=max", "last=avg", "last=flatten"]}
    made = FeatureStore(extract(images, tmp_path / "store", crops=5, crop_share=0.8, resize="crop", **options).path)
    made.verify()
    wide = [decode((images / path).read_bytes(), 40, "crop") for path in made.paths]
    corners = [(0, 0), (0, 8), (8, 0), (8, 8), (4, 4)]
    cut = np.stack([pixels[top : top + 32, left : left + 32] for top, left in corners for pixels in wide])
    source = ArraySource(cut, np.arange(150) % 3, name="cut")
    by_hand = FeatureStore(extract(source, tmp_path / "by_hand", resize="squash", **options).path)
    order = np.argsort(by_hand.ids.astype(int))
    for tap in made.taps:
        expected = by_hand.features(tap)[order].reshape(5, 30, -1).mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(made.features(tap).reshape(30, -1), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_crops_of_one_colour_are_one_look(tmp_path, dtype):
    pixels = np.stack([np.full((50, 30, 3), value, np.uint8) for value in range(0, 240, 24)])
    source = ArraySource(pixels, np.arange(10) % 2, name="grey")
    one, ten = extract_all(source, tmp_path, {"small_cnn": "random"}, crops=[1, 10], size=32, dtype=dtype)
    assert one.path != ten.path
    np.testing.assert_array_equal(FeatureStore(one.path).features(), FeatureStore(ten.path).features())


def test_looks_of_one_run_are_the_files_of_each_alone(images, tmp_path, monkeypatch):
    """The network is built once, and each image decoded once; without anything to compute none is built."""
    options = {name: value for name, value in FAST.items() if name not in ("backbone", "weights")} | {"views": 2}
    looks = [("squash", 1), ("squash", 5), ("pad", 1), ("pad", 5)]
    built, opened = [], []
    load, open_image = network_cache.load, decode_module.opened
    monkeypatch.setattr(network_cache, "load", lambda request: built.append(request) or load(request))
    monkeypatch.setattr(decode_module, "opened", lambda *a, **o: opened.append(a) or open_image(*a, **o))
    together = extract_all(images, tmp_path / "all", {"small_cnn": "random"}, resize=["squash", "pad"], crops=[1, 5],
                           **options)  # fmt: skip
    assert (len(built), len(opened)) == (1, 30)
    assert [result.look for result in together] == ["squash", "squash-crops5", "pad", "pad-crops5"]
    for (resize, crops), result in zip(looks, together, strict=True):
        alone = extract(images, tmp_path / f"{resize}{crops}", resize=resize, crops=crops, **FAST, views=2)
        assert result.path.name == alone.path.name and result.path.read_bytes() == alone.path.read_bytes()
    built.clear()
    again = extract_all(images, tmp_path / "all", {"small_cnn": "random"}, resize=["squash", "pad"], crops=[1, 5],
                        **options)  # fmt: skip
    assert not built and not any(result.computed or result.written for result in again)


def test_old_rows_of_crops_are_recomputed_and_compared(images, tmp_path, monkeypatch):
    """Rows of another version are checked by the same crops."""
    first = extract(images, tmp_path / "store", crops=5, **FAST)
    write_images(images, 2, seed=1)
    monkeypatch.setattr(engines.registry, "version_of", lambda library: "99")
    second = extract(images, tmp_path / "store", crops=5, **FAST)
    assert (second.computed, len(FeatureStore(second.path).producers)) == (6, 2) and second.path == first.path
    monkeypatch.setattr(engines.registry, "version_of", lambda library: "100")
    monkeypatch.setattr(
        engines.registry, "averaged", lambda compute, framing: lambda pixels: compute(pixels[:, :32, :32])
    )
    write_images(images, 2, seed=2)
    with pytest.raises(SpecMismatchError, match="made by other versions"):
        extract(images, tmp_path / "store", crops=5, **FAST)


# --------------------------------------------------------------------------------- resuming


def interrupt(images: Path, store: Path, done: int, sign: int, *options: str) -> str:
    """Start an extraction and send it a signal once `done` images are reported done."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(images), str(store), "4", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PAUSE": "0.3"},
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("extracting") and int(line.split()[1]) >= done:
            process.send_signal(sign)
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    return err


def test_an_interrupted_run_is_resumed_with_its_own_batch_size(images, tmp_path):
    interrupt(images, tmp_path / "store", 8, signal.SIGKILL)
    assert list((tmp_path / "store").glob("*.journal")) and not list((tmp_path / "store").glob("*.h5"))
    resumed = extract(images, tmp_path / "store", size=SIZE, batch_size=7)
    whole = extract(images, tmp_path / "whole", size=SIZE, batch_size=4)
    assert resumed.resumed >= 8 and resumed.resumed % 4 == 0 and resumed.resumed + resumed.computed == 30
    assert resumed.path.read_bytes() == whole.path.read_bytes()
    assert not list((tmp_path / "store").glob("*.journal"))


def test_a_killed_run_over_crops_and_views_ends_in_the_same_bytes(images, tmp_path):
    interrupt(images, tmp_path / "store", 12, signal.SIGKILL, "2", "5")
    options = {"size": SIZE, "views": 2, "crops": 5}
    resumed = extract(images, tmp_path / "store", batch_size=7, **options)
    whole = extract(images, tmp_path / "whole", batch_size=4, **options)
    assert resumed.resumed >= 12 and resumed.resumed + resumed.computed == whole.computed
    assert resumed.views and resumed.path.read_bytes() == whole.path.read_bytes()


def test_a_damaged_journal_is_named(images, tmp_path):
    interrupt(images, tmp_path / "store", 4, signal.SIGKILL)
    (journal,) = (tmp_path / "store").glob("*.journal")
    journal.write_bytes(b"x" + journal.read_bytes()[1:])
    with pytest.raises(CorruptFileError, match=rf"{journal.name}: .*delete it"):
        extract(images, tmp_path / "store", **LITE)
    journal.unlink()
    assert extract(images, tmp_path / "store", **LITE).computed == 30


class StopError(Exception):
    pass


def test_a_resumed_run_and_later_ones_keep_the_engine(images, tmp_path):
    def stop(stage, done, total):
        if stage == "extracting" and done >= 16:
            raise StopError

    with pytest.raises(StopError):
        extract(images, tmp_path / "store", **FAST, engine="openvino", progress=stop)
    resumed = extract(images, tmp_path / "store", **FAST, engine="keras")
    assert resumed.resumed >= 16 and resumed.resumed + resumed.computed == 30
    whole = extract(images, tmp_path / "whole", **FAST, engine="openvino")
    assert resumed.path.read_bytes() == whole.path.read_bytes()
    write_images(images, 1, seed=1)
    grown = FeatureStore(extract(images, tmp_path / "store", **FAST).path)
    assert [producer["engine"] for producer in grown.producers] == ["openvino"]
    write_images(images, 1, seed=2)
    mixed = FeatureStore(extract(images, tmp_path / "store", **FAST, engine="keras").path)
    assert [producer["engine"] for producer in mixed.producers] == ["openvino", "keras"]
    np.testing.assert_array_equal(mixed.digests[np.isin(mixed.digests, grown.digests)], grown.digests)


def test_an_engine_that_was_refused_leaves_nothing_that_stands_against_another(images, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(BackboneError, match="pass another --engine"):
        patch.setitem(engines.TOLERANCE, "float32", 0.0)
        extract(images, tmp_path, **LITE, engine="keras")
    (left,) = tmp_path.glob("*.journal")
    shutil.copy(left, left.with_suffix(".0123456789ab.journal"))  # as a worker of a cluster leaves it
    file = FeatureStore(extract(images, tmp_path, **LITE, engine="openvino").path)
    assert [producer["engine"] for producer in file.producers] == ["openvino"]
    assert not list(tmp_path.glob("*.journal"))


def test_a_run_tells_where_its_time_went_and_says_first_that_it_is_long(images, tmp_path, monkeypatch):
    from featurestore.extraction import run

    monkeypatch.setattr(run, "PROBE", 0.0)
    monkeypatch.setattr(run, "LONG", 0.0)
    said: list[str] = []
    result = extract(images, tmp_path / "store", **FAST, note=said.append)
    timing = result.timing
    assert set(timing) == {"read", "decode", "forward", "write", "idle", "total"}
    assert min(timing["decode"], timing["forward"], timing["write"]) > 0
    assert timing["forward"] + timing["idle"] == pytest.approx(timing["total"], abs=0.01)
    assert len(said) == 1 and "minutes, and 0 MiB of the disk" in said[0]
    assert extract(images, tmp_path / "store", **FAST).timing["total"] == 0


# --------------------------------------------------------------------------------- other versions


def pretend_made_by(path: Path, version: str, change: float = 0.0) -> None:
    """Alter who made a file, and its features; both as a real other version might have."""
    from featurestore.store import file_format

    with h5py.File(path, "r+") as file:
        provenance = json.loads(file.attrs["provenance"])
        provenance["producers"][0]["tensorflow"] = version
        file.attrs["provenance"] = np.bytes_(json.dumps(provenance, sort_keys=True))
        file["features"][...] *= 1 + change
        file.attrs["content_digest"] = np.bytes_(file_format.content_digest(file, ["last"]))


def test_rows_of_another_version_are_mixed_when_canaries_agree(images, tmp_path):
    path = extract(images, tmp_path / "store", **FAST).path
    pretend_made_by(path, "1.0", 1e-5)
    write_images(images, 1, seed=3)
    store = FeatureStore(extract(images, tmp_path / "store", **FAST).path)
    assert len(store) == 33
    assert [producer["tensorflow"] == "1.0" for producer in store.producers] == [True, False]


def test_rows_of_another_version_are_refused_when_canaries_differ(images, tmp_path):
    path = extract(images, tmp_path / "store", **FAST).path
    pretend_made_by(path, "1.0", 0.02)
    before = path.read_bytes()
    write_images(images, 1, seed=3)
    with pytest.raises(SpecMismatchError, match=r"now differ by 2.0%"):
        extract(images, tmp_path / "store", **FAST)
    assert path.read_bytes() == before


# --------------------------------------------------------------------------------- bad input


def test_a_second_writer_is_refused(images, tmp_path):
    with store_lock(tmp_path / "store"), pytest.raises(StoreLockedError, match="is writing to this store"):
        extract(images, tmp_path / "store", **FAST)


def test_a_file_of_another_spec_in_the_way(images, tmp_path):
    first = extract(images, tmp_path / "store", **FAST).path
    other = extract(images, tmp_path / "store", **(FAST | {"size": 48})).path
    shutil.copy(first, other)
    with pytest.raises(SpecMismatchError, match="size: 48 here, 32 there"):
        extract(images, tmp_path / "store", **(FAST | {"size": 48}))


def test_a_truncated_file_in_the_way_is_named_and_kept(images, tmp_path):
    path = extract(images, tmp_path / "store", **FAST).path
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(CorruptFileError, match=path.name):
        extract(images, tmp_path / "store", **FAST)
    assert path.stat().st_size == 3000


def test_a_damaged_file_of_another_data_set_is_no_obstacle(images, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "other.h5").write_text("damaged")
    assert extract(images, tmp_path / "store", **FAST).rows == 30


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backbone": "efficient_lite0"}, BackboneError, "did you mean 'efficientnet_lite0'"),
        ({"size": 16}, BackboneError, "size 16 is too small for efficientnet_lite0: it takes 32"),
        ({"weights": "nowhere.h5"}, WeightsError, "nowhere.h5: no such weights file"),
        ({"pool": "mean"}, BackboneError, "unknown pooling 'mean'"),
        ({"resize": "stretch"}, BackboneError, "unknown resize rule 'stretch'"),
        ({"dtype": "float64"}, BackboneError, "unknown dtype 'float64'"),
        ({"batch_size": 0}, BackboneError, "batch size 0"),
        ({"engine": "opnvino"}, BackboneError, "unknown engine 'opnvino': did you mean 'openvino'"),
        ({"precision": "float64"}, BackboneError, "unknown precision 'float64'"),
        ({"decoder": "turbojpeg"}, BackboneError, "unknown decoder 'turbojpeg'"),
    ],
)
def test_options_are_checked_before_anything_is_made(images, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        extract(images, tmp_path / "store", **options)
    assert not (tmp_path / "store").exists()


def test_a_value_beyond_float16_stops_the_run_with_the_way_out(images, tmp_path):
    """Weights that make features of a million: real ones of a real network, scaled."""
    model = load_backbone("mobilenet_v2", weights="random", size=SIZE)
    import keras

    trunk = next(layer for layer in model.model.layers if isinstance(layer, keras.Model))
    out = trunk.get_layer("Conv_1_bn")
    out.set_weights([value * 1e6 + 1e6 for value in out.get_weights()])
    relu = trunk.get_layer("out_relu")
    assert relu.name  # MobileNetV2 ends in ReLU6, which would hide it: VGG16 does not
    vgg = load_backbone("vgg16", weights="random", size=SIZE)
    trunk = next(layer for layer in vgg.model.layers if isinstance(layer, keras.Model))
    last = trunk.get_layer("block5_conv3")
    last.set_weights([last.get_weights()[0], last.get_weights()[1] + 1e6])
    trunk.save_weights(tmp_path / "large.weights.h5")
    options = {**FAST, "backbone": "vgg16", "weights": str(tmp_path / "large.weights.h5")}
    with pytest.raises(StoreError, match="beyond the range of float16: use --dtype float32"):
        extract(images, tmp_path / "store", **options, dtype="float16")
    store = FeatureStore(extract(images, tmp_path / "store", **options).path)
    assert store.features().min() > 65504 and np.isfinite(store.features()).all()


def test_an_image_that_changes_while_it_is_read(images, tmp_path):
    source = open_source(images)
    victim = images / "blue" / "0-004.png"

    def change(stage: str, done: int, total: int) -> None:
        if stage == "reading" and done == total:
            Image.new("RGB", (9, 9)).save(victim)

    result = extract(source, tmp_path / "store", **FAST, progress=change)
    assert [(f.path, "changed" in f.reason) for f in result.failures] == [("blue/0-004.png", True)]
    assert extract(images, tmp_path / "store", **FAST).rows == 30


def test_a_disk_that_fills_during_the_run(images, small_disk):
    """One line, no signal, and the rows that were reported done are there when space is free again."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(images), str(small_disk / "store"), "4"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    done = 0
    for line in process.stdout:
        if line.startswith("extracting"):
            done = int(line.split()[1])
            if done == 4:
                process.send_signal(signal.SIGSTOP)
                time.sleep(0.1)
                with pytest.raises(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
                    while True:
                        filler.write(bytes(4096))
                process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "DiskFullError" in err.splitlines()[-1] and "free some space" in err.splitlines()[-1]
    (small_disk / "filler").unlink()
    result = extract(images, small_disk / "store", size=SIZE, batch_size=4)
    assert result.resumed >= done > 0 and result.rows == 30


def test_a_disk_too_small_for_the_run_is_said_first(images, small_disk):
    (small_disk / "filler").write_bytes(bytes(4 * 2**20 - 2**17))
    with pytest.raises(DiskFullError, match="KiB needed"):
        extract(images, small_disk / "store", **FAST)
