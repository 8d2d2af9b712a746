"""What a chart is: a drawing, its words, and its numbers in a table; and the drawing that classes and labels share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from featurestore.pages.svg import Axis, Figure, shortened

SHARE = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Ticks of an axis of shares."""

WORST = 20
"""Classes or labels that a chart draws, at most; all stand in the table behind it."""


@dataclass(frozen=True)
class Chart:
    """A drawing, its words and its numbers.

    Attributes:
        id: its name in the page, and the name of its PNG file.
        title: what it shows.
        svg: the drawing.
        note: how to read it.
        heading, rows: the table behind it, numbers ready to print.
    """

    id: str
    title: str
    svg: Markup
    note: str
    heading: Sequence[str]
    rows: Sequence[Sequence[str]]


def draw_each(
    shown: Sequence[Mapping[str, Any]], name: str, interval: str, marks: Mapping[str, tuple[int, str]]
) -> Figure:
    """Draw a line of shares for each class or label, under each other, with its name and how many rows it has.

    Args:
        shown: what is measured of each, with its rows as ``support``.
        name: the key of its name.
        interval: the key of an interval, which rows of a few groups do not have.
        marks: keys of shares, each with its series and its words in the legend; the last mark lies on top.
    """
    n, height = len(shown), max(60, 18 * len(shown))
    figure = Figure(Axis(0, 1, "share", ticks=SHARE), Axis(0, n, ticks=()), height=height, left=150)
    places = [n - i - 0.5 for i in range(n)]
    for i, (entry, y) in enumerate(zip(shown, places, strict=True)):
        if interval in entry:
            figure.line("thick l0", entry[interval], [y, y])
        figure.text(-6, height * (i + 0.5) / n + 4, f"{shortened(entry[name], 17)} ({entry['support']:,})", "end")
    for key, (series, words) in marks.items():
        figure.marks(series, [entry[key] for entry in shown], places)
        figure.legend(series, words)
    return figure


def worst_of(shown: int, known: int, noun: str) -> str:
    """Return a sentence on how many classes or labels are drawn, and what the numbers at their names are."""
    cut = f" The {shown} worst of {known:,} {noun} are drawn; the numbers of all stand below." if known > shown else ""
    return f"{cut} In brackets: rows."
