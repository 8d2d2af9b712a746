"""Any number of labels of each image. Each label is separated from its absence by itself.

The probability of a label is the sigmoid of a line through its scores, whose slope and height are fitted to scores of
rows that were held out (Platt, "Probabilistic outputs for support vector machines", 1999). A row is said to have a
label where that is above a threshold, which such rows choose too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import HeadError, InputError
from heads.metrics.estimates import Estimate
from heads.metrics.evaluation import LabelEvaluation, measure_labels
from heads.metrics.label_outcomes import LabelOutcomes, best_label_thresholds, estimates_of_labels
from heads.rows import Codes, Labels
from heads.solvers.calibration import Calibration
from heads.solvers.goals import mean_loss, sigmoid
from heads.solvers.platt import fit_lines
from heads.tasks.base import Bound, Doubles, Encoded, Floating, Link, Task, places
from heads.tasks.predictions import LabelPrediction, chances

_PARTS = 5


class MultiLabel(Task):
    """See the text of this module."""

    name, asks = "multilabel", "several labels of each image"
    one, noun = "label", "labels"
    wrong, worst = "have a label too many or too few", "those that surprise the head most stand first"
    activation = "sigmoid"
    metrics = ("average_precision", "roc_auc", "micro_f1", "macro_f1", "log_loss")

    def check(self, y: NDArray[Any], names: Sequence[str]) -> None:
        """See :class:`Task`."""
        for name, count in zip(names, y.sum(axis=0, dtype=np.intp).tolist(), strict=True):
            if not 0 < count < len(y):
                has = "all train rows have" if count else "no train row has"
                raise InputError(
                    f"{has} the label {name!r}: a head needs rows with it and without it: extract more images, or "
                    "without that label"
                )

    def encode(self, y: ArrayLike, plain: int | None = None) -> Encoded:
        """See :class:`Task`: y is 0 or 1 for each label (N, L)."""
        found = np.asarray(y)
        if found.ndim != 2 or found.dtype.kind not in "biuf" or not np.isin(found, (0, 1)).all():
            raise InputError(f"labels must be 0 or 1, of shape (N, L), not {found.dtype} {found.shape}")
        self.check(found, [str(label) for label in range(found.shape[1])])
        return Encoded(np.arange(found.shape[1]), self.codes(found, np.arange(0), None), self._line(found.shape[1]))

    def _line(self, labels: int) -> Link:
        return Link.none(labels)._replace(thresholds=np.full(labels, 0.5))

    def width(self, y: NDArray[Any]) -> int:
        """See :class:`Task`."""
        return int(y.shape[1])

    def counts(self, y: NDArray[Any], classes: int) -> NDArray[np.intp]:
        """See :class:`Task`."""
        return np.asarray(y.sum(axis=0, dtype=np.intp))

    def most_folds(self, y: NDArray[Any]) -> tuple[int, str]:
        """See :class:`Task`."""
        return len(y), f"there are {len(y)} rows"

    def aligned(self, y: NDArray[Any], names: Sequence[str], wanted: Sequence[str], where: Path | str) -> NDArray[Any]:
        """See :class:`Task`: the data set must say of each label whether a row has it."""
        mine = places(names, wanted, where)
        if absent := [name for name in wanted if name not in set(names)]:
            raise HeadError(f"{where}: does not say which images have the label {absent[0]!r}, which the head predicts")
        found = np.empty_like(y)
        found[:, mine] = y
        return found

    def known(self, y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.bool_]:
        """See :class:`Task`."""
        return np.ones(len(y), np.bool_)

    def codes(self, y: NDArray[Any], classes: NDArray[Any], link: Link | None) -> Codes:
        """See :class:`Task`."""
        return signs_of(np.asarray(y))

    def answers(self, codes: Codes, link: Link | None) -> NDArray[Any]:
        """See :class:`Task`."""
        return (codes > 0).astype(np.uint8)

    def calibrated(
        self, scores: Floating, codes: Codes, link: Link | None, are_answers: bool
    ) -> tuple[Link | None, Calibration | None]:
        """See :class:`Task`; the loss after it is that of lines that were fitted to other rows."""
        y, width = self.answers(codes, link), codes.shape[1]
        if are_answers:
            return self._line(width)._replace(thresholds=best_label_thresholds(y, np.asarray(scores))), None
        slope, shift = fit_lines(scores, codes)
        found = Link(slope, shift)
        found = found._replace(thresholds=best_label_thresholds(y, self.outputs(scores, found, are_answers=False)))
        after, order = 0.0, np.random.default_rng(0).permutation(len(codes))
        for part in np.array_split(order, min(_PARTS, len(codes))):
            rest = np.setdiff1d(order, part)
            slope, shift = fit_lines(scores[rest], codes[rest])
            after += mean_loss(scores[part] * slope + shift, codes[part]) * len(part)
        return found, Calibration(1.0, mean_loss(scores, codes), after / len(codes))

    def outputs(self, scores: Floating, link: Link | None, are_answers: bool) -> Doubles:
        """See :class:`Task`."""
        values = np.asarray(scores, np.float64)
        return values if are_answers or link is None else np.asarray(sigmoid(link.of(values)))

    def decided(self, outputs: Floating, classes: NDArray[Any], link: Link | None) -> NDArray[Any]:
        """See :class:`Task`."""
        cut = 0.5 if link is None or link.thresholds is None else link.thresholds
        return (outputs >= cut).astype(np.uint8)

    def outcomes(
        self, y: NDArray[Any], outputs: Floating, classes: NDArray[Any], count: int, *, keep: bool = False
    ) -> LabelOutcomes:
        """See :class:`Task`."""
        return LabelOutcomes(np.asarray(y, np.uint8), np.asarray(outputs, np.float32))

    def joined(self, parts: Sequence[LabelOutcomes]) -> LabelOutcomes:
        """See :class:`Task`."""
        return LabelOutcomes.joined(parts)

    def held_outcomes(
        self, scores: Floating, codes: Codes, link: Link | None, are_answers: bool, metric: str = ""
    ) -> LabelOutcomes:
        """See :class:`Task`."""
        found = link if are_answers else Link(*fit_lines(scores, codes))
        outputs = self.outputs(scores, found, are_answers)
        return self.outcomes(self.answers(codes, link), outputs, np.arange(0), codes.shape[1])

    def estimates(self, outcomes: LabelOutcomes, groups: Labels | None = None, metric: str = "") -> dict[str, Estimate]:
        """See :class:`Task`; F1 is that at the probability 0.5."""
        return estimates_of_labels(outcomes, groups)

    def measure(
        self,
        outcomes: LabelOutcomes,
        names: Sequence[str],
        split: str,
        groups: Labels | None,
        link: Link | None,
        bound: Bound | None = None,
    ) -> LabelEvaluation:
        """See :class:`Task`."""
        return measure_labels(outcomes, names, split, groups, None if link is None else link.thresholds)

    def mistakes(self, outcomes: LabelOutcomes, link: Link | None) -> NDArray[np.intp]:
        """See :class:`Task`: those with the least probable of what is true first."""
        wrong = np.flatnonzero((self.decided(outcomes.proba, np.arange(0), link) != outcomes.y).any(axis=1))
        unlikely = np.abs(outcomes.proba - outcomes.y).max(axis=1)[wrong]
        return np.asarray(wrong[np.argsort(-unlikely, kind="stable")])

    def told(self, outcomes: LabelOutcomes, names: Sequence[str], link: Link | None) -> dict[str, Any]:
        """See :class:`Task`; the probability is that of what is least probable of the answer."""
        has = self.decided(outcomes.proba, np.arange(0), link)
        said = np.where(has, outcomes.proba, 1 - outcomes.proba).min()
        true, predicted = (
            ", ".join(names[i] for i in np.flatnonzero(row[0]).tolist()) or "no label" for row in (outcomes.y, has)
        )
        return {"true": true, "predicted": predicted, "probability": float(said)}

    def predicted(
        self,
        path: str,
        row: Doubles,
        names: Sequence[str],
        link: Link | None,
        top: int | None,
        bound: Bound | None = None,
    ) -> LabelPrediction:
        """See :class:`Task`."""
        has = self.decided(row[None], np.arange(0), link)[0]
        return LabelPrediction(path, [names[i] for i in np.flatnonzero(has).tolist()], chances(row, names, top))

    def unreadable(self, path: str, reason: str) -> LabelPrediction:
        """See :class:`Task`."""
        return LabelPrediction(path, None, {}, error=reason)

    def columns(self, names: Sequence[str], top: int | None, bound: Bound | None = None) -> list[str]:
        """See :class:`Task`."""
        return LabelPrediction.columns(names, top)

    def score(self, y: ArrayLike, predicted: NDArray[Any], weights: NDArray[Any] | None) -> float:
        """Return the share of rows all of whose labels are right."""
        return float(np.average((predicted == np.asarray(y)).all(axis=1), weights=weights))


def signs_of(y: NDArray[Any]) -> Codes:
    """Return 1 for each label that a row has and -1 for others, int8 (N, L), of 1 and 0."""
    return (2 * y.astype(np.int8) - 1).astype(np.int8)
