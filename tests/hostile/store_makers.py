"""Feature files, journals and store folders that mean harm. Each maker spoils a good one in one way."""

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from irregular import device, directory, fifo

from featurestore.store import file_format

Maker = Callable[[Path], None]


@contextmanager
def edited(path: Path) -> Iterator[h5py.File]:
    with h5py.File(path, "r+") as file:
        yield file


def replaced(file: h5py.File, name: str, **options: Any) -> h5py.Dataset:
    del file[name]
    return file.create_dataset(name, **options)


# ------------------------------------------------------------------------------------------------- memory and time


def wide_column(name: str, width: int = 7_000_000, *, holes: bool = False) -> Maker:
    """Thirty texts, one of them of so many bytes."""

    def spoil(path: Path) -> None:
        with edited(path) as file:
            rows, text = len(file[name]), np.array([b"a" * width])
            column = replaced(file, name, shape=(rows,), dtype=text.dtype, fill_time="never")
            if not holes:  # HDF5's own filling trips over texts of this length
                column[:-1] = np.zeros(rows - 1, text.dtype)
            column[-1:] = text

    return spoil


def long_columns(path: Path) -> None:
    """A million rows, one name of 300 letters: what the rules just allow."""
    rows = 1_000_000
    with edited(path) as file:
        for name in (file_format.ID, file_format.PATH):
            replaced(file, name, data=np.full(rows, b"a", "S300"))[0] = b"b" * 300
        replaced(file, file_format.DIGEST, data=np.array([b"%064x" % row for row in range(rows)]))
        replaced(file, file_format.SPLIT, data=np.full(rows, b"train"))
        replaced(file, file_format.LABEL, data=np.arange(rows, dtype=np.int32) % 3)
        replaced(file, file_format.FEATURES, data=np.zeros((rows, 1), np.float32))
        replaced(file, "views/features", data=np.zeros((0, 1), np.float32))


def sparse_columns(path: Path) -> None:
    """A billion rows that are nowhere."""
    with edited(path) as file:
        sizes = {
            file_format.ID: "S1",
            file_format.PATH: "S1",
            file_format.DIGEST: "S64",
            file_format.SPLIT: "S10",
            file_format.LABEL: "i4",
        }
        for name, dtype in sizes.items():
            replaced(file, name, shape=(10**9,), dtype=dtype, fill_time="never")[-1] = file[name].dtype.type()
        replaced(file, file_format.FEATURES, shape=(10**9, 1), dtype="f4", fill_time="never")[-1] = 0
        replaced(file, "views/features", data=np.zeros((0, 1), np.float32))


def attribute(name: str, value: Any) -> Maker:
    """A function makes its value when it is wanted: some are large."""

    def spoil(path: Path) -> None:
        made = value() if callable(value) else value
        with edited(path) as file:
            file.attrs[name] = np.bytes_(made) if isinstance(made, bytes | str) else made

    return spoil


def many_class_names(count: int) -> Maker:
    return attribute("class_names", lambda: json.dumps([f"{i:x}" for i in range(count)]))


def one_large_row(path: Path) -> None:
    """Of one row: a block of one row is no small block."""
    with edited(path) as file:
        for name in (column for column in file_format.COLUMNS if column != file_format.LABEL):
            replaced(file, name, data=file[name][:1])
        replaced(file, file_format.LABEL, data=file[file_format.LABEL][:1])
        replaced(file, file_format.FEATURES, shape=(1, 2**32), dtype="f4", fill_time="never")[0, :1] = 1
        replaced(file, "views/features", data=np.zeros((0, 2**32), np.float32))


def views(rows: list[int], numbers: list[int], width: int = 7) -> Maker:
    def spoil(path: Path) -> None:
        with edited(path) as file:
            replaced(file, "views/row", data=np.array(rows, np.int32))
            replaced(file, "views/number", data=np.array(numbers, np.int32))
            replaced(file, "views/features", data=np.zeros((len(rows), width), np.float32))
            file.attrs["augment"] = np.bytes_("mild")

    return spoil


# ------------------------------------------------------------------------------------------------- values and types


def respec(**changes: Any) -> Maker:
    """Other fields in the spec, with a fingerprint that fits; None takes one out."""

    def spoil(path: Path) -> None:
        with edited(path) as file:
            spec = json.loads(file.attrs["spec"]) | changes
            write_spec(file, {name: value for name, value in spec.items() if value is not None})

    return spoil


def write_spec(file: h5py.File, spec: Any) -> None:
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    file.attrs["spec"] = np.bytes_(text)
    file.attrs["fingerprint"] = np.bytes_(hashlib.sha256(text.encode()).hexdigest())


