"""How good a head is on rows that it was not fitted on, with NumPy alone."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import HeadError, StoreError, suggest
from featurestore.store import FeatureStore, find_files
from heads.data import FeatureTable
from heads.persist import FittedHead, load_head
from heads.record import CHOSEN, FITTED, note_measured
from heads.scores import softmax

Array = NDArray[np.float64]

_BLOCK = 2**19
"""Resampled rows at a time: memory stays at a few dozen megabytes, whatever the number of rows."""
_TAILS = (2.5, 97.5)
"""Percentiles that bound a 95 % interval."""
NORMAL_95 = 1.959964
"""The same in standard deviations of a normal distribution."""


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one head on one set of rows, as scikit-learn defines them.

    Attributes:
        split: name of the split the rows are of.
        rows: how many.
        accuracy: share of rows whose most probable class is the true one.
        balanced_accuracy: mean recall of the classes that occur.
        macro_f1: mean F1 of the classes that occur, as true or as predicted class.
        log_loss: mean negative natural logarithm of the true class's probability.
        roc_auc: area under the ROC curve; None unless there are two classes, and rows of both.
        intervals: metric -> bounds of its 95 % bootstrap interval; empty without resamples.
        confusion_matrix: rows of class i that were predicted as class j, at [i][j].
        per_class: for each class ``class, precision, recall, f1, support``, and ``recall_interval`` (95 %, Wilson's) if
            it has rows. A share of nothing is 0.
        seen: what the head had done with these rows before, :data:`heads.record.FITTED` or :data:`heads.record.CHOSEN`:
            the metrics then say little about other rows, and have no intervals; None for rows that are new to it.
        left_out: rows of the split that are not among these, since the head was fitted on them.
        measured: how often a head of its folder was measured on these test rows, this time included.
    """

    split: str
    rows: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    log_loss: float
    roc_auc: float | None
    intervals: dict[str, list[float]]
    confusion_matrix: list[list[int]]
    per_class: list[dict[str, Any]]
    seen: str | None = None
    left_out: int | None = None
    measured: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; without what is None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def metrics(self) -> dict[str, float]:
        """The metrics that are one number."""
        return {name: value for name, value in self.to_dict().items() if isinstance(value, float)}


def measure(
    y: ArrayLike,
    proba: ArrayLike,
    class_names: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
    split: str = "",
) -> Evaluation:
    """Metrics of predicted probabilities, with percentile bootstrap intervals over rows.

    (Efron & Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.)

    Args:
        y: true classes (N,), N > 0, indices into `class_names`.
        proba: probabilities (N, len(class_names)).
        class_names: all classes.
        resamples: how many; 0 for no intervals.
        seed: of the resampling.
        split: name of the split the rows are of.
    """
    y, proba = np.asarray(y, np.intp), np.asarray(proba, np.float64)
    if len(class_names) == 2:
        order = np.argsort(proba[:, 1])  # for the ROC curve
        y, proba = y[order], proba[order]
    rows, judged = len(y), _Judged.of(y, proba)
    point: dict[str, Any] = {name: float(value[0]) for name, value in judged.metrics(np.ones((1, rows))).items()}
    auc = point.pop("roc_auc", np.nan)
    confusion = np.zeros((len(class_names),) * 2, np.int64)
    np.add.at(confusion, (y, judged.predicted), 1)
    return Evaluation(
        split=split,
        rows=rows,
        **point,
        roc_auc=None if np.isnan(auc) else auc,
        intervals=_intervals(judged, resamples, seed),
        confusion_matrix=confusion.tolist(),
        per_class=[_class_metrics(name, confusion, i) for i, name in enumerate(class_names)],
    )


def paired_difference(
    y: NDArray[np.intp], before: Array, after: Array, *, resamples: int = 10_000, seed: int = 0
) -> dict[str, Any]:
    """How much more accurate other predictions of the same rows are, with a paired bootstrap interval over rows.

    (Efron & Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.)

    Args:
        y: true classes (N,).
        before, after: probabilities (N, C).
        resamples: how many.
        seed: of the resampling.

    Returns:
        ``accuracy``, the difference, its 95 % ``interval``, and the rows that became ``right`` or ``wrong``.
    """
    hits_before, hits_after = before.argmax(axis=1) == y, after.argmax(axis=1) == y
    right, wrong = int((hits_after & ~hits_before).sum()), int((hits_before & ~hits_after).sum())
    # A resample draws rows, of which only these three kinds differ: their numbers are multinomial.
    shares = np.array([right, wrong, len(y) - right - wrong]) / len(y)
    drawn = np.random.default_rng(seed).multinomial(len(y), shares, size=resamples)
    interval = np.percentile((drawn[:, 0] - drawn[:, 1]) / len(y), _TAILS).tolist()
    return {"accuracy": (right - wrong) / len(y), "interval": interval, "right": right, "wrong": wrong}


