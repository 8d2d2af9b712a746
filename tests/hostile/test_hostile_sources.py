"""Folders, tables and archives that mean harm."""

import csv
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hostile_files import cost_of, sparse
from pictures import write_images

from featurestore import open_source
from featurestore.errors import SourceError
from featurestore.sources import csv_table
from featurestore.sources.samples import Failure
from featurestore.sources.tree import OUTSIDE
from featurestore.spec import ExtractionSpec, Tap
from featurestore.store import file_format


def refused(*arguments, **options):
    with pytest.raises(SourceError) as caught:
        open_source(*arguments, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 5_000
    return str(caught.value)


def link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


# Symlinks


def fan(folder: Path, depth: int) -> Path:
    """Folders that each hold two symlinks to the next: 2 to the power of `depth` paths to the image at their end."""
    for i in range(depth):
        link(folder / f"n{i}/left", f"../n{i + 1}")
        link(folder / f"n{i}/right", f"../n{i + 1}")
    return write_images(folder / f"n{depth}", 1).parent


def test_a_fan_of_symlinks_is_walked_once(tmp_path):
    folder = fan(tmp_path, 26)
    write_images(folder / "other", 1, ("x",))
    dataset = open_source(folder).listing()
    assert [sample.path for sample in dataset.samples] == [
        "n26/blue/0-000.png", "n26/green/0-000.png", "n26/red/0-000.png", "other/x/0-000.png",
    ]  # fmt: skip
    assert len(dataset.failures) == 52
    assert dataset.failures[0] == Failure(path="n0/left", reason="the same folder as n1: its images are taken there")


def test_the_first_name_of_a_folder_counts(tmp_path):
    write_images(tmp_path / "elsewhere", 1, ("cat",))
    write_images(tmp_path / "pets", 1, ("dog", "wolf"))
    for name in ("puss", "cat", "deep/down/cat"):
        link(tmp_path / "pets" / name, str(tmp_path / "elsewhere/cat"))
    link(tmp_path / "pets/a", "dog")
    dataset = open_source(tmp_path / "pets").listing()
    assert [sample.path for sample in dataset.samples] == ["cat/0-000.png", "dog/0-000.png", "wolf/0-000.png"]
    assert {failure.path: failure.reason.split(":")[0] for failure in dataset.failures} == {
        "a": "the same folder as dog", "puss": "the same folder as cat", "deep/down/cat": "the same folder as cat",
    }  # fmt: skip


def test_one_folder_in_two_splits_is_in_one(tmp_path):
    write_images(tmp_path / "all", 1, ("cat", "dog"))
    for split, name in [("train", "cat"), ("train", "dog"), ("test", "cat")]:
        link(tmp_path / "data" / split / name, f"../../all/{name}")
    dataset = open_source(tmp_path / "data").listing()
    assert [sample.path for sample in dataset.samples] == ["test/cat/0-000.png", "train/dog/0-000.png"]
    assert dataset.failures == [
        Failure(path="train/cat", reason="the same folder as test/cat: its images are taken there")
    ]


def test_many_names_of_one_file_are_copies(tmp_path):
    write_images(tmp_path, 1, ("cat", "dog"))
    for i in range(20):
        link(tmp_path / f"cat/link{i}.png", "0-000.png")
    assert len({sample.digest for sample in open_source(tmp_path).dataset().samples}) == 2


# What lies outside


@pytest.fixture
def leaky(tmp_path):
    """A folder of two classes, from which symlinks and a table lead to a secret."""
    folder = write_images(tmp_path / "pets", 2, ("cat", "dog"))
    write_images(tmp_path / "secret", 1, ("me",))
    link(folder / "cat/me", str(tmp_path / "secret/me"))
    link(folder / "dog/me.png", "../../secret/me/0-000.png")
    link(folder / "dog/inside.png", "0-000.png")
    link(folder / "dog/gone.png", "nowhere.png")
    with (folder / "labels.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(["path", "label"])
        secret = tmp_path / "secret/me/0-000.png"
        for path in ("../secret/me/0-000.png", secret, "cat/me/0-000.png", "dog/me.png"):
            table.writerow([path, "me"])
        table.writerow(["cat/0-000.png", "cat"])
        table.writerow(["dog/../dog/0-001.png", "dog"])
        table.writerow([folder / "dog/inside.png", "dog"])
    return folder


def test_a_folder_may_be_contained(leaky):
    assert len(open_source(leaky).listing().samples) == 8
    dataset = open_source(leaky, contained=True).listing()
    assert [sample.path for sample in dataset.samples] == [
        "cat/0-000.png", "cat/0-001.png", "dog/0-000.png", "dog/0-001.png", "dog/gone.png", "dog/inside.png",
    ]  # fmt: skip
    assert dataset.failures == [Failure(path="cat/me", reason=OUTSIDE), Failure(path="dog/me.png", reason=OUTSIDE)]


def test_a_table_may_be_contained(leaky):
    assert len(open_source(leaky / "labels.csv").listing().samples) == 7
    for arguments in [{"path": leaky / "labels.csv"}, {"path": leaky, "labels": leaky / "labels.csv"}]:
        dataset = open_source(**arguments, contained=True).listing()
        paths = sorted(sample.path for sample in dataset.samples)
        assert paths == ["cat/0-000.png", "dog/0-001.png", "dog/inside.png"]
        assert len(dataset.failures) == 4
        assert dataset.failures[0].reason == f"{OUTSIDE} (labels.csv, line 2)"


def test_contained_on_the_command_line(leaky):
    found = cost_of("inspect", str(leaky), "--contained")
    assert found.code == 3 and found.out.count(OUTSIDE) == 2


# Tables


def test_a_table_that_is_no_file_is_not_waited_for(tmp_path):
    write_images(tmp_path, 1)
    os.mkfifo(tmp_path / "labels.csv")
    (tmp_path / "random.csv").symlink_to("/dev/urandom")
    for name in ("labels.csv", "random.csv"):
        assert refused(tmp_path, labels=tmp_path / name) == f"{tmp_path / name}: not a regular file"
        assert refused(tmp_path / name) == f"{tmp_path / name}: not a regular file"


def test_tables_without_an_end(tmp_path, monkeypatch):
    write_images(tmp_path, 1)
    table = tmp_path / "labels.csv"
    sparse(table, 2**30)
    assert "larger than 512 MiB" in refused(table)
    sparse(table, 2**28)
    assert refused(table) == f"{table}, line 1: longer than 1,000,000 characters: give a CSV"
    sparse(table, 2**28, b"path,label\n")
    assert refused(table) == f"{table}, line 2: longer than 1,000,000 characters: give a CSV"
    table.write_text('path,label\n"' + "x,\n" * 100_000)
    assert "field larger than field limit" in refused(table)
    table.write_text(",".join(f"column{i}" for i in range(50_000)) + "\n")
    assert refused(table).endswith("and 49960 more")
    monkeypatch.setattr(csv_table, "MAX_ROWS", 2)
    table.write_text("path,label\nblue/0-000.png,a\nred/0-000.png,b\ngreen/0-000.png,b\n")
    assert "more than 2 rows" in refused(table)


# Archives


def npy(shape, dtype="|u1", version=1, data=b""):
    """The beginning of an array that may never come."""
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (63 - len(head) % 64) + b"\n"
    length = len(head).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + head + data


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            buffer = io.BytesIO(data) if isinstance(data, bytes) else io.BytesIO()
            if not isinstance(data, bytes):
                np.save(buffer, data, allow_pickle=True)
            file.writestr(f"{name}.npy", buffer.getvalue())
    return path


X, Y = np.zeros((4, 2, 2), np.uint8), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"x": np.uint8(3), "y": Y}, "must have shape"),
        ({"x": X, "y": np.int64(3)}, "labels must be N whole numbers"),
        ({"x": X, "y": Y, "split": np.array("train")}, "split of shape ()"),
        ({"x": X, "y": Y, "class_names": np.array("ab")}, "class_names of shape ()"),
        ({"x": X, "y": Y, "class_names": np.array([["a", "b"]])}, "class_names of shape (1, 2)"),
        ({"x": X, "y": Y, "class_names": np.array(["a", "a"])}, "class name 'a' stands twice"),
        ({"x": X, "y": Y.astype(object)}, "y holds Python objects"),
        ({"x_train": np.uint8(3), "y_train": Y, "x_test": X, "y_test": Y}, "not an .npz of plain arrays"),
        ({"x": npy((10**7, 1000, 1000)), "y": Y}, "x takes 9,313 GiB, and all together more than half"),
        ({"x": npy((-4, 2, 2)), "y": Y}, "not an .npz of plain arrays"),
        ({"x": npy((4, 2, 2), data=b"ab"), "y": Y}, "not an .npz of plain arrays"),
        ({"x": b"\x93NUMPY\2\0" + b"\xff" * 4 + b" " * 100_000, "y": Y}, "not an .npz of plain arrays"),
        ({"x": b"no array", "y": Y}, "not an .npz of plain arrays"),
    ],
)
def test_archives_that_cannot_serve(tmp_path, members, words):
    assert words in refused(archive(tmp_path / "x.npz", **members))


