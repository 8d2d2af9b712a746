"""Real image files for all tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_images(
    folder: Path, per_class: int, classes: tuple[str, ...] = ("blue", "green", "red"), seed: int = 0
) -> Path:
    """Class folders of PNG images, each of them different: a colour with noise."""
    rng = np.random.default_rng(seed)
    for channel, name in enumerate(reversed(classes)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            pixels = rng.integers(0, 120, (40, 48, 3), dtype=np.uint8)
            pixels[..., channel % 3] += 100
            Image.fromarray(pixels).save(folder / name / f"{seed}-{i:03d}.png")
    return folder
