"""Reports of real sweeps and heads, read by an HTML parser, and opened in a real browser."""

import json
import re
import shlex
import shutil
import unicodedata

import h5py
import numpy as np
import pytest
import resvg_py
from browsing import NOT_UTF8, in_browsers, look, sound
from commands import featurestore
from feature_files import write_features
from pictures import write_images
from PIL import Image, ImageFont

from featurestore.errors import FeatureStoreError, HeadError, SpecMismatchError
from featurestore.pages.html import FONT_FILES, in_our_font
from featurestore.pages.svg import Axis, Figure
from featurestore.store import file_format
from heads import evaluate, fit_head, load_features, sweep
from heads.metrics.evaluation import measure
from heads.reporting.chart import Chart
from heads.reporting.png import write_png
from heads.reporting.report import report
from heads.storage.saved_head import load_head

NAMES = ("<b onclick=x>", "a & b", NOT_UTF8)
SPACE = """
[[heads]]
kind = "logreg"
C = [1e-3, 1e-2]
[[heads]]
kind = "knn"
n_neighbors = [3, 5]
[[heads]]
kind = "dense"
hidden = [[], 8]
epochs = 4
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with images, their features, and a finished sweep."""
    folder = tmp_path_factory.mktemp("report")
    images = write_images(folder / "images", 20, NAMES)
    files = sorted(images.rglob("*.png"))
    X = np.stack([np.asarray(Image.open(file).resize((4, 4)), np.float32).ravel() for file in files])
    X += np.random.default_rng(0).normal(size=X.shape).astype(np.float32) * 20
    names = sorted({file.parent.name for file in files})
    y = [names.index(file.parent.name) for file in files]
    splits = np.resize(["train", "train", "validation", "test"], len(y))
    write_features(folder / "f.h5", X, y, splits, class_names=names, images=images)
    (folder / "space.toml").write_text(SPACE)
    sweep(folder / "f.h5", folder / "run", space=folder / "space.toml")
    report(folder / "run", folder / "page.html", source=images, png=folder / "png")
    return folder


def test_a_report_of_a_sweep(made, tmp_path):
    found = report(made / "run", tmp_path / "page.html", source=made / "images", png=tmp_path / "png")
    page, words = sound(tmp_path / "page.html")
    expected = ["classes", "confusion", "leaderboard", "reliability", "dense", "map"]
    assert found.charts == expected == [a["id"].removesuffix("-title") for a in page.all("h3") if "id" in a]
    assert len(page.all("details")) == len(expected) + 1  # the sizes
    assert page.all("img") and len([s for s in page.all("svg") if s.get("role") == "img"]) == len(expected) + 1
    assert "<b onclick=x>" in words and r"caf\udce9" in words and "a & b" in words
    measured = json.loads((made / "run" / "sweep.json").read_text())
    assert found.evaluation.to_dict() == measured["test"] and f"{measured['test']['accuracy']:.3f}" in words
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    for name in expected:
        with Image.open(tmp_path / "png" / f"{name}.png") as drawn:
            assert drawn.width > 600 and len(drawn.convert("RGB").getcolors(1 << 20)) > 10


def sections(page):
    """The ids of a page's sections, in their order, and those of its links."""
    return [each["id"] for each in page.all("section")], [a["href"][1:] for a in page.all("a")][1:]


def test_what_was_found_stands_before_the_data(made, pair_file, tmp_path):
    page, _ = sound(made / "page.html")
    order = ["scores", "sweep", "mistakes", "predictions", "calibration", "curves", "data", "doubts", "features"]
    assert sections(page) == ([*order, "origin"], [*order, "origin"])
    fit_head(pair_file, "logreg", out=tmp_path / "head")
    report(tmp_path / "head", tmp_path / "page.html", features=pair_file)
    page, _ = sound(tmp_path / "page.html")
    order = ["scores", "mistakes", "predictions", "calibration", "rates", "data", "doubts", "features", "origin"]
    assert sections(page)[0] == order


