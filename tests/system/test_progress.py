"""Progress in a terminal, a notebook and a log."""

import sys
from types import SimpleNamespace

import pytest

from featurestore.system import progress as module
from featurestore.system.progress import Lines, reporting


def test_lines_come_now_and_then_and_say_what_is_left(capsys):
    clock = iter(range(0, 4000, 10))
    lines = Lines(clock=lambda: next(clock))
    for done in range(300):
        lines("heads", done, 300, "best accuracy 0.912")
    printed = capsys.readouterr().err.splitlines()
    assert printed[0] == "heads: 2 of 300, about 50 min left, best accuracy 0.912"
    assert 10 < len(printed) < 30


def test_a_short_run_prints_nothing(capsys):
    with reporting(True) as progress:
        for done in range(100):
            progress("heads", done, 100)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("off", [False, None])
def test_none_is_wanted(off):
    with reporting(off) as progress:
        assert progress is None


def test_bars_in_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with reporting(True) as progress:
        progress("images", 0, 10)
        progress("images", 10, 10, "best")
    assert "images" in capsys.readouterr().err


def test_a_notebook_without_widgets_gets_lines(monkeypatch):
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert module._in_notebook()
    with reporting(True) as progress:
        assert isinstance(progress, Lines)
