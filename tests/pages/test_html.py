"""Pages: what they hold, read by an HTML parser, and how a real browser shows them."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from browsing import HOSTILE, NOT_UTF8, REQUIRED, in_browsers, look, sound
from commands import ROOT, featurestore
from PIL import Image

from featurestore import FeatureStoreError, open_source
from featurestore.errors import WriteError
from featurestore.pages.inspection import PICTURES, inspect_source
from featurestore.sources.arrays import ArraySource


def draw(source, tmp_path):
    """Inspect; check what holds for every page."""
    file = tmp_path / "page.html"
    inspect_source(source, page=file)
    return sound(file)


def arrays(labels, class_names, shape=(130, 150, 3), **options):
    """Noise, which is what JPEG compresses worst."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(labels), *shape), dtype=np.uint8)
    return ArraySource(images, labels, name="noise", class_names=class_names, **options)


def test_a_page_of_everything(images, tmp_path):
    Image.new("RGB", (300, 20)).save(images / "red" / "wide.png")
    shutil.copy(images / "red" / "0-000.png", images / "red" / "same.png")
    shutil.copy(images / "red" / "0-001.png", images / "blue" / "other.png")
    (images / "red" / "cut.png").write_bytes((images / "red" / "0-002.png").read_bytes()[:400])
    (images / "notes.txt").write_text("")
    page, words = draw(open_source(images), tmp_path)
    assert page.all("title") and "colours: 33 images, 3 classes" in words
    alts = [image["alt"] for image in page.all("img")]
    assert "red: red/wide.png, 300 × 20, train" in [re.sub("validation|test", "train", alt) for alt in alts]
    for part in (
        "under two classes",
        "blue/other.png",
        "red/same.png",
        "red/cut.png",
        "truncated",
        "1 with suffix .txt",
    ):
        assert part in words
    assert len(page.all("circle")) == 2 and "aspect ratios" in words.lower()


def test_the_same_page_whatever_files_are_called(images, tmp_path):
    first = draw(open_source(images), tmp_path)[0].all("img")
    for i, file in enumerate(sorted(images.glob("*/*.png"), key=lambda file: file.name[::-1])):
        file.rename(file.with_name(f"{i}.png"))
    assert [image["src"] for image in draw(open_source(images), tmp_path)[0].all("img")] == [i["src"] for i in first]


def test_many_classes_stay_small(tmp_path):
    source = arrays(np.repeat(np.arange(120), 3), [f"class_{i}" for i in range(120)])
    page, _ = draw(source, tmp_path)
    assert len(page.all("img")) == PICTURES
    assert len(page.all("tr")) > 120


def test_of_very_many_classes_both_ends_show(tmp_path):
    page, words = draw(arrays(np.arange(900) % 450, [f"c{i}" for i in range(450)], (4, 4)), tmp_path)
    assert len(page.all("img")) == PICTURES and "The 240 largest classes" in words
    assert "430 more between these, see below" in words  # of the open table
    assert "250 more between these, see --json" in words  # of the folded one


@pytest.mark.parametrize("name", [HOSTILE.replace("/", "∕"), NOT_UTF8, "\x01\x7f\x9b", "&lt;b&gt;", "a" * 200])
def test_hostile_names_of_files_and_classes(images, tmp_path, name):
    (images / "red").rename(images / name)
    shutil.copy(images / name / "0-000.png", images / name / f"{name}.png")
    (images / name / f"{name}.jpg").write_text("no image")
    _, words = draw(open_source(images, name=name), tmp_path)
    shown = {NOT_UTF8: r"caf\udce9", "\x01\x7f\x9b": "\ufffd" * 3}.get(name, name)
    for expected in (shown, f"{shown}/{shown}.png", f"{shown}/{shown}.jpg"):
        assert expected in words


def test_hostile_names_in_arrays(tmp_path):
    source = arrays([0, 0, 1, 1], [HOSTILE, "\0\ud800\u202e"], ids=[f"{HOSTILE}\n{i}" for i in range(4)])
    page, words = draw(source, tmp_path)
    assert HOSTILE in words and all(HOSTILE in i["alt"] for i in page.all("img"))


def test_nothing_that_decodes(images, tmp_path):
    for file in images.glob("*/*.png"):
        file.write_text(f"no image {file}")
    page, words = draw(open_source(images), tmp_path)
    assert "No image was decoded" in words and page.all("img") == []


def test_an_unwritable_page_is_said_before_the_work(images, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    for bad in (".", "file/page.html", "loop", "x" * 300):
        with pytest.raises(FeatureStoreError, match=re.escape(str(tmp_path))):
            inspect_source(open_source(images), lambda *event: pytest.fail("worked"), page=tmp_path / bad)


def test_a_fifo_or_device_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(WriteError, match="not a regular file"):
        inspect_source(arrays([0, 1], ["a", "b"]), page=tmp_path / "fifo")


def test_an_older_page_stays_when_the_work_fails(tmp_path):
    (tmp_path / "page.html").write_text("old")
    (tmp_path / "link.html").symlink_to("page.html")
    source = arrays([0, 1], ["a", "b"])
    with pytest.raises(ZeroDivisionError):
        inspect_source(source, lambda *event: 1 / 0, page=tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == "old"
    inspect_source(source, page=tmp_path / "link.html")
    assert "<!DOCTYPE" in (tmp_path / "page.html").read_text() and (tmp_path / "link.html").is_symlink()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.html", "page.html"]


def test_on_the_command_line(images, tmp_path):
    file = tmp_path / "page.html"
    assert featurestore("inspect", str(images), "--page", str(file)).stdout.endswith(f"page: {file}\n")
    plain = featurestore("inspect", str(images), "--json").stdout
    assert featurestore("inspect", str(images), "--json", "--page", str(file)).stdout == plain
    done = featurestore("inspect", str(images), "--page", str(tmp_path))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)


@in_browsers
def test_in_a_real_browser(images, tmp_path, width, dark):
    (images / "red").rename(images / ("a_very_long_name_" * 8))
    shutil.copy(images / "blue" / "0-000.png", images / "blue" / f"{'x' * 200}.png")
    draw(open_source(images), tmp_path)
    look(tmp_path / "page.html", width, dark)


@pytest.mark.parametrize("required", [False, True])
def test_without_a_browser_tests_are_skipped_or_fail_as_asked(tmp_path, required):
    env = {key: value for key, value in os.environ.items() if key != REQUIRED} | {"PATH": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "--basetemp", tmp_path / "inner"]
    done = subprocess.run(
        [*command, f"{__file__}::test_in_a_real_browser[390-False]"],
        cwd=ROOT, env=env | ({REQUIRED: "1"} if required else {}), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "no chromium on PATH" in done.stdout
    assert ("1 failed" if required else "1 skipped") in done.stdout and done.returncode == required


def test_ci_requires_a_browser():
    assert f"export {REQUIRED}=1" in (ROOT / ".ci" / "run").read_text()
