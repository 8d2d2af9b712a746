"""Many dense nets trained at once: a population.

A member is a design on a fold. Members of a fold see the same batches, so that rows are read, scaled and laid out once
for many; each has its own first weights and its own dropout, from the seed, the design and the fold alone: a member
ends the same whoever is beside it.
"""

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from math import ceil, inf
from pathlib import Path
from queue import SimpleQueue
from statistics import fmean
from threading import Event
from typing import Any, NamedTuple

import numpy as np

from heads.base import log_loss
from heads.data import Floats, Labels, Rows
from heads.designs import HeadDesign
from heads.division import BLOCK, Division, Judged, Report, cores
from heads.nets import KerasNets, Nets, NumpyNets, Settings, Shape

_CACHED = 350_000
"""Weights that are trained beside each other on a CPU: with their moments, what a core's share of L3 holds."""

_CHUNKS = 8
"""Part of the memory limit that is read at a time."""


class Rungs(NamedTuple):
    """Successive halving (Jamieson & Talwalkar, AISTATS 2016).

    Attributes:
        epochs: after so many epochs the designs are compared, ascending.
        keep: share of them that goes on, by the least log loss so far.
    """

    epochs: tuple[int, ...]
    keep: float = 1 / 3


@dataclass(eq=False)
class _Member:
    """A design on a fold, and how far it is.

    Attributes:
        index: of the design.
        best: least log loss on the held-out rows, of epoch `best_epoch` (from 1), which gave `scores`.
        stopped: why it ended; empty while it trains.
        losses: of each epoch.
    """

    index: int
    fold: int
    params: dict[str, Any]
    settings: Settings
    epoch: int = 0
    best: float = inf
    best_epoch: int = 0
    scores: Floats | None = None
    seconds: float = 0.0
    stopped: str = ""
    losses: list[float] = field(default_factory=list)

    def judge(self, scores: Floats, codes: Labels, seconds: float) -> None:
        """Take note of an epoch's scores of the held-out rows."""
        self.epoch += 1
        self.seconds += seconds
        with np.errstate(all="ignore"):  # a net that diverged has no finite scores
            loss = log_loss(scores, codes)
        self.losses.append(loss)
        finite = bool(np.isfinite(loss))
        if self.scores is None or loss < self.best:
            # Nothing but scores is asked of a member, so that they stand for the best epoch's weights.
            self.best, self.best_epoch = (loss if finite else inf), self.epoch
            self.scores = np.array(scores, np.float32) if finite else np.zeros_like(scores)
        if not finite:
            self.stopped = f"diverged in epoch {self.epoch}: give a smaller learning_rate"
        elif self.epoch - self.best_epoch >= self.params["patience"]:
            self.stopped = f"no better for {self.params['patience']} epochs (best: epoch {self.best_epoch})"
        elif self.epoch == self.params["epochs"]:
            self.stopped = f"{self.epoch} epochs (best: epoch {self.best_epoch})"


