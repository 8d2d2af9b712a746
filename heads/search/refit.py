"""The best designs of a sweep are fitted once more, on all rows that they were judged on, and become one head."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from heads.feature_table import FeatureTable, Floats, Labels
from heads.fit import fit_table
from heads.kinds.design import ENSEMBLE, HeadDesign, head_class
from heads.kinds.ensemble import EnsembleHead, mean_scores
from heads.metrics.outcomes import blocks
from heads.rows import Codes
from heads.search.plan import SweepPlan
from heads.search.results import Together
from heads.search.trials import Trial
from heads.solvers.calibration import Calibration, calibrate
from heads.solvers.scores import softmax
from heads.storage.saved_head import FittedHead
from heads.storage.threshold import with_threshold

HELD_OUT = "held out"
"""The name, among the metrics of a saved head, of those by which the sweep chose it."""


@dataclass(frozen=True)
class Refitted:
    """The head that a sweep ends with.

    Attributes:
        fitted: the head.
        calibration: its temperature; None where its scores are probabilities already.
        held: what it says of the held-out rows: the softmax of the first, divided by the second; None where it has no
            classes.
        together: the designs that it consists of, if there are several, and how good it is on the held-out rows.
    """

    fitted: FittedHead
    calibration: Calibration | None
    together: Together | None = None
    held: tuple[Any, float] | None = None

    def at(self, threshold: str | float | None, codes: Codes) -> FittedHead:
        """Return the head with a threshold, see :func:`heads.storage.threshold.with_threshold`.

        Args:
            threshold: as :func:`heads.storage.threshold.parsed_threshold` returns it.
            codes: the columns of the true classes of the held-out rows (J,).
        """
        if threshold is None or self.held is None:
            return self.fitted
        scores, temperature = self.held
        return with_threshold(self.fitted, threshold, (softmax(scores / temperature), codes))


def refit(
    table: FeatureTable,
    plan: SweepPlan,
    trials: Sequence[Trial],
    held: Sequence[Floats],
    *,
    seed: int,
    views: bool,
    max_memory: int | None = None,
) -> Refitted:
    """Fit the designs of some trials on train and validation rows, and make one head of them.

    Args:
        table: the features.
        plan: the rows that the trials were judged on.
        trials: one, or several that are taken together.
        held: the scores (J, C) of each trial on the held-out rows; the temperature is fitted to them.
        seed: seed of the fits.
        views: fit on the augmented views of train rows too.
        max_memory: bytes that a fit may use, see :func:`heads.fit.fit_head`.
    """
    if plan.asked.link is not None:
        return _of_answers(table, plan, trials[0], held[0], seed=seed, views=views, max_memory=max_memory)
    codes, classes = plan.held_codes, plan.classes
    fit = partial(_fit, table, plan, seed=seed, views=views, max_memory=max_memory)
    calibrations = [_calibrated(trial.design, scores, codes) for trial, scores in zip(trials, held, strict=True)]
    fitted = [fit(trial.design, found) for trial, found in zip(trials, calibrations, strict=True)]
    if len(trials) > 1:
        return _joined(fitted, [_certain(*each) for each in zip(held, calibrations, strict=True)], codes, classes)
    certain = _certain(held[0], calibrations[0])
    whole = fitted[0].with_reference(*certain, codes, classes)
    return Refitted(replace(whole, metrics=_means(trials[0])), calibrations[0], held=certain)


def _of_answers(table: FeatureTable, plan: SweepPlan, trial: Trial, held: Floats, **options: Any) -> Refitted:
    """Fit the design of a trial whose task has more than a temperature, and calibrate the head by the held-out rows."""
    fitted = _fit(table, plan, trial.design, None, **options)
    found = fitted.head.calibrate(held, plan.held_codes)
    return Refitted(replace(fitted, metrics=_means(trial)), found)


def _means(trial: Trial) -> dict[str, dict[str, float]]:
    """Return the metrics by which a trial was chosen, as a saved head has them."""
    means = {name: float(np.mean(values)) for name, values in trial.scores.items()}
    return {HELD_OUT: {name: mean for name, mean in means.items() if np.isfinite(mean)}}


def _fit(
    table: FeatureTable, plan: SweepPlan, design: HeadDesign, found: Calibration | None, **options: Any
) -> FittedHead:
    temperature = found.temperature if found else 1.0
    fitted = fit_table(table, design, pooled=True, temperature=temperature, **options)
    assert fitted.record is not None
    return replace(fitted, record=replace(fitted.record, chosen=plan.judged_splits))


def _joined(
    fitted: Sequence[FittedHead], held: Sequence[tuple[Any, float]], codes: Labels, classes: Labels
) -> Refitted:
    """Make one head of several; `held` are the scores of each on the held-out rows, and the temperature of these."""
    scores = np.empty(held[0][0].shape)
    for part in blocks(*scores.shape):
        scores[part] = mean_scores([softmax(each[part] / temperature) for each, temperature in held])
    found = calibrate(scores, codes)
    designs = [each.design for each in fitted]
    head = EnsembleHead.of(designs, [each.head for each in fitted], found.temperature, fitted[0].seed)
    together = Together(designs, float((scores.argmax(axis=1) == codes).mean()), found.after)
    whole = replace(
        fitted[0], head=head, design=HeadDesign(ENSEMBLE, {"members": head.members}),
        seconds=sum(each.seconds for each in fitted),
        metrics={HELD_OUT: {"accuracy": together.accuracy, "log_loss": together.log_loss}},
    )  # fmt: skip
    certain = scores, found.temperature
    return Refitted(whole.with_reference(*certain, codes, classes), found, together, certain)


def _calibrated(design: HeadDesign, scores: Floats, codes: Labels) -> Calibration | None:
    """Fit the temperature of a design; None where its scores are probabilities already."""
    return None if head_class(design.kind).scores_are_probabilities else calibrate(scores, codes)


def _certain(scores: Floats, found: Calibration | None) -> tuple[Any, float]:
    """Return scores and a temperature; the softmax of their quotient is what the head says of the held-out rows."""
    return (mean_scores([scores]), 1.0) if found is None else (scores, found.temperature)