def test_of_a_hundred_classes_no_open_table_is_long(tmp_path):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(101), 4 + np.arange(101) % 5)
    X = rng.normal(size=(101, 12))[y] * 3 + rng.normal(size=(len(y), 12))
    splits = np.resize(["train", "train", "test"], len(y))
    write_features(tmp_path / "f.h5", X.astype(np.float32), y, splits, class_names=[f"c{i:03d}" for i in range(101)])
    fit_head(tmp_path / "f.h5", "centroid", out=tmp_path / "head")
    report(tmp_path / "head", tmp_path / "page.html", features=tmp_path / "f.h5")
    _, words = sound(tmp_path / "page.html")
    assert "81 more between these, see below" in words and "All 101 of “Images per class”" in words
    folded, rows, most = 0, 0, 0
    for tag in re.findall(r"<(/?(?:details|table|tr))\b", (tmp_path / "page.html").read_text()):
        folded += {"details": 1, "/details": -1}.get(tag, 0)
        rows = 0 if tag == "table" else rows + (tag == "tr" and not folded)
        most = max(most, rows)
    assert 20 < most <= 22  # the head of a table, both ends, and how many lie between
    assert all(words.count(f"c{i:03d}") >= 2 for i in range(101))  # all are there, of their images and their scores


@pytest.fixture
def lettered():
    """A drawing of nothing but words, in the regular and in the bold face."""

    def chart(id, words):
        drawing = Figure(Axis(0, 1), Axis(0, 1), grid=False)
        for y, kind in ((40, ""), (200, "name")):
            drawing.text(150, y, words, kind)
        return Chart(id, "", drawing.svg(""), "", [], [])

    return chart


def ink(file):
    """How dark the upper and the lower half of a PNG file are."""
    with Image.open(file) as drawn:
        upper, lower = np.array_split(255.0 - np.asarray(drawn.convert("L")), 2)
    return upper.sum() / 255, lower.sum() / 255


def test_charts_have_words_on_a_machine_without_fonts(lettered, tmp_path, monkeypatch):
    render = resvg_py.svg_to_bytes
    monkeypatch.setattr(resvg_py, "svg_to_bytes", lambda **kwargs: render(**kwargs | {"skip_system_fonts": True}))
    words = ("0.25 µ – Größe, naïve, Łódź, Ёлка…", "0.25 µ – Größe, naïve,", "Łódź, Ёлка…")
    files = write_png([lettered(str(i), some) for i, some in enumerate(words)], tmp_path)
    (regular, bold), first, second = map(ink, files)
    assert regular > 500 and bold > regular
    assert first[0] + second[0] == pytest.approx(regular, rel=0.1)  # every word has its share


def test_the_machines_fonts_draw_only_what_ours_lacks(lettered, tmp_path, monkeypatch):
    asked, render = [], resvg_py.svg_to_bytes

    def listen(**kwargs):
        asked.append(kwargs["skip_system_fonts"])
        return render(**kwargs)

    monkeypatch.setattr(resvg_py, "svg_to_bytes", listen)
    write_png([lettered("latin", "rosé & co"), lettered("chinese", "玫瑰 rosé")], tmp_path)
    assert asked == [True, False]
    assert min(ink(tmp_path / "chinese.png")) > 0  # Latin letters are ours, whatever the machine has


def test_our_font_has_what_it_is_said_to_have():
    """Letters that a font lacks are all drawn as the same box, or not at all."""
    said = [c for c in map(chr, range(0x20, 0x3000)) if in_our_font(c) and unicodedata.category(c)[0] in "LNPS"]
    for file in FONT_FILES:
        font = ImageFont.truetype(file, 24)
        lacking = bytes(font.getmask("\U0010fffd"))
        assert len(said) > 900 and [c for c in said if bytes(font.getmask(c)) == lacking] == []


def test_pictures_that_are_gone_or_changed_are_said(made, tmp_path):
    images = shutil.copytree(made / "images", tmp_path / "images")
    gone, changed, *_ = sorted(images.rglob("*.png"))
    gone.unlink()
    shutil.copy(sorted(images.rglob("*.png"))[-1], changed)
    found = report(made / "run", tmp_path / "page.html", source=images)
    assert any("2 pictures cannot be shown" in note for note in found.notes)
    sound(tmp_path / "page.html")
    shutil.rmtree(images)
    images.mkdir()
    assert any("60 pictures" in note for note in report(made / "run", tmp_path / "page.html", source=images).notes)
    page, _ = sound(tmp_path / "page.html")
    assert not page.all("img")


