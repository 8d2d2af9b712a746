"""What a run holds open while its file is written: Windows neither replaces nor deletes an open file."""

from pathlib import Path

import pytest
from pictures import write_images

from featurestore import FeatureStore, extract
from featurestore.errors import StoreError
from featurestore.extraction import publishing
from featurestore.store import writer

OPTIONS = {"size": 32, "batch_size": 8, "backbone": "small_cnn", "weights": "random", "progress": False}


def open_below(folder: Path) -> set[str]:
    """Names of the files below a folder that this process maps or has open."""
    mapped = [line.split(maxsplit=5)[5:] for line in Path("/proc/self/maps").read_text().splitlines()]
    paths = {path.strip() for each in mapped for path in each}
    for link in Path("/proc/self/fd").iterdir():
        try:
            paths.add(str(link.readlink()))
        except OSError:  # the handle of this very loop
            continue
    return {Path(path).name for path in paths if path.startswith(f"{folder}/")}


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks Linux for what is open")
def test_nothing_but_the_lock_is_open_when_a_file_is_replaced(images, tmp_path, monkeypatch):
    store = tmp_path / "store"
    extract(images, store, **OPTIONS, views=1)
    write_images(images, 3, seed=7)
    seen = []

    def publish(publication, lock):
        seen.append(open_below(store))
        writer.publish(publication, lock)

    monkeypatch.setattr(publishing, "publish", publish)
    done = extract(images, store, **OPTIONS)
    assert done.rows == 39 and done.written
    assert seen == [{"LOCK"}]


def test_a_closed_file_says_so(images, tmp_path):
    store = FeatureStore(extract(images, tmp_path / "store", **OPTIONS).path)
    features = store.features()
    store.close()
    assert len(features) == 30  # an array that somebody holds stays good
    with pytest.raises(StoreError, match="is closed: open it again"):
        store.features()
