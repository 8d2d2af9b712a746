"""Files altered at random, one alteration or several: they work, or are refused in one line that names them.

``--hypothesis-profile fuzz`` tries ten thousand of each.
"""

import json
import math
import shutil
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from storage import SPEC, TWO_TAPS, publication
from store_makers import edited, header, write_journal, write_spec

from featurestore import FeatureStore
from featurestore.errors import FeatureStoreError
from featurestore.spec import ExtractionSpec
from featurestore.store import file_format
from featurestore.store.journal import Journal
from featurestore.store.writer import write
from heads.feature_table import load_features

Json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20)
    | st.sampled_from(["last", "avg", "float32", "keras", "0" * 64, "a/b", "..", 224, [], {}]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@st.composite
def altered(draw, value):
    """A JSON value with one part of it taken out, replaced, doubled or put beside something new."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 4)) == 0:
        return draw(Json)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = draw(st.sampled_from(keys))
    copy = value.copy()
    match draw(st.sampled_from(["inside", "inside", "replace", "drop", "add"])):
        case "inside":
            copy[key] = draw(altered(copy[key]))
        case "replace":
            copy[key] = draw(Json)
        case "drop":
            del copy[key]
        case "add" if isinstance(copy, dict):
            copy[draw(st.text(max_size=8))] = draw(Json)
        case "add":
            copy.append(draw(st.sampled_from(copy)))
    return copy


@pytest.fixture(scope="session")
def goods(tmp_path_factory):
    """Files of one tap and of two, with views and without."""
    files = []
    for spec, count in ((SPEC, 0), (SPEC, 5), (TWO_TAPS, 0)):
        folder = tmp_path_factory.mktemp("good")
        made = publication(folder, rows=12, spec=spec)
        write(made)
        files.append(Path(made.target))
        if count:
            with edited(files[-1]) as file:
                for name, data in (
                    ("row", np.arange(count, dtype=np.int32)), ("number", np.ones(count, np.int32)),
                    ("features", np.ones((count, 7), np.float32)),
                ):  # fmt: skip
                    del file[f"views/{name}"]
                    file[f"views/{name}"] = data
                file.attrs["content_digest"] = np.bytes_(file_format.content_digest(file, spec.tap_names))
            FeatureStore(files[-1]).verify()
    return files


# ------------------------------------------------------------------------------------------------- alterations

TEXTS = st.binary(max_size=80) | st.sampled_from([b"[]", b"{}", b"null", b"featurestore", b"none", b"mild", b"\xff"])
ATTRIBUTES = st.one_of(
    TEXTS.map(np.bytes_), TEXTS.map(lambda raw: raw.decode("latin-1").replace("\0", "")),
    st.integers(-(2**63), 2**63 - 1).map(np.int64), st.floats().map(np.float64),
    st.lists(st.integers(0, 9), max_size=3).map(np.array), st.sampled_from([h5py.Empty("S1"), h5py.Empty("i8"), True]),
)  # fmt: skip
NAMES = st.sampled_from(
    [*file_format.schema(["last"], 2), *file_format.schema(TWO_TAPS.tap_names, 2), "views", "failures", "extra"]
)
TYPES = ("S1", "S5", "S64", "i1", "i2", "i4", "i8", "u4", "f2", "f4", "f8", ">i4", ">f4", "c8", "?", "V3", "i4,f4")
SIDES = st.sampled_from([0, 1, 2, 5, 7, 8, 11, 12, 13, 2**31, 2**62])
KINDS = ("same", "other", "other", "chunks", "gzip", "compact", "external", "virtual", "soft", "lost", "file", "hard",
         "group", "vlen", "enum", "type", "gone", "null", "values")  # fmt: skip


@st.composite
def dataset_alterations(draw):
    name, kind = draw(NAMES), draw(st.sampled_from(KINDS))
    shape = tuple(draw(st.lists(SIDES, max_size=3)))
    return "dataset", name, kind, shape, draw(st.sampled_from(TYPES)), draw(st.binary(min_size=1, max_size=40))


ATTRIBUTE_NAMES = st.sampled_from([*file_format.ATTRIBUTES, file_format.VERSION_ATTRIBUTE])
ALTERATIONS = st.one_of(
    st.tuples(st.just("attribute"), ATTRIBUTE_NAMES, ATTRIBUTES),
    st.tuples(st.just("no attribute"), ATTRIBUTE_NAMES),
    dataset_alterations(), dataset_alterations(), dataset_alterations(),
)  # fmt: skip


def alter(file, alteration):
    match alteration:
        case "attribute", name, value:
            file.attrs[name] = value
        case "no attribute", name:
            file.attrs.pop(name, None)
        case "dataset", name, kind, shape, dtype, raw:
            alter_dataset(file, name, kind, shape, np.dtype(dtype), raw)


def alter_dataset(file, name, kind, shape, dtype, raw):
    before = file.get(name)
    shape = before.shape if kind in ("same", "chunks", "gzip") and isinstance(before, h5py.Dataset) else shape
    if kind == "values":
        if isinstance(before, h5py.Dataset) and before.size:
            values = np.frombuffer((raw * before.nbytes)[: before.nbytes], before.dtype).reshape(before.shape)
            before[...] = values
        return
    if name in file:
        del file[name]
    small = np.prod(shape, dtype=float) * dtype.itemsize < 1e5
    options = {
        "chunks": {"chunks": True}, "gzip": {"chunks": True, "compression": "gzip"},
        "external": {"external": [("/etc/hostname", 0, h5py.h5f.UNLIMITED)]},
    }.get(kind, {})  # fmt: skip
    match kind:
        case "gone":
            pass
        case "soft" | "lost":
            file[name] = h5py.SoftLink("/id" if kind == "soft" else "/nowhere")
        case "file":
            file[name] = h5py.ExternalLink("/etc/hostname", "/id")
        case "hard":
            file[name] = file["label"] if "label" in file else file["/"]
        case "group":
            file.create_group(f"{name}/deeper")
        case "vlen":
            file.create_dataset(name, data=["x"] * 12, dtype=h5py.string_dtype())
        case "enum":
            file.create_dataset(name, data=np.zeros(12, "i4"), dtype=h5py.enum_dtype({"a": 0}, basetype="i4"))
        case "type":
            file[name] = dtype
        case "null":
            file[name] = h5py.Empty(dtype)
        case "virtual":
            virtual = h5py.VirtualLayout((12,), dtype)
            virtual[:] = h5py.VirtualSource("/etc/hostname", "id", (12,))
            file.create_virtual_dataset(name, virtual)
        case "compact":
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_layout(h5py.h5d.COMPACT)
            kept = h5py.h5t.py_create(dtype, logical=True)
            h5py.h5d.create(file.id, name.encode(), kept, h5py.h5s.create_simple((12,)), plist)
        case _ if small:
            values = np.frombuffer((raw * int(1e5))[: int(np.prod(shape)) * dtype.itemsize], dtype).reshape(shape)
            file.create_dataset(name, data=values, **options)
        case _:  # declared, and nowhere
            file.create_dataset(name, shape, dtype, **options)


def redigest(file):
    """Give an altered file the digest of its content, if it has one and is not terabytes of nothing."""
    sizes = []
    file.visititems(lambda name, item: sizes.append(getattr(item, "nbytes", 0)))
    if max(sizes, default=0) < 1e6:
        with suppress(Exception):
            file.attrs["content_digest"] = np.bytes_(file_format.content_digest(file, ["last"]))


def try_all(path):
    """Open a file in every way: it works, or is refused in one line that names it."""
    try:
        store = FeatureStore(path)
        store.summary()
        assert [len(values) for values in (store.ids, store.paths, store.digests, store.splits)] == [len(store)] * 4
        table = load_features(path, "+".join(store.taps))
        table.select("train", "validation", "test", "duplicate")
        table.views("train")
        store.verify()
    except FeatureStoreError as error:
        assert str(path) in str(error) and len(str(error).splitlines()) == 1 and str(error).isprintable()
        return False
    return True


def declared(file):
    """Bytes that all datasets together claim to have."""
    sizes = []
    file.visititems(
        lambda name, item: (
            sizes.append(math.prod(item.shape or ()) * item.dtype.itemsize) if isinstance(item, h5py.Dataset) else None
        )
    )
    return sum(sizes)


@given(st.data())
def test_any_layout(goods, tmp_path_factory, data):
    path = Path(shutil.copy(data.draw(st.sampled_from(goods)), tmp_path_factory.getbasetemp() / "any.h5"))
    with edited(path) as file:
        for alteration in data.draw(st.lists(ALTERATIONS, min_size=1, max_size=3)):
            try:
                alter(file, alteration)
            except (ValueError, TypeError, OSError, KeyError, RuntimeError):  # HDF5 itself cannot make that
                continue
        if data.draw(st.booleans()) and declared(file) < 10**7:
            redigest(file)
    try_all(path)


@given(st.data())
def test_any_document(goods, tmp_path_factory, data):
    path = Path(shutil.copy(data.draw(st.sampled_from(goods)), tmp_path_factory.getbasetemp() / "any.h5"))
    with edited(path) as file:
        name = data.draw(st.sampled_from(["spec", "spec", "provenance", "class_names"]))
        value = data.draw(altered(json.loads(file.attrs[name])))
        if name == "spec":
            write_spec(file, value)
        else:
            file.attrs[name] = np.bytes_(json.dumps(value).encode("utf-8", "surrogatepass"))
        try:
            file.attrs["content_digest"] = np.bytes_(file_format.content_digest(file, SPEC.tap_names))
        except (KeyError, AttributeError):  # of two taps
            file.attrs["content_digest"] = np.bytes_(file_format.content_digest(file, TWO_TAPS.tap_names))
    try_all(path)


@given(st.data())
def test_any_spec(data):
    spec = data.draw(st.sampled_from([SPEC, TWO_TAPS, replace(SPEC, precision="bfloat16", decoder="draft")]))
    text = json.dumps(data.draw(altered(spec.to_dict())))
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 3)) :]
    try:
        found = ExtractionSpec.from_json(text)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert ExtractionSpec.from_json(found.to_json()) == found
        assert found.tap_names and 1 <= found.size <= 4096


@given(st.data())
def test_any_journal(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "journal"
    folder.mkdir(exist_ok=True)
    good = folder / "rows.journal"
    if not good.exists():
        publication(folder, rows=6, spec=data.draw(st.just(TWO_TAPS)))
    path = Path(shutil.copy(good, folder / "any.journal"))
    if data.draw(st.booleans()):
        values, body = header(path)
        write_journal(path, json.dumps(data.draw(altered(values))).encode("utf-8", "surrogatepass"), body)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(raw)))
        part = data.draw(st.binary(max_size=4) | st.integers(0, 2**32 - 1).map(lambda i: struct.pack("<I", i)))
        raw[at : at + data.draw(st.integers(0, 8))] = part
    path.write_bytes(raw)
    try:
        with Journal(path, read_only=data.draw(st.booleans())) as journal:
            for digest in journal:
                journal.read(digest)
    except FeatureStoreError as error:
        assert str(path) in str(error) and len(str(error).splitlines()) == 1
