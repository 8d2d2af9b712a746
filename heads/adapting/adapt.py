"""Adapt a saved head to another place: a temperature, a shift for each class, and a threshold; nothing else.

The features stay, and so does what tells classes apart. A few labelled rows are enough for so few numbers, where a fit
of the head itself would need hundreds. Without labels, a class balance can be stated, or estimated: then nothing but
the balance may differ from the training rows', and if the images look different too, an estimate makes things worse.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError, suggest
from heads.adapting.result import Adaptation
from heads.evaluation.evaluate import features_for
from heads.feature_table import FeatureTable, Labels
from heads.metrics.outcomes import blocks
from heads.rows import BLOCK
from heads.solvers.calibration import stratified_folds
from heads.solvers.recalibration import Shift, estimated_balance, fit_shift, logarithms, shift_of_balance
from heads.storage.record import FITTED
from heads.storage.saved_head import FittedHead, check_target, load_head, save_head
from heads.storage.threshold import parsed_threshold, with_threshold
from heads.tasks.registry import check_one_class

Doubles = NDArray[np.float64]
Prior = str | Sequence[str] | Mapping[str, float] | None

ESTIMATE = "estimate"
"""The value of `prior` that asks for an estimate."""
_FOLDS = 5
"""Each labelled row is judged by a shift that was fitted to the others of so many folds."""
_FEW = 10
"""With fewer labelled rows, a note says so."""


@dataclass(frozen=True)
class _Change:
    """What is to be done to a head.

    Attributes:
        by, balance: see :class:`heads.adapting.result.Adaptation`.
        shift: of the head's own classes.
        rows: indices of the rows that it was found by (n,).
        held: probabilities (n, K) of labelled rows, each by a shift that was fitted to others, and their codes (n,).
        before: the probabilities (n, K) of the head as it was.
    """

    by: str
    balance: Doubles
    shift: Shift
    rows: Labels
    held: tuple[Doubles, Labels] | None = None
    before: Doubles | None = None


def adapt(
    head: str | os.PathLike[str] | FittedHead,
    features: str | os.PathLike[str] | FeatureTable | None = None,
    split: str = "test",
    *,
    rows: int | None = None,
    prior: Prior = None,
    threshold: str | float | None = None,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Adaptation:
    """Adapt a head of classes to rows of another place, and save it as a head like any other.

    Args:
        head: a saved head, or its folder.
        features: a feature file of the other place, or a folder or table of such; None with a stated balance.
        split: its rows.
        rows: use so many of them, drawn at random; their labels are read. All by default. The new head's record names
            them, so that ``evaluate`` measures it on the others.
        prior: the class balance of the other place, instead of labels: shares by class name (as a mapping, or as texts
            ``class=share``; those of two classes may be one), or ``estimate`` for one that is estimated from the
            predictions of the rows.
        threshold: of two classes, see :func:`heads.fit_head`; chosen on the labelled rows.
        out: the folder to save the new head in.
        seed: of the rows that are drawn.

    Returns:
        What was changed, with the new head.

    Raises:
        HeadError: no readable head, or one of another task; a class that it does not know, or no such rows; a balance
            that is none.
        SpecMismatchError: the features were made in another way than those that the head was fitted to.
        StoreError: no readable feature file.

    Example:
        >>> from heads import adapt
        >>> found = adapt("head", "digits.h5", "validation", rows=50, out="adapted")
        >>> found.by, found.rows, found.left
        ('labels', 50, 70)
        >>> stated = adapt("head", prior={f"digit {i}": 0.1 for i in range(10)})
        >>> stated.by, stated.temperature, max(stated.shift.values()) < 1
        ('stated', 1.0, True)
    """
    if out is not None:
        check_target(out)
    fitted = head if isinstance(head, FittedHead) else load_head(head)
    where = fitted.path or "the head"
    check_one_class(fitted.head.task_.name, where, "a balance, by which a head is adapted,")
    parted = parsed_threshold(threshold, fitted.class_names, fitted.head.task_.name)
    if isinstance(parted, str) and prior is not None:
        raise HeadError(f"--threshold {parted} is chosen on labelled rows: leave out --prior, or give a probability")
    if rows is not None and rows < 1:
        raise HeadError(f"--rows {rows}: give 1 or more")
    table = features if features is None or isinstance(features, FeatureTable) else features_for(fitted, features)
    chosen, left = (np.arange(0), 0) if table is None else _chosen(fitted, table, split, rows, seed)
    change = _change(fitted, table, chosen, prior, seed)
    made, notes = _adapted(fitted, table, change, parted)
    if len(missing := _unseen(made, change)):
        notes.append(f"no labelled row is of {', '.join(missing)}: it was only made a little less probable")
    made = made if out is None else save_head(out, made)
    return _told(fitted, made, change, split, left, notes)


def _chosen(fitted: FittedHead, table: FeatureTable, split: str, count: int | None, seed: int) -> tuple[Labels, int]:
    """Return the rows to adapt by, ascending, and how many of the split are left. Training rows are not used."""
    fitted.check_features(table)
    rows = table.rows(split)
    if fitted.record is not None:
        rows = rows[fitted.record.seen(table.digest_bytes[rows]) != FITTED]
    if not len(rows):
        counts = ", ".join(f"{name} ({some})" for name, some in table.split_counts().items())
        raise HeadError(
            f"{table.path}: no rows of split {split!r} that the head was not fitted to: choose one with --split of "
            f"{counts or 'none'}"
        )
    if count is not None and count > len(rows):
        raise HeadError(f"--rows {count}: there are {len(rows):,} {split} rows: give at most that many")
    drawn = np.random.default_rng(seed).permutation(len(rows))[:count]
    return np.sort(rows[drawn]), len(rows) - len(drawn)


def _change(fitted: FittedHead, table: FeatureTable | None, rows: Labels, prior: Prior, seed: int) -> _Change:
    if table is None and (prior is None or prior == ESTIMATE):
        raise HeadError("give a feature file of the other place, or its class balance with --prior class=share")
    classes = fitted.head.classes_
    if prior is None:
        assert table is not None
        y = fitted.head.task_.aligned(table.y[rows], table.class_names, fitted.class_names, table.path)
        known = np.isin(y, classes)
        if not known.any():
            raise HeadError(f"{table.path}: all of these rows are of classes that the head was not fitted to")
        rows, codes = rows[known], np.searchsorted(classes, y[known])
        return _by_labels(fitted, _probabilities(fitted, table, rows), codes, rows, table.groups(rows), seed)
    before = _balance(fitted)
    if before is None:
        raise HeadError(
            f"{fitted.path or 'the head'}: does not know the class balance of the rows that it was fitted to: fit it "
            "again, or adapt it by labelled rows, without --prior"
        )
    if prior != ESTIMATE:
        after = _stated(prior, fitted)
        return _Change("stated", after, shift_of_balance(before, after), np.arange(0))
    assert table is not None
    after = estimated_balance(_probabilities(fitted, table, rows), before)
    return _Change("estimated", after, shift_of_balance(before, after), rows)


def _by_labels(fitted: FittedHead, proba: Doubles, codes: Labels, rows: Labels, groups: Labels, seed: int) -> _Change:
    """Fit a shift to labelled rows, and judge each row by one that was fitted to others."""
    scaled = not fitted.head.scores_are_probabilities
    # One stratum: a class of one row must not keep that from being held out.
    folds = stratified_folds(np.zeros(len(rows), np.intp), _FOLDS, seed, groups)
    held = np.array(proba)
    for fold in range(int(folds.max(initial=-1)) + 1):
        out = folds == fold
        held[out] = fit_shift(proba[~out], codes[~out], scaled=scaled).of(proba[out])
    balance = np.bincount(codes, minlength=proba.shape[1]) / len(codes)
    shift = fit_shift(proba, codes, scaled=scaled)
    return _Change("labels", balance, shift, rows, (held, codes), proba)


def _adapted(
    fitted: FittedHead, table: FeatureTable | None, change: _Change, parted: str | float | None
) -> tuple[FittedHead, list[str]]:
    """Return the new head, and notes on what it no longer has."""
    notes = []
    head = fitted.head.adapted(change.shift.scale, change.shift.offset)
    record = fitted.record and replace(fitted.record, reference=None)
    made = replace(fitted, head=head, record=record, metrics={}, path=None, threshold=None, conformity=None)
    if fitted.threshold is not None and parted is None:
        notes.append(
            f"the threshold of {fitted.threshold:.3g} was one of the old place, and is left out: "
            "--threshold chooses one"
        )
    if change.held is None or table is None:
        notes.append("sets of a level (--level) need labelled rows of the new place: the new head has none")
        if change.by == "estimated":
            notes.append(
                "an estimated balance takes for granted that images look as before, and that only classes are more or "
                "less frequent: where that is doubtful, label some rows"
            )
        return with_threshold(made, parted, None), notes
    proba, codes = change.held
    if len(codes) < _FEW:
        notes.append(f"{len(codes)} labelled rows say little: label some more")
    if made.record is not None:
        made = replace(made, record=made.record.with_fitted(table.digests[change.rows]))
    made = made.with_reference(logarithms(proba), 1.0, codes, head.classes_)
    return with_threshold(made, parted, (proba, codes)), notes


def _probabilities(fitted: FittedHead, table: FeatureTable, rows: Labels) -> Doubles:
    """Return what the head says of some rows, for its own classes (n, K)."""
    step = min(BLOCK, next(blocks(len(rows), max(table.columns, len(fitted.class_names)))).stop)
    with table.named():
        parts = [
            fitted.predict_proba(table.read(rows[at : at + step], np.arange(0)))[:, fitted.head.classes_]
            for at in range(0, len(rows), max(step, 1))
        ]
    return np.concatenate(parts)


def _balance(fitted: FittedHead) -> Doubles | None:
    """Return the class balance that a head's probabilities stand for, of its own classes (K,); None if not known."""
    classes = fitted.head.classes_
    if fitted.head.evens_classes:
        return np.full(len(classes), 1 / len(classes))
    reference = None if fitted.record is None else fitted.record.reference
    if reference is None:
        return None
    counts = reference.counts[classes] + 1 / len(classes)  # a class may have had no row that was held out
    return np.asarray(counts / counts.sum())