def test_two_classes_have_rates(pair_file, tmp_path):
    fit_head(pair_file, "logreg", out=tmp_path / "head")
    found = report(tmp_path / "head", tmp_path / "page.html", features=pair_file)
    assert found.charts == ["classes", "confusion", "reliability", "roc", "precision-recall", "map"]
    _, words = sound(tmp_path / "page.html")
    assert f"{found.evaluation.roc_auc:.3f}" in words and "--source FOLDER" in words


def test_a_dense_head_has_learning_curves(pair_file, tmp_path):
    fit_head(pair_file, "dense", params={"epochs": 3}, out=tmp_path / "head")
    losses = load_head(tmp_path / "head").head.history_
    assert {name: len(curve) for name, curve in losses.items()} == {"train": 3, "validation": 3}
    assert "history" in report(tmp_path / "head", tmp_path / "page.html").charts
    page, words = sound(tmp_path / "page.html")
    assert "--features FILE" in words and not page.all("img")


def test_what_an_evaluation_says_in_words_is_on_the_page(made, tmp_path):
    shutil.copytree(made / "run", tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "sweep.json").read_text())
    del summary["test"]["intervals"]["log_loss"]
    summary["test"] |= {"shift": ["They come from <elsewhere>."], "without_interval": {"log_loss": "too few rows"}}
    (tmp_path / "run" / "sweep.json").write_text(json.dumps(summary))
    report(tmp_path / "run", tmp_path / "page.html")
    _, words = sound(tmp_path / "page.html")
    assert "They come from <elsewhere>." in words and "too few rows" in words


def test_without_test_rows_the_page_says_so(digits, tmp_path):
    X, y = digits
    splits = np.resize(["train", "validation"], len(y))
    file = write_features(tmp_path / "f.h5", X, y, splits, class_names=[str(i) for i in range(10)])
    fit_head(file, "centroid", out=tmp_path / "head")
    found = report(tmp_path / "head", tmp_path / "page.html", features=file)
    assert found.evaluation.split == "validation" and any("no test rows" in note for note in found.notes)


def test_features_that_are_gone_leave_what_the_sweep_measured(made, tmp_path):
    run = shutil.copytree(made / "run", tmp_path / "run")
    values = json.loads((run / "sweep.json").read_text())
    (run / "sweep.json").write_text(json.dumps(values | {"features": str(tmp_path / "gone.h5")}))
    found = report(run, tmp_path / "page.html")
    assert found.evaluation.to_dict() == values["test"] and "confusion" in found.charts and "map" not in found.charts
    assert any("gone.h5" in note for note in found.notes)
    with pytest.raises(FeatureStoreError, match=r"gone\.h5"):
        report(run, tmp_path / "page.html", features=tmp_path / "gone.h5")


def test_what_is_no_sweep_or_other_features_is_refused(made, pair_file, tmp_path):
    with pytest.raises(HeadError, match="no sweep and no saved head"):
        report(tmp_path, tmp_path / "page.html")
    with pytest.raises(FeatureStoreError, match="cannot be written"):
        report(made / "run", tmp_path)
    run = shutil.copytree(made / "run", tmp_path / "run")
    for text in ("{", "[]", "{}", json.dumps(json.loads((run / "sweep.json").read_text()) | {"test": {"rows": 1}})):
        (run / "sweep.json").write_text(text)
        with pytest.raises(HeadError, match="not readable"):
            report(run, tmp_path / "page.html")
    (run / "sweep.json").unlink()
    with pytest.raises(HeadError, match="not finished"):
        report(run, tmp_path / "page.html")
    other = write_features(
        tmp_path / "o.h5", {"a": np.eye(4, dtype=np.float32)}, [0, 1, 0, 1], ["test"] * 4, class_names=["a", "b"]
    )
    with pytest.raises(SpecMismatchError):
        report(made / "run", tmp_path / "page.html", features=other)
    assert not (tmp_path / "page.html").exists()


def test_the_commands_make_it_again(made, pair_file, tmp_path):
    settings = {"C": 0.02, "class_weight": "balanced"}
    fitted = fit_head(pair_file, "logreg", params=settings, out=tmp_path / "head", seed=3)
    _, fit, evaluation = report(tmp_path / "head", tmp_path / "page.html", features=pair_file).commands
    shutil.move(tmp_path / "head", tmp_path / "before")
    for command in (fit, evaluation):
        done = featurestore(*shlex.split(command)[1:])
        assert done.returncode == 0, done.stderr
    again = load_head(tmp_path / "head")
    assert again.design == fitted.design and again.seed == 3
    for name, values in again.head.state().items():
        assert (values == fitted.head.state()[name]).all()
    (line,) = [line for line in report(made / "run", tmp_path / "page.html").commands if " sweep " in line]
    assert shlex.split(line)[2:] == [
        *(str(made / "f.h5"), "--out", str(made / "run")), "--space", "space.toml", "--metric", "accuracy", "--cv", "5",
    ]  # fmt: skip


