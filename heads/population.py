"""Many dense nets trained at once: a population.

A member is a design on a fold. Members of a fold see the same batches, so that rows are read, scaled and laid out once
for many; each has its own first weights and its own dropout, from the seed, the design and the fold alone: a member
ends the same whoever is beside it. Processes share them out, since threads would wait for the interpreter at each of a
step's hundred small operations.
"""

import pickle
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, inf
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from heads.data import Floats, Labels, Rows
from heads.designs import HeadDesign
from heads.division import BLOCK, Division, Judged, Report, cores, scratch
from heads.nets import Net, Settings, Shape
from heads.scores import log_loss

_CACHED = 350_000
"""Weights that are trained beside each other: with their moments, what a core's share of L3 holds."""

_WORTH_PROCESSES = 10**11
"""Multiplications from which on processes are started, which takes as long as these: a second."""

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
    """Members that are trained on the same batches, by one process at a time.

    Attributes:
        members: those that still train.
        state: file of their nets between two rungs.
    """

    members: list[_Member]
    batches: _Batches
    state: Path

    @property
    def cost(self) -> int:
        """How long an epoch takes, in relation to others."""
        return sum(_cost(member) for member in self.members)

    def train(self, until: float, deadline: float, workers: int, threads: int) -> list[_Member]:
        """Train until so many epochs, or the time, are over; returns the members as they are then."""
        from threadpoolctl import threadpool_limits

        nets = self._nets()
        going = self.members
        # A net that diverges says so itself.
        with threadpool_limits(threads, user_api="blas"), np.errstate(all="ignore"):
            while going and going[0].epoch < until and time.monotonic() < deadline:
                self._epoch(going, [nets[member.index] for member in going], deadline, workers)
                going = [member for member in going if not member.stopped]
        if going and until < inf:
            self.state.write_bytes(pickle.dumps({member.index: nets[member.index] for member in going}, protocol=5))
        return self.members

    def _nets(self) -> dict[int, Net]:
        if self.state.exists():
            kept: dict[int, Net] = pickle.loads(self.state.read_bytes())
            return kept
        return {member.index: Net(member.settings) for member in self.members}

    def _epoch(self, members: list[_Member], nets: list[Net], deadline: float, workers: int) -> None:
        start = time.perf_counter()
        for x, codes in self.batches.epoch(members[0].epoch, members[0].params["batch_size"]):
            for net in nets:
                net.step(x, codes)
            if time.monotonic() >= deadline:
                break
        blocks = [[net.scores(x) for net in nets] for x in self.batches.held()]
        share = (time.perf_counter() - start) / workers / sum(map(_cost, members))
        for member, scores in zip(members, zip(*blocks, strict=True), strict=True):
            member.judge(np.concatenate(scores), self.batches.codes, share * _cost(member))


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
    """
    late = inf if deadline is None else deadline
    trials = _Trials(designs, division, seed, report)
    work = 3 * len(division.codes) * sum(_cost(member) * member.params["epochs"] for member in trials.members)
    workers = cores() if work > _WORTH_PROCESSES else 1
    steps = rungs.epochs if rungs else ()
    with _mapped(division, workers) as (rows, folder):
        bundles = _bundles(trials.members, rows, folder, workers, seed, max_memory)
        for rung, until in enumerate((*steps, inf), 1):
            for bundle, members in _train(bundles, until, late, workers):
                bundle.members = trials.take(members)
            if time.monotonic() >= late:
                for design in trials.going():
                    if all(fit.scores is not None for fit in design):
                        trials.end(design, "budget")
                return
            if rungs and until < inf:
                going = sorted(trials.going(), key=lambda design: float(np.mean([fit.best for fit in design])))
                for design in going[ceil(rungs.keep * len(going)) :]:
                    trials.end(design, f"cut at rung {rung} of {len(steps)} (epoch {until})")


@contextmanager
def _mapped(division: Division, workers: int) -> Iterator[tuple[Division, Path]]:
    """The rows in a file, which processes can map, if there are several; and a folder for their nets."""
    with tempfile.TemporaryDirectory() as folder:
        if workers > 1 and not isinstance(division.X, np.memmap):
            X = scratch(Path(folder) / "rows", division.X.dtype, division.X.shape)
            X[:] = division.X
            division = replace(division, X=X)
        yield division, Path(folder)


class _Trials:
    """The members of each design, and the one who hears of each design that is done."""

    def __init__(self, designs: Sequence[HeadDesign], division: Division, seed: int, report: Report) -> None:
        folds = range(division.folds)
        self._fits = [[_member(i, design, fold, division, seed) for fold in folds] for i, design in enumerate(designs)]
        self._division, self._report = division, report

    @property
    def members(self) -> list[_Member]:
        """Those of all designs."""
        return [member for design in self._fits for member in design]

    def going(self) -> list[list[_Member]]:
        """Members of the designs that are not done."""
        return [design for design in self._fits if not all(fit.stopped for fit in design)]

    def take(self, members: list[_Member]) -> list[_Member]:
        """Note how far they are, and report designs of which this was the last fold; returns those that go on."""
        for member in members:
            self._fits[member.index][member.fold] = member
            if member.stopped:
                self._note(member.index)
        return [member for member in members if not member.stopped]

    def end(self, design: list[_Member], why: str) -> None:
        """Stop what still trains."""
        for fit in design:
            fit.stopped = fit.stopped or why
        self._note(design[0].index)

    def _note(self, index: int) -> None:
        if all(fit.stopped for fit in self._fits[index]):
            self._report(index, _judged(self._fits[index], self._division))


def _member(index: int, design: HeadDesign, fold: int, division: Division, seed: int) -> _Member:
    params = design.params
    rng = np.random.Generator(np.random.SFC64([seed, zlib.crc32(design.to_json().encode()), fold]))
    shape = Shape((division.X.shape[1], *params["hidden"], division.classes), params["batch_norm"])
    rates = ("learning_rate", "weight_decay", "input_dropout", "dropout", "label_smoothing")
    return _Member(index, fold, dict(params), Settings(shape, **{name: params[name] for name in rates}, rng=rng))


def _bundles(
    members: list[_Member], division: Division, folder: Path, workers: int, seed: int, max_memory: int | None
) -> list[_Bundle]:
    """Members that can share batches; the most costly bundle first."""
    together: dict[Any, list[_Member]] = {}
    for member in members:
        together.setdefault((member.fold, member.params["standardize"], member.params["batch_size"]), []).append(member)
    bundles: list[_Bundle] = []
    for (fold, standardize, _), same in together.items():
        batches = _Batches(division, fold, standardize, seed, max_memory)
        # Few read each chunk, or else a core's cache holds the members and each core has several bundles.
        total = sum(map(_cost, same))
        room = total / workers if batches.streamed else min(_CACHED, total / workers / 2)
        bundles += [_Bundle(some, batches, folder / f"nets-{fold}-{some[0].index}") for some in _packed(same, room)]
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
    bundles: list[_Bundle], until: float, deadline: float, workers: int
) -> Iterator[tuple[_Bundle, list[_Member]]]:
    """Train all bundles; gives each as it is done, with its members."""
    from joblib import Parallel, delayed

    for bundle in bundles:
        bundle.members = [member for member in bundle.members if not member.stopped]
    going = {place: bundle for place, bundle in enumerate(bundles) if bundle.members}
    threads = max(1, cores() // max(1, min(workers, len(going))))
    run = Parallel(n_jobs=workers, max_nbytes=None, return_as="generator_unordered")
    tasks = (delayed(_trained)(place, bundle, until, deadline, workers, threads) for place, bundle in going.items())
    for place, members in run(tasks):
        yield bundles[place], members


def _trained(place: int, bundle: _Bundle, *how: Any) -> tuple[int, list[_Member]]:
    return place, bundle.train(*how)


def _judged(design: list[_Member], division: Division) -> Judged:
    """What a design gave on all folds."""
    scores = np.empty((len(division.judged), division.classes), np.float32)
    for fit in design:
        scores[division.places(fit.fold)] = fit.scores
    stopped = "; ".join(dict.fromkeys(fit.stopped for fit in design))
    losses = [fmean(epoch) for epoch in zip(*(fit.losses for fit in design), strict=False)]  # while all folds train
    return Judged(scores, sum(fit.seconds for fit in design), stopped, losses)
