"""The rounds of a sweep: the designs that a search asks for are judged, and each trial is written at once."""

import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path

import numpy as np

from featurestore.errors import HeadError
from featurestore.system.progress import Progress
from heads.feature_table import Floats
from heads.kinds.design import HeadDesign
from heads.search.halving import falls, promoted, shares
from heads.search.judge_by_fold import judge
from heads.search.judges import batches
from heads.search.judging import Judged, Judging, Left, Limits, Report
from heads.search.plan import SweepPlan
from heads.search.results import SweepSettings
from heads.search.samplers import Search
from heads.search.skipped import Skipped
from heads.search.trials import Key, Trial, TrialLog, contenders, goodness, judge_trial, ranked
from heads.solvers.folds import Division

_SPARE = 2
"""So many more scores are kept than heads are taken, since a design that is cut early may lead for a while."""

_PAUSE = 1.0
"""Seconds between two reports of the progress while no design is done."""


class HeldScores:
    """Keeps the scores of the best designs on the held-out rows, so that these need not be fitted twice.

    Args:
        most: number of designs that will be taken.
        metric: the metric by which they are the best.
    """

    def __init__(self, most: int, metric: str) -> None:
        self._metric, self._most = metric, most + _SPARE
        self._best: dict[Key, tuple[Trial, Floats]] = {}

    def add(self, trial: Trial, scores: Floats) -> None:
        """Keep the scores (J, C) of a design, if it is one of the best."""
        self._best[trial.key] = trial, scores
        if len(self._best) > self._most:
            del self._best[ranked((each for each, _ in self._best.values()), self._metric)[-1].key]

    def get(self, trial: Trial) -> Floats | None:
        """Return the scores (J, C) of a trial; None if they were not kept, or are of an earlier call of the sweep."""
        return self._best[trial.key][1] if trial.key in self._best else None


@dataclass(frozen=True)
class JudgedSpace:
    """What the rounds of a sweep found.

    Attributes:
        trials: for each design that the search asked for, its trial of the most rows; the best first.
        total: number of designs that should have been judged.
        skipped: a sentence for each reason why designs could not be judged.
        held: the scores of the best designs.
    """

    trials: list[Trial]
    total: int
    skipped: list[str]
    held: HeldScores


def judge_space(
    folder: Path,
    settings: SweepSettings,
    plans: Mapping[str, SweepPlan],
    search: Search,
    limits: Limits,
    progress: Progress | None,
    note: Callable[[str], None] | None,
) -> JudgedSpace:
    """Judge the designs that a search asks for on each table, except those that the folder holds trials of.

    Where there are many rows, the search goes over a part of them, and the best of all tables go on to more rows, see
    :mod:`heads.search.halving`.

    Args:
        folder: the folder of the sweep.
        settings: the settings of the sweep.
        plans: the rows of each table, by its name.
        search: asks for designs.
        limits: when to stop, and how much memory may be used.
        progress: is called with the number of designs that are judged, and how good the best of them is.
        note: is called with a sentence for each reason why designs are skipped.

    Raises:
        HeadError: the folder holds trials of another sweep.
        WriteError: the folder cannot be written.
    """
    held = HeldScores(settings.ensemble, settings.metric)
    with closing(TrialLog(folder, settings.of_trials())) as log:
        for left in folder.glob("rows-*"):  # by a sweep that was killed
            shutil.rmtree(left, ignore_errors=True)
        extents = {name: plan.extent for name, plan in plans.items()}
        skipped = Skipped(extents, search, log.trials, limits.max_memory, note)
        rounds = _Rounds(log, settings, skipped, held, _Board(progress, log, settings.metric))
        levels = _levels(plans, settings.exhaustive)

        def total() -> int:
            return search.most * len(plans) - len(skipped)

        asked: list[Key] = []
        for place, (name, plan) in enumerate(levels[0].items()):
            turn = limits.share(len(levels)).share(len(plans) - place)
            asked += rounds.search(name, plan, search, turn, total)
        _halve(rounds, levels, asked, limits)
        latest = log.latest()
        trials = ranked((latest[key] for key in asked if key in latest), settings.metric)
    return JudgedSpace(trials, total(), skipped.notes, held)


def _levels(plans: Mapping[str, SweepPlan], exhaustive: bool) -> list[dict[str, SweepPlan]]:
    """Return the rows of each table at each level; those of the last level are all, in all folds."""
    first = next(iter(plans.values()))
    steps = [1.0] if exhaustive else shares(first.rows, len(first.classes))
    levels = [{name: plan.part(share) for name, plan in plans.items()} for share in steps]
    if len(levels) > 1 and first.folds > 1:
        levels[-2] = {name: plan.one_fold() for name, plan in plans.items()}
    return levels


