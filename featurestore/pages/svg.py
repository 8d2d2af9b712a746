"""Draw inline SVG. Its colours come from the style of the page, so that dark mode and print work.

One unit of a drawing is about one pixel on a phone.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike, NDArray

SIDE = 300
"""Side of a square drawing, without the room for its axes."""

_TOP, _LEGEND, _SHORT = 12, 18, 21
_DOTS = 1500
_MANTISSAS = (1,), (1, 2, 5), (1, 2, 3, 4, 6, 8), (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8)

MARKERS = (
    "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
    "m-2.7-2.7h5.4v5.4h-5.4z",
    "m0-3.6l3.6 6.2h-7.2z",
    "m0-4l4 4l-4 4l-4-4z",
    "m0 3.6l3.6-6.2h-7.2z",
    "m-1.2-3.6h2.4v2.4h2.4v2.4h-2.4v2.4h-2.4v-2.4h-2.4v-2.4h2.4z",
    "m-3.4-3h6.8l-6.8 6h6.8z",
    "m-4-1.2h8v2.4h-8z",
)
"""Shapes of the series, in their order, so that they can be told apart without colours."""


@dataclass(frozen=True)
class Axis:
    """An axis: it turns values into shares of a side.

    Attributes:
        low, high: values at its ends, low < high; both above zero on a logarithmic axis.
        label: name and unit of the values.
        log: whether it is logarithmic.
        ticks: values at which a number is written; by default round ones.
    """

    low: float
    high: float
    label: str = ""
    log: bool = False
    ticks: Sequence[float] | None = None

    @classmethod
    def around(cls, values: ArrayLike, label: str = "", log: bool = False) -> "Axis":
        """Make the axis of these values, with a little room at both ends."""
        found = np.asarray(values, np.float64)
        low, high = float(found.min()), float(found.max())
        if log:
            widen = max(1.2, math.sqrt(4 * low / high))
            return cls(low / widen, high * widen, label, log=True)
        size = max(abs(low), abs(high))
        room = 0.05 * (high - low) if high - low > 1e-9 * size else max(size, 1) / 2
        return cls(low - room, high + room, label)

    def at(self, values: Any) -> Any:
        """Return the places of values: 0 at the lower end, 1 at the upper."""
        if self.log:
            return (np.log(values) - math.log(self.low)) / math.log(self.high / self.low)
        return (np.asarray(values, np.float64) - self.low) / (self.high - self.low)

    def numbers(self) -> Sequence[float]:
        """Return the values at which a number is written."""
        if self.ticks is not None:
            return self.ticks
        return (_log_ticks if self.log else _linear_ticks)(self.low, self.high)


class Figure:
    """A drawing: marks, lines and words between two axes.

    Args:
        x, y: the axes.
        height: of the drawing, without the room for its axes.
        left, bottom: room for the numbers of the axes.
        grid: whether its axes have lines and numbers.
    """

    def __init__(
        self, x: Axis, y: Axis, *, height: float = SIDE, left: float = 46, bottom: float = 44, grid: bool = True
    ) -> None:
        self._x, self._y, self._height, self._left, self._bottom = x, y, height, left, bottom
        self._drawn: list[Markup] = []
        self._legend: list[tuple[int, str]] = []
        if grid:
            self._grid()

    def _grid(self) -> None:
        for tick in self._x.numbers():
            self.line("grid", (tick, tick), (self._y.low, self._y.high))
            self.text(SIDE * float(self._x.at(tick)), self._height + 16, f"{tick:,g}")
        for tick in self._y.numbers():
            self.line("grid", (self._x.low, self._x.high), (tick, tick))
            self.text(-6, self._height * (1 - float(self._y.at(tick))) + 4, f"{tick:,g}", "end")
        self.text(SIDE / 2, self._height + 36, self._x.label)
        self.text(-self._height / 2, 12 - self._left, self._y.label, turned=True)

    def places(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Return the places of points in the drawing, float64 (N, 2)."""
        return np.stack([SIDE * self._x.at(x), self._height * (1 - self._y.at(y))], axis=-1)

    def line(self, kind: str, x: ArrayLike, y: ArrayLike) -> None:
        """Draw a line through points (N,), (N,)."""
        along = "L".join(f"{a:.1f} {b:.1f}" for a, b in self.places(x, y).tolist())
        self._drawn.append(Markup('<path class="{}" d="M{}"/>').format(f"line {kind}", along))

    def marks(self, series: int, x: ArrayLike, y: ArrayLike) -> None:
        """Draw the points of one series, in its colour and shape."""
        shape = MARKERS[series % len(MARKERS)]
        drawn = "".join(f"M{a:.1f} {b:.1f}{shape}" for a, b in self.places(x, y).tolist())
        self._drawn.append(Markup('<path class="mark s{}" d="{}"/>').format(series, drawn))

    def circles(self, kind: str, x: ArrayLike, y: ArrayLike, radii: Iterable[float]) -> None:
        """Draw discs or rings, their radii in units of the drawing."""
        circle = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>')
        places = self.places(x, y).tolist()
        self._drawn += [circle.format(kind, a, b, r) for (a, b), r in zip(places, radii, strict=True)]

    def cell(self, kind: str, x: float, y: float, strength: float) -> None:
        """Draw a rectangle of one unit of each axis, its upper left corner at (x, y)."""
        (left, top), (right, bottom) = self.places([x, x + 1], [y, y - 1]).tolist()
        rect = Markup('<rect class="{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" fill-opacity="{:.2f}"/>')
        self._drawn.append(rect.format(kind, left, top, right - left, bottom - top, strength))

    def text(self, x: float, y: float, words: str, kind: str = "", *, turned: bool = False) -> None:
        """Write words at a place of the drawing; with `turned` they read upwards, and x is measured upwards."""
        how = Markup(' class="{}"').format(kind) if kind else Markup("")
        how += Markup(' transform="rotate(-90)"') if turned else Markup("")
        self._drawn.append(Markup('<text x="{:.1f}" y="{:.1f}"{}>{}</text>').format(x, y, how, words))

    def legend(self, series: int, words: str) -> None:
        """Add an entry to the legend below the drawing; if all entries are short, two stand in a row."""
        self._legend.append((series, words))

    def svg(self, alt: str) -> Markup:
        """Return the drawing as SVG.

        Args:
            alt: what it shows, for readers who do not see it.
        """
        start = self._height + self._bottom
        columns = 2 if all(len(words) <= _SHORT for _, words in self._legend) else 1
        for i, (series, words) in enumerate(self._legend):
            x, y = (i % columns) * SIDE / 2, start + 8 + i // columns * _LEGEND
            mark = Markup('<path class="mark s{}" d="M{:.1f} {:.1f}{}"/>')
            self._drawn.append(mark.format(series, x, y, MARKERS[series % len(MARKERS)]))
            self.text(x + 9, y + 4, shortened(words, 2 * _SHORT), "start")
        height = _TOP + start + math.ceil(len(self._legend) / columns) * _LEGEND
        box = f"{-self._left:g} {-_TOP} {self._left + SIDE + _TOP:g} {height:g}"
        return Markup('<svg class="figure" role="img" viewBox="{}" aria-label="{}">{}</svg>').format(
            box, alt, Markup("").join(self._drawn)
        )


