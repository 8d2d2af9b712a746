"""The command line, as a user meets it: real processes, exit codes, one line per error."""

import csv
import io
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from typing import get_args

import numpy as np
import pytest
from commands import ROOT, featurestore
from feature_files import write_features
from pictures import write_images
from storage import feature_file
from typer.testing import CliRunner

from cli import app
from featurestore import FeatureStore, spec
from featurestore.backbones.preprocessing import PREPROCESSINGS
from featurestore.engines import ENGINES, registry
from featurestore.images import augment
from featurestore.sources.splits import SPLITS
from featurestore.store.lock import store_lock
from heads import choices, fit_head, load_head
from heads.curating.modes import MODES
from heads.demo import DATA
from heads.exporting.features import WRITERS
from heads.exporting.formats.registry import FORMATS
from heads.kinds import design
from heads.kinds.design import KINDS
from heads.search import space

SMALL = ("--size", "32", "--batch-size", "8")


def fails(code: int, *arguments: object) -> str:
    """Run; check the exit code and that there is one line on stderr, nothing on stdout and no traceback."""
    done = featurestore(*map(str, arguments))
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def misused(*arguments: object) -> str:
    """Run; check that it is wrong usage, with nothing on stdout; what is said, in one line."""
    done = featurestore(*map(str, arguments))
    assert (done.returncode, done.stdout) == (2, ""), done.stdout + done.stderr
    return " ".join(done.stderr.split())