def _halve(rounds: "_Rounds", levels: Sequence[Mapping[str, SweepPlan]], asked: list[Key], limits: Limits) -> None:
    """Judge the best designs of each level on the next one; with a budget, at least one of them on all rows."""
    chosen = asked
    for number, level in enumerate(levels[1:], 1):
        found = rounds.promoted(levels, number, chosen)
        chosen = [
            key for key in chosen if key in found
        ] or chosen  # without time for a level, those of the level before
        turn = limits.share(len(levels) - number)
        for place, (name, plan) in enumerate(level.items()):
            designs = [design for table, design in chosen if table == name]
            rounds.judge(name, plan, designs, turn.share(len(level) - place), len(chosen))
    if len(levels) > 1:
        rounds.at_least_one(levels[-1], chosen, limits)


def scores_of(
    trials: Sequence[Trial], held: HeldScores, plan: SweepPlan, folder: Path, settings: SweepSettings, limits: Limits
) -> list[Floats]:
    """Return the scores (J, C) of trials of one table. A design that an earlier call has judged is fitted once more."""
    found: list[Floats] = []
    with ExitStack() as opened:
        division: Division | None = None
        for trial in trials:
            scores = held.get(trial)
            if scores is None:
                division = division or opened.enter_context(plan.division(limits.max_memory, folder))
                scores = _scores_again(trial, plan, division, settings, limits)
            found.append(scores)
    return found


def _scores_again(trial: Trial, plan: SweepPlan, division: Division, settings: SweepSettings, limits: Limits) -> Floats:
    found: list[Judged | HeadError | Left] = []

    def report(_: int, one: Judged | HeadError | Left) -> None:
        found.append(one)

    for family, batch in batches([trial.design]):
        how = Judging(
            division, settings.seed, report, metric=settings.metric, max_memory=limits.max_memory, asked=plan.asked
        )
        judge(family, batch, how)
    if isinstance(found[0], HeadError):
        raise found[0]
    assert isinstance(found[0], Judged)  # a path of one step does not fall
    return found[0].scores


class _Board:
    """Reports the progress of a sweep: how many designs are judged, and how good the best of them is."""

    def __init__(self, progress: Progress | None, log: TrialLog, metric: str) -> None:
        self._progress, self._log, self._metric = progress, log, metric
        self._last = 0.0
        self._stage, self._rows = "heads", 0
        self._total: Callable[[], int] = lambda: 0

    def begin(self, plan: SweepPlan, total: Callable[[], int]) -> None:
        """Begin a level: how many designs are judged on it is asked at each report."""
        part = f"heads on {plan.rows:,} rows" + (" of one fold" if plan.folds == 1 else "")
        self._stage = "heads" if plan.whole else part
        self._rows, self._total = 0 if plan.whole else plan.rows, total

    def tell(self) -> None:
        """Report the progress."""
        self._last = time.monotonic()
        if self._progress:
            trials = [*self._log.on(self._rows).values()]
            best = ranked(trials, self._metric)[:1]
            note = f"best {self._metric} {best[0].mean:.3f} ({best[0].design.kind})" if best and best[0].scores else ""
            self._progress(self._stage, len(trials), self._total(), note)

    def alive(self) -> None:
        """Report the progress again, if the last report was a while ago."""
        if time.monotonic() > self._last + _PAUSE:
            self.tell()


