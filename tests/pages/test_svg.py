"""Drawings: what they hold, and that their axes tell the truth."""

import numpy as np
import pytest
from browsing import HOSTILE, Page
from hypothesis import given
from hypothesis import strategies as st

from featurestore.pages.svg import MARKERS, SIDE, Axis, Figure, bar, scatter, shortened

positive = st.floats(1e-6, 1e9)


@given(positive, st.floats(1.001, 1e9), st.booleans())
def test_numbers_of_an_axis_are_few_ascending_and_inside(low, times, log):
    axis = Axis(low, low * times, log=log)
    ticks = list(axis.numbers())
    assert len(ticks) <= (40 if log else 7)
    assert ticks == sorted(set(ticks)) and all(low * (1 - 1e-9) <= tick <= low * times * (1 + 1e-9) for tick in ticks)
    if not log or times > 2:
        assert len(ticks) >= 2


@given(st.lists(positive, min_size=1, max_size=20), st.booleans())
def test_values_keep_their_order_on_an_axis(values, log):
    axis = Axis.around(values, log=log)
    places = axis.at(sorted(values))
    assert (np.diff(places) >= 0).all() and (places > 0).all() and (places < 1).all()
    assert np.allclose(axis.at([axis.low, axis.high]), [0, 1])


@given(st.text("ab_", max_size=30), st.integers(1, 30))
def test_names_are_shortened_to_fit(words, most):
    short = shortened(words, most)
    assert short == words if len(words) <= most else len(short) == most
    begin, _, end = short.partition("…") if short != words else (words, "", "")
    assert words.startswith(begin) and words.endswith(end)


def test_a_figure_draws_what_it_is_given_where_it_belongs():
    figure = Figure(Axis(0, 10, "x"), Axis(0, 1, HOSTILE))
    figure.marks(1, [0, 10], [0, 1])
    figure.line("l0", [5, 5], [0, 1])
    figure.legend(0, HOSTILE * 9)
    drawn = Page(str(figure.svg(HOSTILE)))
    marks = [path["d"] for path in drawn.all("path") if path["class"] == "mark s1"]
    assert marks == [f"M0.0 {SIDE:.1f}{MARKERS[1]}M{SIDE:.1f} 0.0{MARKERS[1]}"]
    assert {"class": "line l0", "d": f"M{SIDE / 2:.1f} {SIDE:.1f}L{SIDE / 2:.1f} 0.0"} in drawn.all("path")
    assert drawn.all("svg")[0]["aria-label"] == HOSTILE and not drawn.all("script")
    assert HOSTILE in drawn.words and len(set(MARKERS)) == 8


def test_bars_add_up():
    rects = Page(str(bar([("train", 3), ("validation", 0), ("test", 1)], 8))).all("rect")
    assert [(r["class"], r["x"], r["width"]) for r in rects] == [
        ("train", "0.00%", "37.50%"),
        ("test", "37.50%", "12.50%"),
    ]


@pytest.mark.parametrize("low", [1, 31, 224, 4000])
@pytest.mark.parametrize("times", [1, 3, 1000])
def test_a_scatter_keeps_its_dots_few_and_inside(low, times):
    points = np.random.default_rng(0).integers(low, low * times + 1, (20_000, 2))
    drawn = Page(str(scatter(points, np.median(points, axis=0), ("x", "y"), "<b>")))
    dots = [[float(dot[key]) for key in ("cx", "cy", "r")] for dot in drawn.all("circle")]
    assert 1 <= len(dots) <= 1500
    assert all(0 <= x <= 300 and 0 <= y <= 300 and r < 11 for x, y, r in dots)
    assert 2 * 2 + 2 <= len(drawn.all("text")) <= 24
