"""Flowers that are drawn by code, so that the notebook and the page of heat maps need no download.

The place of each flower is known, so that one can ask whether a heat map lies on it.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 192
"""Of the drawn pictures, in pixels."""

Place = tuple[float, float, float]
"""The middle of a flower's head (x, y) and its radius, in pixels."""


def _petals(draw: ImageDraw.ImageDraw, place: Place, count: int, width: float, colour: str) -> None:
    x, y, radius = place
    for angle in np.linspace(0, 2 * np.pi, count, endpoint=False):
        tip, side = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        around = np.linspace(0, 2 * np.pi, 24)
        along = 0.62 * radius + 0.38 * radius * np.cos(around)
        points = (x, y) + along[:, None] * tip + (width * radius * np.sin(around))[:, None] * side
        draw.polygon([tuple(point) for point in points], fill=colour, outline="#00000030")


def _disc(draw: ImageDraw.ImageDraw, place: Place, share: float, colour: str) -> None:
    x, y, radius = place
    reach = share * radius
    draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)


def daisy(draw: ImageDraw.ImageDraw, place: Place) -> None:
    """Draw white narrow petals around a yellow disc."""
    _petals(draw, place, 16, 0.11, "#f4f4f0")
    _disc(draw, place, 0.28, "#e8b923")


def sunflower(draw: ImageDraw.ImageDraw, place: Place) -> None:
    """Draw yellow petals around a large brown disc."""
    _petals(draw, place, 20, 0.12, "#f2b705")
    _disc(draw, place, 0.48, "#4a2c12")


def rose(draw: ImageDraw.ImageDraw, place: Place) -> None:
    """Draw discs inside each other, out of the middle."""
    x, y, radius = place
    for i, share in enumerate((0.95, 0.75, 0.55, 0.36, 0.2)):
        angle = 2.1 * i
        shift = 0.1 * radius * i
        shade = ("#9d1230", "#c2183f", "#a3142f", "#d6325a", "#8c0d28")[i]
        _disc(draw, (x + shift * np.cos(angle) * 0.4, y + shift * np.sin(angle) * 0.4, radius), share, shade)


def tulip(draw: ImageDraw.ImageDraw, place: Place) -> None:
    """Draw a cup with three tips."""
    x, y, r = place
    cup = [(-0.7, -0.8), (-0.35, -0.25), (0, -0.9), (0.35, -0.25), (0.7, -0.8), (0.75, 0.2), (0.4, 0.85), (-0.4, 0.85),
           (-0.75, 0.2)]  # fmt: skip
    draw.polygon([(x + r * a, y + r * b) for a, b in cup], fill="#d94f9a")


CLASSES: dict[str, Callable[[ImageDraw.ImageDraw, Place], None]] = {
    "daisy": daisy,
    "rose": rose,
    "sunflower": sunflower,
    "tulip": tulip,
}


def drawn(name: str, rng: np.random.Generator) -> tuple[Image.Image, Place]:
    """Return a picture of one flower on grass, and where its head is."""
    noise = rng.integers(0, 70, (SIDE // 12, SIDE // 12, 3)).astype(np.uint8) + np.array([30, 80, 20], np.uint8)
    grass = Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    place = (*rng.uniform(0.25 * SIDE, 0.75 * SIDE, 2), rng.uniform(0.14, 0.22) * SIDE)
    draw = ImageDraw.Draw(grass, "RGBA")
    draw.line([place[:2], (place[0] + rng.uniform(-20, 20), SIDE)], fill="#2d6b1f", width=5)
    CLASSES[name](draw, place)
    picture = np.asarray(grass.filter(ImageFilter.GaussianBlur(0.7)), np.float64) * rng.uniform(0.75, 1.15)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)), place


def write_flowers(folder: Path, per_class: int = 20, seed: int = 0) -> dict[str, Place]:
    """Write class folders of drawn flowers, and return where the flower is in each file, by its path."""
    rng, places = np.random.default_rng(seed), {}
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            picture, place = drawn(name, rng)
            path = folder / name / f"{i:03d}.png"
            picture.save(path)
            places[str(path)] = place
    return places
