"""From a cached head to a trained backbone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest
from commands import ROOT, featurestore
from pictures import write_images

from featurestore import extract
from featurestore.backbones import load_backbone
from featurestore.errors import BackboneError, HeadError, SourceError, StoreLockedError
from featurestore.store.lock import store_lock
from featurestore.store.reader import FeatureStore
from heads import evaluate, fit_head, load_head
from heads.finetuning.finetune import finetune
from heads.prediction.predictor import Predictor

QUICK = {"epochs": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Images, a quarter of them in a wrong folder, and heads on features of a network whose weights are in a file."""
    work = tmp_path_factory.mktemp("finetune")
    write_images(work / "colours", 20)
    for wrong, right in (("blue", "red"), ("green", "blue"), ("red", "green")):
        for i in range(5):
            (work / "colours" / right / f"0-{i:03d}.png").rename(work / "colours" / wrong / f"{right}-{i}.png")
    model = load_backbone("small_cnn", weights="random", size=32).model
    next(layer for layer in model.layers if layer.name == "small_cnn").save_weights(work / "cnn.weights.h5")
    made = extract(work / "colours", work, backbone="small_cnn", weights=str(work / "cnn.weights.h5"), size=32).path
    for kind in ("logreg", "knn", "dense"):
        params = {"epochs": 5} if kind == "dense" else ()
        fit_head(made, kind, out=work / kind, params=params, novelty=kind == "dense")
    return work


@pytest.mark.parametrize("kind", ["logreg", "dense"])
def test_the_result_is_a_head_like_any_other(work, tmp_path, kind):
    notes = []
    found = finetune(work / kind, work / "colours", tmp_path / "out", **QUICK, note=notes.append)
    assert found.boundary == "block3_pool" and "behind 'block3_pool', which is cached, takes about" in notes[0]
    assert found.to_dict() == json.loads((tmp_path / "out" / "finetune.json").read_text())
    assert [epoch.epoch for epoch in found.history] == [0, 1, 2]
    assert not (tmp_path / "out" / "checkpoint.safetensors").exists()
    head = load_head(found.path)
    # What was learnt from the features of the frozen backbone says nothing of those of the tuned one.
    assert (head.novelty, head.conformity) == (None, None)
    assert any("no novelty" in note for note in found.notes) == (kind == "dense")
    assert head.inputs[0].weights == str(found.backbone) and found.backbone.name == "small_cnn-finetuned.keras"
    # The same accuracy through images, and through features extracted with the new backbone.
    tuned = extract(work / "colours", tmp_path, backbone=str(found.backbone), preprocessing="tf", size=32).path
    judged = evaluate(found.path, tuned)
    assert (judged.rows, judged.accuracy) == (9, found.finetuned.accuracy)
    assert judged.log_loss == pytest.approx(found.finetuned.log_loss, abs=2e-3)
    assert all(p.error is None for p in Predictor(found.path).predict([work / "colours" / "red"]))


def test_the_frozen_side_of_the_comparison_is_the_head_as_it_was(work, tmp_path):
    found = finetune(work / "logreg", work / "colours", tmp_path / "out", **QUICK, dtype="float32")
    (file,) = work.glob("colours--*.h5")
    before = evaluate(work / "logreg", file).to_dict()
    assert found.frozen.confusion_matrix == before["confusion_matrix"]
    assert found.frozen.log_loss == pytest.approx(before["log_loss"], rel=1e-3)
    assert found.difference.accuracy == found.finetuned.accuracy - found.frozen.accuracy


def test_a_folder_that_has_grown_is_split_as_the_head_was(work, tmp_path):
    folder = write_images(tmp_path / "colours", 20, seed=3)
    options = {"backbone": "small_cnn", "weights": str(work / "cnn.weights.h5"), "size": 32}
    head = fit_head(extract(folder, tmp_path, **options).path, "logreg", out=tmp_path / "head")
    before = load_head(head.path).record
    for path in sorted(folder.rglob("*.png")):
        larger = path.read_bytes() + b" "  # another image, by its digest
        (path.parent / f"new-{path.name}").write_bytes(larger)
    anew = FeatureStore(extract(folder, tmp_path / "anew", **options).path)
    known = before.split_of(anew.digests.tolist())
    assert ((known == "train") & (anew.splits == "test")).any()  # as a folder that has grown is split anew
    found = finetune(head.path, folder, tmp_path / "out", **QUICK)
    after = load_head(found.path).record.split_of(anew.digests.tolist())
    assert (after[known != ""] == known[known != ""]).all()
    assert found.notes == ["60 images are new since the head was fitted"]
    assert found.frozen.rows == (after == "test").sum()


