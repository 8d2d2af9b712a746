"""Charts of labels and of numbers: what is drawn, and that the table behind it says the same."""

import numpy as np
import pytest
from browsing import HOSTILE, marks_of
from hypothesis import given
from hypothesis import strategies as st

from heads.metrics.label_outcomes import LabelOutcomes, per_label
from heads.metrics.number_outcomes import NumberOutcomes
from heads.reporting.answer_charts import label_scores, predicted_against_true, residual_plot


def drawn(chart):
    """A chart's marks per series, and the parsed drawing."""
    page, marks = marks_of(chart)
    return page, dict(reversed(marks))


@pytest.mark.parametrize(("labels", "groups"), [(3, None), (80, None), (3, np.arange(60) // 10)])
def test_labels_have_a_bar_and_three_marks(labels, groups):
    rng = np.random.default_rng(0)
    outcomes = LabelOutcomes((rng.random((60, labels)) < 0.4).astype(np.uint8), rng.random((60, labels), np.float32))
    outcomes.y[:, 0] = 0
    found = per_label(outcomes, [f"{HOSTILE}{i}" for i in range(labels)], None, groups)
    chart = label_scores(found)
    page, marks = drawn(chart)
    shown = min(labels - 1, 20)  # the first has no rows
    assert marks["mark s0"] == marks["mark s1"] == marks["mark s3"] == shown
    assert sum("thick" in path["class"] for path in page.all("path")) == (shown if groups is None else 0)
    assert len(chart.rows) == labels - 1
    values = [float(row[1]) for row in chart.rows]
    assert values == sorted(values)
    assert ("The 20 worst of 79" in chart.note) == (labels == 80)


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=40),
    st.one_of(st.none(), st.floats(0, 1e7)),
)
def test_numbers_of_any_size_can_be_drawn(pairs, half_width):
    outcomes = NumberOutcomes(*np.array(pairs).T)
    for draw in (predicted_against_true, residual_plot):
        chart = draw(outcomes, HOSTILE, half_width)
        _, marks = drawn(chart)
        assert marks["mark s0"] == len(pairs)
        assert sum(int(row[-1]) for row in chart.rows) == len(pairs)
        assert ("faint lines" in chart.note) == (half_width is not None)


def test_tables_of_numbers():
    y = np.arange(100.0)
    outcomes = NumberOutcomes(y, y + np.where(y < 50, 2.0, -1.0))
    assert predicted_against_true(outcomes, "age").rows[0] == ["0", "9", "6.5", "4.5", "2", "10"]
    assert residual_plot(outcomes, "age").rows[-1][2:] == ["-1", "0", "10"]


def test_of_many_rows_some_are_drawn():
    y = np.random.default_rng(0).normal(size=5000)
    chart = residual_plot(NumberOutcomes(y, y + 1), "age", 0.5)
    _, marks = drawn(chart)
    assert marks["mark s0"] == 2000 and "2,000 of 5,000 images are drawn" in chart.note
