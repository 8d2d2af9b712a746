"""Pages for people: one HTML file with its style and pictures inside, that opens from disk. No network, no script.

What is drawn here takes its colours from the style of ``templates/page.html``, so that dark mode and print work.
"""

import base64
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from featurestore.errors import FeatureStoreError

THUMBNAIL = 112
"""Side of a thumbnail in pixels: sharp at the 72 to 96 that the style gives it, and at worst 12 KB of text."""

_SIDE, _LEFT, _TOP, _BOTTOM = 300, 46, 12, 44  # of a scatter plot; on a phone one unit is about one pixel
_DOTS = 1500
_MANTISSAS = (1,), (1, 2, 5), (1, 2, 3, 4, 6, 8), (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8)


def target(path: str | os.PathLike[str]) -> Path:
    """Where a page can be written; ask before the slow work starts.

    Raises:
        FeatureStoreError: nothing can be written there.
    """
    try:
        resolved = Path(path).resolve()  # a symlink stays one, and /dev/stdout is never replaced by a file
        regular = resolved.is_file() or not resolved.exists()
        with _draft(resolved) as draft:
            draft.touch(exist_ok=False)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symlinks
        raise _refused(path, error) from error
    if not regular:
        raise FeatureStoreError(f"{path}: not a regular file: name the HTML file to write")
    return resolved


def write(path: Path, template: str, **context: Any) -> None:
    """Render a template to `path`, which holds the whole page or what it held before.

    Raises:
        FeatureStoreError: it cannot be written.
    """
    text = render(template, **context)
    try:
        with _draft(path) as draft:
            with draft.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
    except OSError as error:
        raise _refused(path, error) from error


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, so that the rename stays on one file system."""
    draft = path.with_name(f".page-{os.getpid()}.tmp")
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _refused(path: str | os.PathLike[str], error: Exception) -> FeatureStoreError:
    reason = (getattr(error, "strerror", None) or str(error)).lower()
    return FeatureStoreError(f"{path}: the page cannot be written ({reason}): name another place")


def render(template: str, **context: Any) -> str:
    """The text of a page. Every value is escaped; bytes that are no text show as ``\\udcff``, as in ``--json``."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("featurestore"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals |= {"bar": bar, "scatter": scatter}
    environment.filters |= {"n": "{:,}".format, "sums": lambda counts: sum(counts.values())}
    text = environment.get_template(template).render(context)
    text = text.encode("utf-8", "backslashreplace").decode()
    return re.sub(r"[^\t\n\x20-\x7e\xa0-\U0010ffff]", "\ufffd", text)  # no control characters: HTML forbids them


def jpeg(pixels: NDArray[np.uint8]) -> str:
    """RGB pixels as a data URI."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=75, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def bar(parts: Iterable[tuple[str, float]], whole: float) -> Markup:
    """One row of a bar chart: pairs of series and value, side by side. The numbers belong in the table around it."""
    drawn, start = [], 0.0
    for series, value in parts:
        if value:
            share = 100 * value / whole
            rect = Markup('<rect class="{}" x="{:.2f}%" width="{:.2f}%" height="100%"/>')
            drawn.append(rect.format(series or "none", start, share))
            start += share
    return Markup('<svg class="bar" aria-hidden="true">{}</svg>').format(Markup("").join(drawn))


def scatter(points: NDArray[np.int64], middle: Sequence[float], labels: tuple[str, str], alt: str) -> Markup:
    """Pairs of positive numbers on log axes of one scale; places that share a dot make it larger.

    Args:
        points: (N, 2).
        middle: the pair to mark with dashed lines.
        labels: of the axes.
        alt: what the drawing shows, for those who do not see it.
    """
    low, high = float(points.min()), float(points.max())
    widen = max(1.2, math.sqrt(4 * low / high))
    low, high = low / widen, high * widen

    def along(value: Any) -> Any:
        return _SIDE * (np.log(value) - math.log(low)) / math.log(high / low)

    def line(kind: str, *ends: float) -> Markup:
        return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(kind, *ends)

    def text(x: float, y: float, value: str, how: str = "") -> Markup:
        return Markup('<text x="{:.1f}" y="{:.1f}"{}>{}</text>').format(x, y, Markup(how), value)

    drawn = []
    for tick in _ticks(low, high):
        at = along(tick)
        drawn += [line("grid", at, 0, at, _SIDE), line("grid", 0, _SIDE - at, _SIDE, _SIDE - at)]
        drawn += [text(at, _SIDE + 16, f"{tick:,g}"), text(-6, _SIDE - at + 4, f"{tick:,g}", ' class="end"')]
    x, y = along(np.asarray(middle, float))
    drawn += [
        line("grid", 0, _SIDE, _SIDE, 0),
        line("middle", x, 0, x, _SIDE),
        line("middle", 0, _SIDE - y, _SIDE, _SIDE - y),
    ]
    places, counts = _gathered(along(points))
    radii = 1.6 + 9 * np.sqrt((counts - 1) / len(points))
    circle = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>')
    drawn += [circle.format(x, _SIDE - y, r) for (x, y), r in zip(places.tolist(), radii.tolist(), strict=True)]
    drawn += [
        text(_SIDE / 2, _SIDE + 36, labels[0]),
        text(-_SIDE / 2, 12 - _LEFT, labels[1], ' transform="rotate(-90)"'),
    ]
    box = f"{-_LEFT} {-_TOP} {_LEFT + _SIDE + _TOP} {_TOP + _SIDE + _BOTTOM}"
    return Markup('<svg class="scatter" role="img" viewBox="{}" aria-label="{}">{}</svg>').format(
        box, alt, Markup("").join(drawn)
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two ends: the coarsest set of at least three."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for mantissas in _MANTISSAS:
        found = [tick for d in decades for m in mantissas if low <= (tick := m * 10.0**d) <= high]
        if len(found) >= 3:
            break
    return found


def _gathered(places: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Places rounded until few enough are left, and how many share each."""
    step = 1.0
    while True:
        cells, counts = np.unique(np.round(places / step), axis=0, return_counts=True)
        if len(cells) <= _DOTS:
            return cells * step, counts
        step *= 1.5
