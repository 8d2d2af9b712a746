"""Draw the README's pictures of a terminal and of a report, from a real run on flowers that are drawn by code.

    python docs/draw_pictures.py [FOLDER]

Writes ``terminal.png`` and ``report.png`` into FOLDER (``docs/images``). The flowers are small, blurred and noisy, so
that there are mistakes to see. Needs ``chromium``; the heat maps' picture is that of ``tests/benchmarks/heat_maps.py``.
"""

import html
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS / "notebooks"))

from drawn_flowers import write_flowers  # noqa: E402

COMMANDS = (
    "extract flowers --store features",
    "sweep features --preset quick --out run",
    "report run --source flowers",
    "predict run/winner new",
)
PIXELS, SCALE, COLOURS = 15, 1.25, 128
"""Pixels of a blurred flower's side; of a picture, for each of its page; and what its palette holds."""

TERMINAL = """<!DOCTYPE html><meta charset="utf-8"><style>
body {{ margin: 0; background: #14171b; color: #c9d1d9; font: 13px/1.4 "DejaVu Sans Mono", monospace; }}
pre {{ margin: 0; padding: 16px 20px; font: inherit; }} b {{ color: #fff; }} i {{ color: #6a9fd8; font-style: normal; }}
</style><pre>{}</pre>"""

ABOVE = "header, main > ul, #scores, #sweep { display: none }</style>"
"""The style with which a report begins at its mistakes, as if it were scrolled there."""


def blur(folder: Path) -> None:
    """Make each picture of a folder a small, noisy one."""
    for i, file in enumerate(sorted(folder.rglob("*.png"))):
        small = np.asarray(Image.open(file).convert("RGB").resize((PIXELS, PIXELS)), np.float64)
        noisy = (small + np.random.default_rng(i).normal(0, 28, small.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).resize((96, 96), Image.Resampling.BICUBIC).save(file)


def run(work: Path) -> str:
    """Run the commands, and return what a terminal shows, as HTML."""
    shown = []
    for command in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-m", "featurestore", *command.split()], cwd=work, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        said = html.escape(done.stdout.strip("\n"))
        shown.append(f"<i>$</i> <b>featurestore {command}</b>\n{said}")
    return "\n\n".join(shown)


def photograph(page: str, work: Path, width: int, height: int) -> Image.Image:
    """Return what a browser shows of a page of `work`."""
    target = work / "photograph.png"
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--force-device-scale-factor={SCALE}", f"--window-size={width},{height}", f"--screenshot={target}"]
    subprocess.run([*command, f"{work.resolve().as_uri()}/{page}"], check=True, capture_output=True)
    with Image.open(target) as whole:
        return whole.convert("RGB")


def beside(pictures: list[Image.Image]) -> Image.Image:
    """Return pictures of one size side by side, each with a thin frame."""
    width, height = pictures[0].size
    sheet = Image.new("RGB", (len(pictures) * (width + 24) - 20, height + 4), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(ImageOps.expand(picture, 2, "#dde2e7"), (i * (width + 24), 0))
    return sheet


def save(picture: Image.Image, target: Path) -> None:
    """Write a picture in few colours."""
    picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(target, optimize=True)


def main() -> None:
    """Make the flowers, run the commands, and write both pictures."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else DOCS / "images").resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_flowers(work / "flowers", 120)
        write_flowers(work / "drawn", 1, seed=1)
        for each in ("flowers", "drawn"):
            blur(work / each)
        (work / "new").mkdir()
        for i, file in enumerate(sorted((work / "drawn").rglob("*.png"))):
            file.rename(work / "new" / f"{i}.png")
        words = run(work)
        (work / "terminal.html").write_text(TERMINAL.format(words))
        lines = words.count("\n") + 1
        save(photograph("terminal.html", work, 1020, 32 + round(lines * 18.2)), target / "terminal.png")
        page = (work / "report.html").read_text()
        (work / "below.html").write_text(page.replace("</style>", ABOVE, 1))
        save(
            beside([photograph(each, work, 900, 800) for each in ("report.html", "below.html")]), target / "report.png"
        )


if __name__ == "__main__":
    main()
