"""The cache of digests: what it knows it does not read again, and it never vouches for bytes that may have changed."""

import os
import struct
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.sources.base import digest_of
from featurestore.sources.digest_cache import DigestCache
from featurestore.sources.opener import open_source
from featurestore.sources.samples import Failure
from featurestore.system import stamps
from featurestore.system.stamps import stamp


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once: no test waits for the clock of a file system."""
    monkeypatch.setattr(stamps, "MARGIN_NS", 0)
    time.sleep(0.02)


def digests(folder, path, **options):
    """Digests by id, and which files were read for them."""
    source = open_source(folder)
    digest, read = source._digest, []
    source._digest = lambda sample: (read.append(sample.id), digest(sample))[1]
    dataset = source.dataset(cache=DigestCache(path, **options))
    return {sample.id: sample.digest for sample in dataset.samples}, sorted(read)


def test_an_unchanged_folder_is_not_read(images, tmp_path, settled):
    time.sleep(0.02)
    first, read = digests(images, tmp_path / "c.stamps")
    assert len(read) == 30
    assert digests(images, tmp_path / "c.stamps") == (first, [])
    assert digests(images, tmp_path / "c.stamps", trust=False) == (first, read)
    assert first == {name: digest_of((images / name).read_bytes()) for name in first}


@pytest.mark.parametrize("how", ["rewritten", "replaced", "touched", "same size and time"])
def test_a_file_that_changed_is_read_again(images, tmp_path, settled, how):
    time.sleep(0.02)
    before, _ = digests(images, tmp_path / "c.stamps")
    file, other = images / "red" / "0-003.png", (images / "red" / "0-004.png").read_bytes()
    status = file.stat()
    if how == "rewritten":
        file.write_bytes(other)
    elif how == "replaced":
        (images / "new").write_bytes(other)
        (images / "new").replace(file)
    elif how == "touched":
        file.touch()
    else:  # as a tool does that edits in place and puts the time back
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert (file.stat().st_size, file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    after, read = digests(images, tmp_path / "c.stamps")
    assert read == ["red/0-003.png"]
    assert after["red/0-003.png"] == digest_of(file.read_bytes())
    assert (after == before) == (how == "touched")


def test_a_file_that_changed_just_before_it_was_read_is_not_trusted(images, tmp_path):
    """It may change again within the same tick of the file system's clock, and its stamp would be the same."""
    for _ in range(2):
        assert len(digests(images, tmp_path / "c.stamps")[1]) == 30
    now = time.time_ns() + 3600 * 10**9
    os.utime(images / "red" / "0-003.png", ns=(now, now))
    stamps_ = stamp(images / "red" / "0-003.png")
    assert not stamps.settled(stamps_, stamps.horizon()) and stamps.settled(stamps_, now + 1)


def test_files_that_cannot_be_read_are_tried_again(images, tmp_path, settled):
    (images / "red" / "empty.png").write_bytes(b"")
    time.sleep(0.02)
    digests(images, tmp_path / "c.stamps")
    assert digests(images, tmp_path / "c.stamps")[1] == ["red/empty.png"]
    dataset = open_source(images).dataset(cache=DigestCache(tmp_path / "c.stamps"))
    assert dataset.failures == [Failure(path="red/empty.png", reason="empty file")]


def test_what_is_gone_is_forgotten(images, tmp_path, settled):
    time.sleep(0.02)
    digests(images, tmp_path / "c.stamps")
    size = (tmp_path / "c.stamps").stat().st_size
    (images / "red" / "0-003.png").unlink()
    digests(images, tmp_path / "c.stamps")
    assert (tmp_path / "c.stamps").stat().st_size == size - 72


def test_a_cache_of_an_earlier_version_is_read(tmp_path):
    """Its images stand in the order in which they were met."""
    rows = [(bytes([9 - i]) * 40, bytes([i]) * 32) for i in range(9)]
    body = b"".join(stamp_ + digest for stamp_, digest in [*rows, rows[0]])
    (tmp_path / "c.stamps").write_bytes(struct.pack("<4sI", b"FSD1", zlib.crc32(body)) + body)
    cache = DigestCache(tmp_path / "c.stamps")
    assert cache.complete([stamp_ for stamp_, _ in rows], list) == [digest.hex() for _, digest in rows]


def test_a_cache_that_cannot_be_written_stops_nothing(images, tmp_path, settled):
    time.sleep(0.02)
    assert len(digests(images, tmp_path / "nowhere" / "c.stamps")[0]) == 30


@given(st.data())
def test_a_damaged_cache_counts_as_empty(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "c.stamps"
    known = [os.urandom(8) + bytes(32), bytes(40)]
    cache = DigestCache(path)
    cache._before = 2**63
    assert cache.complete(known, lambda which: ["ab" * 32, "cd" * 32]) == ["ab" * 32, "cd" * 32]
    cache.save()
    whole = path.read_bytes()
    assert DigestCache(path).complete([bytes(40), b""], list) == ["cd" * 32, 1]
    at = data.draw(st.integers(0, len(whole) - 1))
    flip = data.draw(st.integers(1, 255))
    path.write_bytes(data.draw(st.sampled_from([whole[:at], whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :]])))
    assert DigestCache(path).complete(known, list) == [0, 1]