def evaluate(
    head: str | os.PathLike[str], features: str | os.PathLike[str], split: str = "test", *, seed: int = 0
) -> Evaluation:
    """Judge a saved head on one split of a feature file. Classes are matched by name.

    Rows that the head was fitted on are left out. Where all rows of the split are such, they are judged, and marked.

    Args:
        head: folder of the saved head.
        features: feature file, or folder; files of the head's features are found by their fingerprint.
        split: which rows.
        seed: of the bootstrap.

    Raises:
        HeadError: no readable head, a class that it does not know, or no such rows.
        SpecMismatchError: the features were made in another way than those the head was fitted on.
        StoreError: no readable feature file.
    """
    found = answers(load_head(head), features, split)
    counted = None
    if split == "test" and not found.seen:
        counted = note_measured(Path(head), split, found.table.digests[found.rows].tolist())
    judged = measure(
        found.y, found.proba, found.fitted.class_names, resamples=0 if found.seen else 1000, seed=seed, split=split
    )
    return replace(judged, seen=found.seen, left_out=found.left_out or None, measured=counted)


@dataclass(frozen=True, eq=False)
class Answers:
    """What a head says of the rows of one split.

    Attributes:
        fitted: the head.
        table: the features, of all splits.
        rows: indices in the table of the rows that were asked for (N,).
        y: their true classes (N,), as the head numbers them.
        proba: their probabilities (N, C).
        seen: see :class:`Evaluation`.
        left_out: how many rows of the split the head was fitted on, if these are others.
    """

    fitted: FittedHead
    table: FeatureTable
    rows: NDArray[np.intp]
    y: NDArray[np.intp]
    proba: Array
    seen: str | None = None
    left_out: int = 0

    def uncalibrated(self) -> Array | None:
        """As `proba`, with the head's temperature left out; None where there is none."""
        temperature = self.fitted.head.temperature_
        if temperature == 1:
            return None
        with np.errstate(divide="ignore"):  # a class without training rows has probability 0
            return softmax(np.log(self.proba) * temperature)  # the scores, up to a constant in each row


def answers(fitted: FittedHead, features: str | os.PathLike[str], split: str = "test") -> Answers:
    """Each row's answer of a saved head; see :func:`evaluate`."""
    table = _features_for(fitted, features)
    rows = table.rows(split)
    if not len(rows):
        counts = ", ".join(f"{name} ({count} rows)" for name, count in table.split_counts().items())
        raise HeadError(f"{table.path}: no rows of split {split!r}: choose one with  --split  of {counts or 'none'}")
    before = fitted.record.seen(table.digests[rows].tolist()) if fitted.record else np.full(len(rows), "")
    new = before != FITTED
    seen = None if new.any() else FITTED
    if new.any():
        rows, before = rows[new], before[new]
        seen = CHOSEN if (before == CHOSEN).any() else None
    labels = known_classes(fitted, table.class_names, table.path)[table.y[rows]]
    proba = fitted.predict_proba(table.read(rows, rows[:0]))
    return Answers(fitted, table, rows, labels, proba, seen, int((~new).sum()) if new.any() else 0)


def _features_for(fitted: FittedHead, path: str | os.PathLike[str]) -> FeatureTable:
    """The features that a head takes. Where several files fit, those of the head's data set are taken."""
    stores, sources = [FeatureStore(file) for file in find_files(path)], []
    for wanted in fitted.inputs:
        found = [store for store in stores if store.fingerprint == wanted.fingerprint]
        found = [store for store in found if store.dataset == fitted.dataset] or found
        if len(found) > 1:
            raise StoreError(f"{path}: {len(found)} files fit: name one of {', '.join(s.path.name for s in found)}")
        if not found:
            nearest = min(stores, key=lambda store: len(store.spec.differences(wanted.spec)))
            fitted.check_input(wanted, nearest.path, nearest.spec)
        sources.append((found[0], wanted.tap))
    return FeatureTable(stores[0].path if len(stores) == 1 else Path(path), sources)


