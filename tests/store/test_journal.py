import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.errors import CorruptFileError
from featurestore.store.journal import Journal, JournalHeader, TapLayout

HEADER = JournalHeader(
    "f" * 64, "keras", 4, {"keras": "3"}, (TapLayout("a", (3,), "<f4"), TapLayout("b", (2, 2), "<f2"))
)


def batch(first: int, count: int):
    rows = np.arange(first, first + count)
    digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in rows]
    return digests, {
        "a": (rows[:, None] + np.array([0.1, 0.2, 0.3])).astype("<f4"),
        "b": (rows[:, None, None] + np.ones((2, 2))).astype("<f2"),
    }


def write(path: Path, counts: list[int]) -> list[int]:
    """Write batches; returns the size of the empty journal, and that after each batch."""
    with Journal.create(path, HEADER) as journal:
        sizes = [path.stat().st_size]
        for i, count in enumerate(counts):
            journal.append(*batch(sum(counts[:i]), count))
            sizes.append(path.stat().st_size)
    return sizes


def check(journal: Journal, rows: int) -> None:
    assert len(journal) == rows
    digests, features = batch(0, rows)
    assert list(journal) == digests
    for i, digest in enumerate(digests):
        row = journal.read(digest)
        for tap in ("a", "b"):
            np.testing.assert_array_equal(row[tap], features[tap][i])
            assert row[tap].dtype == features[tap].dtype


def test_rows_come_back_bit_for_bit(tmp_path):
    write(tmp_path / "j", [4, 4, 1])
    with Journal(tmp_path / "j") as journal:
        assert journal.header == HEADER
        check(journal, 9)
        assert "0" * 64 not in journal


@settings(deadline=None, max_examples=60)
@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=4), data=st.data())
def test_a_journal_cut_anywhere_keeps_every_whole_batch_and_goes_on(tmp_path_factory, counts, data):
    path = tmp_path_factory.mktemp("cut") / "j"
    sizes = write(path, counts)
    cut = data.draw(st.integers(sizes[0], sizes[-1]))
    os.truncate(path, cut)
    whole = sum(size <= cut for size in sizes[1:])
    with Journal(path) as journal:
        done = sum(counts[:whole])
        check(journal, done)
        journal.append(*batch(done, 2))
    with Journal(path) as journal:
        check(journal, done + 2)


@pytest.mark.parametrize("where", [-1, -20, -60])
def test_a_damaged_last_batch_is_dropped(tmp_path, where):
    write(tmp_path / "j", [4, 4])
    raw = bytearray((tmp_path / "j").read_bytes())
    raw[where] ^= 0xFF
    (tmp_path / "j").write_bytes(raw)
    with Journal(tmp_path / "j") as journal:
        check(journal, 4)


@pytest.mark.parametrize("where", [0, 5, 9, 40])
def test_a_damaged_header_is_an_error_that_names_the_file(tmp_path, where):
    write(tmp_path / "j", [4])
    raw = bytearray((tmp_path / "j").read_bytes())
    raw[where] ^= 0xFF
    (tmp_path / "j").write_bytes(raw)
    with pytest.raises(CorruptFileError, match=r"/j: .* delete it"):
        Journal(tmp_path / "j")


def test_an_empty_file_is_no_journal(tmp_path):
    (tmp_path / "j").write_bytes(b"")
    with pytest.raises(CorruptFileError):
        Journal(tmp_path / "j")


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from featurestore.errors import DiskFullError
from featurestore.store.journal import Journal
from test_journal import batch
journal = Journal(Path(sys.argv[1]))
size = Path(sys.argv[1]).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
try:
    journal.append(*batch(4, 4))
except DiskFullError as error:
    print(error)
assert Path(sys.argv[1]).stat().st_size == size
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append(*batch(4, 4))
"""


def test_a_write_that_does_not_fit_leaves_what_was_there(tmp_path):
    write(tmp_path / "j", [4])
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "j"), str(Path(__file__).parent)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "what is finished is kept" in done.stdout
    with Journal(tmp_path / "j") as journal:
        check(journal, 8)


def test_the_header_is_plain_json(tmp_path):
    write(tmp_path / "j", [1])
    raw = (tmp_path / "j").read_bytes()
    length = int.from_bytes(raw[4:8], "little")
    assert json.loads(raw[12 : 12 + length])["batch_size"] == 4
