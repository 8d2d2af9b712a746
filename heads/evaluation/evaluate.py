"""Measure how good a head is on rows that it was not fitted on, with NumPy alone."""

import os
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError, StoreError
from featurestore.store.file_format import TABULAR
from featurestore.store.reader import FeatureStore, find_files
from featurestore.system.results import Result
from heads.evaluation.alike import grouped_by_likeness
from heads.feature_table import FeatureTable
from heads.kinds.base import MODEL, WEIGHTS, too_large
from heads.metrics.estimates import mcnemar, sign_flips
from heads.metrics.evaluation import Evaluated, Evaluation
from heads.metrics.shift import best_threshold, differences
from heads.storage.record import CHOSEN, FITTED, note_measured
from heads.storage.saved_head import FittedHead, load_head
from heads.tasks.base import Bound

Array = NDArray[np.float64]

_TAILS = (2.5, 97.5)
"""Percentiles at the ends of a 95 % interval."""

_COPIES = 2
"""While a head is loaded, its file and its arrays are in memory."""


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
    return paired_hits(
        before.argmax(axis=1) == y, after.argmax(axis=1) == y, groups=groups, resamples=resamples, seed=seed
    )


def paired_hits(
    hits_before: NDArray[np.bool_],
    hits_after: NDArray[np.bool_],
    *,
    groups: NDArray[np.intp] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedDifference:
    """Do as :func:`paired_difference`, of answers that are known to be right or wrong, bool (N,)."""
    rows = len(hits_before)
    right, wrong = int((hits_after & ~hits_before).sum()), int((hits_before & ~hits_after).sum())
    changed, rng = hits_after.astype(np.intp) - hits_before, np.random.default_rng(seed)
    if groups is None:
        # A resample draws rows, of which only these three kinds differ: their numbers are multinomial.
        shares = np.array([right, wrong, rows - right - wrong]) / rows
        drawn = rng.multinomial(rows, shares, size=resamples)
        differences, chance = (drawn[:, 0] - drawn[:, 1]) / rows, mcnemar(right, wrong)
    else:
        place = np.unique(groups, return_inverse=True)[1]
        changes = np.bincount(place, changed).astype(np.intp)
        # Groups of one size that changed alike are of one kind.
        kinds, counts = np.unique(np.stack([changes, np.bincount(place)]), axis=1, return_counts=True)
        drawn = rng.multinomial(len(changes), counts / len(changes), size=resamples)
        differences, chance = drawn @ kinds[0] / (drawn @ kinds[1]), sign_flips(changes)
    interval = np.percentile(differences, _TAILS).tolist()
    together = None if groups is None else len(np.unique(groups))
    return PairedDifference((right - wrong) / rows, interval, right, wrong, chance, together)


def evaluate(
    head: str | os.PathLike[str],
    features: str | os.PathLike[str],
    split: str = "test",
    *,
    level: float | None = None,
    max_memory: int | None = None,
    group_near_duplicates: float | None = None,
    note: Callable[[str], None] | None = None,
) -> Evaluated:
    """Measure a saved head on one split of a feature file. Classes are matched by name.

    Rows that the head was fitted on are left out. Where all rows of the split are such, they are measured, and marked.
    Features are read a block at a time, however many there are.

    Args:
        head: folder of the saved head.
        features: feature file, or folder; files of the head's features are found by their fingerprint.
        split: which rows.
        level: measure sets of classes, or intervals of numbers, that hold what is true so often, see
            :func:`heads.predict`.
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
    table = grouped_by_likeness(features_for(fitted, features), group_near_duplicates, note)
    return answers(fitted, table, split).measured(Path(head), fitted.bound(level))


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
    outcomes: Any
    seen: str | None = None
    left_out: int = 0

    def measured(self, folder: Path | None, bound: Bound | None = None) -> Evaluated:
        """Measure these answers, and add the remarks on their rows.

        Args:
            folder: the head's, where measures on test rows are counted; None: they are not counted.
            bound: of the sets or intervals that are measured too, see :meth:`heads.tasks.base.Task.bound`.
        """
        names = self.fitted.class_names
        groups = self.table.groups(self.rows) if self.table.grouped else None
        task, link, outcomes = self.fitted.head.task_, self.fitted.head.link_, self.outcomes
        found = task.measure(outcomes, names, self.split, groups, link, bound)
        if self.seen:
            how = f"{self.seen} {'on' if self.seen == FITTED else 'by'} these"
            why = dict.fromkeys((*found.intervals, *found.without_interval), how)
            return replace(found, seen=self.seen, intervals={}, without_interval=why)
        counted = None
        if folder and self.split == "test":
            counted = note_measured(folder, self.split, self.table.digests[self.rows].tolist())
        found = replace(found, left_out=self.left_out or None, measured=counted)
        if not isinstance(found, Evaluation):  # the remarks below are on classes
            return found
        reference = self.fitted.record and self.fitted.record.reference
        return replace(
            found,
            threshold=best_threshold(outcomes.y, outcomes.two_columns) if outcomes.classes == 2 else None,
            parted_at=self.fitted.threshold,
            shift=differences(reference, outcomes, names) if reference else [],
        )

    def uncalibrated(self) -> Any:
        """Return `outcomes` without the head's temperature; None where it has none."""
        if self.fitted.head.temperature_ == 1 or self.fitted.head.link_ is not None:
            return None
        head = copy(self.fitted.head)
        head.temperature_ = 1.0
        return replace(self.fitted, head=head).outcomes(self.table.stream(self.rows), self.outcomes.y)


def answers(fitted: FittedHead, features: str | os.PathLike[str] | FeatureTable, split: str = "test") -> Answers:
    """Compute a saved head's answer for each row; see :func:`evaluate`."""
    table = features if isinstance(features, FeatureTable) else features_for(fitted, features)
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
    fitted.check_task(table.task, table.path)
    labels = fitted.head.task_.aligned(table.y[rows], table.class_names, fitted.class_names, table.path)
    with table.named():
        outcomes = fitted.outcomes(table.stream(rows), labels)
    return Answers(fitted, table, split, rows, outcomes, seen, int((~new).sum()) if new.any() else 0)


def features_for(fitted: FittedHead, path: str | os.PathLike[str]) -> FeatureTable:
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