def test_the_cache_and_the_whole_network_train_alike(work, tmp_path):
    same = {**QUICK, "augment": "mild", "views": 2, "dtype": "float32", "unfreeze": "block3_conv"}
    one, two = (
        finetune(work / "logreg", work / "colours", tmp_path / str(cache), **same, cache=cache)
        for cache in (True, False)
    )
    assert (one.boundary, two.boundary) == ("block2_pool", None)
    for a, b in zip(one.history, two.history, strict=True):
        assert a.log_loss == pytest.approx(b.log_loss, rel=1e-2)
    assert one.settings["images"] == two.settings["images"]


def test_from_scratch_the_network_learns_what_the_head_alone_cannot(tmp_path):
    """Classes that differ in where the bright half is: random features, averaged, know little of that."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for side in ("left", "top"):
        (tmp_path / "halves" / side).mkdir(parents=True)
        for i in range(40):
            pixels = rng.integers(0, 100, (32, 32, 3), dtype=np.uint8)
            pixels[(slice(None), slice(16)) if side == "left" else slice(16)] += 60
            Image.fromarray(pixels).save(tmp_path / "halves" / side / f"{i}.png")
    made = extract(tmp_path / "halves", tmp_path, backbone="small_cnn", weights="random", size=32).path
    fit_head(made, out=tmp_path / "head")
    options = {"unfreeze": "all", "epochs": 8, "patience": 8, "batch_size": 8, "learning_rate": 1e-3}
    found = finetune(tmp_path / "head", tmp_path / "halves", tmp_path / "out", **options)
    assert found.boundary is None
    losses = [epoch.loss for epoch in found.history[1:]]
    assert losses[-1] < 0.5 * losses[0]
    assert found.finetuned.log_loss <= found.frozen.log_loss + 0.2


def test_a_finished_run_is_not_run_again_and_another_one_is_refused(work, tmp_path):
    found = finetune(work / "logreg", work / "colours", tmp_path / "out", **QUICK)
    before = (tmp_path / "out" / "finetune.json").stat().st_mtime_ns
    assert finetune(work / "logreg", work / "colours", tmp_path / "out", **QUICK) == found
    assert (tmp_path / "out" / "finetune.json").stat().st_mtime_ns == before
    with pytest.raises(HeadError, match=r"finetune\.json: of another run, which differs in seed: .* another --out"):
        finetune(work / "logreg", work / "colours", tmp_path / "out", **QUICK, seed=1)
    with store_lock(tmp_path / "out"), pytest.raises(StoreLockedError):
        finetune(work / "logreg", work / "colours", tmp_path / "out", **QUICK)


def test_training_stops_early_and_the_best_epoch_is_kept(work, tmp_path):
    too_large = 1.0
    options = {"epochs": 30, "patience": 2, "batch_size": 8, "learning_rate": too_large}
    found = finetune(work / "logreg", work / "colours", tmp_path / "out", **options)
    losses = [epoch.log_loss for epoch in found.history]
    assert found.best_epoch == int(np.argmin(losses)) == len(losses) - 1 - 2
    if found.best_epoch == 0:
        assert found.difference.interval == [0, 0] and "keep the frozen head" in found.recommendation


def test_kill_9_and_the_same_command_goes_on(work, tmp_path):
    out, recipe = tmp_path / "out", {"epochs": 8, "patience": 8, "batch_size": 8}
    options = [part for name, value in recipe.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = ["finetune", str(work / "logreg"), str(work / "colours"), "--out", str(out), *options]
    process = subprocess.Popen(
        [sys.executable, "-c", "from cli import main; main()", *command],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    checkpoint = out / "checkpoint.safetensors"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    reached = history_of(checkpoint)
    assert 1 < len(reached) < 9
    resumed, whole = (
        finetune(work / "logreg", work / "colours", folder, **recipe) for folder in (out, tmp_path / "whole")
    )
    assert resumed.to_dict()["history"][: len(reached)] == reached
    losses = [[epoch.log_loss for epoch in run.history] for run in (resumed, whole)]
    np.testing.assert_allclose(*losses, rtol=0.02)
    assert len(losses[0]) == 9 and len(set(losses[0])) == 9


def history_of(checkpoint):
    from safetensors import safe_open

    with safe_open(checkpoint, "np") as file:
        return json.loads(file.metadata()["state"])["history"]


def test_a_damaged_checkpoint(work, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "checkpoint.safetensors").write_text("no checkpoint")
    with pytest.raises(HeadError, match=r"checkpoint\.safetensors: no readable checkpoint .*delete it"):
        finetune(work / "logreg", work / "colours", tmp_path / "out", **QUICK)


@pytest.mark.parametrize(
    ("head", "options", "error", "message"),
    [
        ("knn", {}, HeadError, "kind 'knn' cannot be trained together with its backbone: fit one of logreg"),
        (
            "logreg",
            {"unfreeze": "blok4_conv"},
            BackboneError,
            "no layer 'blok4_conv' to unfreeze: did you mean 'block4",
        ),
        ("logreg", {"epochs": 0}, HeadError, "epochs 0: give a number from 1"),
        ("logreg", {"augment": "wild"}, BackboneError, "unknown augmentation 'wild': did you mean 'mild'"),
        ("nothing", {}, HeadError, "no such file"),
    ],
)
def test_bad_input_is_said_before_anything_is_written(work, tmp_path, head, options, error, message):
    with pytest.raises(error, match=message):
        finetune(work / head, work / "colours", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_class_that_the_head_does_not_know(work, tmp_path):
    shutil.copytree(work / "colours", tmp_path / "colours")
    (tmp_path / "colours" / "red").rename(tmp_path / "colours" / "gren")
    with pytest.raises(HeadError, match="colours: the head does not know class 'gren': did you mean 'green'"):
        finetune(work / "logreg", tmp_path / "colours", tmp_path / "out")


def test_not_enough_memory_is_said_with_the_figure(work, tmp_path):
    with pytest.raises(HeadError, match=r"needs about 0\.0\d GiB of memory, and 0\.00 GiB are there: unfreeze less"):
        finetune(work / "logreg", work / "colours", tmp_path / "out", max_memory=10**6)


def test_a_head_whose_backbone_is_gone(work, tmp_path):
    moved = tmp_path / "moved.weights.h5"
    (work / "cnn.weights.h5").rename(moved)
    try:
        with pytest.raises(BackboneError, match=r"cnn\.weights\.h5: no such weights file"):
            finetune(work / "logreg", work / "colours", tmp_path / "out")
        finetune(work / "logreg", work / "colours", tmp_path / "out", **QUICK, weights=str(moved))
    finally:
        moved.rename(work / "cnn.weights.h5")


def test_a_folder_that_is_no_source(work, tmp_path):
    with pytest.raises(SourceError):
        finetune(work / "logreg", tmp_path / "nowhere", tmp_path / "out")


def test_the_command_line(work, tmp_path):
    (tmp_path / "colours").mkdir()
    shutil.copytree(work / "colours", tmp_path / "colours", dirs_exist_ok=True)
    (tmp_path / "colours" / "red" / "bad.png").write_text("no image")
    done = featurestore(
        "finetune", str(work / "logreg"), str(tmp_path / "colours"), "--out", str(tmp_path / "out"), "--epochs", "1",
        "--unfreeze", "2", "--augment", "flip", "--views", "1",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "note: training behind 'block3_pool', which is cached" in done.stderr
    for words in ("frozen", "finetuned", "9 test rows", "rows became right", "red/bad.png: not an image", "saved: "):
        assert words in done.stdout


@pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed")
def test_on_jax(work, tmp_path):
    code = (
        "from heads.finetuning.finetune import finetune; import sys;"
        "finetune(*sys.argv[1:4], epochs=2, batch_size=8, store=sys.argv[4])"
    )
    arguments, jax, cache = [str(work / "logreg"), str(work / "colours")], tmp_path / "jax", tmp_path / "cache"
    here = finetune(*arguments, tmp_path / "here", **QUICK, store=cache).to_dict()["history"]
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", code, *arguments, str(jax), str(cache)]
    subprocess.run(command, cwd=ROOT, check=True, env=environment)
    there = json.loads((jax / "finetune.json").read_text())["history"]
    np.testing.assert_allclose(*([epoch["log_loss"] for epoch in run] for run in (there, here)), rtol=1e-2)


def test_a_head_on_crops_is_not_trained(work, tmp_path):
    made = extract(work / "colours", tmp_path, backbone="small_cnn", weights="random", size=32, crops=5)
    fit_head(made.path, "logreg", out=tmp_path / "head")
    with pytest.raises(HeadError, match=r"head: fitted on the mean of 5 crops .* extract with --crops 1"):
        finetune(tmp_path / "head", work / "colours", tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()
