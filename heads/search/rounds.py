"""The rounds of a sweep: designs that a search asks for are judged on each table, and each trial is kept at once."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from featurestore.errors import HeadError
from featurestore.system.progress import Progress
from heads.feature_table import Floats
from heads.kinds.design import HeadDesign
from heads.search.judges import judge_designs
from heads.search.judging import Judged, Judging, Limits, Report
from heads.search.plan import SweepPlan
from heads.search.results import SweepSettings
from heads.search.samplers import Search
from heads.search.skipped import Skipped
from heads.search.trials import Key, Trial, TrialLog, goodness, judge_trial, ranked
from heads.solvers.folds import Division

_SPARE = 2
"""Scores that are kept beside those of the heads that are taken: a design that was cut may lead for a while."""

_PAUSE = 1.0
"""Seconds between two calls of the progress while no design is done."""


class HeldScores:
    """Scores of the best designs on the held-out rows, so that nothing is fitted twice for them.

    Args:
        most: number of designs that are to be taken.
        metric: what makes them the best.
    """

    def __init__(self, most: int, metric: str) -> None:
        self._metric, self._most = metric, most + _SPARE
        self._best: dict[Key, tuple[Trial, Floats]] = {}

    def add(self, trial: Trial, scores: Floats) -> None:
        """Keep the scores of a design, if it is one of the best."""
        self._best[trial.key] = trial, scores
        if len(self._best) > self._most:
            del self._best[ranked((each for each, _ in self._best.values()), self._metric)[-1].key]

    def get(self, trial: Trial) -> Floats | None:
        """The scores (J, C) of a trial; None if they were not kept, as those of an earlier call of the sweep."""
        return self._best[trial.key][1] if trial.key in self._best else None


@dataclass(frozen=True)
class Found:
    """What the rounds of a sweep found.

    Attributes:
        trials: of the designs that were asked for, the best first.
        total: number of designs that were to be judged.
        skipped: a sentence for each reason for which designs could not be judged.
        held: scores of the best designs.
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
) -> Found:
    """Judge what a search asks for on each table, as far as the folder's trials lack it.

    Args:
        folder: of the sweep.
        settings: of the sweep.
        plans: the rows, by name of the table.
        search: gives the designs.
        limits: of the work.
        progress: is told how many designs are judged, and how good the best is.
        note: is told which designs are skipped, and why.

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
        rounds = _Rounds(log, search, settings, limits, skipped, held)
        board = _Board(progress, log, settings.metric, lambda: search.most * len(plans) - len(skipped))
        asked = {key for name, plan in plans.items() for key in rounds.run(name, plan, board)}
        trials = ranked((trial for trial in log.trials if trial.key in asked), settings.metric)
    return Found(trials, board.total(), skipped.notes, held)


def scores_of(
    trials: Sequence[Trial], held: HeldScores, plan: SweepPlan, folder: Path, settings: SweepSettings, limits: Limits
) -> list[Floats]:
    """The scores (J, C) of trials on one table; those that only an earlier call of the sweep had are computed again."""
    found: list[Floats] = []
    with ExitStack() as opened:
        division: Division | None = None
        for trial in trials:
            scores = held.get(trial)
            if scores is None:
                division = division or opened.enter_context(plan.division(limits.max_memory, folder))
                scores = _scores_again(trial, division, settings, limits)
            found.append(scores)
    return found


def _scores_again(trial: Trial, division: Division, settings: SweepSettings, limits: Limits) -> Floats:
    found: list[Judged | HeadError] = []

    def report(_: int, one: Judged | HeadError) -> None:
        found.append(one)

    judge_designs([trial.design], Judging(division, settings.seed, report, max_memory=limits.max_memory))
    if isinstance(found[0], HeadError):
        raise found[0]
    return found[0].scores


class _Board:
    """Tells the progress of a sweep: how many designs are judged, and how good the best one is."""

    def __init__(self, progress: Progress | None, log: TrialLog, metric: str, total: Callable[[], int]) -> None:
        self.total = total
        self._progress, self._log, self._metric = progress, log, metric
        self._last = 0.0

    def tell(self) -> None:
        """Say how far the sweep is."""
        self._last = time.monotonic()
        if self._progress:
            best = ranked(self._log.trials, self._metric)[:1]
            note = f"best {self._metric} {best[0].mean:.3f} ({best[0].design.kind})" if best and best[0].scores else ""
            self._progress("heads", len(self._log.trials), self.total(), note)

    def alive(self) -> None:
        """Say it again, if the last time was a while ago."""
        if time.monotonic() > self._last + _PAUSE:
            self.tell()


class _Rounds:
    """Judges what a search asks for.

    Args:
        log: takes each trial at once, and has those of earlier calls.
        search: gives the designs.
        settings: of the sweep.
        limits: of the work.
        skipped: knows the designs that cannot be judged.
        held: takes the scores of the best designs.
    """

    def __init__(
        self,
        log: TrialLog,
        search: Search,
        settings: SweepSettings,
        limits: Limits,
        skipped: Skipped,
        held: HeldScores,
    ) -> None:
        self._log, self._search, self._settings, self._limits = log, search, settings, limits
        self._skipped, self._held = skipped, held

    def run(self, name: str, plan: SweepPlan, board: _Board) -> set[Key]:
        """Judge on one table what is not known yet; gives the keys of all designs that were asked for."""
        known = {trial.design: trial for trial in self._log.trials if trial.features == name}
        passed: set[HeadDesign] = set()
        asked: set[HeadDesign] = set()

        def how_good(design: HeadDesign) -> float | None:
            if design in known:
                return goodness(known[design], self._settings.metric)
            return float("nan") if design in passed else None

        with ExitStack() as opened:
            division: Division | None = None
            for some in self._search.rounds(how_good):
                passed |= self._skipped.sift(name, some)
                designs = [design for design in some if design not in passed]
                asked.update(designs)
                if known.keys() >= set(designs):
                    continue
                division = division or opened.enter_context(
                    plan.division(self._limits.max_memory, self._log.path.parent)
                )
                board.tell()
                report = self._report(name, designs, division, known, board)
                judging = Judging(
                    division, self._settings.seed, report, self._settings.metric, *self._limits, board.alive
                )
                judge_designs(designs, judging, set(known))
        return {(name, design) for design in asked}

    def _report(
        self,
        name: str,
        designs: Sequence[HeadDesign],
        division: Division,
        known: dict[HeadDesign, Trial],
        board: _Board,
    ) -> Report:
        """What is to be called with the result of each design, which becomes a trial of the log."""

        def report(i: int, found: Judged | HeadError) -> None:
            trial = known.get(designs[i])
            if trial is None:
                trial = known[designs[i]] = judge_trial(name, designs[i], division, found, self._settings.metric)
                self._log.add(trial)
                board.tell()
            if isinstance(found, Judged):
                self._held.add(trial, found.scores)

        return report
