"""A number of each image. Heads are fitted to it with mean 0 and deviation 1 over the training rows.

The interval of a prediction is that of split conformal prediction (Lei et al., "Distribution-free predictive inference
for regression", JASA 2018): as wide as the errors were on rows that were held out. Such errors are of heads that were
fitted to fewer rows, so that the interval is rather a little too wide than too narrow.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import HeadError, InputError
from heads.metrics.estimates import Estimate
from heads.metrics.evaluation import LEVEL, NumberEvaluation, measure_numbers
from heads.metrics.number_outcomes import NumberOutcomes, conformal_quantile, estimates_of_numbers
from heads.rows import Codes, Labels
from heads.solvers.calibration import Calibration
from heads.tasks.base import Bound, Doubles, Encoded, Floating, Link, Task, check_level, checked_level
from heads.tasks.predictions import NumberPrediction

_RESIDUALS = 5000
"""Residuals that a head keeps at most: of more, that many quantiles."""


class Regression(Task):
    """See the text of this module."""

    name, asks = "regression", "a number of each image"
    loss = "half the squared error of standardised numbers"
    one, noun = "number", "number"
    wrong, worst = "lie outside of their interval", "the largest errors stand first"
    activation = "linear"
    output, has_probabilities = "number", False
    metrics = ("r2", "mae", "rmse", "spearman")

    def check(self, y: NDArray[Any], names: Sequence[str]) -> None:
        """See :class:`Task`."""
        if not len(y) or y.min() == y.max():
            raise InputError(f"all train rows have the same {names[0]}: there is nothing to predict")

    def encode(self, y: ArrayLike, plain: int | None = None) -> Encoded:
        """See :class:`Task`: y are finite numbers (N,), not all of which are the same."""
        found = np.asarray(y)
        if found.ndim != 1 or found.dtype.kind not in "iuf" or not np.isfinite(found).all():
            raise InputError(f"numbers must be finite, of shape (N,), not {found.dtype} {found.shape}")
        values = found[:plain].astype(np.float64)
        self.check(values, ["number"])
        link = Link(np.array([values.std()]), np.array([values.mean()]))
        return Encoded(np.arange(1), self.codes(found, np.arange(1), link), link)

    def width(self, y: NDArray[Any]) -> int:
        """See :class:`Task`."""
        return 1

    def counts(self, y: NDArray[Any], classes: int) -> NDArray[np.intp]:
        """See :class:`Task`."""
        return np.asarray(np.array([len(y)]))

    def most_folds(self, y: NDArray[Any]) -> tuple[int, str]:
        """See :class:`Task`."""
        return len(y), f"there are {len(y)} rows"

    def aligned(self, y: NDArray[Any], names: Sequence[str], wanted: Sequence[str], where: Path | str) -> NDArray[Any]:
        """See :class:`Task`: it must be the same number."""
        if list(names) != list(wanted):
            raise HeadError(f"{where}: its number is {names[0]!r}, and the head predicts {wanted[0]!r}")
        return y

    def known(self, y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.bool_]:
        """See :class:`Task`."""
        return np.ones(len(y), np.bool_)

    def codes(self, y: NDArray[Any], classes: NDArray[Any], link: Link | None) -> Codes:
        """See :class:`Task`."""
        assert link is not None
        return ((np.asarray(y, np.float64)[:, None] - link.shift) / link.slope).astype(np.float32)

    def answers(self, codes: Codes, link: Link | None) -> NDArray[Any]:
        """See :class:`Task`."""
        assert link is not None
        return link.of(codes)[:, 0]

    def calibrated(
        self, scores: Floating, codes: Codes, link: Link | None, are_answers: bool
    ) -> tuple[Link | None, Calibration | None]:
        """See :class:`Task`: the link gets the residuals."""
        assert link is not None
        residuals = np.sort(np.abs(link.of(scores) - link.of(codes))[:, 0])
        if len(residuals) > _RESIDUALS:
            residuals = np.quantile(residuals, np.linspace(0, 1, _RESIDUALS), method="higher")
        return link._replace(residuals=residuals), None

    def outputs(self, scores: Floating, link: Link | None, are_answers: bool) -> Doubles:
        """See :class:`Task`: scores of all heads are of standardised numbers."""
        assert link is not None
        return link.of(scores)

    def unit(self, link: Link) -> float:
        """See :class:`Task`: the deviation of the training rows."""
        return float(link.slope[0])

    def decided(self, outputs: Floating, classes: NDArray[Any], link: Link | None) -> NDArray[Any]:
        """See :class:`Task`."""
        return outputs[:, 0]

    def outcomes(
        self, y: NDArray[Any], outputs: Floating, classes: NDArray[Any], count: int, *, keep: bool = False
    ) -> NumberOutcomes:
        """See :class:`Task`."""
        return NumberOutcomes(np.asarray(y, np.float64), np.asarray(outputs[:, 0], np.float64))

    def joined(self, parts: Sequence[NumberOutcomes]) -> NumberOutcomes:
        """See :class:`Task`."""
        return NumberOutcomes.joined(parts)

    def held_outcomes(
        self, scores: Floating, codes: Codes, link: Link | None, are_answers: bool, metric: str = ""
    ) -> NumberOutcomes:
        """See :class:`Task`."""
        return self.outcomes(self.answers(codes, link), self.outputs(scores, link, are_answers), np.arange(1), 1)

    def estimates(
        self, outcomes: NumberOutcomes, groups: Labels | None = None, metric: str = ""
    ) -> dict[str, Estimate]:
        """See :class:`Task`."""
        return estimates_of_numbers(outcomes, groups)

    def bound(self, level: float | None, link: Link | None, conformity: Sequence[float] | None) -> Bound | None:
        """See :class:`Task`: half the width of the interval, which has a level of 0.95 unless another is asked for."""
        if level is not None:
            check_level(level)
        known = None if link is None else link.residuals
        half = None if known is None else conformal_quantile(known, LEVEL if level is None else level)
        if level is None:
            return None if half is None else Bound(LEVEL, half)
        return checked_level(level, half, 0 if known is None else len(known))

    def measure(
        self,
        outcomes: NumberOutcomes,
        names: Sequence[str],
        split: str,
        groups: Labels | None,
        link: Link | None,
        bound: Bound | None = None,
    ) -> NumberEvaluation:
        """See :class:`Task`."""
        return measure_numbers(outcomes, names[0], split, groups, bound or self.bound(None, link, None))

    def mistakes(self, outcomes: NumberOutcomes, link: Link | None) -> NDArray[np.intp]:
        """See :class:`Task`: rows outside of their interval, the largest errors first."""
        usual = self.bound(None, link, None)
        errors = np.abs(outcomes.residuals)
        wrong = np.flatnonzero(errors > (0 if usual is None else usual.value))
        return np.asarray(wrong[np.argsort(-errors[wrong], kind="stable")])

    def told(self, outcomes: NumberOutcomes, names: Sequence[str], link: Link | None) -> dict[str, Any]:
        """See :class:`Task`."""
        return {"true": f"{outcomes.y[0]:.4g}", "predicted": f"{outcomes.predicted[0]:.4g}"}

    def predicted(
        self,
        path: str,
        row: Doubles,
        names: Sequence[str],
        link: Link | None,
        top: int | None,
        bound: Bound | None = None,
    ) -> NumberPrediction:
        """See :class:`Task`."""
        value = float(row[0])
        return NumberPrediction(path, value, None if bound is None else [value - bound.value, value + bound.value])

    def unreadable(self, path: str, reason: str) -> NumberPrediction:
        """See :class:`Task`."""
        return NumberPrediction(path, None, error=reason)

    def columns(self, names: Sequence[str], top: int | None, bound: Bound | None = None) -> list[str]:
        """See :class:`Task`."""
        level = LEVEL if bound is None else bound.level
        return [*NumberPrediction.columns(names, top), f"{100 * level:.6g} % from", "to"]

    def score(self, y: ArrayLike, predicted: NDArray[Any], weights: NDArray[Any] | None) -> float:
        """Return R², the coefficient of determination."""
        true = np.asarray(y, np.float64).reshape(-1)
        weights = np.ones(len(true)) if weights is None else weights
        around = true - np.average(true, weights=weights)
        return float(1 - (weights @ (true - predicted) ** 2) / (weights @ around**2))
