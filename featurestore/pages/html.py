"""Write pages: one HTML file with its style and pictures inside, that opens from disk. No network, no script."""

import base64
import io
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featurestore.images.decode import resized
from featurestore.images.picture import Picture
from featurestore.pages.svg import bar, scatter
from featurestore.system.files import write_whole
from featurestore.system.printing import as_utf8

THUMBNAIL = 112
"""Side of a thumbnail in pixels: sharp at the 72 to 96 that the style gives it, and at worst 12 KB of text."""

_PACKAGE = "featurestore.pages"
_TEMPLATES = Path(__file__).parent / "templates"

FONT = "DejaVu Sans"
"""Of drawings outside a browser, so that they look the same on a machine that has other fonts, or none.

Its condensed faces are as wide as the fonts that browsers take, for which the drawings leave room.
"""

FONT_FILES = sorted(str(file) for file in (_TEMPLATES / "fonts").glob("*.ttf"))
"""The regular and the bold one of these."""

_LACKING = re.compile(r"[^\t\n -~\u00a0-\u02e9\u0300-\u034f\u0400-\u0525\u2010-\u2027]")
"""What the font may not have: all but Latin and Cyrillic letters, their accents, and punctuation."""


def write(path: str | os.PathLike[str], template: str, package: str = _PACKAGE, **context: Any) -> None:
    """Render a template to `path`, which then holds the whole page; after an error, it holds what it held before.

    Args:
        path: the file.
        template: name of a file in the folder ``templates`` of `package`. It may extend and import those of this one.
        package: the package that owns the page.
        context: the values of the template.

    Raises:
        WriteError: it cannot be written; ask :func:`featurestore.system.files.check_writable` before the slow work.
    """
    write_whole(path, render(template, package, **context).encode())


def render(template: str, package: str = _PACKAGE, **context: Any) -> str:
    """Return the text of a page; see :func:`write`.

    Every value is escaped; bytes that are no text show as ``\\udcff``, as in ``--json``.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, _PACKAGE))]),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals |= {"bar": bar, "scatter": scatter}
    environment.filters |= {"n": "{:,}".format, "sums": lambda counts: sum(counts.values())}
    return printable(environment.get_template(template).render(context))


def figure_style() -> str:
    """Return the style of a drawing outside a page: the light colours, without variables, and our own font."""
    text = (_TEMPLATES / "figure.css").read_text()
    colours = dict(reversed(re.findall(r"--(\w+): ([^;]+);", text)))  # the light ones stand first
    text = re.sub("font-family: [^;]+;", f'font-family: "{FONT}"; font-stretch: condensed;', text)
    return re.sub(r"var\(--(\w+)\)", lambda found: colours[found[1]], text[text.index("\n.figure") :])


def in_our_font(text: str) -> bool:
    """Say whether :data:`FONT` has every letter of a text; Chinese letters, say, only the machine's fonts have."""
    return not _LACKING.search(text)


def printable(text: str) -> str:
    """Replace control characters, which HTML and SVG forbid, and spell out bytes that are no text."""
    return re.sub(r"[^\t\n\x20-\x7e\xa0-\U0010ffff]", "\ufffd", as_utf8(text))


def thumbnail(picture: Picture) -> str:
    """Return the central square of an image as a data URI. A small one is enlarged by the browser."""
    return data_uri(resized(picture, min(THUMBNAIL, *picture.size), "crop"))


def data_uri(pixels: NDArray[np.uint8], side: int | None = None) -> str:
    """Return a picture (H, W, 3) as a data URI, resized to a square if its side is given."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    (image.resize((side, side)) if side else image).save(file, "JPEG", quality=75, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
