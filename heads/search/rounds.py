"""The rounds of a sweep: the designs that a search asks for are judged, and each trial is written at once."""

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
from heads.search.judges import batches
from heads.search.judging import Judged, Judging, Limits, Report
from heads.search.plan import SweepPlan
from heads.search.results import SweepSettings
from heads.search.samplers import Search
from heads.search.skipped import Skipped
from heads.search.trials import Key, Trial, TrialLog, goodness, judge_trial, ranked
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
        trials: the trials of the designs that the search asked for, the best first.
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
        board = _Board(progress, log, settings.metric, lambda: search.most * len(plans) - len(skipped))
        rounds = _Rounds(log, search, settings, limits, skipped, held, board)
        asked: set[Key] = set()
        for name, plan in plans.items():
            asked |= rounds.run(name, plan)
        trials = ranked((trial for trial in log.trials if trial.key in asked), settings.metric)
    return JudgedSpace(trials, board.total(), skipped.notes, held)


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
                scores = _scores_again(trial, division, settings, limits)
            found.append(scores)
    return found


def _scores_again(trial: Trial, division: Division, settings: SweepSettings, limits: Limits) -> Floats:
    found: list[Judged | HeadError] = []

    def report(_: int, one: Judged | HeadError) -> None:
        found.append(one)

    for judge, batch in batches([trial.design]):
        judge(batch, Judging(division, settings.seed, report, max_memory=limits.max_memory))
    if isinstance(found[0], HeadError):
        raise found[0]
    return found[0].scores


class _Board:
    """Reports the progress of a sweep: how many designs are judged, and how good the best of them is."""

    def __init__(self, progress: Progress | None, log: TrialLog, metric: str, total: Callable[[], int]) -> None:
        self.total = total
        self._progress, self._log, self._metric = progress, log, metric
        self._last = 0.0

    def tell(self) -> None:
        """Report the progress."""
        self._last = time.monotonic()
        if self._progress:
            best = ranked(self._log.trials, self._metric)[:1]
            note = f"best {self._metric} {best[0].mean:.3f} ({best[0].design.kind})" if best and best[0].scores else ""
            self._progress("heads", len(self._log.trials), self.total(), note)

    def alive(self) -> None:
        """Report the progress again, if the last report was a while ago."""
        if time.monotonic() > self._last + _PAUSE:
            self.tell()


class _Rounds:
    """Judges the designs that a search asks for.

    Args:
        log: holds the trials of earlier calls, and writes each new one at once.
        search: asks for designs.
        settings: the settings of the sweep.
        limits: when to stop, and how much memory may be used.
        skipped: finds the designs that cannot be judged.
        held: keeps the scores of the best designs.
        board: reports the progress.
    """

    def __init__(
        self,
        log: TrialLog,
        search: Search,
        settings: SweepSettings,
        limits: Limits,
        skipped: Skipped,
        held: HeldScores,
        board: _Board,
    ) -> None:
        self._log, self._search, self._settings, self._limits = log, search, settings, limits
        self._skipped, self._held, self._board = skipped, held, board

    def run(self, name: str, plan: SweepPlan) -> set[Key]:
        """Judge on one table the designs that have no trial yet; return the keys of all that the search asked for."""
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
                folder, (deadline, max_memory) = self._log.path.parent, self._limits
                division = division or opened.enter_context(plan.division(max_memory, folder))
                self._board.tell()
                for judge, batch in batches(designs, set(known)):
                    judging = Judging(
                        division, self._settings.seed, self._report(name, batch, division, known),
                        metric=self._settings.metric, deadline=deadline, max_memory=max_memory, alive=self._board.alive,
                    )  # fmt: skip
                    if not judging.over:
                        judge(batch, judging)
        return {(name, design) for design in asked}

    def _report(
        self,
        name: str,
        designs: Sequence[HeadDesign],
        division: Division,
        known: dict[HeadDesign, Trial],
    ) -> Report:
        """Return the function that a judge calls with the result of each design: it makes and writes the trial."""

        def report(i: int, found: Judged | HeadError) -> None:
            trial = known.get(designs[i])
            if trial is None:
                trial = known[designs[i]] = judge_trial(name, designs[i], division, found, self._settings.metric)
                self._log.add(trial)
                self._board.tell()
            if isinstance(found, Judged) and not found.cut:
                self._held.add(trial, found.scores)

        return report
