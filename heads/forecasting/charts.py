"""Draw a learning curve, with its law, and write its page."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from featurestore.pages import html
from featurestore.pages.svg import Axis, Figure
from heads.console.examined import ahead, held_out
from heads.forecasting.power_law import PowerLaw
from heads.forecasting.result import LearningCurve
from heads.reporting.chart import Chart
from heads.reporting.png import write_png

_ALONG = 60
"""Points of a drawn law."""


def draw(found: LearningCurve, law: PowerLaw | None) -> Chart:
    """Draw the points with their intervals, and the law with its own up to the number of images looked ahead to."""
    images = [point.images for point in found.points]
    name = found.metric.replace("_", " ")
    ends = [end for point in found.points for end in point.interval]
    along = np.geomspace(images[0], max([images[-1], *(each.images for each in found.ahead)]), _ALONG)
    told = [law.at(n) for n in along.tolist()] if law else []
    ends += [end for each in told for end in each.interval]
    figure = Figure(Axis.around([images[0], along[-1]], "training images", log=True), Axis.around(ends, name))
    if told:
        figure.line("l1 thick", along, [each.value for each in told])
        for side in (0, 1):
            figure.line("l1 faint", along, [each.interval[side] for each in told])
        figure.legend(1, "power law, 95 %")
    for point in found.points:
        figure.line("l0 thick", [point.images] * 2, point.interval)
    figure.marks(0, images, [point.value for point in found.points])
    figure.legend(0, "measured, 95 %")
    figure.marks(1, [each.images for each in found.ahead], [each.value for each in found.ahead])
    rows = [
        [f"{p.images:,}", f"{p.value:.3f}", _between(p.interval), " ".join(f"{value:.3f}" for value in p.repeats)]
        for p in found.points
    ]
    rows += [[f"{each.images:,}, expected", f"{each.value:.3f}", _between(each.interval), ""] for each in found.ahead]
    note = (
        " ".join(f"{words[0].upper()}{words[1:]}." for words in ahead(found.to_dict()))
        or "Each point is the mean of its repeats."
    )
    alt = f"{name} against the number of training images; the table gives the numbers."
    heading = ["training images", name, "95 % interval", "repeats"]
    return Chart("curve", f"{name.capitalize()} against training images", figure.svg(alt), note, heading, rows)


def _between(interval: Sequence[float]) -> str:
    return "{:.3f} – {:.3f}".format(*interval)


def write_charts(folder: Path, found: LearningCurve, law: PowerLaw | None) -> list[str]:
    """Write the curve into a folder, as a PNG file."""
    return write_png([draw(found, law)], folder)


def write_page(file: Path, found: LearningCurve, law: PowerLaw | None) -> None:
    """Write the page.

    Raises:
        WriteError: it cannot be written.
    """
    how = held_out(found.to_dict())
    html.write(file, "curve.html", "heads.forecasting", found=found, charts=[draw(found, law)], how=how)