def values(name: str, data: Any) -> Maker:
    def spoil(path: Path) -> None:
        with edited(path) as file:
            replaced(file, name, data=data)

    return spoil


def no_columns(path: Path) -> None:
    with edited(path) as file:
        replaced(file, file_format.FEATURES, data=np.zeros((30, 0), np.float32))
        replaced(file, "views/features", data=np.zeros((0, 0), np.float32))


def not_finite(path: Path) -> None:
    """A whole and honest file, but for its numbers."""
    with edited(path) as file:
        file[file_format.FEATURES][:] = np.nan
        file.attrs["content_digest"] = np.bytes_(file_format.content_digest(file, ["last"]))


def odd_float(path: Path) -> None:
    """Numbers of two bytes that h5py gives as four: a map of them would show something else."""
    with edited(path) as file:
        kind = h5py.h5t.IEEE_F32LE.copy()
        kind.set_fields(15, 7, 8, 0, 7)
        kind.set_size(2)
        kind.set_ebias(127)
        kind.set_precision(16)
        del file[file_format.FEATURES]
        space = h5py.h5s.create_simple((30, 7))
        h5py.h5d.create(file.id, b"features", kind, space).write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones((30, 7), "f4"))


# ------------------------------------------------------------------------------------------------- the file itself


def terabyte(path: Path) -> None:
    path.touch()
    os.truncate(path, 10**12)


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(1000))


# ------------------------------------------------------------------------------------------------- journals


def header(path: Path) -> tuple[Any, bytes]:
    """The header of a journal, and what follows it."""
    raw = path.read_bytes()
    length = struct.unpack_from("<I", raw, 4)[0]
    return json.loads(raw[12 : 12 + length]), raw[12 + length :]


def write_journal(path: Path, values: Any, body: bytes) -> None:
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    path.write_bytes(struct.pack("<4sII", b"FSJ1", len(text), zlib.crc32(text)) + text + body)


def reheader(**changes: Any) -> Maker:
    def spoil(path: Path) -> None:
        values, body = header(path)
        write_journal(path, values | changes, body)

    return spoil


def retap(**changes: Any) -> Maker:
    def spoil(path: Path) -> None:
        values, body = header(path)
        write_journal(path, values | {"taps": [values["taps"][0] | changes]}, body)

    return spoil


def long_header(path: Path) -> None:
    path.write_bytes(struct.pack("<4sII", b"FSJ1", 2**32 - 1, 0))
    os.truncate(path, 5 * 10**9)


def many_rows(path: Path) -> None:
    """A batch that says to hold four billion rows, in a file of that size."""
    values, _ = header(path)
    write_journal(path, values, struct.pack("<4sII", b"ROWS", 2**32 - 1, 0))
    os.truncate(path, path.stat().st_size + (2**32 - 1) * (32 + 28))


def numeric(numbers: np.ndarray, columns: str = '[{"name": "age", "codes": []}]') -> Maker:
    """A file of version 3 with these numbers."""

    def spoil(path: Path) -> None:
        with edited(path) as file:
            rows = len(file[file_format.LABEL])
            file[file_format.GROUP], file[file_format.TABULAR] = np.full(rows, b"", "S1"), numbers
            file.attrs[file_format.VERSION_ATTRIBUTE] = np.int64(3)
        attribute(file_format.COLUMNS_ATTRIBUTE, columns)(path)

    return spoil


def asked(task: Any, targets: np.ndarray) -> Maker:
    """A file of version 4 that asks for this; its three classes are then labels."""

    def spoil(path: Path) -> None:
        numeric(np.zeros((30, 0), np.float32), "[]")(path)
        with edited(path) as file:
            file[file_format.TARGETS] = targets
            file.attrs[file_format.VERSION_ATTRIBUTE] = np.int64(4)
        attribute(file_format.TASK_ATTRIBUTE, task)(path)

    return spoil