def here(*arguments: object, code: int = 0) -> str:
    """Standard output of a command that is run in this process, where TensorFlow is there already."""
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.stdout


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Images, a feature file and a head: the whole job once."""
    work = tmp_path_factory.mktemp("work")
    write_images(work / "colours", 10)
    for command in (
        ("extract", work / "colours", "--store", work / "store", *SMALL),
        ("fit-head", work / "store", "--out", work / "head"),
    ):
        here(*command)
    return work


def test_version():
    assert featurestore("--version").stdout == f"featurestore {version('featurestore')}\n"


def test_extract_says_what_it_did(work, tmp_path):
    done = featurestore("extract", str(work / "colours"), "--store", str(tmp_path), *SMALL)
    assert "class  train  validation  test" in done.stdout
    assert "30 rows (30 computed)" in done.stdout and "next: featurestore fit-head" in done.stdout
    assert "rows/s: forward" in done.stdout
    assert re.sub("^extracting: .*\n", "", done.stderr, flags=re.MULTILINE) == ""  # not a word of TensorFlow's


def test_extract_json_is_one_document(work, tmp_path):
    result = json.loads(here("extract", work / "colours", "--store", tmp_path, *SMALL, "--json"))
    assert (result["rows"], result["computed"], result["failures"]) == (30, 30, [])


def test_looks_have_a_file_each_and_are_probed(work, tmp_path):
    looks = ("--resize", "squash", "--resize", "crop", "--crops", "5")
    said = here("extract", work / "colours", "--store", tmp_path, *SMALL, *looks)
    assert "(squash-crops5)" in said and "(crop-crops5)" in said and f"next: featurestore probe {tmp_path}" in said
    assert "efficientnet_lite0@crop-crops5" in here("probe", tmp_path)
    assert "32 px, crop, mean of 5 crops" in here("info", tmp_path)
    here("fit-head", tmp_path, "--features", "@squash-crops5+@crop-crops5", "--out", tmp_path / "head")
    assert "red" in here("predict", tmp_path / "head", work / "colours" / "red")
    assert "pass --crops 1, 5 or 10" in fails(1, "extract", work / "colours", "--store", tmp_path, "--crops", 4)


def test_failures_end_in_exit_code_3(work, tmp_path):
    shutil.copytree(work / "colours", tmp_path / "colours")
    (tmp_path / "colours" / "red" / "bad.jpg").write_text("no image")
    for command in (["extract", "--store", str(tmp_path / "store"), *SMALL], ["inspect"]):
        said = here(command[0], tmp_path / "colours", *command[1:], code=3)
        assert "1 inputs gave no row" in said and "red/bad.jpg: not an image of a known format" in said
    done = featurestore("extract", str(tmp_path / "colours"), "--store", str(tmp_path / "store"), *SMALL, "-q")
    assert (done.returncode, done.stdout) == (3, "")  # and nothing to compute, so without TensorFlow


def test_info_and_verify(work):
    assert "efficientnet_lite0, weights imagenet, 32 px, squash" in featurestore("info", str(work / "store")).stdout
    (file,) = json.loads(featurestore("info", str(work / "store"), "--json").stdout)
    assert file["rows"] == 30 and file["features"] == {"last": ["float32", 1280]}
    assert featurestore("verify", str(work / "store")).stdout.strip().endswith(".h5: intact")


def test_verify_a_damaged_file(tmp_path):
    file = feature_file(tmp_path)
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    assert "data.h5" in fails(1, "verify", tmp_path)


def test_backbones():
    listed = featurestore("backbones").stdout
    assert all(name in listed for name in ("efficientnet_lite0 (default)", "mobilenet_v2", "resnet50", "vgg16"))


def test_evaluate(work):
    result = json.loads(featurestore("evaluate", str(work / "head"), str(work / "store"), "--json").stdout)
    assert 0.9 < result["accuracy"] <= 1 and result["split"] == "test"  # colours are easy
    low, high = result["intervals"]["accuracy"]
    assert low <= result["accuracy"] <= high
    assert "rows: true class" in featurestore("evaluate", str(work / "head"), str(work / "store")).stdout


def test_a_learning_curve(work, tmp_path):
    command = ("curve", work / "store", "--head", "centroid", "--repeats", "2")
    found = json.loads(here(*command, "--sizes", "9,6,15", "--json"))
    assert [point["images"] for point in found["points"]] == [6, 9, 15] and found["law"] is None
    words = here(*command, "--shots", "1,2", "--page", tmp_path / "page.html")
    assert words.startswith("shots  images  accuracy") and (tmp_path / "page.html").exists()
    assert "--shots 99: give 1 to" in fails(1, *command, "--shots", "99")
    assert "write whole numbers above 0, such as 1,2,4" in misused(*command, "--sizes", "4,0")


def test_images_to_look_at(work, tmp_path):
    words = here("look-at", "outliers", work / "store", "--count", "3", "--out", tmp_path / "list.csv")
    assert "3 of 30 among 30 images" in words
    with (tmp_path / "list.csv").open(newline="") as stream:
        assert [line["rank"] for line in csv.DictReader(stream)] == ["1", "2", "3"]
    found = json.loads(here("look-at", "doubtful-labels", work / "store", "--head", "lda", "--json"))
    assert found["mode"] == "doubtful-labels" and found["compared"] == 30
    assert "no row is called 'nobody'" in fails(1, "look-at", "neighbours", work / "store", "--to", "nobody")
    assert "'neighbours'" in misused("look-at", "neighbour", work / "store")


def test_predict_in_three_forms(work, tmp_path):
    good, bad, gone = work / "colours" / "red" / "0-000.png", tmp_path / "bad.png", tmp_path / "gone.png"
    bad.write_text("no image")
    inputs = [str(path) for path in (good, bad, gone)]
    done = featurestore("predict", str(work / "head"), *inputs)
    assert done.returncode == 3
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == inputs and lines[0][1] == "red"
    assert lines[2][1] == "error: no such file"
    table = list(csv.DictReader(io.StringIO(here("predict", work / "head", *inputs, "--csv", code=3))))
    assert table[0]["class"] == "red" and table[1]["error"] == "not an image of a known format"
    assert abs(sum(float(table[0][name]) for name in ("blue", "green", "red")) - 1) < 1e-4
    listed = json.loads(here("predict", work / "head", *inputs, "--json", code=3))
    assert listed[0]["label"] == "red" and listed[2]["error"] == "no such file"


def test_predictions_in_a_file(work, tmp_path):
    out = tmp_path / "all.csv"
    done = featurestore("predict", str(work / "head"), str(work / "colours"), "--out", str(out), "--top", "2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(out.read_text().splitlines()) == 31
    assert "*.csv or *.json" in fails(1, "predict", work / "head", work / "colours", "--out", tmp_path / "all.txt")


def test_export(work, tmp_path):
    model, rows = tmp_path / "model.tflite", tmp_path / "rows.npz"
    done = featurestore("export", str(work / "head"), "--format", "litert", "--out", str(model))
    assert done.returncode == 0 and done.stderr == ""  # not a word of TensorFlow's
    assert f": {model}\nrun again on 30 images" in done.stdout
    done = featurestore("export", str(work / "store"), "--format", "npz", "--out", str(rows), "--json")
    assert json.loads(done.stdout) == {"path": str(rows), "format": "npz", "bytes": rows.stat().st_size}
    assert "'onix' is not one of 'keras', 'saved_model', 'onnx'" in misused("export", "x", "--format", "onix")


def test_a_new_image_gets_what_its_cached_features_would(work):
    """The deployed path and the cached one are the same: decoding, resizing, backbone, head."""
    listed = json.loads(here("predict", work / "head", work / "colours", "--json"))
    store = FeatureStore(next((work / "store").glob("*.h5")))
    cached = load_head(work / "head").predict_proba(store.features())
    assert [item["path"] for item in listed] == [str(work / "colours" / path) for path in store.paths]
    deployed = [[item["probabilities"][name] for name in store.class_names] for item in listed]
    np.testing.assert_allclose(deployed, cached, atol=1e-4)


# ------------------------------------------------------------------------------------- bad input


def test_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in fails(1, "extract", tmp_path / "empty", "--store", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_one_class_only(work, tmp_path):
    assert "blue" in fails(
        1, "extract", work / "colours", "--store", tmp_path, "--exclude", "red", "--exclude", "green"
    )


def test_an_unknown_backbone(work, tmp_path):
    said = fails(1, "extract", work / "colours", "--store", tmp_path, "--backbone", "mobilnet_v2")
    assert said == "error: unknown backbone 'mobilnet_v2': did you mean 'mobilenet_v2'?\n"


def test_weights_that_cannot_be_had(work, tmp_path):
    """A host that does not exist stands for a machine without a network."""
    said = fails(1, "extract", work / "colours", "--store", tmp_path, "--backbone", "vgg16", "--weights", "gone.h5")
    assert "gone.h5: no such weights file" in said


def test_weights_that_do_not_fit(work, tmp_path):
    weights = tmp_path / "foreign.h5"
    shutil.copy(next((work / "store").glob("*.h5")), weights)
    said = fails(1, "extract", work / "colours", "--store", tmp_path / "s", "--backbone", "vgg16", "--weights", weights)
    assert f"{weights}: no weights for VGG16" in said


def test_a_size_too_small(work, tmp_path):
    assert "it takes 32 and more" in fails(1, "extract", work / "colours", "--store", tmp_path, "--size", 8)


def test_no_such_source_and_no_such_store(tmp_path):
    assert "nowhere" in fails(1, "extract", tmp_path / "nowhere", "--store", tmp_path)
    assert "run  featurestore extract  first" in fails(1, "info", tmp_path / "nowhere")


def test_a_truncated_feature_file(work, tmp_path):
    cut = tmp_path / "cut.h5"
    cut.write_bytes(next((work / "store").glob("*.h5")).read_bytes()[:5000])
    for command in (["info", cut], ["verify", cut], ["fit-head", cut, "--out", tmp_path / "head"]):
        assert "cut.h5" in fails(1, *command)


def test_a_head_on_features_of_another_fingerprint(work, tmp_path):
    here("extract", work / "colours", "--store", tmp_path, "--size", "48")
    assert "size: 48 here, 32 there" in fails(1, "evaluate", work / "head", tmp_path)


def test_unknown_heads_and_settings(work, tmp_path):
    store, out = work / "store", tmp_path / "head"
    said = misused("fit-head", store, "--out", out, "--head", "logref")
    assert all(f"'{name}'" in said for name in (*KINDS, *design.RECIPES))
    assert "max_iter" in fails(1, "fit-head", store, "--out", out, "--set", "max_itr=5")
    assert "C=fast" in fails(1, "fit-head", store, "--out", out, "--set", "C=fast")
    assert not out.exists()


def test_a_split_that_is_not_there(work, tmp_path):
    assert "'holdout' is not one of" in misused("evaluate", work / "head", work / "store", "--split", "holdout")
    X, y = np.eye(4, dtype=np.float32), [0, 1, 0, 1]
    file = write_features(tmp_path / "f.h5", X, y, ["train"] * 4, class_names=["a", "b"])
    fit_head(file, "centroid", out=tmp_path / "head")
    assert "train (4 rows)" in fails(1, "evaluate", tmp_path / "head", file, "--split", "validation")


def test_usage_errors_end_in_exit_code_2(work):
    assert featurestore("extract", str(work / "colours")).returncode == 2
    assert "No such command 'extrct'. Did you mean 'extract'" in misused("extrct")
    assert featurestore("extract", "x", "--store", "y", "--size", "big").returncode == 2


def test_choices_are_named_where_they_are_refused_and_in_help(work):
    for option, known in (("--resize", spec.RESIZES), ("--pool", spec.POOLS), ("--engine", ENGINES)):
        said = misused("extract", work / "colours", "--store", "x", option, "squish")
        assert "'squish'" in said and option in said and all(f"'{choice}'" in said for choice in known)
        assert f"{option} <{'|'.join(known)}>" in here("extract", "--help")
    assert "write 60s, 5m or 1h" in misused("sweep", "x", "--out", "y", "--budget", "5 days")


def test_names_to_choose_by_are_those_of_their_registries():
    for names, known in (
        (spec.Augment, augment.AUGMENTATIONS), (choices.Preset, space.PRESETS),
        (choices.ModelFormat, FORMATS), (choices.FeatureFormat, WRITERS), (choices.DemoData, DATA),
        (spec.Engine, ["auto", *registry._ENGINES]), (choices.Split, SPLITS), (choices.LookAt, MODES),
    ):  # fmt: skip
        assert set(get_args(names)) == set(known)
    assert all(f" {name}," in " ".join(here("extract", "--help").split()) for name in PREPROCESSINGS)


def shown(*arguments: str, **environment: str) -> bytes:
    """What a terminal of a hundred columns gets to see of a command."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments], stdin=slave, stdout=slave, stderr=slave, cwd=ROOT,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"} | environment,
    )  # fmt: skip
    os.close(slave)
    written = b""
    while process.poll() is None or select.select([master], [], [], 0)[0]:
        if select.select([master], [], [], 0.1)[0]:
            try:
                written += os.read(master, 65536)
            except OSError:  # the other end is closed
                break
    os.close(master)
    return written


