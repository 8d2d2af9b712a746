"""From the best trials of a sweep to one head: refitted on all rows that they were judged on, and calibrated."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from heads.calibration import Calibration, calibrate
from heads.data import FeatureTable, Floats
from heads.designs import ENSEMBLE, HeadDesign, head_class
from heads.division import Judged
from heads.ensemble import EnsembleHead, mean_scores
from heads.fit import fit_table, with_metrics
from heads.persist import FittedHead
from heads.scores import softmax
from heads.sweep_plan import SweepPlan
from heads.trials import Trial, ranked

_SPARE = 2
"""Scores that are kept beside those of the heads that are taken: a design that was cut may lead for a while."""


class HeldScores:
    """Scores of the best designs on held-out rows, so that nothing is fitted twice for them.

    Args:
        most: how many designs.
        metric: what makes them the best.
    """

    def __init__(self, most: int, metric: str) -> None:
        self.metric, self._most = metric, most + _SPARE
        self._best: dict[tuple[str, HeadDesign], tuple[Trial, Floats]] = {}

    def add(self, trial: Trial, judged: Judged) -> None:
        """Keep the scores of a design, if it is one of the best."""
        self._best[trial.key] = trial, judged.scores
        if len(self._best) > self._most:
            del self._best[ranked((each for each, _ in self._best.values()), self.metric)[-1].key]

    def of(self, trials: Sequence[Trial], judge: Callable[[Trial], Floats]) -> list[Floats]:
        """Scores (J, C) of trials on one table; `judge` gives those that an earlier call of the sweep has judged."""
        return [self._best[trial.key][1] if trial.key in self._best else judge(trial) for trial in trials]


class Refit:
    """The heads that were taken, fitted on train and validation rows as one head.

    Args:
        table: the features.
        plan: the rows that they were judged on.
        trials: of these heads.
        how: options of :func:`heads.fit.fit_table`.
    """

    def __init__(self, table: FeatureTable, plan: SweepPlan, trials: Sequence[Trial], how: dict[str, Any]) -> None:
        self._table, self._plan, self.trials, self._how = table, plan, trials, how

    def run(self, held: Sequence[Floats]) -> tuple[FittedHead, dict[str, float] | None, dict[str, Any] | None]:
        """Fit; from scores on held-out rows also the calibration of the head, and what the heads are together there."""
        designs, codes = [trial.design for trial in self.trials], self._plan.held_codes
        adjusted = [calibrate(scores, codes) for scores in held]
        fitted = [self._fit(design, one) for design, one in zip(designs, adjusted, strict=True)]
        if len(fitted) == 1:
            return fitted[0], self._told(designs[0], adjusted[0]), None
        proba = [
            scores if head_class(design.kind).votes else softmax(scores / one.temperature)
            for design, scores, one in zip(designs, held, adjusted, strict=True)
        ]
        scores = mean_scores(proba)
        found = calibrate(scores, codes)
        joined = EnsembleHead.of(designs, [each.head for each in fitted], found.temperature, self._how["seed"])
        whole = replace(
            fitted[0], head=joined, design=HeadDesign(ENSEMBLE, {"members": joined.members}),
            seconds=sum(each.seconds for each in fitted),
        )  # fmt: skip
        together = {
            "members": [trial.to_dict()["design"] for trial in self.trials],
            "accuracy": float((scores.argmax(axis=1) == codes).mean()),
            "log_loss": found.after,
        }
        return with_metrics(self._table, whole, pooled=True), self._told(whole.design, found), together

    def _fit(self, design: HeadDesign, found: Calibration) -> FittedHead:
        fitted = fit_table(self._table, design, pooled=True, temperature=found.temperature, **self._how)
        assert fitted.record is not None
        chosen = self._plan.judged_splits
        return replace(fitted, record=replace(fitted.record, chosen=chosen))

    def _told(self, design: HeadDesign, found: Calibration) -> dict[str, float] | None:
        if head_class(design.kind).votes:  # which are its probabilities
            return None
        return {
            "temperature": found.temperature, "log_loss_before": found.before, "log_loss_after": found.after,
        }  # fmt: skip
