"""Dense heads judged together: all nets of all folds are one population, whose worst designs are cut early."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import product
from math import ceil, inf, log
from statistics import fmean
from typing import NamedTuple

import numpy as np

from featurestore.system.machine import memory_limit
from heads.feature_table import Floats
from heads.kinds.design import HeadDesign
from heads.search.judging import Judged, Judging
from heads.solvers.dense_net import Member
from heads.solvers.dense_population import Bundle, Way, Workshop, workshop
from heads.solvers.folds import Division
from heads.tasks.registry import SMALLER_IS_BETTER

_FEW = 3
"""Designs up to which none is cut early."""

_SHARES = (27, 9, 3)
"""Designs are compared after the greatest number of epochs divided by these."""

_ENOUGH = 1000
"""At the rungs, designs are trained on as many folds as hold out so many rows: more would change few decisions."""


class Rungs(NamedTuple):
    """Successive halving (Jamieson & Talwalkar, AISTATS 2016).

    Attributes:
        epochs: numbers of epochs, ascending, after which the designs are compared.
        keep: share of the designs that is trained further: those that are the best by :func:`expected`.
        folds: number of folds that designs are trained on until the last rung; None for all.
    """

    epochs: tuple[int, ...]
    keep: float = 1 / 3
    folds: int | None = None

    @property
    def marks(self) -> frozenset[int]:
        """The epochs whose scores a member keeps, so that at a rung it is known whether it still improves."""
        return frozenset(epoch // 2 for epoch in self.epochs)


def expected(earlier: float, now: float, epoch: int, last: int) -> float:
    """Return how good a net will be soon, on a straight line through two values over the logarithm of the epoch.

    The line goes on for as long as it is known, from half the epochs to as many again, at most to the last epoch.
    (Learning curves look like that for a while, see Domhan et al., "Speeding up automatic hyperparameter optimization
    of deep neural networks by extrapolation of learning curves", IJCAI 2015; followed to their end, such lines favour
    nets that learn slowly.)

    Args:
        earlier: how good it was after half the epochs; greater is better.
        now: how good it is now; this is returned if it has not improved.
        epoch: number of epochs until now.
        last: number of epochs in the end.
    """
    if epoch < 2:
        return now
    return now + max(0.0, now - earlier) * min(1.0, log(last / epoch) / log(epoch / (epoch // 2)))


def judge_dense(designs: Sequence[HeadDesign], judging: Judging) -> None:
    """Fit dense heads on each fold and judge them on the rows held out; of many, the worst are cut early.

    See :func:`judge_population`, which takes the same arguments.
    """
    epochs, division = max(design.params["epochs"] for design in designs), judging.division
    folds = min(division.folds, ceil(_ENOUGH * division.folds / max(1, len(division.judged))))
    rungs = Rungs(tuple(sorted({ceil(epochs / share) for share in _SHARES})), folds=folds)
    judge_population(designs, judging, rungs if len(designs) > _FEW else None)


def judge_population(designs: Sequence[HeadDesign], judging: Judging, rungs: Rungs | None = None) -> None:
    """Fit each design on each fold's training rows, and judge it on that fold's held-out rows.

    A member stops, and its best epoch is chosen, as :class:`heads.kinds.dense.DenseHead` does without validation rows:
    by the log loss on a tenth of the images of its training rows. Scores are those of the best epoch.

    At a rung, designs are compared by the metric on the rows held out, as :func:`expected` foresees it. As long as a
    design that was cut is better on the folds that it has seen than the best that was trained, it is trained to its
    end: a design that stays cut is worse than one that was trained.

    Args:
        designs: of kinds whose hyperparameters are those of ``dense``.
        judging: the rows, and what else is needed. Each design is reported as soon as it is done on all folds; those
            that stay cut are reported at the end, with their scores so far, which are NaN in folds that they have not
            seen. Scores are logits. At the deadline all training stops: designs that are under way on all folds are
            reported as they are, and those that have not begun on some fold are not reported.
        rungs: when to cut the worst designs; None for never.
    """
    ways = product(range(judging.division.folds), {design.params["standardize"] for design in designs})
    rows = {way: judging.division.leading(*way, judging.max_memory) for way in ways}
    trials = _Population(designs, rows, judging, rungs)
    steps = rungs.epochs if rungs else ()
    X, limit = judging.division.X, judging.max_memory
    # Rows that are on disk are drawn one by one, as those in memory are, for as long as the page cache can hold them.
    large = 4 * X.shape[0] * X.shape[1] > memory_limit()
    with workshop(rows, trials.members, judging.seed, limit if large else None) as place:
        together = place.bundles(trials.members)
        for rung, until in enumerate((*steps, inf), 1):
            first = rungs.folds if rungs and until < inf else None
            trials.train(place, [each for each in together if first is None or each.batches.fold < first], until)
            if rungs and until < inf and not judging.over:
                of = "" if first in (None, judging.division.folds) else f", {first} of {judging.division.folds} folds"
                trials.cut_worst(rungs.keep, int(until), f"cut at rung {rung} of {len(steps)} (epoch {until}{of})")
        while not judging.over and (best := trials.best()) in trials.cut:
            del trials.cut[best]
            trials.train(place, place.bundles(trials.fits[best]), inf)
    trials.end()


class _Population:
    """The members of each design, and how far they are; reports each design that is done.

    Attributes:
        fits: of each design, its members, one for each fold.
        cut: why no more is done for a design, by its index.
    """

    def __init__(
        self, designs: Sequence[HeadDesign], rows: Mapping[Way, Division], judging: Judging, rungs: Rungs | None
    ) -> None:
        division, marks = judging.division, rungs.marks if rungs else frozenset()
        self.fits = [
            [
                Member.of(
                    design.params, rows[fold, design.params["standardize"]].X.shape[1], division.classes, judging.seed,
                    index=i, fold=fold, marks=marks, features=division.columns,
                )
                for fold in range(division.folds)
            ]
            for i, design in enumerate(designs)
        ]  # fmt: skip
        self.cut: dict[int, str] = {}
        self._judging, self._division = judging, division

    @property
    def members(self) -> list[Member]:
        """The members of all designs."""
        return [member for design in self.fits for member in design]

    def train(self, place: Workshop, bundles: Sequence[Bundle], until: float) -> None:
        """Train the members that are neither done nor cut, and report the designs of which this was the last fold."""
        for bundle in bundles:
            bundle.members = [each for each in bundle.members if not each.stopped and each.index not in self.cut]
        with closing(place.train(bundles, until, self._judging.deadline)) as done:
            for members in done:
                for member in members:
                    self.fits[member.index][member.fold] = member
                    if all(fit.stopped for fit in self.fits[member.index]):
                        self._tell(member.index)
                self._judging.alive()

    def cut_worst(self, keep: float, epoch: int, why: str) -> None:
        """Cut all but a share of the designs that are not done, by how good they are expected to become."""
        order = sorted(self._going(), key=lambda design: -_expected(design, epoch, self._judging))
        for design in order[ceil(keep * len(order)) :]:
            self.cut[design[0].index] = why

    def _going(self) -> list[list[Member]]:
        """The members of the designs that are neither done nor cut."""
        return [
            design for i, design in enumerate(self.fits) if i not in self.cut and not all(fit.stopped for fit in design)
        ]

    def best(self) -> int:
        """The index of the best design: one that was trained, unless one that was cut is better on its folds."""
        trained = max((i for i in range(len(self.fits)) if i not in self.cut), key=self._goodness)

        def ahead(index: int) -> float:
            seen = [fit.scores is not None for fit in self.fits[index]]
            return self._goodness(index) - self._goodness(trained, seen)

        leader = max(self.cut, key=ahead, default=trained)
        return leader if leader in self.cut and ahead(leader) > 0 else trained

    def _goodness(self, index: int, seen: Sequence[bool] | None = None) -> float:
        """Return how good a design is on the folds that it has seen, or on some of them."""
        fits = self.fits[index]
        parts = [fit.scores if on else None for fit, on in zip(fits, seen or [True] * len(fits), strict=True)]
        return _goodness(parts, self._judging)

    def end(self) -> None:
        """Report the designs that were cut, and those for which the time was not enough."""
        for design in self._going():
            if all(fit.scores is not None for fit in design):
                self._tell(design[0].index, "budget")
        for index, why in self.cut.items():
            self._tell(index, why)

    def _tell(self, index: int, why: str = "") -> None:
        design = self.fits[index]
        scores = _scores([fit.scores for fit in design], self._division)
        stopped = "; ".join(dict.fromkeys(fit.stopped or why for fit in design))
        # While all folds train that have begun.
        losses = [fmean(epoch) for epoch in zip(*(fit.losses for fit in design if fit.losses), strict=False)]
        seconds = sum(fit.seconds for fit in design)
        self._judging.report(index, Judged(scores, seconds, stopped, losses, index in self.cut))


def _scores(parts: Sequence[Floats | None], division: Division) -> Floats:
    """Return the scores of all rows that are judged, from those of each fold; NaN where a fold has none."""
    scores = np.full((len(division.judged), division.classes), np.nan, np.float32)
    for fold, part in enumerate(parts):
        if part is not None:
            scores[division.places(fold)] = part
    return scores


def _expected(design: list[Member], epoch: int, judging: Judging) -> float:
    """Return how good a design is expected to become, by how good it is at a rung."""
    # A member that stopped before half of the rung's epochs has not changed since.
    halfway = [fit.earlier.get(epoch // 2, fit.scores) for fit in design]
    now = _goodness([fit.scores for fit in design], judging)
    return expected(_goodness(halfway, judging), now, epoch, design[0].params["epochs"])


def _goodness(parts: Sequence[Floats | None], judging: Judging) -> float:
    """Return a metric's mean over the folds that have scores, as a trial has it; greater is better."""
    division, metric, (task, link) = judging.division, judging.metric, judging.asked
    scores, known = _scores(parts, division), np.array([part is not None for part in parts])
    seen = known[division.fold[division.judged]]
    rows = division.judged[seen]
    scores, codes, fold = scores[seen], division.codes[rows], division.fold[rows]
    if metric == "log_loss":  # of the other metrics none needs calibrated probabilities
        outcomes = task.held_outcomes(scores, codes, link, are_answers=False, metric=metric)
    else:
        outcomes = task.raw_outcomes(scores, codes, link, metric)
    found = [task.estimates(outcomes.rows(fold == f), metric=metric) for f in np.flatnonzero(known)]
    sign = -1 if metric in SMALLER_IS_BETTER else 1
    return fmean(sign * each[metric].value if metric in each else -inf for each in found)