FILES: dict[str, tuple[Maker, str]] = {
    "path of 7 MB": (wide_column("path"), "take 210,"),
    "id of 7 MB": (wide_column("id"), "take 210,"),
    "reason of 80 MB": (wide_column("failures/reason", 80_000_000), "take 80,"),
    "path of 7 MB, in holes": (wide_column("path", holes=True), "mostly holes"),
    "a billion rows in holes": (sparse_columns, "mostly holes"),
    "one row of 16 GB in holes": (one_large_row, "mostly holes"),
    "a terabyte": (terabyte, "mostly holes"),
    "100 MB of class names": (attribute("class_names", lambda: b'["' + b"a" * 10**8 + b'"]'), "of 16,777,216"),
    "5 million class names": (attribute("class_names", lambda: "[" + '"",' * 5_000_000 + '""]'), "names|values"),
    "4 million class names": (many_class_names(3_800_000), "of 16,777,216"),
    "100 MB of data set's name": (attribute("dataset", lambda: b"a" * 10**8), "of 4,096"),
    "300 MB of data set's name": (attribute("dataset", lambda: b"a" * (3 * 10**8)), "bytes beside them"),
    "100 MB of provenance": (attribute("provenance", lambda: b'{"weights": "' + b"a" * 10**8 + b'"}'), "of 4,194,304"),
    "100 MB of spec": (attribute("spec", lambda: b"[" * 10**8), "of 4,194,304"),
    "deep class names": (attribute("class_names", b"[" * 200_000), "deep"),
    "view 2^31-1": (views([0], [2**31 - 1]), "numbers of views point outside"),
    "view 0": (views([0], [0]), "numbers of views point outside"),
    "view of row -1": (views([-1], [1]), "views point outside"),
    "view of row 30": (views([30], [1]), "views point outside"),
    "views of another width": (views([0], [1], width=8), "another shape"),
    "tap of 3,000 slashes": (respec(taps=[{"layer": "a/" * 3000 + "a", "pool": "avg"}]), "no layer is called"),
    "tap of 200 slashes": (respec(taps=[{"layer": "a/" * 100 + str(i), "pool": "avg"} for i in range(2)]), "hold"),
    "tap that leads out": (respec(taps=[{"layer": "../../id", "pool": "avg"}]), "no layer is called"),
    "a million taps": (respec(taps=[{"layer": str(i), "pool": "avg"} for i in range(90_000)]), "1 to 4,096"),
    "no taps": (respec(taps=[]), "0 taps"),
    "taps of one name": (respec(taps=[{"layer": "last", "pool": "avg"}] * 2), "two taps of one name"),
    "unknown pool": (respec(taps=[{"layer": "last", "pool": "gem"}]), "Invalid enum value 'gem'"),
    "size 1,000,000": (respec(size=1_000_000), "1 to 4,096 pixels"),
    "size -1": (respec(size=-1), "1 to 4,096 pixels"),
    "size NaN": (respec(size=float("nan")), "Expected `int`"),
    "size '224'": (respec(size="224"), "Expected `int`"),
    "no size": (respec(size=None), "missing required field `size`"),
    "backbone 3": (respec(backbone=3), "Expected `str`"),
    "weights' digest": (respec(weights_digest="../../x"), "no SHA-256"),
    "a later field": (respec(blur=3), "a newer featurestore wrote it"),
    "spec []": (attribute("spec", "[]"), "Expected `object`"),
    "another fingerprint": (attribute("fingerprint", "x" * 64), "does not match its spec"),
    "content digest": (attribute("content_digest", b"\x01"), "no SHA-256"),
    "version 0": (attribute("format_version", np.int64(0)), "version 0"),
    "version -1": (attribute("format_version", np.int64(-1)), "version -1"),
    "version 5": (attribute("format_version", np.int64(5)), "upgrade featurestore"),
    "version 4 that asks nothing": (attribute("format_version", np.int64(4)), "not a readable feature file"),
    "another task": (asked("detection", np.zeros((30, 3), np.uint8)), "its task is 'detection'"),
    "classes as a task": (asked("classification", np.zeros((30, 3), np.uint8)), "its task is 'classification'"),
    "task 3": (asked(np.int64(3), np.zeros((30, 3), np.uint8)), "not a fixed-length string"),
    "100 MB of task": (asked(b"a" * 10**8, np.zeros((30, 3), np.uint8)), "bytes"),
    "labels 2": (asked("multilabel", np.full((30, 3), 2, np.uint8)), "targets are not those of multilabel"),
    "two of three labels": (asked("multilabel", np.zeros((30, 2), np.uint8)), "targets are uint8"),
    "labels that are numbers": (asked("multilabel", np.zeros((30, 3), np.float32)), "targets are float32"),
    "labels of 29 rows": (asked("multilabel", np.zeros((29, 3), np.uint8)), "not of one length"),
    "a number NaN": (asked("regression", np.full((30, 1), np.nan, np.float32)), "targets are not those of regression"),
    "numbers of three": (asked("regression", np.zeros((30, 3), np.float32)), "targets are float32"),
    "version 3 without numbers": (attribute("format_version", np.int64(3)), "not a readable feature file"),
    "numbers of one dimension": (numeric(np.zeros(30, np.float32)), "no float32 (N, C)"),
    "numbers of 2 bytes": (numeric(np.zeros((30, 1), np.float16)), "no float32 (N, C)"),
    "numbers of no column": (numeric(np.zeros((30, 0), np.float32)), "no float32 (N, C)"),
    "numbers of 1,001 columns": (numeric(np.zeros((30, 1001), np.float32)), "no float32 (N, C)"),
    "numbers of 29 rows": (numeric(np.zeros((29, 1), np.float32)), "not of one length"),
    "numbers of two columns": (numeric(np.zeros((30, 2), np.float32)), "other columns than are named"),
    "columns of one name": (numeric(np.zeros((30, 2), np.float32), '[{"name": "a"}, {"name": "a"}]'), "another name"),
    "no columns named": (numeric(np.zeros((30, 1), np.float32), "[]"), "another name"),
    "column 3": (numeric(np.zeros((30, 1), np.float32), "[3]"), "columns: Expected `object`"),
    "codes of three": (numeric(np.zeros((30, 1), np.float32), '[{"name": "a", "codes": ["x", "y", "z"]}]'), "codes"),
    "100 MB of columns": (numeric(np.zeros((30, 1), np.float32), "[" + " " * 10**8 + "]"), "of 2,097,152"),
    "version 2 without groups": (attribute("format_version", np.int64(2)), "does not hold"),
    "provenance []": (attribute("provenance", "[]"), "provenance: Expected `object`"),
    "producers 3": (attribute("provenance", '{"producers": 3}'), "Expected `array`"),
    "producers [3]": (attribute("provenance", '{"producers": [3]}'), "Expected `object`"),
    "flops of text": (attribute("provenance", '{"flops": {"last": "x"}}'), "Expected `int | null`"),
    "class names a text": (attribute("class_names", '"abc"'), "class_names: Expected `array`"),
    "class names a dict": (attribute("class_names", '{"a": 1}'), "class_names: Expected `array`"),
    "class names of numbers": (attribute("class_names", "[1, 2, 3]"), "class_names: Expected `str`"),
    "class names twice": (attribute("class_names", '["a", "a", "b"]'), "class names"),
    "no UTF-8": (attribute("spec", b"\xff{}"), "unreadable extraction spec"),
    "unknown split": (values("split", np.full(30, b"trial")), "its splits are not all"),
    "long split": (values("split", np.full(30, b"train", "S100")), "its splits are not all"),
    "digests of letters": (values("digest", np.full(30, b"x" * 64)), "not all SHA-256"),
    "short digests": (values("digest", np.full(30, b"0" * 63)), "not all SHA-256"),
    "label 3": (values("label", np.full(30, 3, np.int32)), "labels point outside"),
    "label -1": (values("label", np.full(30, -1, np.int32)), "labels point outside"),
    "labels of 8 bytes": (values("label", np.zeros(30, np.int64)), "against its format"),
    "no columns": (no_columns, "no columns"),
    "features of another type": (values("features", np.zeros((30, 7), np.float16)), "not the float32"),
    "views of another type": (values("views/features", np.zeros((0, 7), np.float16)), "not the float32"),
    "numbers of two bytes": (odd_float, "against its format"),
    "FIFO": (fifo, "not a regular file"),
    "device": (device, "not a regular file"),
    "folder": (directory, ""),
    "garbage": (garbage, "not a readable feature file"),
}  # fmt: skip
"""What an attack is -> how a feature file is spoilt, and what the error says."""

