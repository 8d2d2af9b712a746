"""What is said of a head on some rows: its metrics with intervals, and remarks. There is one result for each task."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.system.results import Result
from heads.metrics.clustered import clustered, recall_effects, share_interval
from heads.metrics.estimates import TOO_FEW, Estimate, wilson
from heads.metrics.label_outcomes import LabelOutcomes, estimates_of_labels, per_label
from heads.metrics.number_outcomes import NumberOutcomes, estimates_of_numbers
from heads.metrics.outcomes import KEPT, Confusion, Outcomes
from heads.metrics.ranking import class_average_precision

_FEW_GROUPS = "too few groups"
TABLED, _PAIRS = 1000, 100
"""Most classes of which a confusion matrix is given; pairs of classes that are named instead of a larger one."""


@dataclass(frozen=True, repr=False, kw_only=True)
class Evaluated(Result):
    """What the evaluations of all tasks have in common.

    Attributes:
        split: name of the split that the rows are of.
        rows: how many rows were measured.
        intervals: metric -> bounds of its 95 % interval.
        without_interval: metric -> why it has no interval, such as "too few rows".
        shift: how the rows differ from those that the head was fitted on, see :func:`heads.metrics.shift.differences`.
        seen: what the head had done with these rows before, :data:`heads.storage.record.FITTED` or
            :data:`heads.storage.record.CHOSEN`: the metrics then say little about other rows, and have no intervals;
            None for rows that are new to it.
        left_out: rows of the split that are not among these, since the head was fitted on them.
        measured: how often a head of its folder was measured on these test rows, this time included.
        groups: number of groups that the rows are of, if the source told; intervals are wider then, see
            :mod:`heads.metrics.clustered`.
    """

    split: str
    rows: int
    intervals: dict[str, list[float]]
    without_interval: dict[str, str] = field(default_factory=dict)
    shift: list[str] = field(default_factory=list)
    seen: str | None = None
    left_out: int | None = None
    measured: int | None = None
    groups: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, without what is not known, and without optional fields that are empty."""
        needed = {f.name for f in fields(self) if f.default is MISSING and f.default_factory is MISSING}
        values = super().to_dict()
        empty = [name for name, value in values.items() if value is None or (value in ([], {}) and name not in needed)]
        return {name: value for name, value in values.items() if name not in empty}

    def metrics(self) -> dict[str, float]:
        """Return the metrics that are one number, by name."""
        return {name: value for name, value in self.to_dict().items() if isinstance(value, float)}


def interval_fields(found: dict[str, Estimate], groups: NDArray[np.intp] | None) -> dict[str, Any]:
    """Return the fields of an evaluation that say how certain its metrics are."""
    why = TOO_FEW if groups is None else _FEW_GROUPS
    return {
        "intervals": {name: list(each.interval) for name, each in found.items() if each.interval},
        "without_interval": {name: why for name, each in found.items() if not each.interval},
        "groups": None if groups is None else len(np.unique(groups)),
    }


