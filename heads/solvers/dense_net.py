"""One dense net and the rows that it is trained on: its batches, its epochs, and when it stops.

The members of a population and a head that is fitted alone are trained by this code. First weights, dropout and batches
come from the seed alone, and nothing depends on how many threads there are, so that a design's net on a fold of a sweep
is the net of a head with the same seed that is fitted to that fold's training rows, bit for bit.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, inf
from typing import Any

import numpy as np

from heads.feature_table import Floats, LabelledRows, Labels
from heads.solvers.adamw import Net, Pool, Settings, Shape, thread_pool
from heads.solvers.calibration import held_most, held_out_tenth, thinned
from heads.solvers.folds import BLOCK, Division
from heads.solvers.scores import log_loss
from heads.solvers.versions import Versions

_CHUNKS = 8
"""Part of the memory limit that is read at a time."""


@dataclass(eq=False)
class Member:
    """A design on a fold, and how far it is.

    Attributes:
        index: of the design.
        params: its hyperparameters.
        best: least log loss on the rows that tell when to stop, of epoch `best_epoch` (from 1).
        scores: of the fold's held-out rows, after that epoch.
        earlier: what `scores` were after each epoch of `marks`.
        stopped: why it ended; empty while it trains.
        losses: of each epoch, on the rows that tell when to stop.
        learnt: of each epoch, on the training rows while they were learnt from, if a net keeps them.
    """

    index: int
    fold: int
    params: Mapping[str, Any]
    settings: Settings
    marks: frozenset[int] = frozenset()
    epoch: int = 0
    best: float = inf
    best_epoch: int = 0
    scores: Floats | None = None
    earlier: dict[int, Floats | None] = field(default_factory=dict)
    seconds: float = 0.0
    stopped: str = ""
    losses: list[float] = field(default_factory=list)
    learnt: list[float] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        params: Mapping[str, Any],
        columns: int,
        classes: int,
        seed: int,
        *,
        index: int = 0,
        fold: int = 0,
        marks: frozenset[int] = frozenset(),
    ) -> "Member":
        """One that has not begun."""
        shape = Shape((columns, *params["hidden"], classes), params["batch_norm"])
        rates = ("learning_rate", "weight_decay", "input_dropout", "dropout", "label_smoothing")
        rng = np.random.Generator(np.random.SFC64(seed))
        settings = Settings(shape, **{name: params[name] for name in rates}, rng=rng)
        return cls(index, fold, dict(params), settings, marks)

    @property
    def cost(self) -> int:
        """How long an epoch takes, in relation to others."""
        return self.settings.shape.numbers + 10_000  # what a step costs beside arithmetic

    def judge(self, loss: float) -> bool:
        """Take note of an epoch's log loss on the rows that tell when to stop; says whether it is the best so far.

        The first epoch is, whatever its loss, so that a net which diverged has scores too.
        """
        self.epoch += 1
        self.losses.append(loss)
        finite = bool(np.isfinite(loss))
        better = self.epoch == 1 or loss < self.best
        if better:
            self.best, self.best_epoch = (loss if finite else inf), self.epoch
        if not finite:
            self.stopped = f"diverged in epoch {self.epoch}: give a smaller learning_rate"
        elif self.epoch - self.best_epoch >= self.params["patience"]:
            self.stopped = f"no better for {self.params['patience']} epochs (best: epoch {self.best_epoch})"
        elif self.epoch == self.params["epochs"]:
            self.stopped = f"{self.epoch} epochs (best: epoch {self.best_epoch})"
        return better

    def keep(self, scores: Floats | None) -> None:
        """Take note of an epoch's scores of the fold's held-out rows; None where an earlier epoch is the best."""
        if scores is not None:
            # Of a net that diverged, no score is a number.
            self.scores = np.nan_to_num(scores, nan=0.0, posinf=0.0, neginf=0.0)
        if self.epoch in self.marks:
            self.earlier[self.epoch] = self.scores


class Batches:
    """Scaled rows of a fold: training rows in batches, rows that tell when to stop, and those held out.

    A tenth of the images of the training rows tells when to stop and is not learnt from, unless other rows are given
    for that. Where no image can be left out, because it is the last of its class, the training rows tell.

    Args:
        division: the rows.
        fold: which of its folds; ``division.folds`` for all rows.
        standardize: whether rows are scaled by the fold's training rows.
        seed: of the rows that tell when to stop, and of the batches.
        max_memory: bytes; rows that are larger as float32 are read in chunks.
        stopping: scaled rows that tell when to stop, and their labels.
    """

    def __init__(
        self,
        division: Division,
        fold: int,
        standardize: bool,
        seed: int,
        max_memory: int | None = None,
        stopping: LabelledRows | None = None,
    ) -> None:
        self._division, self._fold, self._seed, self._stopping = division, fold, seed, stopping
        self._scaling = division.scaling(fold, standardize)
        size = 4 * division.X.shape[1]
        self.streamed = max_memory is not None and size * len(division.X) > max_memory
        self._chunk = max(1, (max_memory or 0) // _CHUNKS // size)

    @cached_property
    def _parts(self) -> tuple[Labels, Labels]:
        """Rows to learn from, those that show one image side by side; plain rows that are not, to tell when to stop."""
        division = self._division
        rows = np.flatnonzero(division.fold != self._fold)
        rows = rows[np.argsort(division.image[rows], kind="stable")]
        if self._stopping is not None:
            return rows, rows[:0]
        images, first, place = np.unique(division.image[rows], return_index=True, return_inverse=True)
        groups = None if division.groups is None else division.groups[images]
        tenth = held_out_tenth(division.codes[rows[first]], self._seed, groups)
        held = (thinned(np.where(tenth, 0, -1), held_most(division.classes), self._seed, groups) == 0)[place]
        return rows[~held], rows[held & division.plain[rows]]

    @cached_property
    def _versions(self) -> Versions:
        """The versions of each image among the rows to learn from."""
        return Versions(self._division.image[self._parts[0]])

    def epoch(self, number: int, batch_size: int) -> Iterator[LabelledRows]:
        """Batches: one version of each image, drawn anew, in another order for each number."""
        rng = np.random.default_rng([self._seed, number])
        rows = self._parts[0][self._versions.draw(rng)]
        X, codes = self._division.X, self._division.codes
        if not self.streamed:
            for some in _split(rng.permutation(rows), batch_size):
                yield self._scaled(X[some]), codes[some]
            return
        rows = np.sort(rows)
        # Chunks of one length, each with rows for some batches, so that no batch is a few rows.
        length = max(self._chunk, 4 * batch_size * len(X) // len(rows))
        chunk = rows * ceil(len(X) / length) // len(X)
        for each in rng.permutation(np.unique(chunk)):
            within = rows[chunk == each]
            start = within[0]
            read = np.array(X[start : within[-1] + 1])  # in one go
            for some in _split(rng.permutation(within), batch_size):
                yield self._scaled(read[some - start]), codes[some]

    @property
    def unseen(self) -> bool:
        """Whether the rows that tell when to stop are not learnt from."""
        return self._stopping is not None or len(self._parts[1]) > 0

    @cached_property
    def _stops(self) -> Labels:
        rows, stops = self._parts
        return stops if len(stops) else rows[self._division.plain[rows]]

    @property
    def codes(self) -> Labels:
        """Labels of the rows that tell when to stop (S,)."""
        return self._division.codes[self._stops] if self._stopping is None else self._stopping[1]

    def stops(self) -> Iterator[Floats]:
        """The rows that tell when to stop, in blocks."""
        if self._stopping is None:
            yield from self._blocks(self._stops)
        else:
            for start in range(0, len(self.codes), BLOCK):
                yield self._stopping[0][start : start + BLOCK]

    def held(self) -> Iterator[Floats]:
        """The fold's held-out rows, in blocks."""
        yield from self._blocks(self._division.held(self._fold))

    def _blocks(self, rows: Labels) -> Iterator[Floats]:
        for start in range(0, len(rows), BLOCK):
            yield self._scaled(self._division.X[rows[start : start + BLOCK]])

    def _scaled(self, X: Any) -> Floats:
        return self._scaling.apply(np.asarray(X, np.float32))


