"""Documents of saved heads and runs, altered at random places: they work, or are refused in one line."""

import json
import os
import shutil
import warnings
from copy import deepcopy

import numpy as np
import pytest
from head_folders import COLUMNS, OTHER_TASKS, write_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore.errors import FeatureStoreError
from heads.kinds.design import KINDS
from heads.reporting.report import report
from heads.reporting.run_folder import open_run
from heads.storage.saved_head import load_head

CASES = int(os.environ.get("FEATURESTORE_FUZZ", "30"))
"""Examples of each test."""
HEADS = [*KINDS, "several/winner"]
X = np.random.default_rng(1).normal(size=(5, COLUMNS)).astype(np.float32)

few = settings(
    max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="session")
def spoilt(tmp_path_factory):
    """Good folders, which each example spoils and mends."""
    folder = write_all(tmp_path_factory.mktemp("spoilt"))
    (folder / "f.h5").unlink()  # without features, a page is drawn from the document alone
    return folder


numbers = st.integers() | st.integers(-3, 3) | st.floats() | st.sampled_from([0.0, 1e308, -1e308, 2**31, 2**62, 10**30])
texts = st.text(max_size=5) | st.sampled_from(
    ["dense", "logreg", "accuracy", "", "nan", "1e400", "\n", "\x1b[2J", "\ud800"]
)
leaves = st.none() | st.booleans() | numbers | texts
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3))


def places(node, path=()):
    """The way to each part of a document."""
    yield path
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


@st.composite
def altered(draw, document):
    """A document with one part, or some, of another type or value, absent, doubled, moved or nested."""
    document = deepcopy(document)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        *way, last = draw(st.sampled_from(list(places(document))[1:] or [("x",)]))
        parent = document
        for key in way:
            parent = parent[key]
        match draw(st.sampled_from(["other", "other", "absent", "double", "nest", "swap", "number"])):
            case "absent" if isinstance(parent, dict | list):
                del parent[last]
            case "double" if isinstance(parent, list):
                parent.insert(last, deepcopy(parent[last]))
            case "nest":
                parent[last] = draw(st.sampled_from([lambda v: [v], lambda v: {"a": v}, lambda v: [[v]]]))(parent[last])
            case "swap" if isinstance(parent, dict):
                other = draw(st.sampled_from(list(parent)))
                parent[last], parent[other] = parent[other], parent[last]
            case "number":
                parent[last] = draw(numbers)
            case _:
                parent[last] = draw(values)
    return document


def attempt(folder, file, text, use):
    """Use a folder whose document has this text: it works, or ends in one line that names the file."""
    path = folder / file
    before = path.read_text()
    try:
        path.write_text(text)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            use()
    except FeatureStoreError as error:
        assert str(folder) in str(error) and len(str(error).splitlines()) == 1 and len(str(error)) < 2000, error
    finally:
        path.write_text(before)


@few
@given(st.data())
def test_any_head(spoilt, data):
    folder = spoilt / data.draw(st.sampled_from(HEADS))
    document = data.draw(altered(json.loads((folder / "head.json").read_text())))

    def use():
        fitted = load_head(folder)
        assert fitted.predict_proba(X).shape == (5, len(fitted.class_names))
        json.dumps(fitted.to_dict())

    attempt(folder, "head.json", json.dumps(document), use)


@few
@given(st.data())
def test_any_head_of_another_task(spoilt, data):
    folder = spoilt / data.draw(st.sampled_from(list(OTHER_TASKS)))
    document = data.draw(altered(json.loads((folder / "head.json").read_text())))

    def use():
        fitted = load_head(folder)
        assert np.isfinite(fitted.outputs(X)).all() and len(fitted.predict(X)) == 5
        json.dumps(fitted.to_dict())

    attempt(folder, "head.json", json.dumps(document), use)


@few
@given(st.data())
def test_any_run(spoilt, data):
    name, file = data.draw(
        st.sampled_from([("run", "sweep.json"), ("several", "sweep.json"), ("tuned", "finetune.json")])
    )
    folder = spoilt / name
    document = data.draw(altered(json.loads((folder / file).read_text())))
    attempt(folder, file, json.dumps(document), lambda: report(folder, spoilt / "page.html"))


@few
@given(st.data())
def test_any_head_on_a_page(spoilt, data):
    folder = spoilt / data.draw(st.sampled_from(["dense", "several/winner"]))
    document = data.draw(altered(json.loads((folder / "head.json").read_text())))
    attempt(folder, "head.json", json.dumps(document), lambda: report(folder, spoilt / "page.html"))


@few
@given(data=st.data(), file=st.sampled_from(["dense/weights.safetensors", "knn/model.skops", "dense/rows.safetensors"]))
def test_any_bytes(spoilt, data, file):
    path = spoilt / file
    before = path.read_bytes()
    at = data.draw(st.integers(0, len(before) - 1))
    piece = data.draw(st.binary(max_size=8))
    after = data.draw(
        st.sampled_from(
            [before[:at] + piece + before[at + len(piece) :], before[:at], before[:at] + piece + before[at:]]
        )
    )
    try:
        path.write_bytes(after)
        assert np.isfinite(load_head(path.parent).predict_proba(X)).all()
    except FeatureStoreError as error:
        assert str(path.parent) in str(error) and len(str(error).splitlines()) == 1 and len(str(error)) < 2000, error
    finally:
        path.write_bytes(before)


def test_what_was_spoilt_is_whole_again(spoilt, tmp_path):
    for name in HEADS:
        load_head(spoilt / name).predict_proba(X)
    assert open_run(shutil.copytree(spoilt / "run", tmp_path / "run")).trials