@dataclass(frozen=True, repr=False, kw_only=True)
class Evaluation(Evaluated):
    """Metrics of one head on one set of rows, as scikit-learn defines them.

    Attributes:
        accuracy: share of rows whose most probable class is the true one.
        balanced_accuracy: mean recall of the classes that occur.
        macro_f1: mean F1 of the classes that occur, as true or as predicted class.
        log_loss: mean negative natural logarithm of the true class's probability.
        average_precision: mean over the classes that have rows of the average precision of each against all others;
            None where its probabilities would take too much memory.
        roc_auc: area under the ROC curve; None unless there are two classes, and rows of both.
        unmeasured: metric -> why it was not measured.
        confusion_matrix: rows of class i that were predicted as class j, at [i][j]; None of more than :data:`TABLED`
            classes.
        per_class: for each class ``class, precision, recall, f1, support``, and ``recall_interval`` (95 %, Wilson's) if
            it has rows, of enough groups. A share of nothing is 0.
        threshold: with two classes, where to part them, see :func:`heads.metrics.shift.best_threshold`.
        parted_at: with two classes, the head's own threshold; None where it takes the more probable one.
        level: that of the sets of classes, see :mod:`heads.metrics.conformal`; None where none was asked for.
        coverage: share of rows whose set holds the true class.
        set_size: mean number of classes in a set; None where the probabilities would take too much memory.
        confused: of more than :data:`TABLED` classes, the most frequent mistakes: ``class``, ``predicted``, ``rows``.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    log_loss: float
    average_precision: float | None = None
    roc_auc: float | None = None
    unmeasured: dict[str, str] = field(default_factory=dict)
    level: float | None = None
    coverage: float | None = None
    set_size: float | None = None
    confusion_matrix: list[list[int]] | None = None
    per_class: list[dict[str, Any]]
    threshold: dict[str, Any] | None = None
    parted_at: float | None = None
    confused: list[dict[str, Any]] = field(default_factory=list)

    def with_sets(self, found: dict[str, Any]) -> "Evaluation":
        """Return the evaluation with what :func:`heads.metrics.conformal.set_fields` found."""
        interval = found.pop("coverage_interval")
        intervals = self.intervals | ({} if interval is None else {"coverage": list(interval)})
        without = self.without_interval | ({"coverage": _FEW_GROUPS} if interval is None else {})
        return replace(self, **found, intervals=intervals, without_interval=without)


def measure(
    y: ArrayLike, proba: ArrayLike, class_names: Sequence[str], *, split: str = "", groups: ArrayLike | None = None
) -> Evaluation:
    """Measure predicted probabilities, with 95 % intervals.

    Args:
        y: true classes, int (N,), N > 0, indices into `class_names`.
        proba: probabilities, float (N, len(class_names)).
        class_names: all classes, at least two.
        split: name of the split that the rows are of.
        groups: which rows belong together, such as patients (N,); intervals are wider then, see
            :mod:`heads.metrics.clustered`. By default each row is its own.

    Example:
        >>> found = measure([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], ["cat", "dog"])
        >>> round(found.accuracy, 3), found.confusion_matrix
        (0.667, [[1, 0], [1, 1]])
    """
    numbers = None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    outputs = np.asarray(proba)
    outcomes = Outcomes.of(np.asarray(y, np.intp), outputs, keep=outputs.size <= KEPT)
    return measure_outcomes(outcomes, class_names, split, numbers)


def measure_outcomes(
    outcomes: Outcomes, class_names: Sequence[str], split: str, groups: NDArray[np.intp] | None = None
) -> Evaluation:
    """Measure probabilities as :func:`measure` does, from what was counted of them."""
    found, confusion = clustered(outcomes, groups), Confusion.of(outcomes)
    unmeasured = {}
    if precision := class_average_precision(outcomes, groups):
        found["average_precision"] = precision
    else:
        unmeasured["average_precision"] = (
            f"{len(outcomes.y):,} rows × {outcomes.classes:,} classes, at most {KEPT:,} fit"
        )
    counts = (each.tolist() for each in (confusion.hits, confusion.support, confusion.answered))
    per_class = zip(class_names, *counts, recall_effects(outcomes, groups), strict=True)
    tabled = len(class_names) <= TABLED
    return Evaluation(
        split=split,
        rows=len(outcomes.y),
        accuracy=found["accuracy"].value,
        balanced_accuracy=found["balanced_accuracy"].value,
        macro_f1=found["macro_f1"].value,
        log_loss=found["log_loss"].value,
        average_precision=precision.value if precision else None,
        roc_auc=found["roc_auc"].value if "roc_auc" in found else None,
        unmeasured=unmeasured,
        confusion_matrix=confusion.matrix().tolist() if tabled else None,
        per_class=[_class_metrics(*row) for row in per_class],
        **interval_fields(found, groups),
        confused=[
            {"class": class_names[true], "predicted": class_names[predicted], "rows": rows}
            for true, predicted, rows in (() if tabled else confusion.mistakes(_PAIRS))
        ],
    )


def _class_metrics(name: str, hits: int, support: int, predicted: int, effect: float) -> dict[str, Any]:
    found = {
        "class": name,
        "precision": hits / max(predicted, 1),
        "recall": hits / max(support, 1),
        "f1": 2 * hits / max(support + predicted, 1),
        "support": support,
    }
    if not support or not np.isfinite(effect):
        return found
    return found | {"recall_interval": list(share_interval(hits / support, wilson(hits, support), effect))}


@dataclass(frozen=True, repr=False, kw_only=True)
class LabelEvaluation(Evaluated):
    """Metrics of a head of several labels on one set of rows, as scikit-learn defines them.

    Attributes:
        average_precision: mean over the labels that some row has of the average precision: mAP.
        roc_auc: mean over the labels of the area under the ROC curve; None where no label has rows with and without it.
        micro_f1, macro_f1: F1 over all labels together, and its mean over labels, at the thresholds of the head.
        log_loss: mean over labels and rows of the negative natural logarithm of the probability of what is true.
        per_label: for each label ``label, support, precision, recall, f1, threshold``, and where that is known
            ``average_precision`` and ``roc_auc`` with their intervals.
        unlabelled: number of rows without any label.
    """

    average_precision: float | None
    roc_auc: float | None = None
    micro_f1: float
    macro_f1: float
    log_loss: float
    per_label: list[dict[str, Any]]
    unlabelled: int = 0


def measure_labels(
    outcomes: LabelOutcomes,
    names: Sequence[str],
    split: str,
    groups: NDArray[np.intp] | None = None,
    thresholds: NDArray[np.float64] | None = None,
) -> LabelEvaluation:
    """Measure probabilities of labels, with 95 % intervals.

    Args:
        outcomes: the true labels of the rows, and the probabilities.
        names: of the labels.
        split: name of the split that the rows are of.
        groups: number of each row's group (N,); None where each row is its own.
        thresholds: the probability from which on a row has a label, of each (L,); 0.5 by default.
    """
    found = estimates_of_labels(outcomes, groups, thresholds)
    values: dict[str, Any] = {name: each.value for name, each in found.items()}
    return LabelEvaluation(
        split=split,
        rows=len(outcomes.y),
        **({"average_precision": None} | values),
        per_label=per_label(outcomes, names, thresholds, groups),
        unlabelled=int((~outcomes.y.any(axis=1)).sum()),
        **interval_fields(found, groups),
    )


@dataclass(frozen=True, repr=False, kw_only=True)
class NumberEvaluation(Evaluated):
    """Metrics of a head of numbers on one set of rows, as scikit-learn and SciPy define them.

    Attributes:
        target: name of the number.
        mae, rmse: mean absolute error, and root of the mean square of the errors, in the unit of the number.
        r2: share of the variance of the numbers that is explained; None where they are all the same.
        spearman: rank correlation of true and predicted numbers; None where either are all the same.
        half_width: predictions are within so much of the number in 95 of 100 cases, or as many as were asked for, by
            the errors of held-out rows.
        covered: share of these rows that are.
        level: the share that was asked for; None for 0.95.
    """

    target: str
    mae: float
    rmse: float
    r2: float | None = None
    spearman: float | None = None
    half_width: float | None = None
    covered: float | None = None
    level: float | None = None


def measure_numbers(
    outcomes: NumberOutcomes,
    name: str,
    split: str,
    groups: NDArray[np.intp] | None = None,
    half_width: tuple[float, float] | None = None,
) -> NumberEvaluation:
    """Measure predicted numbers, with 95 % intervals.

    Args:
        outcomes: the true and the predicted numbers.
        name: of the number.
        split: name of the split that the rows are of.
        groups: number of each row's group (N,); None where each row is its own.
        half_width: the level of an interval around predictions, and half its width; None if it is not known.
    """
    found = estimates_of_numbers(outcomes, groups)
    level, half = half_width or (LEVEL, None)
    values: dict[str, Any] = {metric: each.value for metric, each in found.items()}
    covered = None if half is None else float((np.abs(outcomes.residuals) <= half).mean())
    return NumberEvaluation(
        split=split, rows=len(outcomes.y), target=name, half_width=half, covered=covered, **values,
        level=None if level == LEVEL else level, **interval_fields(found, groups),
    )  # fmt: skip


LEVEL = 0.95
"""The share of rows that the interval of a predicted number covers."""
