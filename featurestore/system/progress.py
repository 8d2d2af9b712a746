"""How far a long run is: bars in a terminal or a notebook, and a line now and then where there is neither."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

Progress = Callable[..., None]
"""Called as ``progress(stage, done, total, note="")``: what is being done, how many of how many, and a remark."""

_FIRST, _LONGEST = 15.0, 600.0
"""Seconds until the first line, and the most between two: runs that are over soon print none."""


@contextmanager
def reporting(progress: bool | Progress | None) -> Iterator[Progress | None]:
    """Give what a run is to call as it goes on.

    Args:
        progress: True for bars or lines on standard error, whichever suits; False or None for nothing; or a function
            to call, see :data:`Progress`.

    Example:
        >>> with reporting(lambda stage, done, total, note="": print(stage, done, total)) as progress:
        ...     progress("images", 1, 2)
        images 1 2
    """
    if not progress:
        yield None
    elif progress is not True:
        yield progress
    elif sys.stderr.isatty() or (_in_notebook() and find_spec("ipywidgets")):
        with _bars() as update:
            yield update
    else:
        yield Lines()


def _in_notebook() -> bool:
    """Whether IPython runs this code in a notebook, for which rich draws by ipywidgets alone."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


@contextmanager
def _bars() -> Iterator[Progress]:
    """Draw a bar per stage, with rate and time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    rate = TextColumn("{task.fields[rate]}")
    columns = TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn()
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def update(stage: str, done: int, total: int, note: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, completed=done, rate="")
            speed = bars.tasks[tasks[stage]].speed
            bars.update(tasks[stage], completed=done, rate=note or (f"{speed:,.0f}/s" if speed else ""))

        yield update


class Lines:
    """Progress as lines of text, for a log file: what is done, the time left, and the run's remark.

    The first line comes after 15 seconds, and each pause is longer than the one before: the log of an hour has some
    twenty lines.

    Args:
        clock: gives seconds.

    Example:
        >>> lines = Lines(clock=iter([0, 20]).__next__)
        >>> lines("heads", 0, 40)
        >>> lines("heads", 10, 40, "best accuracy 0.912")  # prints on standard error, after 20 s
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage, self._started, self._first_done = "", 0.0, 0
        self._due, self._pause = 0.0, _FIRST

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Take in how far the run is, and print a line if one is due."""
        now = self._clock()
        if not self._due:
            self._due = now + self._pause
        if stage != self._stage:
            self._stage, self._started, self._first_done = stage, now, done
        if now < self._due:
            return
        self._pause = min(1.25 * self._pause, _LONGEST)
        self._due = now + self._pause
        fresh = done - self._first_done
        left = f"about {_time((total - done) * (now - self._started) / fresh)} left" if fresh > 0 else ""
        text = ", ".join(part for part in (f"{stage}: {done:,} of {total:,}", left, note) if part)
        with suppress(OSError, ValueError):  # a log that cannot be written stops no run
            print(text, file=sys.stderr, flush=True)


def _time(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
