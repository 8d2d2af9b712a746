"""One class of several. The scores' softmax, after one temperature, gives the probabilities."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import HeadError, InputError
from heads.metrics.clustered import clustered
from heads.metrics.conformal import least_probability, set_fields, set_members
from heads.metrics.estimates import Estimate, estimates_of
from heads.metrics.evaluation import Evaluation, measure_outcomes
from heads.metrics.outcomes import Outcomes
from heads.metrics.ranking import class_average_precision
from heads.rows import Codes, Labels
from heads.solvers.calibration import Calibration, calibrate, fit_temperature
from heads.solvers.scores import softmax
from heads.tasks.base import Bound, Doubles, Encoded, Floating, Link, Task, check_level, checked_level, places
from heads.tasks.predictions import Prediction, chances


class Classification(Task):
    """See the text of this module. A head keeps its temperature itself, so that there is no link."""

    name, asks = "classification", "one class of each image"
    one, noun = "class", "classes"
    wrong, worst = "are classified wrongly", "the most confident mistakes stand first"
    activation = "softmax"
    metrics = ("accuracy", "balanced_accuracy", "macro_f1", "average_precision", "roc_auc", "log_loss")
    needing_all = frozenset({"average_precision"})

    def check(self, y: NDArray[Any], names: Sequence[str]) -> None:
        """See :class:`Task`."""
        if len(classes := np.unique(y)) < 2:
            raise InputError(f"all train rows are of class {names[classes[0]]!r}: a head needs two classes")

    def encode(self, y: ArrayLike, plain: int | None = None) -> Encoded:
        """See :class:`Task`: labels are whole numbers or texts (N,)."""
        classes, codes = np.unique(np.asarray(y), return_inverse=True)
        if len(classes) < 2:
            raise InputError(f"the training rows show {len(classes)} class: a head needs at least two")
        return Encoded(classes, codes)

    def width(self, y: NDArray[Any]) -> int:
        """See :class:`Task`."""
        return len(np.unique(y))

    def counts(self, y: NDArray[Any], classes: int) -> NDArray[np.intp]:
        """See :class:`Task`."""
        return np.asarray(np.bincount(y, minlength=classes))

    def most_folds(self, y: NDArray[Any]) -> tuple[int, str]:
        """See :class:`Task`."""
        most = int(np.bincount(y.astype(np.intp)).max(initial=0))
        return most, f"the largest class has {most} rows"

    def aligned(self, y: NDArray[Any], names: Sequence[str], wanted: Sequence[str], where: Path | str) -> NDArray[Any]:
        """See :class:`Task`."""
        return np.asarray(places(names, wanted, where)[y])

    def known(self, y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.bool_]:
        """See :class:`Task`: a head knows the classes of its training rows."""
        return np.isin(y, classes)

    def codes(self, y: NDArray[Any], classes: NDArray[Any], link: Link | None) -> Codes:
        """See :class:`Task`."""
        return np.searchsorted(classes, y)

    def answers(self, codes: Codes, link: Link | None) -> NDArray[Any]:
        """See :class:`Task`."""
        return codes

    def calibrated(
        self, scores: Floating, codes: Codes, link: Link | None, are_answers: bool
    ) -> tuple[Link | None, Calibration | None]:
        """See :class:`Task`; the calibration holds the temperature."""
        return None, None if are_answers else calibrate(scores, codes)

    def outputs(self, scores: Floating, link: Link | None, are_answers: bool) -> Doubles:
        """See :class:`Task`; scores are divided by the temperature before."""
        return np.asarray(scores, np.float64) if are_answers else softmax(scores)

    def decided(self, outputs: Floating, classes: NDArray[Any], link: Link | None) -> NDArray[Any]:
        """See :class:`Task`."""
        return np.asarray(classes[outputs.argmax(axis=1)])

    def outcomes(
        self, y: NDArray[Any], outputs: Floating, classes: NDArray[Any], count: int, *, keep: bool = False
    ) -> Outcomes:
        """See :class:`Task`."""
        return Outcomes.of(y, outputs, classes, count, keep=keep)

    def joined(self, parts: Sequence[Outcomes]) -> Outcomes:
        """See :class:`Task`."""
        return Outcomes.joined(parts)

    def held_outcomes(
        self, scores: Floating, codes: Codes, link: Link | None, are_answers: bool, metric: str = ""
    ) -> Outcomes:
        """See :class:`Task`."""
        if are_answers:
            return Outcomes.of(codes, scores, keep=metric in self.needing_all)
        found: Outcomes = self.raw_outcomes(scores / fit_temperature(scores, codes), codes, link, metric)
        return found

    def estimates(self, outcomes: Outcomes, groups: Labels | None = None, metric: str = "") -> dict[str, Estimate]:
        """See :class:`Task`."""
        found = estimates_of(outcomes) if groups is None else clustered(outcomes, groups)
        if metric in self.needing_all and (precision := class_average_precision(outcomes, groups)):
            found[metric] = precision
        return found

    def bound(self, level: float | None, link: Link | None, conformity: Sequence[float] | None) -> Bound | None:
        """See :class:`Task`: the probability from which on a class is in the set."""
        if level is None:
            return None
        check_level(level)
        if conformity is None:
            raise HeadError(
                f"--level {level:g} takes rows that were held out from the fit, and this head knows of none: fit it "
                "again (knn, and a head that was adapted to a few rows, have none: let  sweep  judge it)"
            )
        return checked_level(level, least_probability(np.array(conformity), level), len(conformity))

    def measure(
        self,
        outcomes: Outcomes,
        names: Sequence[str],
        split: str,
        groups: Labels | None,
        link: Link | None,
        bound: Bound | None = None,
    ) -> Evaluation:
        """See :class:`Task`."""
        found = measure_outcomes(outcomes, names, split, groups)
        return found if bound is None else found.with_sets(set_fields(outcomes, *bound, groups))

    def mistakes(self, outcomes: Outcomes, link: Link | None) -> NDArray[np.intp]:
        """See :class:`Task`: the most confident ones first."""
        wrong = np.flatnonzero(~outcomes.right)
        return np.asarray(wrong[np.argsort(-outcomes.greatest[wrong], kind="stable")])

    def told(self, outcomes: Outcomes, names: Sequence[str], link: Link | None) -> dict[str, Any]:
        """See :class:`Task`."""
        true, predicted = names[int(outcomes.y[0])], names[int(outcomes.predicted[0])]
        return {"true": true, "predicted": predicted, "probability": float(outcomes.greatest[0])}

    def predicted(
        self,
        path: str,
        row: Doubles,
        names: Sequence[str],
        link: Link | None,
        top: int | None,
        bound: Bound | None = None,
    ) -> Prediction:
        """See :class:`Task`."""
        order = np.argsort(-row, kind="stable")
        found = Prediction(path, names[order[0]], chances(row, names, top))
        if bound is None:
            return found
        inside = set_members(row[None], bound.value)[0]
        return replace(found, prediction_set=[names[i] for i in order.tolist() if inside[i]])

    def unreadable(self, path: str, reason: str) -> Prediction:
        """See :class:`Task`."""
        return Prediction(path, None, {}, error=reason)

    def columns(self, names: Sequence[str], top: int | None, bound: Bound | None = None) -> list[str]:
        """See :class:`Task`."""
        return Prediction.columns(names, top)

    def score(self, y: ArrayLike, predicted: NDArray[Any], weights: NDArray[Any] | None) -> float:
        """Return the accuracy."""
        return float(np.average(predicted == np.reshape(y, -1), weights=weights))
