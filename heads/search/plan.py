"""The rows of a table that a sweep fits heads to, and those that it judges them on."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError
from heads.feature_table import FeatureTable, Floats, Labels
from heads.fit import check_train
from heads.rows import Codes, NumericScaling, stay_on_disk
from heads.solvers.arrays import UNUSABLE, Extent, unusable
from heads.solvers.calibration import held_most, strata_of, stratified_folds, thinned
from heads.solvers.folds import Division, scratch
from heads.tasks.registry import TASKS, Asked

JUDGING = 2500
"""Least number of rows that judge the designs of a part, where these rows train nothing, if there are as many."""
_NAMED = 10
"""Greatest number of classes that a note names."""


class SweepPlan:
    """The rows of a table that a sweep uses, and the fold of each.

    Attributes:
        notes: sentences about rows that are left out.
        asked: what is asked of the rows.
        classes: the classes that the columns of scores stand for (C,).
        judged_splits: the splits that the judged rows are from.
        whole: whether these are all rows and folds that there are: no :meth:`part` of them, not :meth:`one_fold`.
    """

    def __init__(self, table: FeatureTable, folds: int | None, views: bool, seed: int) -> None:
        self._table, self._task = table, TASKS[table.task]
        self.notes: list[str] = []
        splits = ("train",) if folds is None else ("train", "validation")
        rows = table.rows(*splits)
        check_train(table, rows)
        if folds is not None:
            fold = self._folds(rows, folds, seed)
        else:
            held = self._validation(rows, seed)
            rows, fold = np.concatenate([rows, held]), np.repeat([-1, 0], [len(rows), len(held)])
        shown = np.full(len(table.y), -1)
        shown[rows] = np.arange(len(rows))
        owners = shown[table.view_rows] if views else np.empty(0, np.intp)
        used = np.flatnonzero((owners >= 0) & ((fold[owners] < 0) | (folds is not None)))
        image = np.concatenate([np.arange(len(rows)), owners[used]])
        fold = fold[image]
        # Fold by fold, so that a block of rows is held out of a fit as a whole or not at all.
        order = np.argsort(fold, kind="stable")
        self._source = np.concatenate([rows, len(table.y) + used])[order]
        self._image, self._fold, self._plain = image[order], fold[order], (np.arange(len(image)) < len(rows))[order]
        answers = np.concatenate([table.y[rows], table.y[table.view_rows[used]]])
        self.classes, codes, link = self._task.encode(answers, plain=len(rows))
        self.asked = Asked(self._task, link)
        self._codes = codes[order]
        self.judged_splits = ("validation",) if folds is None else ("train", "validation")
        self.whole, self._groups, self._seed = True, table.groups(rows), seed

    @property
    def held_codes(self) -> Codes:
        """What the scores of the rows that designs are judged on are to be, in the order of :attr:`Division.judged`."""
        return np.asarray(self._codes[self._plain & (self._fold >= 0)])

    @property
    def held_rows(self) -> Labels:
        """Indices in the table of these rows (J,)."""
        return np.asarray(self._source[self._plain & (self._fold >= 0)])

    @property
    def rows(self) -> int:
        """Number of images."""
        return int(self._plain.sum())

    @property
    def extent(self) -> Extent:
        """Number of rows, columns and classes."""
        return Extent.of(self._fold, self._table.columns, len(self.classes))._replace(task=self._task.name)

    def part(self, share: float) -> "SweepPlan":
        """Return a share of the images of each class in each fold, and of those that are never held out, rounded up.

        The folds are the same, groups stay whole, and an image's views go with it. A smaller part is within a larger
        one. Where rows train or judge, but never both, the share of the latter is greater: they decide, and cost less.
        """
        if share >= 1:
            return self
        rows = np.flatnonzero(self._plain)
        fold, codes = np.empty(len(rows), np.intp), np.empty(len(rows), np.intp)
        fold[self._image[rows]], codes[self._image[rows]] = self._fold[rows], strata_of(self._codes[rows])
        shares = np.full(len(rows), share)
        if (fold < 0).any():
            shares[fold >= 0] = min(1.0, max(share, JUDGING / (fold >= 0).sum()))
        kept = _drawn(codes * (fold.max() + 2) + fold + 1, self._groups, shares, self._seed)
        made, mine = copy(self), kept[self._image]
        for name in ("_source", "_fold", "_plain", "_codes"):
            setattr(made, name, getattr(self, name)[mine])
        made._image, made._groups = (kept.cumsum() - 1)[self._image[mine]], self._groups[kept]
        made.whole = bool(kept.all())
        return made

    def one_fold(self) -> "SweepPlan":
        """Return the same rows, of which the last fold alone is held out."""
        made = copy(self)
        made._fold = np.where(self._fold == self._fold.max(), 0, -1)
        made.whole = False
        return made

    @property
    def folds(self) -> int:
        """Number of folds."""
        return int(self._fold.max()) + 1

    def _folds(self, rows: Labels, folds: int, seed: int) -> Labels:
        """Return the fold that each row is held out in; -1 for rows that are never held out."""
        answers, groups = self._table.y[rows], self._table.groups(rows)
        most, why = self._task.most_folds(answers)
        if not 2 <= folds <= most:
            least = f"2 to {most}" if most > 2 else "2" if most == 2 else "0"
            raise HeadError(f"--cv {folds}: give {least}, as {why}")
        fold = stratified_folds(self._task.encode(answers).codes, folds, seed, groups)
        if never := int((fold < 0).sum()):
            self.notes.append(f"{never} rows are never held out: no other images of their class would be left")
        if never == len(fold):
            raise HeadError(f"{self._table.path}: no row can be held out: extract more images of each class")
        return self._thinned(fold, rows, rows, seed, "the others are always trained on")

    def _validation(self, rows: Labels, seed: int) -> Labels:
        """Return the validation rows on which heads that are fitted to `rows` are judged."""
        table = self._table
        held = table.rows("validation")
        known = self._task.known(table.y[held], np.unique(table.y[rows]))
        if not known.any():
            raise HeadError(f"{table.path}: no validation rows of classes that train rows show: give --cv 5")
        if not known.all():
            missing = [table.class_names[i] for i in np.unique(table.y[held][~known])]
            named = ", ".join(missing[:_NAMED]) + (f" and {len(missing) - _NAMED} more" * (len(missing) > _NAMED))
            self.notes.append(f"{(~known).sum()} validation rows are left out: no train rows of {named}")
        held = held[known]
        others = "the others come in when the winner is refitted"
        return held[self._thinned(np.zeros_like(held), held, rows, seed, others) >= 0]

    def _thinned(self, fold: Labels, held: Labels, trained: Labels, seed: int, others: str) -> Labels:
        """Return the folds with no more rows held out than have scores that fit in memory, see :func:`thinned`."""
        classes = self._task.width(self._table.y[trained])
        found = thinned(fold, held_most(classes), seed, self._table.groups(held))
        before, after = (int((each >= 0).sum()) for each in (fold, found))
        if after < before:
            self.notes.append(
                f"heads are judged on {after:,} of {before:,} rows, whose scores of {classes:,} classes fit in memory: "
                + others
            )
        return found

    @contextmanager
    def division(self, max_memory: int | None, folder: Path) -> Iterator[Division]:
        """Yield the rows: in a file in `folder` that several processes can map, or as they are read from the table."""
        streamed = self._table.stream(self._source)
        weights = None if self._plain.all() else 1 / np.bincount(self._image)[self._image]
        whole = Division(
            streamed, self._codes, self._fold, self._image, self._plain, weights, self._groups,
            numeric=self._table.numbers(self._source) if self._table.numeric else None,
        )  # fmt: skip
        if stay_on_disk(*streamed.shape, 1, max_memory):
            for block in streamed.blocks():
                self._check(block)
            yield whole
            return
        # Windows deletes no file that is still mapped: what stays is deleted by the next sweep.
        with tempfile.TemporaryDirectory(dir=folder, prefix="rows-", ignore_cleanup_errors=True) as place:
            X = scratch(Path(place) / "rows", np.float32, streamed.shape)
            for part in whole.blocks():
                X[part] = streamed[part]
                self._check(X[part])
            yield replace(whole, X=X)

    def _check(self, block: Floats) -> None:
        if columns := len(self._table.numeric):
            block = NumericScaling.none(columns).apply(block)
        if unusable(block).any():
            raise HeadError(f"{self._table.path}: {UNUSABLE}: leave these rows out, or extract again")


def _drawn(stratum: Labels, groups: Labels, shares: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    """Return a mask (I,) that holds a share of each stratum, and no part of a group; greater shares hold smaller ones.

    Args:
        stratum: number of the stratum of each image (I,).
        groups: number of the group of each image (I,).
        shares: the share of each image's stratum (I,).
        seed: of the order in which groups are taken.
    """
    rank = np.random.default_rng(seed).permutation(int(groups.max()) + 1)[groups]
    order = np.lexsort((rank, stratum))
    place = np.empty(len(order), np.intp)
    place[order] = np.arange(len(order)) - np.searchsorted(stratum[order], stratum[order])
    chosen = place < shares * np.bincount(stratum)[stratum]
    return np.isin(groups, groups[chosen])