def _stated(prior: Prior, fitted: FittedHead) -> Doubles:
    """Read a stated balance, of the head's own classes (K,)."""
    names = [fitted.class_names[i] for i in fitted.head.classes_]
    texts = prior.split(",") if isinstance(prior, str) else prior
    pairs: Any = texts.items() if isinstance(texts, Mapping) else [t.rpartition("=")[::2] for t in texts or ()]
    shares: dict[str, float] = {}
    for name, value in ((name.strip(), value) for name, value in pairs):
        if name not in names:
            raise HeadError(f"--prior {name}: {suggest(name, names)}; or write {ESTIMATE}")
        try:
            shares[name] = float(value)
        except ValueError:
            shares[name] = np.nan
        if not 0 < shares[name] < 1:
            raise HeadError(f"--prior {name}={value}: give a share above 0 and below 1")
    if len(names) == 2 and len(shares) == 1:
        shares = {name: shares.get(name, 1 - sum(shares.values())) for name in names}
    if missing := [name for name in names if name not in shares]:
        raise HeadError(f"--prior: no share of {missing[0]!r}: give one of each class, or write {ESTIMATE}")
    total = sum(shares.values())
    if abs(total - 1) > 0.01:
        raise HeadError(f"--prior: the shares add up to {total:g}, not 1")
    return np.array([shares[name] / total for name in names])


