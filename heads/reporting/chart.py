"""What a chart is: a drawing, its words, and its numbers in a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


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
