import numpy as np
import pytest

from featurestore.errors import SourceError
from featurestore.images.decode import decode_framings, read_file
from featurestore.sources.photographs import MOST, framed
from featurestore.spec import Framing

FRAMING = Framing(32, "shortest", "bicubic", 0.875)


def test_parts_of_photographs_by_default():
    pixels = framed(None, FRAMING)
    assert pixels.shape == (30, 32, 32, 3)
    assert len(np.unique(pixels.reshape(30, -1), axis=0)) == 30


def test_a_folders_images_evenly_chosen(images):
    for path in sorted(images.rglob("*.png")):
        path.with_name(f"{path.stem}-again.png").write_bytes(path.read_bytes())
    (images / "0 is no image.png").write_text("text")
    paths = sorted(images.rglob("*.png"), key=lambda path: path.relative_to(images).as_posix())
    assert len(paths) == 61 > MOST
    expected = [decode_framings(read_file(path), [FRAMING])[FRAMING] for path in paths[2::2]]
    np.testing.assert_array_equal(framed(images, FRAMING), expected)


def test_no_image_there(tmp_path):
    (tmp_path / "a.png").write_text("text")
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(SourceError, match=str(folder)):
            framed(folder, FRAMING)
