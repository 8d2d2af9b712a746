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
from heads.rows import BLOCK
from heads.solvers.adamw import Net, Pool, Settings, Shape, thread_pool
from heads.solvers.calibration import held_most, held_out_tenth, thinned
from heads.solvers.folds import Division
from heads.solvers.goals import mean_loss
from heads.solvers.versions import Versions

_CHUNKS = 8
"""One of so many parts of the memory limit is read at a time."""


@dataclass(eq=False)
class Member:
    """The training of a design on a fold, up to an epoch.

    The stopping rows are those whose log loss decides when the training stops.

    Attributes:
        index: the index of the design.
        params: its hyperparameters.
        best: the least log loss on the stopping rows, in epoch `best_epoch` (from 1).
        scores: the scores of the held-out rows of the fold after that epoch.
        earlier: the value of `scores` after each epoch of `marks`.
        stopped: why the training stopped; empty before that.
        losses: the log loss on the stopping rows after each epoch.
        learnt: the log loss on the training rows during each epoch, if it is recorded.
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
        features: int | None = None,
    ) -> "Member":
        """Make the training of a design that has not begun; its columns may be coordinates of so many features."""
        shape = Shape((columns, *params["hidden"], classes), params["batch_norm"])
        rates = ("learning_rate", "weight_decay", "input_dropout", "dropout", "label_smoothing")
        rng = np.random.Generator(np.random.SFC64(seed))
        settings = Settings(shape, **{name: params[name] for name in rates}, rng=rng, features=features)
        return cls(index, fold, dict(params), settings, marks)

    @property
    def cost(self) -> int:
        """The time of an epoch, in relation to that of others."""
        return self.settings.shape.numbers + 10_000  # the cost of a step beside the arithmetic

    def judge(self, loss: float) -> bool:
        """Record the log loss of an epoch on the stopping rows, and return whether it is the best so far.

        The first epoch always is, so that a net that diverged has scores too.
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
        """Record the scores of an epoch on the held-out rows of the fold; None if an earlier epoch is the best."""
        if scores is not None:
            # The scores of a net that diverged are NaN.
            self.scores = np.nan_to_num(scores, nan=0.0, posinf=0.0, neginf=0.0)
        if self.epoch in self.marks:
            self.earlier[self.epoch] = self.scores


