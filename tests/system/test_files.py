import os
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from featurestore.errors import DiskFullError, WriteError
from featurestore.system import files
from featurestore.system.files import (
    check_writable,
    locked,
    open_regular,
    read_regular,
    replacing,
    size_text,
    write_whole,
)


def test_reads_a_regular_file_up_to_its_limit(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_regular(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_regular(tmp_path / "a", 4)


def test_waits_for_nothing_that_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    for path in (tmp_path / "fifo", tmp_path / "socket", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError) as caught:
            open_regular(path)
        assert files.why(caught.value) == "not a regular file"


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "sub" / "out.csv"
    write_whole(path, b"old")
    with replacing(path) as draft:
        draft.write_bytes(b"new")
        assert path.read_bytes() == b"old" and draft.name == "out.csv.part"
    assert path.read_bytes() == b"new" and [file.name for file in path.parent.iterdir()] == ["out.csv"]


def test_a_failed_block_leaves_the_old_file_and_no_draft(tmp_path):
    path = tmp_path / "out"
    write_whole(path, b"old")
    with pytest.raises(KeyError), replacing(path) as draft:
        draft.write_bytes(b"half")
        raise KeyError
    assert path.read_bytes() == b"old" and not draft.exists()
    with pytest.raises(KeyError), replacing(path, keep=True) as draft:
        draft.write_bytes(b"half")
        raise KeyError
    assert path.read_bytes() == b"old" and draft.read_bytes() == b"half"


def test_one_process_at_a_time_writes_a_file(tmp_path):
    path = tmp_path / "out"
    with replacing(path) as draft:
        draft.write_bytes(b"first")
        with pytest.raises(WriteError, match="another process is writing it"), replacing(path):
            pass
        assert draft.read_bytes() == b"first"
    assert path.read_bytes() == b"first"
    write_whole(path, b"second")
    assert path.read_bytes() == b"second"


def test_what_a_killed_process_left_is_written_over(tmp_path):
    (tmp_path / "out.part").write_bytes(b"a long text of a process that was killed")
    write_whole(tmp_path / "out", b"new")
    assert (tmp_path / "out").read_bytes() == b"new" and not (tmp_path / "out.part").exists()


def test_devices_and_folders_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/null")):
        for attempt in (lambda path=path: write_whole(path, b"x"), lambda path=path: check_writable(path)):
            with pytest.raises(WriteError, match="not a regular file"):
                attempt()
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_symlink_stays_one(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "there")
    write_whole(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("path", "reason"),
    [("x" * 300, "file name too long"), ("file/out", "a file is in the way"), ("loop", "symlink loop")],
)
def test_whatever_forbids_writing_is_one_line(tmp_path, path, reason):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for attempt in (write_whole, lambda path, data: check_writable(path)):
        with pytest.raises(WriteError) as caught:
            attempt(tmp_path / path, b"")
        assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_a_full_disk_is_named(small_disk):
    with pytest.raises(DiskFullError, match="No space left"):
        write_whole(small_disk / "out", b"x" * 64 * 2**20)
    assert not list(small_disk.iterdir())


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (5000, "5,000 bytes"), (20000, "20 KiB"), (600 * 2**20, "600 MiB")]
)
def test_sizes_are_never_nought_of_something(count, text):
    assert size_text(count) == text


HOLD = """
import sys, time
from pathlib import Path
from featurestore.system.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_file_is_gone_when_its_lock_is(tmp_path):
    with locked(tmp_path / "a.lock"):
        assert (tmp_path / "a.lock").exists()
    with locked(tmp_path / "b.lock", keep=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["b.lock"]


@pytest.mark.parametrize("library", ["fcntl", "filelock"])
def test_one_process_at_a_time_holds_a_lock_and_a_killed_one_frees_it(tmp_path, monkeypatch, library):
    """The library that Windows needs refuses what another process holds, as the system's own call does."""
    path = tmp_path / "x.lock"
    if library == "filelock":
        import filelock  # noqa: F401  (its own import of fcntl must come first)

        monkeypatch.setitem(sys.modules, "fcntl", None)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError), locked(path):
            pass
        holder.kill()
    with locked(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_many_that_want_one_lock_have_it_one_after_the_other(tmp_path):
    inside, seen = [], []

    def work(_):
        for _ in range(50):
            with suppress(BlockingIOError), locked(tmp_path / "x.lock"):
                inside.append(1)
                seen.append(len(inside))
                inside.pop()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert seen and set(seen) == {1}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_lock_is_no_link_and_no_fifo(tmp_path, kind):
    path = tmp_path / "x.lock"
    {"link": lambda: path.symlink_to(tmp_path / "other"), "fifo": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    with pytest.raises(OSError, match=r"link|regular|directory"), locked(path):
        pass
    assert not (tmp_path / "other").exists()