def _unseen(fitted: FittedHead, change: _Change) -> list[str]:
    if change.held is None:
        return []
    return [fitted.class_names[fitted.head.classes_[i]] for i in np.flatnonzero(change.balance == 0)]


def _told(fitted: FittedHead, made: FittedHead, change: _Change, split: str, left: int, notes: list[str]) -> Adaptation:
    names = [fitted.class_names[i] for i in fitted.head.classes_]
    known = _balance(fitted)
    values: dict[str, Any] = {}
    if change.held is not None and change.before is not None:
        proba, codes = change.held
        values = {"before": _measured(change.before, codes), "after": _measured(proba, codes)}
    return Adaptation(
        head=made,
        path=None if made.path is None else str(made.path),
        by=change.by,
        split=None if change.by == "stated" else split,
        rows=len(change.rows),
        left=left,
        temperature=1 / change.shift.scale,
        shift=_named(names, change.shift.offset),
        balance=_named(names, change.balance),
        balance_before=None if known is None else _named(names, known),
        threshold=made.threshold,
        **values,
        notes=notes,
    )


def _named(names: Sequence[str], values: Doubles) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def _measured(proba: Doubles, codes: Labels) -> dict[str, float]:
    own = logarithms(proba)[np.arange(len(codes)), codes]
    return {"accuracy": float((proba.argmax(axis=1) == codes).mean()), "log_loss": float(-own.mean())}
