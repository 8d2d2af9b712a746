"""The site of the documentation builds without a warning, and its notebook runs, where the extra `docs` is there."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from commands import ROOT

import featurestore
import heads

NOTEBOOK = ROOT / "docs" / "notebooks" / "flowers.ipynb"
NEEDS = ("zensical", "mkdocstrings", "nbclient", "ipykernel")
needs_extra = pytest.mark.skipif(
    not all(map(find_spec, NEEDS)), reason="the extra `docs` is not installed: see docs/contributing.md"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    copy = tmp_path_factory.mktemp("site")
    for name in ("docs", "featurestore", "heads"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", copy)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "No issues found" in said and "griffe:" not in said, said
    return copy / "site"


@needs_extra
def test_the_reference_has_every_public_name(site):
    for package in (featurestore, heads):
        page = (site / "api" / f"{package.__name__}.html").read_text()
        missing = [name for name in package.__all__ if f'id="{package._LATE[name]}.{name}"' not in page]
        assert not missing
        assert ":class:" not in page and ":func:" not in page


@needs_extra
def test_the_specification_is_the_docstring(site):
    page = (site / "file_format.html").read_text()
    text = re.sub("<[^>]+>", "", page)
    for line in ("One HDF5 file per data set and extraction spec", "views/number", "Root attributes", "content_digest"):
        assert line in text
    assert page.count("<table>") == 2 and "=====" not in text


@needs_extra
def test_no_page_asks_another_server_for_anything(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|img|iframe)[^>]+src="(https?:[^"]+)|<link[^>]+href="(https?:[^"]+)', page.read_text()
        )
        assert not loaded, page.name


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert listed == {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}


@needs_extra
def test_the_notebook_runs(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    shutil.copy(ROOT / "docs" / "notebooks" / "drawn_flowers.py", tmp_path)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 1 + 3 + 4  # the flowers, three charts, four heat maps
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    right, total = map(int, re.search(r"(\d+) of (\d+) new pictures", said).groups())
    assert total == 20 and right >= 15


def test_the_notebook_is_kept_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert cells and not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
