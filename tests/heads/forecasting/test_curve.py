"""Learning curves of real rows, their page and their errors."""

import json
from pathlib import Path

import numpy as np
import pytest
from browsing import in_browsers, look, sound
from feature_files import write_features
from PIL import Image

from featurestore.errors import DesignError, HeadError, WriteError
from heads import curve, load_features
from heads.console import examined
from heads.forecasting.power_law import FEWEST


@pytest.fixture(scope="module")
def found(digits_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("curve")
    return curve(digits_file, head="ridge", page=folder / "page.html", png=folder / "png", progress=False)


def test_more_images_are_better_and_twice_as_many_better_still(found):
    values = [point.value for point in found.points]
    assert len(found.points) == 8 and values[-1] - values[0] > 0.2 and found.held_out == "folds"
    assert [point.images for point in found.points] == sorted(point.images for point in found.points)
    assert found.held_rows == 480 and 370 < found.points[-1].images <= 384  # in each repeat
    assert found.ahead[0].images == 2 * found.points[-1].images
    assert values[-1] < found.ahead[0].value <= 1 and found.ahead[0].gain > 0
    assert all(low < p.value < high for p in found.points for low, high in [p.interval])
    assert set(found.points[0].metrics) == {"accuracy", "balanced_accuracy", "macro_f1", "log_loss"}
    assert all(len(p.repeats) == 5 and p.value == pytest.approx(np.mean(p.repeats)) for p in found.points)
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()


def test_each_size_chooses_its_own_penalty(found):
    chosen = {value for point in found.points for value in point.chosen["alpha"]}
    assert len(chosen) > 1 and chosen <= {10.0, 100.0, 1000.0, 10_000.0}


def test_text_says_what_twice_as_many_would_give(found):
    words = examined.curve(found.to_dict())
    assert f"twice as many training images ({found.ahead[0].images}) would give accuracy 0." in words
    assert "with 95 % certainty, if the power law goes on" in words and words.count("\n") > 9


def test_the_page_and_the_png(found):
    page, words = sound_page(found)
    assert (
        len([svg for svg in page.all("svg") if svg.get("role") == "img"]) == 1
        and f"{found.ahead[0].images}, expected" in words
    )
    with Image.open(found.png[0]) as drawn:
        assert drawn.width > 600 and len(drawn.convert("RGB").getcolors(1 << 20)) > 10


def sound_page(found):
    return sound(Path(found.page))


@in_browsers
def test_a_browser_shows_the_page(found, tmp_path, width, dark):
    page = tmp_path / "page.html"
    page.write_bytes(Path(found.page).read_bytes())
    look(page, width, dark)


def test_the_same_seed_gives_the_same_curve(digits_file):
    once, again = (
        curve(digits_file, head="centroid", sizes=[40, 80], repeats=2, seed=3, progress=False).points for _ in range(2)
    )
    assert once == again


def test_a_split_that_is_held_out_and_all_rows_trained_on_is_fitted_once(digits_file):
    asked = []
    found = curve(
        digits_file, head="centroid", held_out="test", sizes=[100, 480], repeats=3,
        progress=lambda stage, done, total, note="": asked.append(note),
    )  # fmt: skip
    assert len(set(found.points[1].repeats)) == 1 and len(set(found.points[0].repeats)) > 1
    assert found.points[1].error > 0 and "test rows are held out" in " ".join(found.notes) and len(asked) == 6


def test_shots(digits_file):
    found = curve(digits_file, head="ridge", shots=[4, 1], repeats=3, progress=False)
    assert [(point.shots, point.images) for point in found.points] == [(1, 10), (4, 40)]
    assert found.law is None and not found.ahead and found.points[1].value > found.points[0].value
    assert "training sets of 1 of each class cannot be divided into folds" in " ".join(found.notes)
    assert found.points[0].chosen["alpha"] == [1000.0] * 3
    assert "shots" in examined.curve(found.to_dict()).splitlines()[0]


def test_votes_are_probabilities_already(digits_file):
    found = curve(digits_file, head="knn", sizes=[100, 200], repeats=2, progress=False)
    assert found.points[1].value > 0.8 and set(found.points[0].chosen["n_neighbors"]) <= {5, 20}


def test_log_loss_and_two_classes(pair_file):
    found = curve(pair_file, head="lda", metric="log_loss", progress=False, repeats=3)
    assert found.points[0].value > found.points[-1].value and "roc_auc" in found.points[0].metrics
    if found.ahead:
        assert found.ahead[0].value >= 0 and found.ahead[0].gain >= 0
    by_area = curve(pair_file, head="centroid", metric="roc_auc", sizes=[20, 40], repeats=2, progress=False)
    assert by_area.points[1].value == pytest.approx(by_area.points[1].metrics["roc_auc"])


def test_roc_auc_of_ten_classes(digits_file):
    with pytest.raises(HeadError, match=r"digits.h5: roc_auc is of two classes"):
        curve(digits_file, metric="roc_auc", head="centroid", sizes=[50], progress=False)


def test_too_few_sizes_for_a_law(digits_file):
    found = curve(digits_file, head="centroid", sizes=[40, 80, 160], repeats=2, progress=False)
    assert found.law is None and f"it needs {FEWEST} sizes" in " ".join(found.notes)


def test_groups_widen_what_is_not_known(digits, tmp_path):
    X, y = digits
    X, y = np.repeat(X[:120], 4, axis=0), np.repeat(y[:120], 4)
    file = write_features(tmp_path / "d.h5", X, y, ["train"] * 480, class_names=list("0123456789"))
    table = load_features(file)
    groups = (np.arange(480) // 4).astype(str)
    alone, together = (
        curve(each, head="centroid", sizes=[160], repeats=5, progress=False).points[0]
        for each in (table, table.grouped_by(groups))
    )
    assert alone.value - together.value > 0.02  # its copies are in the training set
    assert np.diff(together.interval) > np.diff(alone.interval)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"repeats": 1}, HeadError, "--repeats 1: give 2 or more"),
        ({"sizes": [50], "shots": [1]}, HeadError, "give one of them"),
        ({"ahead": [0]}, HeadError, "--ahead 0"),
        ({"shots": [1], "ahead": [9]}, HeadError, "no law goes"),
        ({"metric": "acuracy"}, HeadError, "did you mean 'accuracy'"),
        ({"head": "logrek"}, DesignError, "did you mean 'logreg'"),
        ({"params": ["C=-1"]}, DesignError, "takes no C=-1"),
        ({"page": "/dev/null/page.html"}, WriteError, "/dev/null"),
    ],
)
def test_errors(digits_file, options, error, words):
    with pytest.raises(error, match=words):
        curve(digits_file, progress=False, **options)


def test_a_single_class(digits, tmp_path):
    file = write_features(tmp_path / "d.h5", digits[0][:20], [0] * 20, ["train"] * 20, class_names=["a", "b"])
    with pytest.raises(HeadError, match="all train rows are of class 'a'"):
        curve(file, progress=False)


def test_rows_that_hold_nan(digits, tmp_path):
    X = digits[0].copy()
    X[5, 5] = np.nan
    file = write_features(tmp_path / "d.h5", X, digits[1], ["train"] * 600, class_names=list("0123456789"))
    with pytest.raises(HeadError, match=r"d.h5: features hold NaN"):
        curve(file, head="centroid", progress=False)
