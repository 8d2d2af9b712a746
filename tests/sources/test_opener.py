"""What no format recognises, and what importing the formats costs."""

import subprocess
import sys

from PIL import Image
from source_files import link, put, refused, tree

from featurestore.images.decode import decode
from featurestore.sources.opener import open_source


def test_no_source(tmp_path):
    assert "no such file" in refused(tmp_path / "gone")
    assert "nor a folder" in refused(put(tmp_path / "picture.jpg"))
    assert "symlink loop" in refused(link(tmp_path / "loop", "loop"))
    assert "no CSV" in refused(tree(tmp_path / "x", "a/1.jpg", "b/2.jpg"), label_column="breed")


def test_from_files_to_pixels(tmp_path):
    for name, color in {"red/1.png": (255, 0, 0), "blue/2.png": (0, 0, 255)}.items():
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (9, 9), color).save(tmp_path / name)
    source = open_source(tmp_path)
    blue, red = (decode(source.read(sample), 4, "squash") for sample in source.dataset().samples)
    assert (blue == (0, 0, 255)).all() and (red == (255, 0, 0)).all()


def test_importing_is_light():
    code = "import sys, featurestore.sources.opener; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tensorflow", "keras", "sklearn", "scipy", "pandas", "openvino"} & set(loaded)
