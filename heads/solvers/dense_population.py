"""Many dense nets trained at once: a population.

A member is a design on a fold. Members of a fold see the same batches, so that rows are read, scaled and laid out once
for many; each has its own first weights and its own dropout, from the seed alone: a member ends the same whoever is
beside it. Processes share them out, since threads would wait for the interpreter at each of a step's hundred small
operations.
"""

import pickle
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil, inf, log
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from featurestore.system.children import safely
from featurestore.system.machine import cores
from heads.feature_table import Floats
from heads.kinds.design import HeadDesign
from heads.metrics.estimates import estimates_of
from heads.metrics.outcomes import Outcomes, blocks
from heads.solvers.adamw import Net, Pool
from heads.solvers.calibration import fit_temperature
from heads.solvers.dense_net import Batches, Member, scores_of, threads_for, train_epoch
from heads.solvers.folds import Division, Judged, Report, scratch
from heads.solvers.scores import log_loss, softmax

_CACHED = 350_000
"""Weights that are trained beside each other: with their moments, what a core's share of L3 holds."""

_WORTH_PROCESSES = 10**11
"""Multiplications from which on processes are started, which takes as long as these: a second."""


class Rungs(NamedTuple):
    """Successive halving (Jamieson & Talwalkar, AISTATS 2016).

    Attributes:
        epochs: after so many epochs the designs are compared, ascending.
        keep: share of them that goes on, by :func:`expected`.
    """

    epochs: tuple[int, ...]
    keep: float = 1 / 3

    @property
    def marks(self) -> frozenset[int]:
        """Epochs whose scores a member keeps, to see at a rung whether it still improves."""
        return frozenset(epoch // 2 for epoch in self.epochs)


def expected(earlier: float, now: float, epoch: int, last: int) -> float:
    """How good a net will be soon: on the straight line through two values over the epoch's logarithm.

    The line goes on for as long as it is known, from half the epochs to as many again, at most to the last epoch.
    (Learning curves look like that for a while, see Domhan et al., "Speeding up automatic hyperparameter optimization
    of deep neural networks by extrapolation of learning curves", IJCAI 2015; followed to their end, such lines favour
    nets that learn slowly.)

    Args:
        earlier: how good it was after half the epochs, the greater, the better.
        now: how good it is; if it has not improved, this is what it counts with.
        epoch: how many there were.
        last: how many there will be.
    """
    if epoch < 2:
        return now
    return now + max(0.0, now - earlier) * min(1.0, log(last / epoch) / log(epoch / (epoch // 2)))


@dataclass(eq=False)
class _Bundle:
    """Members that are trained on the same batches, by one process at a time.

    Attributes:
        members: those that still train.
        batches: theirs.
        folder: of their nets between two rungs.
    """

    members: list[Member]
    batches: Batches
    folder: Path

    @property
    def cost(self) -> int:
        """How long an epoch takes, in relation to others."""
        return sum(member.cost for member in self.members)

    def train(self, until: float, deadline: float, workers: int, threads: int) -> list[Member]:
        """Train until so many epochs, or the time, are over; returns the members as they are then."""
        nets = self._nets()
        going = self.members
        with threads_for(going, threads) as pool:
            while going and going[0].epoch < until and time.monotonic() < deadline:
                self._epoch(going, [nets[member.index] for member in going], pool, deadline, workers)
                going = [member for member in going if not member.stopped]
        if until < inf:
            for member in going:
                self._state(member).write_bytes(pickle.dumps(nets[member.index], protocol=5))
        return self.members

    def _state(self, member: Member) -> Path:
        return self.folder / f"net-{member.fold}-{member.index}"

    def _nets(self) -> dict[int, Net]:
        nets: dict[int, Net] = {}
        for member in self.members:
            state = self._state(member)
            nets[member.index] = pickle.loads(state.read_bytes()) if state.exists() else Net(member.settings)
        return nets

    def _epoch(self, members: list[Member], nets: list[Net], pool: Pool, deadline: float, workers: int) -> None:
        start = time.perf_counter()
        found = train_epoch(members, nets, self.batches, pool, deadline=deadline)
        better = [net for net, scores in zip(nets, found, strict=True) if scores is not None]
        held = iter(scores_of(better, self.batches.held(), pool))
        share = (time.perf_counter() - start) / workers / sum(member.cost for member in members)
        for member, scores in zip(members, found, strict=True):
            member.keep(None if scores is None else next(held))
            member.seconds += share * member.cost


def judge_dense(
    designs: Sequence[HeadDesign],
    division: Division,
    *,
    seed: int,
    report: Report,
    metric: str = "accuracy",
    rungs: Rungs | None = None,
    deadline: float | None = None,
    max_memory: int | None = None,
) -> None:
    """Fit each design on each fold's training rows, and judge it on that fold's held-out rows.

    A member stops, and its best epoch is chosen, as :class:`heads.kinds.dense.DenseHead` does without validation rows:
    by the log loss on a tenth of the images of its training rows. Scores are those of the best epoch.

    At a rung, designs are compared by the metric on the rows held out, as :func:`expected`. As long
    as the best design of all is one that was cut, it is trained to its end: a design that stays cut is worse than one
    that was trained.

    Args:
        designs: of kind ``dense``.
        division: the rows.
        seed: of the first weights, the dropout, the batches, and the rows that tell when to stop.
        report: called for each design as soon as it is done on all folds; for those that stay cut at the end, with
            their scores so far. Scores are logits.
        metric: one of :data:`heads.search.trials.METRICS`, the mean over the folds; log loss after a temperature.
        rungs: cuts the worst designs early.
        deadline: by ``time.monotonic()``, stops all training. Designs that are under way on all folds are reported as
            they are; those that have not begun on some fold are not reported.
        max_memory: bytes; features that are larger as float32 are read in chunks, in the file's order, and rows are
            shuffled within their chunk and chunks among themselves.
    """
    late = inf if deadline is None else deadline
    trials = _Trials(designs, division, seed, rungs.marks if rungs else frozenset(), report)
    work = 3 * len(division.codes) * sum(member.cost * member.params["epochs"] for member in trials.members)
    workers = cores() if work > _WORTH_PROCESSES else 1
    steps = rungs.epochs if rungs else ()
    with _mapped(division, workers) as (rows, folder):

        def bundles(members: list[Member]) -> list[_Bundle]:
            return _bundles(members, rows, folder, workers, seed, max_memory)

        together = bundles(trials.members)
        for rung, until in enumerate((*steps, inf), 1):
            _train(together, until, late, workers, trials)
            if rungs and until < inf and time.monotonic() < late:
                order = sorted(trials.going(), key=lambda design: -_expected(design, int(until), division, metric))
                for design in order[ceil(rungs.keep * len(order)) :]:
                    trials.cut[design[0].index] = f"cut at rung {rung} of {len(steps)} (epoch {until})"
        while time.monotonic() < late and (best := trials.best(metric)) in trials.cut:
            del trials.cut[best]
            _train(bundles(trials.fits[best]), inf, late, workers, trials)
    trials.end()


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
    """The members of each design, and the one who hears of each design that is done.

    Attributes:
        fits: of each design, its members.
        cut: why no more is done for a design, by its index.
    """

    def __init__(
        self, designs: Sequence[HeadDesign], division: Division, seed: int, marks: frozenset[int], report: Report
    ) -> None:
        size = division.X.shape[1], division.classes
        self.fits = [
            [Member.of(design.params, *size, seed, index=i, fold=fold, marks=marks) for fold in range(division.folds)]
            for i, design in enumerate(designs)
        ]
        self.cut: dict[int, str] = {}
        self._division, self._report = division, report

    @property
    def members(self) -> list[Member]:
        """Those of all designs."""
        return [member for design in self.fits for member in design]

    def going(self) -> list[list[Member]]:
        """Members of the designs that are neither done nor cut."""
        return [
            design for i, design in enumerate(self.fits) if i not in self.cut and not all(fit.stopped for fit in design)
        ]

    def left(self, members: list[Member]) -> list[Member]:
        """Those of them that go on."""
        return [member for member in members if not member.stopped and member.index not in self.cut]

    def take(self, members: list[Member]) -> None:
        """Note how far they are, and report designs of which this was the last fold."""
        for member in members:
            self.fits[member.index][member.fold] = member
            if all(fit.stopped for fit in self.fits[member.index]):
                self._tell(member.index)

    def best(self, metric: str) -> int:
        """The index of the best design; of equally good ones, one that was trained to its end."""
        return max(range(len(self.fits)), key=lambda i: (self._goodness(i, metric), i not in self.cut))

    def _goodness(self, index: int, metric: str) -> float:
        return _goodness([fit.scores for fit in self.fits[index]], self._division, metric)

    def end(self) -> None:
        """Report what was cut, and what the time was not enough for."""
        for design in self.going():
            if all(fit.scores is not None for fit in design):
                self._tell(design[0].index, "budget")
        for index, why in self.cut.items():
            self._tell(index, why)

    def _tell(self, index: int, why: str = "") -> None:
        design, division = self.fits[index], self._division
        scores = _scores([fit.scores for fit in design], division)
        stopped = "; ".join(dict.fromkeys(fit.stopped or why for fit in design))
        losses = [fmean(epoch) for epoch in zip(*(fit.losses for fit in design), strict=False)]  # while all folds train
        self._report(index, Judged(scores, sum(fit.seconds for fit in design), stopped, losses, index in self.cut))


def _scores(parts: Sequence[Floats | None], division: Division) -> Floats:
    """Scores of all rows that are judged, from those of each fold."""
    scores = np.empty((len(division.judged), division.classes), np.float32)
    for fold, part in enumerate(parts):
        scores[division.places(fold)] = part
    return scores


def _expected(design: list[Member], epoch: int, division: Division, metric: str) -> float:
    """How good a design will be, by what it is at a rung."""
    # A member that stopped before half of the rung's epochs has not changed since.
    halfway = [fit.earlier.get(epoch // 2, fit.scores) for fit in design]
    now = _goodness([fit.scores for fit in design], division, metric)
    return expected(_goodness(halfway, division, metric), now, epoch, design[0].params["epochs"])


def _goodness(parts: Sequence[Floats | None], division: Division, metric: str) -> float:
    """A metric's mean over the folds, as a trial has it; the greater, the better."""
    scores, codes = _scores(parts, division), division.codes[division.judged]
    fold = division.fold[division.judged]
    if metric == "log_loss":
        scores = scores / fit_temperature(scores, codes)
        return -fmean(log_loss(scores[fold == f], codes[fold == f]) for f in range(division.folds))
    outcomes = Outcomes.joined([Outcomes.of(codes[part], softmax(scores[part])) for part in blocks(*scores.shape)])
    found = [estimates_of(outcomes.rows(fold == f)) for f in range(division.folds)]
    return fmean(each[metric].value if metric in each else -inf for each in found)


def _bundles(
    members: list[Member], division: Division, folder: Path, workers: int, seed: int, max_memory: int | None
) -> list[_Bundle]:
    """Members that can share batches; the most costly bundle first."""
    together: dict[Any, list[Member]] = {}
    for member in members:
        together.setdefault((member.fold, member.params["standardize"], member.params["batch_size"]), []).append(member)
    bundles: list[_Bundle] = []
    for (fold, standardize, _), same in together.items():
        batches = Batches(division, fold, standardize, seed, max_memory)
        # Few read each chunk, or else a core's cache holds the members and each core has several bundles.
        total = sum(member.cost for member in same)
        room = total / workers if batches.streamed else min(_CACHED, total / workers / 2)
        bundles += [_Bundle(some, batches, folder) for some in _packed(same, room)]
    return sorted(bundles, key=lambda bundle: -bundle.cost)


def _packed(members: list[Member], room: float) -> list[list[Member]]:
    """Members in packs of at most so much cost, or of one."""
    packs: list[list[Member]] = []
    left = 0.0
    for member in sorted(members, key=lambda member: member.cost, reverse=True):
        left -= member.cost
        if left < 0:
            packs.append([])
            left = room - member.cost
        packs[-1].append(member)
    return packs


def _train(bundles: list[_Bundle], until: float, deadline: float, workers: int, trials: _Trials) -> None:
    """Train all bundles that have members left, and let the trials take note of these."""
    from joblib import Parallel, delayed

    for bundle in bundles:
        bundle.members = trials.left(bundle.members)
    going = {place: bundle for place, bundle in enumerate(bundles) if bundle.members}
    threads = max(1, cores() // max(1, min(workers, len(going))))
    run = Parallel(n_jobs=workers, max_nbytes=None, return_as="generator_unordered")
    tasks = (delayed(_trained)(place, bundle, until, deadline, workers, threads) for place, bundle in going.items())
    with safely():
        for place, members in run(tasks):
            bundles[place].members = members
            trials.take(members)


def _trained(place: int, bundle: _Bundle, *how: Any) -> tuple[int, list[Member]]:
    return place, bundle.train(*how)