def test_help_has_groups_and_colours_on_a_terminal_only():
    in_colour, plain = shown("extract", "--help"), here("extract", "--help")
    groups = ("Options", "Source", "Network", "Views", "Computing")
    assert b"\x1b[" in in_colour and all(group.encode() in in_colour for group in groups)
    assert re.findall(r"^(\w+):$", plain, re.MULTILINE) == ["Arguments", *groups]
    for written in (shown("extract", "--help", NO_COLOR="1"), plain.encode()):
        assert b"\x1b" not in written and "│".encode() not in written
    assert "3 done, but some inputs" in " ".join(here("--help").split())


def test_a_name_typed_into_a_terminal_does_not_command_it():
    said = shown("extract", "x", "--store", "y", "--resize", "\x1b]0;owned\x07[red]\u202e")
    assert b"\x1b]0" not in said and "\u202e".encode() not in said and b"[red]" in said


def test_shells_complete_commands_options_and_choices(tmp_path):
    environment = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = featurestore("--install-completion", "bash", **environment)
    assert done.returncode == 0 and "source" in (tmp_path / ".bashrc").read_text()
    assert list((tmp_path / ".bash_completions").iterdir())
    for words, expected in (
        ("ev", {"evaluate"}),
        ("extract --dec", {"--decoder"}),
        ("extract --resize ", spec.RESIZES),
    ):
        line = f"featurestore {words}"
        asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_FEATURESTORE_COMPLETE": "complete_bash"}
        done = featurestore(**asked)
        assert done.returncode == 0 and set(done.stdout.split()) == set(expected), done