class _Batches:
    """Training rows of a fold in batches, and its held-out rows, scaled."""

    def __init__(self, division: Division, fold: int, standardize: bool, seed: int, max_memory: int | None) -> None:
        self._division, self._fold, self._seed = division, fold, seed
        self._scaling = division.scaling(fold, standardize)
        size = 4 * division.X.shape[1]
        self.streamed = max_memory is not None and size * len(division.X) > max_memory
        self._chunk = max(1, (max_memory or 0) // _CHUNKS // size)

    @cached_property
    def _versions(self) -> tuple[Labels, Labels, Labels]:
        """Training rows, those that show one image side by side; where each image begins; its number of versions."""
        rows = np.flatnonzero(self._division.fold != self._fold)
        rows = rows[np.argsort(self._division.image[rows], kind="stable")]
        _, first, count = np.unique(self._division.image[rows], return_index=True, return_counts=True)
        return rows, first, count

    def epoch(self, number: int, batch_size: int) -> Iterator[Rows]:
        """Scaled batches: one version of each image, drawn anew, in another order for each number."""
        rng = np.random.default_rng([self._seed, self._fold, number])
        rows, first, count = self._versions
        rows = rows[first + rng.integers(count)]
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

    def held(self) -> Iterator[Floats]:
        """Scaled held-out rows."""
        rows = self._division.held(self._fold)
        for start in range(0, len(rows), BLOCK):
            yield self._scaled(self._division.X[rows[start : start + BLOCK]])

    def _scaled(self, X: Any) -> Floats:
        return self._scaling.apply(np.asarray(X, np.float32))

    @property
    def codes(self) -> Labels:
        """Labels of the held-out rows."""
        return self._division.codes[self._division.held(self._fold)]


def _split(rows: Labels, batch_size: int) -> list[Labels]:
    """As few batches as Keras makes, but of like size: none is a few rows."""
    return np.array_split(rows, ceil(len(rows) / batch_size))


@dataclass(eq=False)
class _Bundle:
    """Members that are trained on the same batches, in one thread.

    Attributes:
        nets: those of `members`, which are those that still train.
    """

    members: list[_Member]
    batches: _Batches
    engine: type[Nets]
    nets: Nets | None = None

    @property
    def cost(self) -> int:
        """How long an epoch takes, in relation to others."""
        return sum(_cost(member) for member in self.members)

    def train(self, until: float, over: Callable[[], bool], workers: int) -> Iterator[_Member]:
        """Train until so many epochs are over, or until it is all `over`; gives each member that is done."""
        batch_size = self.members[0].params["batch_size"] if self.members else 1
        while self.members and self.members[0].epoch < until and not over():
            start = time.perf_counter()
            if self.nets is None:
                self.nets = self.engine([member.settings for member in self.members], batch_size)
            # A net that diverges says so itself.
            with np.errstate(all="ignore"):
                for x, codes in self.batches.epoch(self.members[0].epoch, batch_size):
                    self.nets.step(x, codes)
                    if over():
                        break
                blocks = [self.nets.scores(x) for x in self.batches.held()]
            share = (time.perf_counter() - start) / workers / self.cost
            for member, scores in zip(self.members, zip(*blocks, strict=True), strict=True):
                member.judge(np.concatenate(scores), self.batches.codes, share * _cost(member))
            yield from [member for member in self.members if member.stopped]
            self.drop()

    def drop(self) -> None:
        """Forget the nets of members that are done."""
        going = [place for place, member in enumerate(self.members) if not member.stopped]
        if len(going) < len(self.members):
            self.members = [self.members[place] for place in going]
            if self.nets is not None:
                self.nets.keep(going)
        if not going:
            self.nets = None


def _cost(member: _Member) -> int:
    return member.settings.shape.numbers + 10_000  # what a step costs beside arithmetic


def judge_dense(
    designs: Sequence[HeadDesign],
    division: Division,
    *,
    seed: int,
    report: Report,
    rungs: Rungs | None = None,
    deadline: float | None = None,
    max_memory: int | None = None,
    engine: type[Nets] | None = None,
) -> None:
    """Fit each design on each fold's training rows, and judge it on that fold's held-out rows.

    A member stops, and its best epoch is chosen, by the log loss on its held-out rows, as
    :class:`heads.dense.DenseHead` does with validation rows: scores are those of the best epoch.

    Args:
        designs: of kind ``dense``.
        division: the rows.
        seed: of the first weights, the dropout and the batches.
        report: called for each design as soon as it is done on all folds. Its scores are logits.
        rungs: cuts the worst designs early; those cut are reported, with their scores so far.
        deadline: by ``time.monotonic()``, stops all training. Designs that are under way on all folds are reported as
            they are; those that have not begun on some fold are not reported.
        max_memory: bytes; features that are larger as float32 are read in chunks, in the file's order, and rows are
            shuffled within their chunk and chunks among themselves.
        engine: Keras's nets on a machine with a GPU, else NumPy's.
    """
    engine = engine or (KerasNets if _gpu() else NumpyNets)
    workers = 1 if engine is KerasNets else cores()
    stop = Event()
    trials = _Trials(designs, division, seed, report)
    bundles = _bundles(trials.members, division, engine, workers, seed, max_memory)

    def over() -> bool:
        return stop.is_set() or (deadline is not None and time.monotonic() >= deadline)

    steps = rungs.epochs if rungs else ()
    for rung, until in enumerate((*steps, inf), 1):
        going = trials.going()
        _train(bundles, until, over, stop, workers, trials.note)
        if over():
            for design in going:
                if all(fit.scores is not None for fit in design):
                    trials.end(design, "budget")
            return
        if rungs and until < inf:
            going.sort(key=lambda design: float(np.mean([fit.best for fit in design])))
            for design in going[ceil(rungs.keep * len(going)) :]:
                trials.end(design, f"cut at rung {rung} of {len(steps)} (epoch {until})")
            for bundle in bundles:
                bundle.drop()


class _Trials:
    """The members of each design, and the one who hears of each design that is done."""

    def __init__(self, designs: Sequence[HeadDesign], division: Division, seed: int, report: Report) -> None:
        folds = range(division.folds)
        self._fits = [[_member(i, design, fold, division, seed) for fold in folds] for i, design in enumerate(designs)]
        self._division, self._report = division, report
        self._reported: set[int] = set()

    @property
    def members(self) -> list[_Member]:
        """Those of all designs."""
        return [member for design in self._fits for member in design]

    def going(self) -> list[list[_Member]]:
        """Members of the designs that are not done."""
        return [design for design in self._fits if not all(fit.stopped for fit in design)]

    def note(self, member: _Member) -> None:
        """Report its design if this was the last fold."""
        design = self._fits[member.index]
        # Another thread may have ended the last fold while an earlier one was on its way here.
        if member.index not in self._reported and all(fit.stopped for fit in design):
            self._reported.add(member.index)
            self._report(member.index, _judged(design, self._division))

    def end(self, design: list[_Member], why: str) -> None:
        """Stop what still trains."""
        for fit in design:
            fit.stopped = fit.stopped or why
        self.note(design[0])


def _member(index: int, design: HeadDesign, fold: int, division: Division, seed: int) -> _Member:
    params = design.params
    rng = np.random.Generator(np.random.SFC64([seed, zlib.crc32(design.to_json().encode()), fold]))
    shape = Shape((division.X.shape[1], *params["hidden"], division.classes), params["batch_norm"])
    rates = ("learning_rate", "weight_decay", "input_dropout", "dropout", "label_smoothing")
    return _Member(index, fold, dict(params), Settings(shape, **{name: params[name] for name in rates}, rng=rng))


def _bundles(
    members: list[_Member], division: Division, engine: type[Nets], workers: int, seed: int, max_memory: int | None
) -> list[_Bundle]:
    """Members that can share batches, and with Keras have one shape; the most costly bundle first."""
    together: dict[Any, list[_Member]] = {}
    for member in members:
        shape = member.settings.shape if engine is KerasNets else None
        key = (member.fold, member.params["standardize"], member.params["batch_size"], shape)
        together.setdefault(key, []).append(member)
    bundles = []
    for (fold, standardize, *_), same in together.items():
        batches = _Batches(division, fold, standardize, seed, max_memory)
        # Few read each chunk, or else a core's cache holds the members and each core has several bundles.
        total = sum(map(_cost, same))
        room = total / workers if batches.streamed else min(_CACHED, total / workers / 2)
        for some in [same] if engine is KerasNets else _packed(same, room):
            bundles.append(_Bundle(some, batches, engine))
    return sorted(bundles, key=lambda bundle: -bundle.cost)


def _packed(members: list[_Member], room: float) -> list[list[_Member]]:
    """Members in packs of at most so much cost, or of one."""
    packs: list[list[_Member]] = []
    left = 0.0
    for member in sorted(members, key=_cost, reverse=True):
        left -= _cost(member)
        if left < 0:
            packs.append([])
            left = room - _cost(member)
        packs[-1].append(member)
    return packs


def _train(
    bundles: list[_Bundle],
    until: float,
    over: Callable[[], bool],
    stop: Event,
    workers: int,
    done: Callable[[_Member], None],
) -> None:
    """Train all bundles; `done` is called in this thread."""
    from threadpoolctl import threadpool_limits

    found: SimpleQueue[_Member | None] = SimpleQueue()

    def work(bundle: _Bundle) -> None:
        try:
            for member in bundle.train(until, over, workers):
                found.put(member)
        finally:
            found.put(None)

    going = [bundle for bundle in bundles if bundle.members]
    threads = max(1, cores() // max(1, min(workers, len(going))))
    with threadpool_limits(threads, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        tasks = [pool.submit(work, bundle) for bundle in going]
        try:
            for _ in tasks:
                for member in iter(found.get, None):
                    done(member)
            for task in tasks:
                task.result()
        except BaseException:
            stop.set()  # lest the pool waits for the end of all training
            raise


def _judged(design: list[_Member], division: Division) -> Judged:
    """What a design gave on all folds."""
    scores = np.empty((len(division.judged), division.classes), np.float32)
    for fit in design:
        scores[division.places(fit.fold)] = fit.scores
    stopped = "; ".join(dict.fromkeys(fit.stopped for fit in design))
    losses = [fmean(epoch) for epoch in zip(*(fit.losses for fit in design), strict=False)]  # while all folds train
    return Judged(scores, sum(fit.seconds for fit in design), stopped, losses)


def _gpu() -> bool:
    """Whether there is one that Keras can use. To ask Keras itself would take the seconds of its import."""
    return Path("/dev/nvidia0").exists() and find_spec("keras") is not None
