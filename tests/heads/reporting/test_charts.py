"""Charts: what is drawn, and that the table behind it says the same."""

import re

import numpy as np
import pytest
from browsing import HOSTILE, marks_of, sound

from featurestore.pages.svg import Axis, Figure
from heads import fit_head
from heads.kinds.design import HeadDesign
from heads.metrics.evaluation import measure
from heads.reporting import charts
from heads.reporting.report import report
from heads.search.trials import Trial


def drawn(chart):
    """A chart's marks per series, and the parsed drawing."""
    page, marks = marks_of(chart)
    return page, set(marks)


def trials():
    nan = float("nan")
    made = [("logreg", 0.9, 0.1), ("logreg", 0.8, 0.0), ("lda", 0.7, 2.0), ("ridge", nan, 0.1)]
    return [Trial("last", HeadDesign(kind), {}, mean, 0.01, seconds, 9, "") for kind, mean, seconds in made]


def test_a_leaderboard_shows_every_head_that_could_be_fitted():
    found = trials()
    page, marks = drawn(charts.leaderboard(found, found[0], "accuracy"))
    assert {("mark s1", 2), ("mark s0", 1)} <= marks
    assert len(page.all("circle")) == 1


def test_learning_curves_stop_where_training_did():
    curves = {"a": [0.9, 0.5, 0.6], "b": [1.0, float("nan")], HOSTILE: [2.0] * 7, "diverged": [float("nan")]}
    page, _ = drawn(charts.learning_curves(curves, "dense", "Curves", "log loss"))
    lines = [path["d"].count("L") + 1 for path in page.all("path") if re.search("l0|l1|faint", path["class"])]
    assert sorted(lines) == [1, 3, 7]
    assert charts.learning_curves(curves, "dense", "Curves", "log loss").rows[0] == ["a", "3", "0.500", "2", "0.600"]


@pytest.mark.parametrize("classes", [2, 9, 40])
def test_confusion_and_scores_of_few_and_many_classes(classes):
    rng = np.random.default_rng(0)
    y, proba = rng.integers(classes, size=300), rng.random((300, classes))
    found = measure(y, proba, [f"{HOSTILE}{i}" for i in range(classes)])
    names = [each["class"] for each in found.per_class]
    page, _ = drawn(charts.confusion(found.confusion_matrix, names))
    matrix = np.array(found.confusion_matrix)
    kinds = [rect["class"] for rect in page.all("rect")]
    assert kinds.count("right") == np.count_nonzero(np.diag(matrix))
    assert kinds.count("right") + kinds.count("wrong") == np.count_nonzero(matrix)
    _, marks = drawn(charts.class_scores(found.per_class))
    assert ("mark s0", min(classes, 20)) in marks


def test_of_many_classes_the_worst_are_drawn_with_their_rows_and_all_are_told():
    """Of equal recall, the class with most rows stands first: its figure is the surest."""
    support = np.arange(1, 31)
    y = np.repeat(np.arange(30), support)
    proba = np.eye(30)[np.where(y < 25, (y + 1) % 25, y)]  # the first 25 are always wrong
    found = measure(y, proba, [f"class {i}" for i in range(30)])
    chart = charts.class_scores(found.per_class)
    page, marks = drawn(chart)
    assert ("mark s0", 20) in marks and sum("thick" in path["class"] for path in page.all("path")) == 20
    assert [row[0] for row in chart.rows] == [f"class {i}" for i in (*reversed(range(25)), *reversed(range(25, 30)))]
    words = "".join(page.words)
    assert "class 24 (25)" in words and "class 5 (6)" in words and "class 4 (5)" not in words
    assert "20 worst of 30 classes" in chart.note


def test_a_class_without_rows_has_no_score():
    found = measure([0, 1], np.eye(3)[:2], ["a", "b", "c"])
    assert [row[0] for row in charts.class_scores(found.per_class).rows] == ["a", "b"]


def test_a_map_of_many_classes_colours_the_largest():
    y = np.repeat(np.arange(12), np.arange(12, 0, -1))
    places = np.random.default_rng(0).normal(size=(len(y), 2))
    _, marks = drawn(charts.feature_map(places, y, [str(i) for i in range(12)], 0.5))
    assert {(f"mark s{i}", 12 - i) for i in range(8)} | {("mark s8", 4 + 3 + 2 + 1)} <= marks


def test_one_point_and_two_equal_ones_have_a_map():
    for count in (1, 2):
        drawn(charts.feature_map(np.zeros((count, 2)), [0] * count, ["a", "b"], 0.0))


def test_of_thousands_of_classes_the_most_frequent_mistakes_are_drawn():
    y, proba = np.repeat(np.arange(1001), 2), np.zeros((2002, 1001))
    proba[np.arange(2002), np.where(y < 50, y + 1, y)] = 1
    found = measure(y, proba, [f"{HOSTILE}{i}" for i in range(1001)])
    chart = charts.mistakes(found.confused, 1001)
    page, _ = drawn(chart)
    assert sum("thick" in path["class"] for path in page.all("path")) == 30 and len(chart.rows) == 50
    assert "1,001 × 1,001 classes is left out" in chart.note


def test_a_new_chart_is_a_function_and_a_line(pair_file, tmp_path, monkeypatch):
    """It has its place on the page, its table, and its PNG file."""

    def seconds(found):
        figure = Figure(Axis(0, 1, "fits"), Axis(0, 1 + found.run.fitted.seconds, "seconds"))
        figure.marks(0, [1], [found.run.fitted.seconds])
        return charts.Chart(
            "seconds", "Time of the fit", figure.svg("One mark."), "A note.", ["fit", "s"], [["1", "2"]]
        )

    monkeypatch.setattr(charts, "CHARTS", (*charts.CHARTS, ("features", seconds)))
    fit_head(pair_file, "centroid", out=tmp_path / "head")
    found = report(tmp_path / "head", tmp_path / "page.html", features=pair_file, png=tmp_path / "png")
    _, words = sound(tmp_path / "page.html")
    assert found.charts[-2:] == ["map", "seconds"] and (tmp_path / "png" / "seconds.png").exists()
    assert "Time of the fit" in words and "A note." in words