def test_a_fine_tuned_model_is_compared_with_its_head(pair_file, tmp_path):
    """On the folder that `finetune` leaves, written from what two real heads say of the same rows."""
    heads = {"centroid": tmp_path / "frozen", "logreg": tmp_path / "run" / "head"}
    before, after = (
        evaluate(fit_head(pair_file, kind, out=to).path, pair_file).to_dict() for kind, to in heads.items()
    )
    epochs = [
        {"epoch": i, "loss": 1 / i if i else None, "log_loss": 0.5, "accuracy": 0.8, "seconds": 1.0} for i in range(4)
    ]
    values = {
        "frozen": before, "finetuned": after, "history": epochs, "best_epoch": 3, "boundary": None,
        "seconds": {"material": 1.0, "training": 3.0, "epoch": 1.0}, "notes": [], "failures": [], "path": "head",
        "difference": {"accuracy": 0.1, "interval": [0.0, 0.2], "right": 3, "wrong": 1},
        "recommendation": "take <b>it</b>", "settings": {"unfreeze": "last-block", "cache": True, "seed": 1},
    }  # fmt: skip
    (tmp_path / "run" / "finetune.json").write_text(json.dumps(values))
    found = report(tmp_path / "run", tmp_path / "page.html")
    _, words = sound(tmp_path / "page.html")
    assert found.charts == ["classes", "confusion", "history"] and "take <b>it</b>" in words
    assert found.evaluation.to_dict() == after and "+0.100 (+0.000 – +0.200" in words
    assert "finetune HEAD_DIR SOURCE" in found.commands[0] and "--unfreeze last-block" in words
    # Of a few groups there are no intervals.
    table = load_features(pair_file)
    rows = table.rows("test")
    y, groups, few = table.y[rows], np.arange(len(rows)) % 3, []
    for to in heads.values():
        proba = load_head(to).predict_proba(table.X[rows])
        few.append(measure(y, proba, table.class_names, groups=groups))
    grouped = dict(zip(("frozen", "finetuned"), (each.to_dict() | {"split": "test"} for each in few), strict=True))
    difference = {"difference": values["difference"] | {"p_value": 0.5, "groups": 3}}
    (tmp_path / "run" / "finetune.json").write_text(json.dumps(values | grouped | difference))
    found = report(tmp_path / "run", tmp_path / "page.html")
    _, words = sound(tmp_path / "page.html")
    assert "(p = 0.5, exact test of 3 groups)" in words and "too few groups" in words
    assert found.evaluation.groups == 3 and not found.evaluation.intervals
    values["history"] = None
    (tmp_path / "run" / "finetune.json").write_text(json.dumps(values))
    with pytest.raises(HeadError, match="not readable"):
        report(tmp_path / "run", tmp_path / "page.html")


@in_browsers
def test_in_a_real_browser(made, tmp_path, width, dark):
    shutil.copy(made / "page.html", tmp_path / "page.html")
    look(tmp_path / "page.html", width, dark)


def test_groups_are_counted(made, tmp_path):
    with h5py.File(made / "f.h5") as file:
        rows = len(file["label"])
    groups = [f"g{i // 3}" if i % 4 else "" for i in range(rows)]
    shutil.copy(made / "f.h5", tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        file["group"] = file_format.encode(groups)
        file.attrs["format_version"] = np.int64(2)
    found = report(made / "run" / "winner", tmp_path / "page.html", features=tmp_path / "f.h5")
    sizes = [groups.count(name) for name in set(groups) - {""}]
    assert found.groups["groups"] == len(sizes) and found.groups["largest"] == max(sizes) == 3
    assert found.groups["without"] == groups.count("") and found.groups["divided"] > 10
    _, words = sound(tmp_path / "page.html")
    assert f"{len(sizes)} groups of images that belong together, the largest of 3 rows" in words
    assert report(made / "run", tmp_path / "page.html").groups is None