def test_a_second_writer(work, tmp_path):
    with store_lock(tmp_path / "store"):
        assert "is writing to this store" in fails(1, "extract", work / "colours", "--store", tmp_path / "store")


def test_stage_1_without_its_extra(work, tmp_path):
    """On a machine without TensorFlow: here, with its modules made unimportable."""
    for name in ("keras", "tensorflow"):
        (tmp_path / "blocked" / name).mkdir(parents=True)
        (tmp_path / "blocked" / name / "__init__.py").write_text("raise ImportError('not installed')")
    env = os.environ | {"PYTHONPATH": str(tmp_path / "blocked")}
    for command in (
        ["extract", str(work / "colours"), "--store", str(tmp_path / "store")],
        ["predict", str(work / "head"), str(work / "colours")],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "cli", *command], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "pip install 'featurestore[extract]'" in done.stderr and len(done.stderr.splitlines()) == 1


def test_control_c(work, tmp_path):
    """Interrupted as soon as the journal has rows: one line, and the next run goes on from there."""
    write_images(tmp_path / "colours", 60)
    command = ["extract", str(tmp_path / "colours"), "--store", str(tmp_path / "store"), "--batch-size", "2", "-q"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not any(p.stat().st_size > 50_000 for p in tmp_path.glob("store/*.journal")):
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted: what is finished is kept; run the same command again to go on\n"
    result = json.loads(featurestore(*command, "--json").stdout)
    assert result["resumed"] > 0 and result["resumed"] + result["computed"] == 180


def test_a_progress_bar_on_a_terminal(work, tmp_path):
    written = shown("extract", str(work / "colours"), "--store", str(tmp_path), *SMALL)
    assert b"extracting" in written and b"30/30" in written
