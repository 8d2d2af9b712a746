"""Write charts as PNG files, in the colours of the light page. Neither a browser nor the machine's fonts are needed."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featurestore.errors import missing
from featurestore.pages import html
from featurestore.system.files import write_whole
from heads.reporting.chart import Chart

_PIXELS = 2.0
"""Pixels of a PNG file for each unit of its drawing."""


def png_renderer() -> Any:
    """Return the function that renders SVG; ask for it before slow work.

    Raises:
        MissingDependencyError: the extra ``png`` is not installed.
    """
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise missing("--png", "resvg_py", "png") from error
    return svg_to_bytes


def write_png(drawn: Sequence[Chart], folder: Path) -> list[str]:
    """Write each chart into a folder, and return the files."""
    render, style = png_renderer(), html.figure_style()
    files = []
    for chart in drawn:
        svg = re.sub("^<svg", '<svg xmlns="http://www.w3.org/2000/svg"', html.printable(str(chart.svg)))
        data = render(
            svg_string=svg, style_sheet=style, background="#fff", zoom=_PIXELS, font_family=html.FONT,
            font_files=html.FONT_FILES, skip_system_fonts=html.in_our_font(svg),  # of two alike, theirs would win
        )  # fmt: skip
        file = folder / f"{chart.id}.png"
        write_whole(file, bytes(data))
        files.append(str(file))
    return files
