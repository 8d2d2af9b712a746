import shutil

from pictures import write_images
from PIL import Image

from featurestore import open_source
from featurestore.pages.inspection import inspect_source


def test_it_tells_what_is_there(images):
    Image.new("RGB", (300, 20)).save(images / "red" / "wide.png")
    shutil.copy(images / "red" / "0-000.png", images / "red" / "same.png")
    (images / "red" / "cut.png").write_bytes((images / "red" / "0-000.png").read_bytes()[:400])
    (images / "notes.txt").write_text("")
    found = inspect_source(open_source(images))
    assert found.images == 32
    assert found.width == [48, 48, 300] and found.height == [20, 40, 40]
    assert found.duplicates == [["red/0-000.png", "red/same.png"]]
    assert [path for path, _ in found.failures] == ["red/cut.png"]
    assert sum(found.classes["blue"].values()) == 10
    assert found.skipped == {"with suffix .txt": 1}


def test_progress(tmp_path):
    seen = []
    inspect_source(open_source(write_images(tmp_path / "x", 2)), lambda *event: seen.append(event))
    assert seen[-1] == ("decoding", 6, 6) and ("reading", 6, 6) in seen
