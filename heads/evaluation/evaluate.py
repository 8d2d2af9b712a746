"""Measure how good a head is on rows that it was not fitted on, with NumPy alone."""

import os
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import HeadError, StoreError, suggest
from featurestore.store.file_format import TABULAR
from featurestore.store.reader import FeatureStore, find_files
from featurestore.system.results import Result
from heads.evaluation.alike import grouped_by_likeness
from heads.feature_table import FeatureTable
from heads.kinds.base import MODEL, WEIGHTS, too_large
from heads.metrics.clustered import clustered, recall_effects, share_interval
from heads.metrics.estimates import TOO_FEW, mcnemar, sign_flips, wilson
from heads.metrics.outcomes import Confusion, Outcomes
from heads.metrics.shift import best_threshold, differences
from heads.storage.record import CHOSEN, FITTED, note_measured
from heads.storage.saved_head import FittedHead, load_head

Array = NDArray[np.float64]

_TAILS = (2.5, 97.5)
"""Percentiles at the ends of a 95 % interval."""

_COPIES = 2
"""While a head is loaded, its file and its arrays are in memory."""
_FEW_GROUPS = "too few groups"
TABLED, _PAIRS = 1000, 100
"""Most classes of which a confusion matrix is given; pairs of classes that are named instead of a larger one."""


@dataclass(frozen=True, repr=False)
class Evaluation(Result):
    """Metrics of one head on one set of rows, as scikit-learn defines them.

    Attributes:
        split: name of the split that the rows are of.
        rows: how many rows were measured.
        accuracy: share of rows whose most probable class is the true one.
        balanced_accuracy: mean recall of the classes that occur.
        macro_f1: mean F1 of the classes that occur, as true or as predicted class.
        log_loss: mean negative natural logarithm of the true class's probability.
        roc_auc: area under the ROC curve; None unless there are two classes, and rows of both.
        intervals: metric -> bounds of its 95 % interval, see :mod:`heads.metrics.estimates`.
        confusion_matrix: rows of class i that were predicted as class j, at [i][j]; None of more than :data:`TABLED`
            classes.
        per_class: for each class ``class, precision, recall, f1, support``, and ``recall_interval`` (95 %, Wilson's) if
            it has rows, of enough groups. A share of nothing is 0.
        seen: what the head had done with these rows before, :data:`heads.storage.record.FITTED` or
            :data:`heads.storage.record.CHOSEN`: the metrics then say little about other rows, and have no intervals;
            None for rows that are new to it.
        left_out: rows of the split that are not among these, since the head was fitted on them.
        measured: how often a head of its folder was measured on these test rows, this time included.
        groups: number of groups that the rows are of, if the source told; intervals are wider then, see
            :mod:`heads.metrics.clustered`.
        without_interval: metric -> why it has no interval, such as "too few rows".
        shift: how the rows differ from those that the head was fitted on, see :func:`heads.metrics.shift.differences`.
        threshold: with two classes, where to part them, see :func:`heads.metrics.shift.best_threshold`.
        confused: of more than :data:`TABLED` classes, the most frequent mistakes: ``class``, ``predicted``, ``rows``.
    """

    split: str
    rows: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    log_loss: float
    roc_auc: float | None
    intervals: dict[str, list[float]]
    confusion_matrix: list[list[int]] | None
    per_class: list[dict[str, Any]]
    without_interval: dict[str, str] = field(default_factory=dict)
    shift: list[str] = field(default_factory=list)
    threshold: dict[str, Any] | None = None
    seen: str | None = None
    left_out: int | None = None
    measured: int | None = None
    groups: int | None = None
    confused: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, without ``roc_auc`` and the fields below ``per_class`` where these are empty."""
        values = super().to_dict()
        return {name: value for name, value in values.items() if value is not None and (value or name in _ALWAYS)}

    def metrics(self) -> dict[str, float]:
        """Return the metrics that are one number, by name."""
        return {name: value for name, value in self.to_dict().items() if isinstance(value, float)}


_ALWAYS = frozenset(f.name for f in fields(Evaluation) if f.default is f.default_factory)
"""Fields without a default."""


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
    return measure_outcomes(Outcomes.of(np.asarray(y, np.intp), np.asarray(proba)), class_names, split, numbers)


def measure_outcomes(
    outcomes: Outcomes, class_names: Sequence[str], split: str, groups: NDArray[np.intp] | None = None
) -> Evaluation:
    """Measure probabilities as :func:`measure` does, from what was counted of them."""
    found, confusion = clustered(outcomes, groups), Confusion.of(outcomes)
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
        roc_auc=found["roc_auc"].value if "roc_auc" in found else None,
        intervals={name: list(each.interval) for name, each in found.items() if each.interval},
        confusion_matrix=confusion.matrix().tolist() if tabled else None,
        per_class=[_class_metrics(*row) for row in per_class],
        groups=None if groups is None else len(np.unique(groups)),
        without_interval={
            name: TOO_FEW if groups is None else _FEW_GROUPS for name, each in found.items() if not each.interval
        },
        confused=[
            {"class": class_names[true], "predicted": class_names[predicted], "rows": rows}
            for true, predicted, rows in (() if tabled else confusion.mistakes(_PAIRS))
        ],
    )


@dataclass(frozen=True, repr=False)
class PairedDifference(Result):
    """How two predictions of the same rows differ.

    Attributes:
        accuracy: how much more accurate the second one is.
        interval: 95 % interval of that, by a paired bootstrap over the rows, or over their groups.
        right, wrong: rows that the second one made right, and wrong.
        p_value: how likely such numbers are by chance, see :func:`heads.metrics.estimates.mcnemar`, and for rows in
            groups :func:`heads.metrics.estimates.sign_flips`.
        groups: number of groups that the rows are of; None where each row is its own.
    """

    accuracy: float
    interval: list[float]
    right: int
    wrong: int
    p_value: float
    groups: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, without ``groups`` where there are none."""
        return {name: value for name, value in super().to_dict().items() if name != "groups" or value is not None}