def _split(rows: Labels, batch_size: int) -> list[Labels]:
    """As few batches as Keras makes, but of like size: none is a few rows."""
    return np.array_split(rows, ceil(len(rows) / batch_size))


@contextmanager
def threads_for(members: Sequence[Member], threads: int) -> Iterator[Pool]:
    """Threads for the training of some members, BLAS having none of its own meanwhile; numbers may become infinite."""
    from threadpoolctl import threadpool_limits

    largest = max((member.settings.shape.numbers for member in members), default=0)
    with threadpool_limits(1, user_api="blas"), np.errstate(all="ignore"):  # a net that diverges says so itself
        pool = thread_pool(threads, largest)
        with pool or nullcontext():
            yield pool


def train_epoch(
    members: Sequence[Member],
    nets: Sequence[Net],
    batches: Batches,
    pool: Pool = None,
    *,
    deadline: float = inf,
    history: bool = False,
) -> list[Floats | None]:
    """Train members on the same batches for an epoch, and let them take note of it.

    Args:
        members: of one fold, batch size and epoch.
        nets: theirs.
        batches: of that fold.
        pool: see :func:`threads_for`.
        deadline: by ``time.monotonic()``: the epoch is ended early, and counts.
        history: keep :attr:`Member.learnt`.

    Returns:
        For each member its scores (S, C) of the rows that tell when to stop, or None where an earlier epoch is better.
    """
    total, rows = np.zeros(len(nets)), 0
    for x, codes in batches.epoch(members[0].epoch, members[0].params["batch_size"]):
        for i, net in enumerate(nets):
            scores = net.step(x, codes, pool)
            if history:
                total[i] += log_loss(scores, codes) * len(codes)
        rows += len(codes)
        if time.monotonic() >= deadline:
            break
    found: list[Floats | None] = []
    for member, net_scores, loss in zip(members, scores_of(nets, batches.stops(), pool), total / rows, strict=True):
        if history:
            member.learnt.append(float(loss))
        found.append(net_scores if member.judge(log_loss(net_scores, batches.codes)) else None)
    return found


def scores_of(nets: Sequence[Net], blocks: Iterator[Floats], pool: Pool = None) -> list[Floats]:
    """Logits of some rows by each net, float32 (N, C); blocks are made once for all nets."""
    scores = [[net.scores(x, pool) for net in nets] for x in blocks] if nets else []
    return [np.concatenate(each) for each in zip(*scores, strict=True)]
