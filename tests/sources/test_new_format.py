"""A format of a data set that this package does not know is one file and one line: this test adds one, and uses it."""

import json
from pathlib import Path

import pytest
from pictures import write_images

from featurestore import FeatureStore, extract, open_source
from featurestore.errors import SourceError
from featurestore.sources import opener

# ------------------------------------------------------------------------- the file that would be sources/json_lines.py
from featurestore.sources.base import FileSource, Format, Row, listing_of
from featurestore.sources.options import SourceOptions
from featurestore.sources.split_names import split_named


def _open(where: str, name: str, options: SourceOptions) -> FileSource:
    path, rows = Path(where), []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        cells = json.loads(line)
        split = split_named(cells["split"], f"{path}, line {number}")
        rows.append(Row(id=cells["file"], path=cells["file"], class_name=cells["label"], split=split))
    return FileSource(path.parent, listing_of(name, path, rows))


FORMAT = Format(called="a .jsonl", recognises=lambda where, options: where.endswith(".jsonl"), open=_open)
# ------------------------------------------------------------------------------------------- and the line in the opener


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(opener, "FORMATS", [*opener.FORMATS, FORMAT])


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A JSON-lines list beside its images."""
    images = write_images(tmp_path / "colours", 6)
    files = sorted(images.rglob("*.png"))
    lines = [
        {"file": str(file.relative_to(images)), "label": file.parent.name, "split": ("train", "val", "test")[i % 3]}
        for i, file in enumerate(files)
    ]
    (images / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return images / "list.jsonl"


def test_a_new_format_is_extracted(listed, tmp_path):
    result = extract(listed, tmp_path / "store", backbone="small_cnn", weights="random", size=32, engine="keras")
    store = FeatureStore(result.path)
    assert (result.rows, store.dataset) == (18, "list")
    assert result.classes["red"] == {"train": 2, "validation": 2, "test": 2}


def test_what_it_does_not_take_is_refused(listed, tmp_path):
    with pytest.raises(SourceError, match=r"--exclude .*not rows of a .jsonl"):
        open_source(listed, exclude=["red"])
    with pytest.raises(SourceError, match="columns are chosen"):
        open_source(listed, label_column="label")
    listed.write_text(json.dumps({"file": "red/0-000.png", "label": "red", "split": "tset"}))
    with pytest.raises(SourceError, match=r"list.jsonl, line 1: unknown split 'tset'"):
        open_source(listed)
    (tmp_path / "x.txt").touch()
    with pytest.raises(SourceError, match=r"is neither .*, nor a folder, .*, nor a \.jsonl"):
        open_source(tmp_path / "x.txt")