def paired_difference(
    y: NDArray[np.intp],
    before: Array,
    after: Array,
    *,
    groups: NDArray[np.intp] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedDifference:
    """Measure how much more accurate other predictions of the same rows are.

    (Efron & Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.) The interval takes for granted that a
    handful of rows differ; the p-value says whether so few may differ by chance.

    Args:
        y: true classes, int (N,).
        before, after: probabilities, float (N, C).
        groups: which rows belong together, such as patients (N,); these are resampled then. None where none do.
        resamples: how many resamples the interval is taken from.
        seed: of the resampling.
    """
    hits_before, hits_after = before.argmax(axis=1) == y, after.argmax(axis=1) == y
    right, wrong = int((hits_after & ~hits_before).sum()), int((hits_before & ~hits_after).sum())
    changed, rng = hits_after.astype(np.intp) - hits_before, np.random.default_rng(seed)
    if groups is None:
        # A resample draws rows, of which only these three kinds differ: their numbers are multinomial.
        shares = np.array([right, wrong, len(y) - right - wrong]) / len(y)
        drawn = rng.multinomial(len(y), shares, size=resamples)
        differences, chance = (drawn[:, 0] - drawn[:, 1]) / len(y), mcnemar(right, wrong)
    else:
        place = np.unique(groups, return_inverse=True)[1]
        changes = np.bincount(place, changed).astype(np.intp)
        # Groups of one size that changed alike are of one kind.
        kinds, counts = np.unique(np.stack([changes, np.bincount(place)]), axis=1, return_counts=True)
        drawn = rng.multinomial(len(changes), counts / len(changes), size=resamples)
        differences, chance = drawn @ kinds[0] / (drawn @ kinds[1]), sign_flips(changes)
    interval = np.percentile(differences, _TAILS).tolist()
    together = None if groups is None else len(np.unique(groups))
    return PairedDifference((right - wrong) / len(y), interval, right, wrong, chance, together)


def evaluate(
    head: str | os.PathLike[str],
    features: str | os.PathLike[str],
    split: str = "test",
    *,
    max_memory: int | None = None,
    group_near_duplicates: float | None = None,
    note: Callable[[str], None] | None = None,
) -> Evaluation:
    """Measure a saved head on one split of a feature file. Classes are matched by name.

    Rows that the head was fitted on are left out. Where all rows of the split are such, they are measured, and marked.
    Features are read a block at a time, however many there are.

    Args:
        head: folder of the saved head.
        features: feature file, or folder; files of the head's features are found by their fingerprint.
        split: which rows.
        max_memory: bytes that may be used, see :func:`heads.fit.fit_head`.
        group_near_duplicates, note: see :func:`heads.fit.fit_head`; intervals are wider for groups.

    Raises:
        HeadError: no readable head, or one that takes more memory; a class that it does not know, or no such rows.
        SpecMismatchError: the features were made in another way than those the head was fitted on.
        StoreError: no readable feature file.

    Example:
        >>> found = evaluate("head", "digits.h5")
        >>> found.split, found.rows
        ('test', 120)
        >>> low, high = found.intervals["accuracy"]
        >>> low < found.accuracy < high
        True
    """
    files = [Path(head) / name for name in (WEIGHTS, MODEL)]
    needed = _COPIES * sum(file.stat().st_size for file in files if file.is_file())
    if why := too_large(needed, max_memory, "its arrays take", "a smaller head"):
        raise HeadError(f"{head}: {why}")
    fitted = load_head(head)
    table = grouped_by_likeness(_features_for(fitted, features), group_near_duplicates, note)
    return answers(fitted, table, split).measured(Path(head))


@dataclass(frozen=True, eq=False)
class Answers:
    """A head's answers for the rows of one split.

    Attributes:
        fitted: the head.
        table: the features, of all splits.
        split: which rows were asked for.
        rows: their indices in the table (N,).
        outcomes: their true classes, by the head's numbers of classes, and what the probabilities say.
        seen: see :class:`Evaluation`.
        left_out: how many rows of the split the head was fitted on, if these are others.
    """

    fitted: FittedHead
    table: FeatureTable
    split: str
    rows: NDArray[np.intp]
    outcomes: Outcomes
    seen: str | None = None
    left_out: int = 0

    def measured(self, folder: Path | None) -> Evaluation:
        """Measure these answers, and add the remarks on their rows.

        Args:
            folder: the head's, where measures on test rows are counted; None: they are not counted.
        """
        names = self.fitted.class_names
        groups = self.table.groups(self.rows) if self.table.grouped else None
        found, outcomes = measure_outcomes(self.outcomes, names, self.split, groups), self.outcomes
        if self.seen:
            how = f"{self.seen} {'on' if self.seen == FITTED else 'by'} these"
            why = dict.fromkeys((*found.intervals, *found.without_interval), how)
            return replace(found, seen=self.seen, intervals={}, without_interval=why)
        counted = None
        if folder and self.split == "test":
            counted = note_measured(folder, self.split, self.table.digests[self.rows].tolist())
        reference = self.fitted.record and self.fitted.record.reference
        return replace(
            found, left_out=self.left_out or None, measured=counted,
            threshold=best_threshold(outcomes.y, outcomes.two_columns) if outcomes.classes == 2 else None,
            shift=differences(reference, outcomes, names) if reference else [],
        )  # fmt: skip

    def uncalibrated(self) -> Outcomes | None:
        """Return `outcomes` without the head's temperature; None where it has none."""
        if self.fitted.head.temperature_ == 1:
            return None
        head = copy(self.fitted.head)
        head.temperature_ = 1.0
        return replace(self.fitted, head=head).outcomes(self.table.stream(self.rows), self.outcomes.y)


def answers(fitted: FittedHead, features: str | os.PathLike[str] | FeatureTable, split: str = "test") -> Answers:
    """Compute a saved head's answer for each row; see :func:`evaluate`."""
    table = features if isinstance(features, FeatureTable) else _features_for(fitted, features)
    rows = table.rows(split)
    if not len(rows):
        counts = ", ".join(f"{name} ({count} rows)" for name, count in table.split_counts().items())
        raise HeadError(f"{table.path}: no rows of split {split!r}: choose one with  --split  of {counts or 'none'}")
    before = fitted.record.seen(table.digest_bytes[rows]) if fitted.record else np.full(len(rows), "")
    new = before != FITTED
    seen = None if new.any() else FITTED
    if new.any():
        rows, before = rows[new], before[new]
        seen = CHOSEN if (before == CHOSEN).any() else None
    labels = known_classes(fitted, table.class_names, table.path)[table.y[rows]]
    with table.named():
        outcomes = fitted.outcomes(table.stream(rows), labels)
    return Answers(fitted, table, split, rows, outcomes, seen, int((~new).sum()) if new.any() else 0)


def _features_for(fitted: FittedHead, path: str | os.PathLike[str]) -> FeatureTable:
    """Find the features that a head takes. Where several files fit, those of the head's data set are taken."""
    stores = [FeatureStore(file) for file in find_files(path)]
    sources: list[tuple[FeatureStore, str | None]] = []
    for wanted in fitted.inputs:
        found = [store for store in stores if store.fingerprint == wanted.fingerprint]
        found = [store for store in found if store.dataset == fitted.dataset] or found
        if len(found) > 1:
            raise StoreError(f"{path}: {len(found)} files fit: name one of {', '.join(s.path.name for s in found)}")
        if not found:
            nearest = min(stores, key=lambda store: len(store.spec.differences(wanted.spec)))
            fitted.check_input(wanted, nearest.path, nearest.spec)
        sources.append((found[0], wanted.tap))
    if fitted.numeric:
        with_numbers = [store for store in (*(s for s, _ in sources), *stores) if store.columns]
        fitted.check_columns(Path(path), with_numbers[0].columns if with_numbers else ())
        sources.append((with_numbers[0], TABULAR))
    return FeatureTable(stores[0].path if len(stores) == 1 else Path(path), sources)


def known_classes(fitted: FittedHead, names: Sequence[str], where: Path | str) -> NDArray[np.intp]:
    """Return the number that the head has for each class of `where`.

    Raises:
        HeadError: it does not know one of them.
    """
    known = {name: i for i, name in enumerate(fitted.class_names)}
    for name in names:
        if name not in known:
            raise HeadError(f"{where}: the head does not know class {name!r}: {suggest(name, known)}")
    return np.array([known[name] for name in names], np.intp)


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