def shortened(words: str, most: int) -> str:
    """Cut words to at most so many characters, in the middle, since names of classes often begin alike."""
    if len(words) <= most:
        return words
    left = most // 2
    return f"{words[:left]}…{words[len(words) - (most - 1 - left) :]}"


def bar(parts: Iterable[tuple[str, float]], whole: float) -> Markup:
    """Draw one row of a bar chart: pairs of series and value, side by side. The table around it holds the numbers."""
    drawn, start = [], 0.0
    for series, value in parts:
        if value:
            share = 100 * value / whole
            rect = Markup('<rect class="{}" x="{:.2f}%" width="{:.2f}%" height="100%"/>')
            drawn.append(rect.format(series or "none", start, share))
            start += share
    return Markup('<svg class="bar" aria-hidden="true">{}</svg>').format(Markup("").join(drawn))


def scatter(points: NDArray[np.int64], middle: Sequence[float], labels: tuple[str, str], alt: str) -> Markup:
    """Draw pairs of positive numbers on two logarithmic axes of one scale; a dot grows with the pairs that share it.

    Args:
        points: (N, 2).
        middle: the pair to mark with dashed lines.
        labels: of the axes.
        alt: what the drawing shows, for readers who do not see it.
    """
    axis = Axis.around(points, labels[0], log=True)
    ends = (axis.low, axis.high)
    figure = Figure(axis, Axis(*ends, labels[1], log=True))
    figure.line("grid", ends, ends)
    figure.line("middle", (middle[0], middle[0]), ends)
    figure.line("middle", ends, (middle[1], middle[1]))
    places, counts = _gathered(SIDE * axis.at(points))
    spread = np.exp(math.log(axis.low) + places / SIDE * math.log(axis.high / axis.low))
    figure.circles("dot", spread[:, 0], spread[:, 1], (1.6 + 9 * np.sqrt((counts - 1) / len(points))).tolist())
    return figure.svg(alt)


def _log_ticks(low: float, high: float) -> list[float]:
    """Choose round numbers between two ends: the coarsest set of at least three."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for mantissas in _MANTISSAS:
        found = [tick for d in decades for m in mantissas if low <= (tick := m * 10.0**d) <= high]
        if len(found) >= 3:
            break
    return found


def _linear_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Choose multiples of 1, 2 or 5 times a power of ten between two ends: the finest set of at most so many."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(m * power for m in (1, 2, 5, 10, 20) if (high - low) / (m * power) <= most - 1)
    return [float(f"{i * step:.12g}") for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _gathered(places: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Round places until few enough are left; return them, and how many share each."""
    step = 1.0
    while True:
        cells, counts = np.unique(np.round(places / step), axis=0, return_counts=True)
        if len(cells) <= _DOTS:
            return cells * step, counts
        step *= 1.5