def test_an_array_that_is_not_asked_for_is_not_looked_at(tmp_path):
    path = archive(tmp_path / "x.npz", x=X, y=Y, notes=np.array([{"by": "me"}], object), more=npy((10**12,)))
    assert len(open_source(path).listing().samples) == 4


def test_an_archive_that_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.npz")
    assert "not a regular file" in refused(tmp_path / "x.npz")


@pytest.mark.slow_hostile
def test_a_head_without_an_end(tmp_path):
    """Four gigabytes of spaces in four megabytes, before an array has said what it is."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("x.npy", "w", force_zip64=True) as member:
            member.write(b"\x93NUMPY\2\0" + b"\xff" * 4)
            for _ in range(1024):
                member.write(b" " * 2**21)
        file.writestr("y.npy", npy((4,), data=bytes(4)))
    found = cost_of("inspect", str(tmp_path / "x.npz"))
    assert found.code == 1 and found.peak < 300


# Names


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"\x1b[2J", b"n" * 240, "ü".encode() * 120])
def test_any_name_of_a_folder_names_a_data_set(tmp_path, name):
    folder = tmp_path / os.fsdecode(name)
    try:
        write_images(folder, 1)
    except OSError:
        pytest.skip("this file system does not take such a name")
    source = open_source(folder)
    source.name.encode()
    spec = ExtractionSpec("b" * 230, "0" * 64, (Tap(),), 224, "squash", "none", "float32")
    assert len(os.fsencode(file_format.file_stem(source.name, spec))) <= file_format.MAX_STEM


def test_names_that_fitted_stay_as_they_are():
    spec = ExtractionSpec("net", "0" * 64, (Tap(),), 224, "squash", "none", "float32")
    rest = f"--net--{spec.fingerprint[:8]}"
    longest = "x" * (file_format.MAX_STEM - len(rest))
    assert file_format.file_stem(longest, spec) == longest + rest
    stems = {file_format.file_stem(longest + end, spec) for end in ("y", "z")}
    assert len(stems) == 2 and all(len(stem) < file_format.MAX_STEM for stem in stems)
