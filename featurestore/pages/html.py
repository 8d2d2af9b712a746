"""Pages for people: one HTML file with its style and pictures inside, that opens from disk. No network, no script."""

import base64
import io
import os
import re
from pathlib import Path
from typing import Any

from PIL import Image

from featurestore.images.decode import resized
from featurestore.images.picture import Picture
from featurestore.pages.svg import bar, scatter
from featurestore.system.files import write_whole
from featurestore.system.printing import as_utf8

THUMBNAIL = 112
"""Side of a thumbnail in pixels: sharp at the 72 to 96 that the style gives it, and at worst 12 KB of text."""

_TEMPLATES = Path(__file__).parent / "templates"

FONT = "DejaVu Sans"
"""Of drawings outside a browser, so that they look the same on a machine that has other fonts, or none.

Its condensed faces are as wide as the fonts that browsers take, for which the drawings leave room.
"""

FONT_FILES = sorted(str(file) for file in (_TEMPLATES / "fonts").glob("*.ttf"))
"""The regular and the bold one of these."""

_LACKING = re.compile(r"[^\t\n -~\u00a0-\u02e9\u0300-\u034f\u0400-\u0525\u2010-\u2027]")
"""What the font may not have: all but Latin and Cyrillic letters, their accents, and punctuation."""


def write(path: str | os.PathLike[str], template: str, **context: Any) -> None:
    """Render a template to `path`, which holds the whole page or what it held before.

    Raises:
        WriteError: it cannot be written; ask :func:`featurestore.system.files.check_writable` before the slow work.
    """
    write_whole(path, render(template, **context).encode())


def render(template: str, **context: Any) -> str:
    """The text of a page. Every value is escaped; bytes that are no text show as ``\\udcff``, as in ``--json``."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("featurestore.pages"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals |= {"bar": bar, "scatter": scatter}
    environment.filters |= {"n": "{:,}".format, "sums": lambda counts: sum(counts.values())}
    return printable(environment.get_template(template).render(context))


def figure_style() -> str:
    """The style of a drawing by itself: in the colours of the light page, without variables, and in our own font."""
    text = (_TEMPLATES / "figure.css").read_text()
    colours = dict(reversed(re.findall(r"--(\w+): ([^;]+);", text)))  # the light ones stand first
    text = re.sub("font-family: [^;]+;", f'font-family: "{FONT}"; font-stretch: condensed;', text)
    return re.sub(r"var\(--(\w+)\)", lambda found: colours[found[1]], text[text.index("\n.figure") :])


def in_our_font(text: str) -> bool:
    """Whether :data:`FONT` has every letter of a text; some Chinese ones, say, only the machine's fonts have."""
    return not _LACKING.search(text)


def printable(text: str) -> str:
    """Text without control characters, which HTML and SVG forbid, and with bytes that are no text spelt out."""
    return re.sub(r"[^\t\n\x20-\x7e\xa0-\U0010ffff]", "\ufffd", as_utf8(text))


def thumbnail(picture: Picture) -> str:
    """The central square of an image as a data URI; small ones are left to the browser to enlarge."""
    pixels, file = resized(picture, min(THUMBNAIL, *picture.size), "crop"), io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=75, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
