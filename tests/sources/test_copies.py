"""Copies of images: as many as there is room for, the least used first to go, and nothing is left of killed runs."""

import os
import subprocess
import sys
import time

import pytest

from featurestore.errors import SourceError
from featurestore.sources.copies import ROOM, Copies
from featurestore.system.user_cache import cache_folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def put(copies, digest, size=1000, **options):
    draft = copies.draft()
    with open(draft, "wb") as file:  # noqa: PTH123
        file.write(b"x" * size)
    copies.take(draft, digest, **options)
    assert not os.path.exists(draft)  # noqa: PTH110


def test_what_is_kept_is_found_by_another_run():
    put(Copies(), "aa" * 32)
    path = Copies().find("aa" * 32)
    assert path and os.path.getsize(path) == 1000 and Copies().find("bb" * 32) is None  # noqa: PTH202


def test_there_is_room_for_so_much_and_copies_of_earlier_runs_make_way(monkeypatch):
    monkeypatch.setenv(ROOM, "0.00000301")
    first = Copies()
    names = [f"{i:02x}" * 32 for i in range(5)]
    for name in names[:3]:
        put(first, name)
    put(first, names[3])
    assert [first.find(name) is not None for name in names] == [True, True, True, False, False]
    for age, name in enumerate(names[:3]):
        os.utime(first.find(name), (time.time() - 1000 * (age + 1),) * 2)
    second = Copies()
    assert second.find(names[2])  # and so it is used, and stays
    put(second, names[3])
    put(second, names[4])
    assert [second.find(name) is not None for name in names] == [False, False, True, True, True]
    put(second, "ff" * 32)
    assert second.find("ff" * 32) is None


def test_a_copy_without_room_may_wait(monkeypatch):
    monkeypatch.setenv(ROOM, "0")
    copies = Copies()
    put(copies, "aa" * 32, wait=True)
    put(copies, "bb" * 32)
    assert copies.find("aa" * 32) and not copies.find("bb" * 32)
    copies.done("aa" * 32)
    assert not copies.find("aa" * 32) and not copies.forget("aa" * 32)


def test_nothing_is_left_of_a_run():
    copies = Copies()
    put(copies, "aa" * 32, keep=False, wait=True)
    assert list(cache_folder().rglob("run-*"))
    del copies
    assert not list(cache_folder().rglob("*run-*"))


def test_what_a_killed_run_left_is_deleted_and_a_live_one_is_left_alone():
    code = (
        "import os; from featurestore.sources.copies import Copies; c = Copies(); open(c.draft(), 'w').close(); "
        "print(flush=True); input()"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)
    ]
    try:
        for run in runs:
            run.stdout.readline()
        assert len(list(cache_folder().glob("images/run-*/*.part"))) == 2
        runs[0].kill()
        runs[0].wait()
        copies = Copies()
        assert len(list(cache_folder().glob("images/run-*/*.part"))) == 1
        del copies
    finally:
        for run in runs:
            run.kill()
            run.wait()


def test_a_senseless_room(monkeypatch):
    monkeypatch.setenv(ROOM, "much")
    with pytest.raises(SourceError, match=f"{ROOM}='much': give a number of gigabytes"):
        put(Copies(), "aa" * 32)
