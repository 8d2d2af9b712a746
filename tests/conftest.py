"""Small real data for all tests."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pathlib import Path

import numpy as np
import pytest
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


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """30 images in three class folders."""
    return write_images(tmp_path / "colours", 10)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=30, help="processes to kill in tests/test_kill.py")
    parser.addoption("--kill-seed", default="0", help="of the moments at which they are killed")
