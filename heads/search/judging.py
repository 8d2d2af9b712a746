"""What a judge needs beside the designs: the rows, the limits of the work, and a function that takes the results.

A judge fits designs of one family on the training rows of each fold, and takes their scores of the rows held out. Each
stands in a module ``judge_FAMILY``; :mod:`heads.search.judges` lists them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from featurestore.errors import HeadError
from heads.feature_table import Floats
from heads.kinds.base import Head
from heads.solvers.arrays import Extent
from heads.solvers.folds import Division
from heads.tasks.registry import ONE_CLASS, Asked


class Judged(NamedTuple):
    """What a design gave on rows that it was not fitted on.

    Attributes:
        scores: float32 (J, C), of the rows ``Division.judged`` in their order: greatest for the predicted class. NaN in
            the folds that a design which was cut has not seen.
        seconds: the design's share of the time.
        stopped: why the fits ended, such as ``converged``.
        losses: log loss after each epoch on the rows that tell when to stop, of kinds that have epochs; the mean of
            all folds.
        cut: whether training was given up before its end, because others were better.
    """

    scores: Floats
    seconds: float
    stopped: str
    losses: Sequence[float] = ()
    cut: bool = False


class Left(NamedTuple):
    """A design that was left out, and why."""

    why: str = "not judged: the path was falling"


Report = Callable[[int, Judged | HeadError | Left], None]
"""Called once for each design, with its index, as soon as it is judged; with the error if it could not be fitted."""


class Limits(NamedTuple):
    """When a sweep stops, and how much memory it may use; see :class:`Judging`."""

    deadline: float = inf
    max_memory: int | None = None

    def share(self, works: int) -> "Limits":
        """Return the limits of the first of so many works that are to get the same time."""
        return self._replace(deadline=shared(self.deadline, works))


def shared(deadline: float, works: int) -> float:
    """Return the deadline of the first of so many works that are to get the same time until a deadline."""
    now = time.monotonic()
    return now + (deadline - now) / works


@dataclass(frozen=True)
class Judging:
    """What a judge needs beside the designs.

    Attributes:
        division: the rows, and the folds that they are held out in.
        seed: of the heads.
        report: takes what came of each design.
        metric: what designs are compared by, where that saves work: one of the task's metrics.
        asked: what is asked of the rows.
        deadline: value of ``time.monotonic()`` from which on nothing new is begun; what is not complete by then need
            not be reported.
        max_memory: bytes to work in beside the features; None: half of the machine's.
        alive: called now and then between two reports, so that people see that the work goes on.
        falling: takes the indices of designs that were reported, along a path of weaker and weaker penalties, and
            returns whether the last ones are so much worse than the best that the judge should report the rest of the
            path as :class:`Left`.
    """

    division: Division
    seed: int
    report: Report
    metric: str = "accuracy"
    deadline: float = inf
    max_memory: int | None = None
    alive: Callable[[], None] = lambda: None
    falling: Callable[[Sequence[int]], bool] = lambda path: False
    asked: Asked = ONE_CLASS

    @property
    def over(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline

    def share(self, works: int) -> float:
        """Return the deadline of the first of so many works that are to get the same time."""
        return shared(self.deadline, works)

    def check(self, heads: Sequence[Head]) -> None:
        """Check that heads can be judged on these rows, see :meth:`heads.kinds.base.Head.obstacle`.

        Raises:
            HeadError: one of them cannot.
        """
        division = self.division
        extent = Extent.of(division.fold, division.X.shape[1], division.classes)
        for head in heads:
            if reason := head.obstacle(extent, self.max_memory):
                raise HeadError(f"{type(head).__name__}: {reason}")