def known_classes(fitted: FittedHead, names: Sequence[str], where: Path | str) -> NDArray[np.intp]:
    """The number that the head has for each class of `where`.

    Raises:
        HeadError: it does not know one of them.
    """
    known = {name: i for i, name in enumerate(fitted.class_names)}
    for name in names:
        if name not in known:
            raise HeadError(f"{where}: the head does not know class {name!r}: {suggest(name, known)}")
    return np.array([known[name] for name in names], np.intp)


@dataclass(frozen=True, eq=False)
class _Judged:
    """What the metrics need of each row; with two classes, in the order of their probabilities.

    Attributes:
        y, predicted: true and most probable class (N,).
        loss: float64 (N,).
        ties: with two classes, where each run of equal probabilities begins.
        classes: how many.
    """

    y: NDArray[np.intp]
    predicted: NDArray[np.intp]
    loss: Array
    ties: NDArray[np.intp]
    classes: int

    @classmethod
    def of(cls, y: NDArray[np.intp], proba: Array) -> "_Judged":
        true = proba[np.arange(len(y)), y]
        return cls(
            y=y,
            predicted=proba.argmax(axis=1),
            # Clipped as scikit-learn does, so that a single impossible row does not make the mean infinite.
            loss=-np.log(np.clip(true, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)),
            ties=np.flatnonzero(np.diff(proba[:, -1], prepend=np.nan) != 0),
            classes=proba.shape[1],
        )

    def metrics(self, weights: Array) -> dict[str, Array]:
        """Each metric (B,) for B ways to weigh the rows: float64 (B, N) with row sums N."""
        rows = len(self.y)
        hits = self._sums(weights * (self.y == self.predicted), self.y)
        support, predicted = self._sums(weights, self.y), self._sums(weights, self.predicted)
        with np.errstate(invalid="ignore"):  # 0 / 0 is nan: a class that does not occur
            found = {
                "accuracy": hits.sum(axis=1) / rows,
                "balanced_accuracy": np.nanmean(hits / support, axis=1),
                "macro_f1": np.nanmean(2 * hits / (support + predicted), axis=1),
                "log_loss": weights @ self.loss / rows,
            }
            if self.classes == 2:
                positive = np.add.reduceat(weights * self.y, self.ties, axis=1)
                negative = np.add.reduceat(weights, self.ties, axis=1) - positive
                below = negative.cumsum(axis=1) - negative / 2
                found["roc_auc"] = (positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
        return found

    def _sums(self, weights: Array, groups: NDArray[np.intp]) -> Array:
        """Sum of weights (B, N) in each class: (B, C)."""
        cells = groups + self.classes * np.arange(len(weights))[:, None]
        sums = np.bincount(cells.ravel(), weights.ravel(), minlength=len(weights) * self.classes)
        return sums.astype(np.float64, copy=False).reshape(len(weights), self.classes)


def _intervals(judged: _Judged, resamples: int, seed: int) -> dict[str, list[float]]:
    """95 % percentile bootstrap interval of each metric."""
    rng, rows = np.random.default_rng(seed), len(judged.y)
    step = max(1, _BLOCK // rows)
    drawn: dict[str, list[Array]] = {}
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        cells = rng.integers(rows, size=(size, rows)) + rows * np.arange(size)[:, None]
        weights = np.bincount(cells.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)
        for name, values in judged.metrics(weights).items():
            drawn.setdefault(name, []).append(values[np.isfinite(values)])
    joined = {name: np.concatenate(parts) for name, parts in drawn.items()}
    return {name: np.percentile(values, _TAILS).tolist() for name, values in joined.items() if values.size}


def _class_metrics(name: str, confusion: NDArray[np.int64], i: int) -> dict[str, Any]:
    hits, support, predicted = int(confusion[i, i]), int(confusion[i].sum()), int(confusion[:, i].sum())
    found = {
        "class": name,
        "precision": hits / max(predicted, 1),
        "recall": hits / max(support, 1),
        "f1": 2 * hits / max(support + predicted, 1),
        "support": support,
    }
    return found | ({"recall_interval": wilson(hits, support)} if support else {})


def wilson(hits: int, of: int) -> list[float]:
    """95 % interval of a share.

    It is sensible for a handful of rows too, where the bootstrap finds no doubt in 5 of 5. (E. B. Wilson, "Probable
    inference, the law of succession, and statistical inference", JASA 1927.)
    """
    share, weight = hits / of, NORMAL_95**2 / of
    centre = (share + weight / 2) / (1 + weight)
    half = NORMAL_95 / (1 + weight) * np.sqrt(share * (1 - share) / of + weight / 4 / of)
    return [max(0.0, float(centre - half)), min(1.0, float(centre + half))]
