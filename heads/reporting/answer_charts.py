"""Charts of answers that are not one class: of several labels, and of numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.pages.svg import Axis, Figure
from heads.metrics.number_outcomes import NumberOutcomes
from heads.reporting.chart import WORST, Chart, draw_each, worst_of

_DOTS = 2000
"""Rows of which each has a mark, at most."""
_PARTS = 10
"""Rows of the table behind a chart of numbers."""


def label_scores(per_label: Sequence[Mapping[str, Any]], most: int = WORST) -> Chart:
    """Draw the average precision of each label with its interval, and its precision and recall; the worst first.

    Args:
        per_label: see :func:`heads.metrics.label_outcomes.per_label`; one of the labels has rows at least.
        most: so many labels are drawn; all stand in the table.
    """
    known = sorted(
        (e for e in per_label if e["support"]), key=lambda e: (e["average_precision"], -e["support"], e["label"])
    )
    shown = known[:most]
    marks = {
        "precision": (3, "precision"), "recall": (1, "recall"),
        "average_precision": (0, "average precision, 95 % interval"),
    }  # fmt: skip
    figure = draw_each(shown, "label", "average_precision_interval", marks)
    rows = [
        [
            each["label"], f"{each['average_precision']:.3f}",
            "{:.3f} – {:.3f}".format(*each["average_precision_interval"])
            if "average_precision_interval" in each else "too few groups",
            *(f"{each[name]:.3f}" for name in ("precision", "recall", "f1", "threshold")), f"{each['support']:,}",
        ]
        for each in known
    ]  # fmt: skip
    alt = f"Average precision, precision and recall of {len(shown)} labels; the table gives the numbers."
    note = (
        "The worst average precision stands first; precision and recall are those at the label's threshold."
        f"{worst_of(len(shown), len(known), 'labels')}"
    )
    heading = ["label", "average precision", "95 % interval", "precision", "recall", "F1", "threshold", "rows"]
    return Chart("labels", "Each label", figure.svg(alt), note, heading, rows)


def predicted_against_true(outcomes: NumberOutcomes, name: str, half_width: float | None = None) -> Chart:
    """Draw the predicted numbers of rows against the true ones.

    Args:
        outcomes: of the rows, N > 0.
        name: of the number.
        half_width: of the interval of a prediction; None where none is known.
    """
    both = Axis.around(np.concatenate([outcomes.y, outcomes.predicted]))
    figure = Figure(Axis(both.low, both.high, f"true {name}"), Axis(both.low, both.high, f"predicted {name}"))
    ends = np.array([both.low, both.high])
    figure.line("middle", ends, ends)
    for side in () if half_width is None else (-half_width, half_width):
        inside = np.clip(ends, both.low - side, both.high - side) if abs(side) < both.high - both.low else ends[:0]
        if len(inside):
            figure.line("faint", inside, inside + side)
    some = _some(len(outcomes.y))
    figure.marks(0, outcomes.y[some], outcomes.predicted[some])
    note = f"On the dashed line, predictions are right.{_within(half_width)}{_left(len(outcomes.y))}"
    alt = f"Predicted {name} against the true one of {len(some)} images; the table gives means."
    heading = [f"true {name}, from", "to", "mean prediction", "mean true", "mean absolute error", "rows"]
    rows = [
        [
            f"{y.min():.4g}", f"{y.max():.4g}", f"{predicted.mean():.4g}", f"{y.mean():.4g}",
            f"{np.abs(y - predicted).mean():.4g}", f"{len(y):,}",
        ]
        for y, predicted in _parts(outcomes, outcomes.y)
    ]  # fmt: skip
    return Chart("predicted", f"Predicted and true {name}", figure.svg(alt), note, heading, rows)


def residual_plot(outcomes: NumberOutcomes, name: str, half_width: float | None = None) -> Chart:
    """Draw the errors of predictions against the predictions: a trend, or a spread that grows, is what to look for.

    Args:
        outcomes, name, half_width: see :func:`predicted_against_true`.
    """
    errors = -outcomes.residuals
    x, y = Axis.around(outcomes.predicted, f"predicted {name}"), Axis.around([*errors, 0.0], "predicted minus true")
    figure = Figure(x, y)
    figure.line("middle", [x.low, x.high], [0, 0])
    for side in () if half_width is None else (-half_width, half_width):
        if y.low <= side <= y.high:
            figure.line("faint", [x.low, x.high], [side, side])
    some = _some(len(errors))
    figure.marks(0, outcomes.predicted[some], errors[some])
    note = f"Above the dashed line, predictions are too high.{_within(half_width)}{_left(len(errors))}"
    alt = f"Errors of {len(some)} predictions of {name} against the predictions; the table gives means."
    heading = [f"predicted {name}, from", "to", "mean error", "standard deviation", "rows"]
    rows = [
        [
            f"{predicted.min():.4g}", f"{predicted.max():.4g}", f"{(predicted - true).mean():.3g}",
            f"{(predicted - true).std():.3g}", f"{len(true):,}",
        ]
        for true, predicted in _parts(outcomes, outcomes.predicted)
    ]  # fmt: skip
    return Chart("residuals", f"Errors of the predicted {name}", figure.svg(alt), note, heading, rows)


def _some(rows: int) -> NDArray[np.intp]:
    """Return indices of rows that are drawn, spread over all."""
    return np.unique(np.linspace(0, rows - 1, min(rows, _DOTS)).astype(np.intp))


def _parts(outcomes: NumberOutcomes, by: NDArray[np.float64]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return the true and the predicted numbers of rows in parts of equal size, by the order of some number."""
    order = np.argsort(by, kind="stable")
    parts = np.array_split(order, min(_PARTS, len(order)))
    return [(outcomes.y[part], outcomes.predicted[part]) for part in parts]


def _within(half_width: float | None) -> str:
    if half_width is None:
        return ""
    return f" Between the faint lines, {half_width:.4g} from it, 95 of 100 are expected, by rows that were held out."


def _left(rows: int) -> str:
    return f" {_DOTS:,} of {rows:,} images are drawn." if rows > _DOTS else ""
