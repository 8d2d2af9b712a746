"""The trials of a sweep: how good each design is, written to disk as soon as it is known, and which one wins."""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.errors import DesignError, HeadError, suggest
from featurestore.system.documents import LIMIT, parse
from featurestore.system.files import check_regular, locked, why, write_error
from heads.documents import LogDocument, TrialDocument
from heads.kinds.design import HeadDesign, head_class
from heads.search.judging import Judged, Left
from heads.solvers.arrays import Extent
from heads.solvers.calibration import stratified_folds
from heads.solvers.folds import Division
from heads.tasks.registry import METRICS, ONE_CLASS, SMALLER_IS_BETTER, Asked, Task

FILE = "trials.jsonl"

Key = tuple[str, HeadDesign]
"""Identifies a trial of a sweep: the name of its table of features, and its design."""

_PARTS = 10
"""Number of parts of a single fold on which two designs are compared; twice as many where only some rows are seen."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How good one design is on one table of features.

    Attributes:
        features: name of the table, such as a tap.
        design: kind of head and its hyperparameters.
        scores: metric -> its value on each fold's held-out rows, without the folds that a design which was cut has not
            seen; empty for a design that could not be fitted.
        mean: mean of the sweep's metric over the folds.
        error: standard error of that mean; with one fold, that of the metric over its rows.
        seconds: the design's share of the time of the sweep.
        size: greatest number of numbers that the head consists of.
        stopped: why the fits ended.
        losses: log loss after each epoch on the rows that decide when to stop, of kinds that have epochs.
        parts: the sweep's metric on parts of the held-out rows that are the same for all designs: the folds, or tenths
            of the only one; twentieths if the design has seen a part of the rows.
        cut: whether training ended early because other designs were better; such a design cannot win.
        rows: number of images that the design was fitted to or judged on; 0 if an earlier version judged it.
        part: whether these are only a part of the images, see :mod:`heads.search.halving`; such a design cannot win.
    """

    features: str
    design: HeadDesign
    scores: dict[str, list[float]]
    mean: float
    error: float
    seconds: float
    size: int
    stopped: str
    losses: list[float] = field(default_factory=list)
    parts: list[float] = field(default_factory=list)
    cut: bool = False
    rows: int = 0
    part: bool = False

    @property
    def key(self) -> Key:
        """The key that identifies the design and its features; there is a trial for each number of rows at most."""
        return self.features, self.design

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; NaN and infinity become None."""
        values = asdict(self) | {"design": plain_design(self.design)}
        values["scores"] = {metric: [_or_none(each) for each in some] for metric, some in self.scores.items()}
        for name in ("losses", "parts"):
            values[name] = [_or_none(each) for each in values[name]]
        return values | {"mean": _or_none(self.mean), "error": _or_none(self.error)}

    @classmethod
    def from_dict(cls, values: TrialDocument) -> "Trial":
        """Return the trial that :meth:`to_dict` made these values of.

        Raises:
            DesignError: no such design.
        """
        return cls(
            values["features"],
            HeadDesign(values["design"]["kind"], values["design"]["params"]),
            {metric: _numbers(some) for metric, some in values["scores"].items()},
            _or_nan(values["mean"]),
            _or_nan(values["error"]),
            values["seconds"],
            values["size"],
            values["stopped"],
            _numbers(values.get("losses", [])),
            _numbers(values.get("parts", [])),
            values.get("cut", False),
            values.get("rows", 0),
            values.get("part", False),
        )


def plain_design(design: HeadDesign) -> dict[str, Any]:
    """Return a design as plain JSON types."""
    params = {name: list(value) if isinstance(value, tuple) else value for name, value in design.params.items()}
    return {"kind": design.kind, "params": params}


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None  # JSON has no NaN


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [_or_nan(value) for value in values]


def judge_trial(
    features: str,
    design: HeadDesign,
    division: Division,
    judged: Judged | HeadError | Left,
    metric: str,
    *,
    part: bool = False,
    asked: Asked = ONE_CLASS,
) -> Trial:
    """Return the trial of a design, from its scores on held-out rows, or from why there are none.

    Args:
        features: name of the table.
        design: the design.
        asked: the task, and whether the division holds all rows.
        division: the rows.
        judged: the scores; or the error with which the design could not be fitted, or why it was left out.
        metric: the sweep's.
        part: whether the division holds a part of the rows.
        asked: what is asked of the rows.
    """
    task = asked.task
    rows = int(division.plain.sum())
    if not isinstance(judged, Judged):  # the others can still win; the table says why this one cannot
        why = judged.why if isinstance(judged, Left) else f"error: {judged}"
        return Trial(features, design, {}, float("nan"), float("nan"), 0.0, 0, why, rows=rows, part=part)
    seen = ~np.isnan(judged.scores[:, 0])
    held = division.judged[seen]
    codes, fold = division.codes[held], division.fold[held]
    groups = None if division.groups is None else division.groups[division.image[held]]
    are_answers = head_class(design.kind).scores_are_probabilities
    outcomes = task.held_outcomes(judged.scores[seen], codes, asked.link, are_answers, metric)

    def metrics(rows: Any) -> dict[str, float]:
        return {name: each.value for name, each in task.estimates(outcomes.rows(rows), metric=metric).items()}

    each = [metrics(fold == f) for f in np.unique(fold)]
    kept = [m for m in task.metrics if any(m in one for one in each)]
    scores = {m: [one.get(m, float("nan")) for one in each] for m in dict.fromkeys([*kept, metric])}
    values, parts = np.array(scores[metric]), scores[metric]
    if len(values) == 1:
        whole = task.estimates(outcomes, groups, metric)
        error = whole[metric].error if metric in whole else float("nan")
    else:
        error = values.std(ddof=1) / np.sqrt(len(values))
    if len(values) == 1 or part:
        number = stratified_folds(codes, 2 * _PARTS if part else _PARTS, 0, groups)
        parts = [metrics(number == i).get(metric, float("nan")) for i in range(number.max() + 1)]
    return Trial(
        features, design, scores, float(values.mean()), float(error), round(judged.seconds, 4), size(design, division),
        judged.stopped, [round(loss, 4) for loss in judged.losses], parts, judged.cut, rows, part,
    )  # fmt: skip


def size(design: HeadDesign, division: Division) -> int:
    """Return the greatest number of numbers that a head of this design consists of."""
    return design.build().size(Extent.of(division.fold, division.X.shape[1], division.classes))


def select(trials: Iterable[Trial], metric: str, *, smallest: bool = False) -> Trial:
    """Return the best trial by the metric's mean; see :func:`ranked` for equally good ones.

    Args:
        trials: those that were cut early, or have seen a part of the rows, are left out.
        metric: one of :data:`METRICS`.
        smallest: take the smallest head within one standard error of the best instead, that of the difference between
            both on the same rows; of equally small ones, the best. (Breiman et al., "Classification and regression
            trees", 1984, section 3.4.3.)

    Raises:
        HeadError: no design could be fitted.
    """
    usable = contenders(trials, metric)
    if not usable:
        raise HeadError("no head of the sweep could be fitted: see why in its table, or give a larger --budget")
    best = usable[0]
    if not smallest:
        return best
    return min((trial for trial in usable if _as_good(trial, best, metric)), key=lambda trial: trial.size)


def contenders(trials: Iterable[Trial], metric: str) -> list[Trial]:
    """Return the trials that can win, the best first."""
    return [trial for trial in ranked(trials, metric) if np.isfinite(trial.mean) and not trial.cut and not trial.part]


def _as_good(trial: Trial, best: Trial, metric: str) -> bool:
    """Return whether a trial is within one standard error of the best."""
    lost = goodness(best, metric) - goodness(trial, metric)
    if len(trial.parts) != len(best.parts) or len(best.parts) < 2:  # of an earlier version, or hardly any rows
        return lost <= best.error
    paired = np.subtract(best.parts, trial.parts)
    paired = paired[np.isfinite(paired)]
    return bool(len(paired) > 1 and lost <= paired.std(ddof=1) / np.sqrt(len(paired))) or lost == 0


def ranked(trials: Iterable[Trial], metric: str) -> list[Trial]:
    """Return trials in order, the best first; designs that could not be fitted come last.

    Those of fewer rows come after those of more, since their figures cannot be compared.

    Of equally good ones, that of the least log loss comes first, then the smallest. The order does not depend on the
    order in which the designs were judged.
    """

    def order(trial: Trial) -> tuple[bool, float, float, float, int, str, str]:
        usable = bool(np.isfinite(trial.mean))
        value = -goodness(trial, metric) if usable else 0.0
        loss = float(np.mean(trial.scores.get("log_loss", np.inf)))
        return (
            not usable,
            -trial.rows if trial.part else -np.inf,
            value,
            loss if np.isfinite(loss) else np.inf,
            trial.size,
            trial.features,
            trial.design.to_json(),
        )

    return sorted(trials, key=order)


def goodness(trial: Trial, metric: str) -> float:
    """Return the metric's mean, negative for losses, so that greater is better; NaN if the design was not fitted."""
    return -trial.mean if metric in SMALLER_IS_BETTER else trial.mean


class TrialLog:
    """The file of a sweep's trials: a line that says which sweep it is, then one line for each trial.

    Args:
        folder: of the sweep; made if it is not there.
        settings: all that the trials depend on: plain JSON types.

    Raises:
        HeadError: the folder holds trials of another sweep.
        WriteError: the folder cannot be written.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.path = folder / FILE
        try:
            if os.path.lexists(self.path):
                check_regular(self.path, LIMIT)
        except OSError as error:
            raise self._unreadable(why(error)) from error
        self.trials: list[Trial] = []
        self._opened = ExitStack()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._opened.enter_context(locked(self.path.with_name(f".{FILE}.lock")))
            # Without a buffer, which would be written once more on closing, and fail once more on a full disk.
            self._file = self._opened.enter_context(self.path.open("a+b", buffering=0))
        except BlockingIOError as error:
            raise HeadError(f"{folder}: another sweep works there: wait for it, or choose another --out") from error
        except OSError as error:
            self.close()
            raise write_error(self.path, error) from error
        try:
            self._begin(settings)
        except BaseException:
            self.close()
            raise

    def _begin(self, settings: dict[str, Any]) -> None:
        self._file.seek(0)
        whole = self._file.read().split(b"\n")[:-1]  # after the last line break stands what a killed sweep left
        if whole:
            self._read(whole, settings)
        self._file.truncate(sum(len(line) + 1 for line in whole))
        if not whole:
            self._write({"sweep": settings})

    def _read(self, lines: Sequence[bytes], settings: dict[str, Any]) -> None:
        try:
            before = parse(lines[0], LogDocument)["sweep"]
            self.trials = [Trial.from_dict(parse(line, TrialDocument)) for line in lines[1:]]
        except (ValueError, DesignError) as error:
            raise self._unreadable(str(error)) from error
        differing = [name for name in settings if before.get(name) != settings[name]]
        if differing:
            raise HeadError(
                f"{self.path}: trials of another sweep, which differs in {', '.join(differing)}: "
                "delete the folder, or choose another --out"
            )

    def _unreadable(self, reason: str) -> HeadError:
        return HeadError(f"{self.path}: no list of trials ({reason}): delete it, or choose another --out")

    def on(self, rows: int) -> dict[Key, Trial]:
        """Return the trials on a part of so many rows, or for 0 those on all rows."""
        return {trial.key: trial for trial in self.trials if (trial.rows if trial.part else 0) == rows}

    def latest(self) -> dict[Key, Trial]:
        """Return the trial of each design on the most rows."""
        return {trial.key: trial for trial in sorted(self.trials, key=lambda trial: (not trial.part, trial.rows))}

    def add(self, trial: Trial) -> None:
        """Keep a trial, safe on disk.

        Raises:
            WriteError: it cannot be kept; those before it are.
        """
        self.trials.append(trial)
        self._write(trial.to_dict())

    def _write(self, values: dict[str, Any]) -> None:
        line = memoryview(json.dumps(values).encode() + b"\n")
        try:
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_error(self.path, error) from error

    def close(self) -> None:
        """Close the file, for another sweep to go on."""
        self._opened.close()


def check_metric(metric: str, task: Task) -> None:
    """Check that a sweep can select by a metric.

    Raises:
        HeadError: there is no such metric, or none of the task.
    """
    if metric not in METRICS:
        raise HeadError(f"unknown metric {metric!r}: {suggest(metric, METRICS)}")
    if metric not in task.metrics:
        raise HeadError(f"--metric {metric}: {task.asks} ({task.name}) is measured by {', '.join(task.metrics)}")
