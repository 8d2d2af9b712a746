"""What public functions return, as JSON, as text and as a table."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from featurestore.system.results import Result


@dataclass(frozen=True, repr=False)
class Inner(Result):
    score: float = 0.5


@dataclass(frozen=True, repr=False)
class Outer(Result):
    path: Path = Path("some") / "file.h5"
    rows: int = 3
    classes: dict[str, int] = field(default_factory=lambda: {f"class {i}": i for i in range(100)})
    inner: Inner = Inner()
    values: np.ndarray = field(default_factory=lambda: np.arange(3, dtype=np.float32))
    nothing: None = None
    failures: tuple[str, ...] = ()


def test_to_dict_is_plain_json():
    found = Outer().to_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["path"] == str(Path("some/file.h5")) and found["inner"] == {"score": 0.5}
    assert found["values"] == [0, 1, 2] and found["nothing"] is None and found["failures"] == []


def test_the_text_is_short_and_leaves_out_what_is_empty():
    text = repr(Outer())
    assert text.startswith("Outer(path='some") and "rows=3" in text and "classes={100 items}" in text
    assert "nothing" not in text and "failures" not in text
    assert all(len(line) <= 110 for line in text.splitlines())


def test_long_texts_are_cut():
    assert len(repr(Outer(classes={"x" * 5000: 1}, values=np.arange(2)))) < 400


def test_names_cannot_put_html_into_a_notebook():
    found = Outer(classes={"<script>alert(1)</script>": 1})._repr_html_()
    assert "<script>" not in found and "&lt;script&gt;" in found and found.startswith("<table>")
