"""From the best trials of a sweep to one head: refitted on all rows that they were judged on, and calibrated."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from heads.feature_table import FeatureTable, Floats, Labels
from heads.fit import fit_table
from heads.kinds.design import ENSEMBLE, HeadDesign, head_class
from heads.kinds.ensemble import EnsembleHead, mean_scores
from heads.metrics.outcomes import blocks
from heads.search.plan import SweepPlan
from heads.search.trials import Trial, ranked
from heads.solvers.calibration import Calibration, calibrate
from heads.solvers.folds import Judged
from heads.solvers.scores import softmax
from heads.storage.saved_head import FittedHead

HELD_OUT = "held out"
"""Among the metrics of a saved head: what it was chosen by."""

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
        trials, codes, classes = self.trials, self._plan.held_codes, self._plan.classes
        adjusted = [_calibrated(trial.design, scores, codes) for trial, scores in zip(trials, held, strict=True)]
        fitted = [self._fit(trial.design, found) for trial, found in zip(trials, adjusted, strict=True)]
        if len(trials) == 1:
            means = {name: float(np.mean(values)) for name, values in trials[0].scores.items()}
            metrics = {HELD_OUT: {name: mean for name, mean in means.items() if np.isfinite(mean)}}
            return (
                replace(fitted[0].with_reference(*_certain(held[0], adjusted[0]), codes, classes), metrics=metrics),
                _told(adjusted[0]),
                None,
            )
        scores = np.empty(held[0].shape)
        for part in blocks(*held[0].shape):
            certain = [_certain(each[part], found) for each, found in zip(held, adjusted, strict=True)]
            scores[part] = mean_scores([softmax(each / temperature) for each, temperature in certain])
        found = calibrate(scores, codes)
        heads = [each.head for each in fitted]
        joined = EnsembleHead.of([trial.design for trial in trials], heads, found.temperature, self._how["seed"])
        together = {"accuracy": float((scores.argmax(axis=1) == codes).mean()), "log_loss": found.after}
        whole = replace(
            fitted[0], head=joined, design=HeadDesign(ENSEMBLE, {"members": joined.members}),
            seconds=sum(each.seconds for each in fitted), metrics={HELD_OUT: together},
        )  # fmt: skip
        whole = whole.with_reference(scores, found.temperature, codes, classes)
        return whole, _told(found), {"members": [trial.to_dict()["design"] for trial in trials], **together}

    def _fit(self, design: HeadDesign, found: Calibration | None) -> FittedHead:
        temperature = found.temperature if found else 1.0
        fitted = fit_table(self._table, design, pooled=True, temperature=temperature, **self._how)
        assert fitted.record is not None
        return replace(fitted, record=replace(fitted.record, chosen=self._plan.judged_splits))


def _calibrated(design: HeadDesign, scores: Floats, codes: Labels) -> Calibration | None:
    """None where the scores are probabilities already."""
    return None if head_class(design.kind).scores_are_probabilities else calibrate(scores, codes)


def _certain(scores: Floats, found: Calibration | None) -> tuple[Any, float]:
    """Scores whose softmax, divided by the temperature, is what a head says of rows held out."""
    return (mean_scores([scores]), 1.0) if found is None else (scores, found.temperature)


def _told(found: Calibration | None) -> dict[str, float] | None:
    return found and {
        "temperature": found.temperature, "log_loss_before": found.before, "log_loss_after": found.after,
    }  # fmt: skip
