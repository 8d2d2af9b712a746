"""How much memory and how many cores there are, also in a container and on a system without POSIX calls."""

import os

import pytest

from featurestore.system import machine


def test_this_machine():
    assert machine.machine_memory() >= 10**9
    assert 1 <= machine.cores() <= os.cpu_count()


@pytest.mark.parametrize(("text", "expected"), [("150000 100000\n", 2), ("10000 100000\n", 1), ("max 100000\n", 4)])
def test_cores_of_a_container(tmp_path, monkeypatch, text, expected):
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(machine, "_CONTAINER", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    assert machine.cores() == expected


def test_memory_of_a_container(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CONTAINER", tmp_path)
    whole = machine.machine_memory()
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.machine_memory() == whole
    (tmp_path / "memory.max").write_text("1000000\n")
    assert machine.machine_memory() == 10**6


def test_memory_where_the_system_has_no_sysconf(monkeypatch):
    expected = machine.machine_memory()
    monkeypatch.delattr(os, "sysconf")
    assert machine.machine_memory() == pytest.approx(expected, rel=0.05)