class Batches:
    """The scaled rows of a fold: batches of training rows, stopping rows, and held-out rows.

    The log loss on the stopping rows decides when the training stops. They are a tenth of the images of the training
    rows, which is not trained on, unless others are given. If no image can be left out, because each is the last of its
    class, all training rows are stopping rows too.

    Args:
        division: the rows.
        fold: the number of the fold; ``division.folds`` for all rows.
        standardize: whether rows are standardised, by the training rows of the fold.
        seed: of the choice of the stopping rows, and of the batches.
        max_memory: bytes; rows that take more as float32 are read in chunks.
        stopping: other stopping rows, scaled, and their labels.
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
        self._division, self.fold, self._seed, self._stopping = division, fold, seed, stopping
        self._scaling = division.scaling(fold, standardize)
        size = 4 * division.columns
        self.streamed = max_memory is not None and size * len(division.X) > max_memory
        self._chunk = max(1, (max_memory or 0) // _CHUNKS // size)

    @cached_property
    def _parts(self) -> tuple[Labels, Labels]:
        """The rows to train on, those of one image side by side; and the plain rows that are left out of these."""
        division = self._division
        rows = np.flatnonzero(division.fold != self.fold)
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
        """The versions of each image among the rows to train on."""
        return Versions(self._division.image[self._parts[0]])

    def epoch(self, number: int, batch_size: int) -> Iterator[tuple[Floats, Labels]]:
        """Yield the batches of an epoch: one version of each image, drawn anew, in an order drawn by `number`."""
        rng = np.random.default_rng([self._seed, number])
        rows = self._parts[0][self._versions.draw(rng)]
        X, codes = self._division.X, self._division.codes
        if not self.streamed:
            for some in _split(rng.permutation(rows), batch_size):
                yield self._scaled(X[some]), codes[some]
            return
        rows = np.sort(rows)
        # Chunks have one length, and rows for several batches each, so that no batch is small.
        length = max(self._chunk, 4 * batch_size * len(X) // len(rows))
        chunk = rows * ceil(len(X) / length) // len(X)
        for each in rng.permutation(np.unique(chunk)):
            within = rows[chunk == each]
            start = within[0]
            read = np.array(X[start : within[-1] + 1])  # in one read
            for some in _split(rng.permutation(within), batch_size):
                yield self._scaled(read[some - start]), codes[some]

    @property
    def unseen(self) -> bool:
        """Whether the stopping rows are not trained on."""
        return self._stopping is not None or len(self._parts[1]) > 0

    @cached_property
    def _stops(self) -> Labels:
        rows, stops = self._parts
        return stops if len(stops) else rows[self._division.plain[rows]]

    @property
    def codes(self) -> Labels:
        """The labels of the stopping rows (S,)."""
        return self._division.codes[self._stops] if self._stopping is None else self._stopping[1]

    def stops(self) -> Iterator[Floats]:
        """Yield the stopping rows in blocks."""
        if self._stopping is None:
            yield from self._blocks(self._stops)
        else:
            for start in range(0, len(self.codes), BLOCK):
                yield self._stopping[0][start : start + BLOCK]

    def held(self) -> Iterator[Floats]:
        """Yield the held-out rows of the fold in blocks."""
        yield from self._blocks(self._division.held(self.fold))

    def _blocks(self, rows: Labels) -> Iterator[Floats]:
        for start in range(0, len(rows), BLOCK):
            yield self._scaled(self._division.X[rows[start : start + BLOCK]])

    def _scaled(self, X: Any) -> Floats:
        return self._scaling.apply(np.asarray(X, np.float32))


def _split(rows: Labels, batch_size: int) -> list[Labels]:
    """Divide rows into as many batches as Keras does, but of equal sizes, so that none is small."""
    return np.array_split(rows, ceil(len(rows) / batch_size))


@contextmanager
def threads_for(members: Sequence[Member], threads: int) -> Iterator[Pool]:
    """Make threads for the training of some members. Meanwhile BLAS has one, and numbers may become infinite."""
    from threadpoolctl import threadpool_limits

    largest = max((member.settings.shape.numbers for member in members), default=0)
    with threadpool_limits(1, user_api="blas"), np.errstate(all="ignore"):  # Member.judge reports a net that diverged
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
    """Train members on the same batches for an epoch, and record it in them.

    Args:
        members: members of one fold, with one batch size, after the same number of epochs.
        nets: their nets.
        batches: the rows of that fold.
        pool: see :func:`threads_for`.
        deadline: the ``time.monotonic()`` at which the epoch ends early, and still counts.
        history: whether to record :attr:`Member.learnt`.

    Returns:
        For each member its scores (S, C) of the stopping rows, or None if an earlier epoch is better.
    """
    total, rows = np.zeros(len(nets)), 0
    for x, codes in batches.epoch(members[0].epoch, members[0].params["batch_size"]):
        for i, net in enumerate(nets):
            scores = net.step(x, codes, pool)
            if history:
                total[i] += mean_loss(scores, codes) * len(codes)
        rows += len(codes)
        if time.monotonic() >= deadline:
            break
    found: list[Floats | None] = []
    for member, net_scores, loss in zip(members, scores_of(nets, batches.stops(), pool), total / rows, strict=True):
        if history:
            member.learnt.append(float(loss))
        found.append(net_scores if member.judge(mean_loss(net_scores, batches.codes)) else None)
    return found


def scores_of(nets: Sequence[Net], blocks: Iterator[Floats], pool: Pool = None) -> list[Floats]:
    """Return the logits of some rows by each net, float32 (N, C); each block is read once for all nets."""
    scores = [[net.scores(x, pool) for net in nets] for x in blocks] if nets else []
    return [np.concatenate(each) for each in zip(*scores, strict=True)]