JOURNALS: dict[str, tuple[Maker, str]] = {
    "shape [-11]": (retap(shape=[-11]), "(-11,)"),
    "shape [0]": (retap(shape=[0]), "(0,)"),
    "shape '11'": (retap(shape="11"), "Expected `array`"),
    "type of objects": (retap(dtype="|O"), "'|O'"),
    "tap's name 3": (retap(name=3), "Expected `str`"),
    "no taps": (reheader(taps=[]), "0 taps"),
    "batches of -1": (reheader(batch_size=-1), "batches of -1"),
    "batches of 10^9": (reheader(batch_size=10**9), "batches of 1000000000"),
    "engine 3": (reheader(engine=3), "Expected `str`"),
    "producer []": (reheader(producer=[]), "Expected `object`"),
    "header []": (lambda path: write_journal(path, [], b""), "Expected `object`"),
    "deep header": (lambda path: write_journal(path, b"[" * 100_000, b""), "deep"),
    "header of 4 GiB": (long_header, "mostly holes"),
    "4 billion rows": (many_rows, "mostly holes"),
    "a terabyte": (terabyte, "mostly holes"),
    "FIFO": (fifo, "not a regular file"),
    "device": (device, "not a regular file"),
    "folder": (directory, "not a regular file"),
    "garbage": (garbage, "no header"),
}
"""The same for journals."""