class _Rounds:
    """Judges designs on the rows of a table.

    Args:
        log: holds the trials of earlier calls, and writes each new one at once.
        settings: the settings of the sweep.
        skipped: finds the designs that cannot be judged.
        held: keeps the scores of the best designs.
        board: reports the progress.
    """

    def __init__(
        self, log: TrialLog, settings: SweepSettings, skipped: Skipped, held: HeldScores, board: _Board
    ) -> None:
        self._log, self._settings = log, settings
        self._skipped, self._held, self._board = skipped, held, board

    def search(self, name: str, plan: SweepPlan, search: Search, limits: Limits, total: Callable[[], int]) -> list[Key]:
        """Judge on a table the designs that have no trial yet; return the keys of all that the search asked for."""
        known = self._known(name, plan)
        passed: set[HeadDesign] = set()
        asked: dict[HeadDesign, None] = {}

        def how_good(design: HeadDesign) -> float | None:
            if design in known:
                return goodness(known[design], self._settings.metric)
            return float("nan") if design in passed else None

        self._board.begin(plan, total)
        with ExitStack() as opened:
            division: Division | None = None
            for some in search.rounds(how_good):
                passed |= self._skipped.sift(name, some)
                designs = [design for design in some if design not in passed]
                asked |= dict.fromkeys(designs)
                if not known.keys() >= set(designs):
                    division = division or self._divided(opened, plan, limits)
                    self._judge(name, plan, division, designs, known, limits)
        return [(name, design) for design in asked]

    def judge(self, name: str, plan: SweepPlan, designs: Sequence[HeadDesign], limits: Limits, total: int) -> None:
        """Judge some designs on the rows of a level; `total` is the number of designs of all tables."""
        known = self._known(name, plan)
        self._board.begin(plan, lambda: total)
        if not known.keys() >= set(designs):
            with ExitStack() as opened:
                self._judge(name, plan, self._divided(opened, plan, limits), designs, known, limits)

    def promoted(self, levels: Sequence[Mapping[str, SweepPlan]], number: int, keys: Collection[Key]) -> set[Key]:
        """Return those of some designs that go on to the level of a number."""
        before, now = ({}, *(self._log.on(_rows(level)) for level in levels[:number]))[-2:]
        trials = {key: trial for key, trial in now.items() if key in keys}
        last, more = levels[-1], len(levels) - number
        grows = any(plan.rows < last[name].rows for name, plan in levels[number - 1].items())
        return promoted(trials, before, self._settings.metric, more if grows else 0)

    def at_least_one(self, level: Mapping[str, SweepPlan], keys: Collection[Key], limits: Limits) -> None:
        """Judge the quickest of some designs on all rows if the budget was spent before one was, so that one wins."""
        latest = self._log.latest()
        if contenders(latest.values(), self._settings.metric):
            return
        found = [latest[key] for key in keys if key in latest and np.isfinite(latest[key].mean)]
        if found:
            name, design = min(found, key=lambda trial: (trial.seconds, trial.design.to_json())).key
            self.judge(name, level[name], [design], limits._replace(deadline=inf), 1)

    def _known(self, name: str, plan: SweepPlan) -> dict[HeadDesign, Trial]:
        """Return the trials of a table on the rows of a level, and those on all rows."""
        found = self._log.on(_rows({name: plan})) | self._log.on(0)
        return {design: trial for (table, design), trial in found.items() if table == name}

    def _divided(self, opened: ExitStack, plan: SweepPlan, limits: Limits) -> Division:
        self._board.tell()
        return opened.enter_context(plan.division(limits.max_memory, self._log.path.parent))

    def _judge(
        self,
        name: str,
        plan: SweepPlan,
        division: Division,
        designs: Sequence[HeadDesign],
        known: dict[HeadDesign, Trial],
        limits: Limits,
    ) -> None:
        """Judge designs family by family. With a budget they take turns: each gets an equal part of the time left."""
        again, judged = True, -1
        while len(known) > judged and (todo := list(batches(designs, known.keys(), again=again))):
            again, judged = False, len(known)
            for left, (family, batch) in zip(range(len(todo), 0, -1), todo, strict=True):
                if time.monotonic() >= limits.deadline:
                    return
                path = partial(self._falling, batch, known)
                judging = Judging(
                    division, self._settings.seed, self._report(name, plan, batch, division, known),
                    metric=self._settings.metric, asked=plan.asked, alive=self._board.alive, falling=path,
                    **limits.share(left)._asdict(),
                )  # fmt: skip
                judge(family, batch, judging)

    def _falling(self, designs: Sequence[HeadDesign], known: Mapping[HeadDesign, Trial], path: Sequence[int]) -> bool:
        return falls([known[designs[i]] for i in path], self._settings.metric)

    def _report(
        self,
        name: str,
        plan: SweepPlan,
        designs: Sequence[HeadDesign],
        division: Division,
        known: dict[HeadDesign, Trial],
    ) -> Report:
        """Return the function that a judge calls with the result of each design: it makes and writes the trial."""

        def report(i: int, found: Judged | HeadError | Left) -> None:
            trial = known.get(designs[i])
            if trial is None:
                metric, part = self._settings.metric, not plan.whole
                trial = known[designs[i]] = judge_trial(
                    name, designs[i], division, found, metric, part=part, asked=plan.asked
                )
                self._log.add(trial)
                self._board.tell()
            if isinstance(found, Judged) and not (found.cut or trial.part):
                self._held.add(trial, found.scores)

        return report


def _rows(level: Mapping[str, SweepPlan]) -> int:
    """Return by which number the log knows the trials of a level."""
    plan = next(iter(level.values()))
    return 0 if plan.whole else plan.rows
