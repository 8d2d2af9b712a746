"""Training sets of a learning curve: what is held out, and the rows that each size and repeat is fitted to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError
from heads.choices import HeldOut
from heads.feature_table import FeatureTable, Labels
from heads.fit import check_train
from heads.forecasting.subsets import nested, shots_of, sizes_of
from heads.search.sweep import DEFAULT_FOLDS, FEW
from heads.solvers.calibration import stratified_folds

_STEPS = 8


@dataclass(frozen=True, eq=False)
class Repeat:
    """Rows to train on, and rows to measure on, which share no group.

    Attributes:
        pool: indices of the rows that training sets are drawn from (P,).
        held: indices of the rows that are held out (J,).
        seed: of the order in which the pool's rows are taken.
    """

    pool: Labels
    held: Labels
    seed: int


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """One training set.

    Attributes:
        point: the size, or the number of images of each class, that was asked for.
        repeat: which repeat it is of.
        rows: indices of its rows (n,).
    """

    point: int
    repeat: int
    rows: Labels


def how_held_out(table: FeatureTable) -> HeldOut:
    """Return what is held out if nobody says: as in a sweep the validation rows if there are a thousand, else folds."""
    return "validation" if len(table.rows("validation")) >= FEW else "folds"


def repeats_of(table: FeatureTable, held_out: HeldOut, count: int, seed: int) -> list[Repeat]:
    """Divide rows into those that train and those that are held out, once for each repeat.

    With folds of the train and validation rows, each repeat holds out another one; a split that is given is held out
    of all. Of test rows, train and validation rows are fitted to; of validation rows, train rows.

    Raises:
        HeadError: no rows to train on, or to hold out; or a single class.
    """
    splits = ("train",) if held_out == "validation" else ("train", "validation")
    pool = table.rows(*splits)
    check_train(table, pool)
    if held_out != "folds":
        held = table.rows(held_out)
        held = held[np.isin(table.y[held], table.y[pool])]
        if not len(held):
            there = ", ".join(f"{name} ({rows})" for name, rows in table.split_counts().items())
            raise HeadError(f"{table.path}: no {held_out} rows of classes that train rows show, of {there}: "
                            "give --held-out folds")  # fmt: skip
        return [Repeat(pool, held, seed + i) for i in range(count)]
    y, groups = table.y[pool].astype(np.intp), table.groups(pool)
    found: list[Repeat] = []
    while len(found) < count:
        fold = stratified_folds(y, DEFAULT_FOLDS, seed + len(found), groups)
        if fold.max() < 1:
            raise HeadError(f"{table.path}: too few rows to hold some out: extract more images of each class")
        found += [Repeat(pool[fold != i], pool[fold == i], seed + len(found) + i) for i in range(fold.max() + 1)]
    return found[:count]


def of_sizes(table: FeatureTable, repeats: Sequence[Repeat], sizes: Sequence[int]) -> Iterator[TrainingSet]:
    """Yield nested training sets of each size and repeat, the smallest size first.

    Args:
        table: the features.
        repeats: see :func:`repeats_of`.
        sizes: numbers of rows; () for up to eight at equal steps of their logarithm.

    Raises:
        HeadError: a size is greater than there are rows, or leaves classes without a row.
    """
    orders = [nested(table.y[each.pool].astype(np.intp), table.groups(each.pool), each.seed) for each in repeats]
    fewest, most = max(order.fewest for order in orders), min(len(each.pool) for each in repeats)
    least = max(int(order.size.min()) for order in orders)
    classes = len(np.unique(table.y[repeats[0].pool]))
    for size in sizes:
        if not classes <= size <= most or size < least:
            raise HeadError(f"{table.path}: --sizes {size}: give {max(classes, least)} to {most}, as there are so many "
                            f"classes, and training rows beside those held out")  # fmt: skip
    for size in sorted(set(sizes)) or sizes_of(fewest, most, _STEPS):
        for i, (each, order) in enumerate(zip(repeats, orders, strict=True)):
            yield TrainingSet(size, i, each.pool[order.mask(size)])


def of_shots(table: FeatureTable, repeats: Sequence[Repeat], shots: Sequence[int]) -> Iterator[TrainingSet]:
    """Yield training sets of so many images of each class, the smallest first; see :func:`of_sizes`.

    Raises:
        HeadError: a class has fewer images beside those held out.
    """
    labels = [table.y[each.pool].astype(np.intp) for each in repeats]
    counts = np.min([np.bincount(y, minlength=len(table.class_names)) for y in labels], axis=0)
    known = np.unique(labels[0])
    rarest = int(known[counts[known].argmin()])
    for k in shots:
        if not 1 <= k <= counts[rarest]:
            raise HeadError(
                f"{table.path}: --shots {k}: give 1 to {counts[rarest]}, as class {table.class_names[rarest]!r} has no "
                "more images beside those held out"
            )
    places = [shots_of(y, table.groups(each.pool), each.seed) for y, each in zip(labels, repeats, strict=True)]
    for k in sorted(set(shots)):
        for i, (each, place) in enumerate(zip(repeats, places, strict=True)):
            yield TrainingSet(k, i, each.pool[place < k])


def splits_of(table: FeatureTable, rows: Labels, held: Labels | None = None) -> NDArray[np.str_]:
    """Return splits of all rows, str (N,), in which some are to train on, some to judge on, and all others in none."""
    splits = np.full(len(table.y), "", "U10")
    splits[rows] = "train"
    if held is not None:
        splits[held] = "validation"
    return splits
