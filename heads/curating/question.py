"""What a mode of ``look-at`` is asked, and the lines with which it answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from featurestore.errors import HeadError, suggest
from featurestore.sources.splits import SPLITS
from featurestore.system.progress import Progress
from featurestore.system.results import Result
from heads.curating.likeness import Likeness
from heads.feature_table import FeatureTable, Labels
from heads.kinds.design import HeadDesign


@dataclass(frozen=True, repr=False)
class Look(Result):
    """An image to look at.

    Attributes:
        rank: 1 for the first.
        id: name of the image in its source.
        split: its split.
        label: name of its class; "" where it has none.
        score: what it was ranked by; what that is, the mode says.
        other: name of the image that it is alike to; "" for none.
        other_label: the class of that one; or the class that it may be of; "" for none.
        why: the reason in words.
    """

    rank: int
    id: str
    split: str
    label: str
    score: float
    other: str
    other_label: str
    why: str


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked.

    Attributes:
        table: the features.
        count: most images to name.
        designs: heads of which the best is asked, where a mode asks a head.
        to: the image, or the id of a row, whose neighbours are looked for.
        pool: images without labels, see :func:`heads.curating.unlabelled.table_of`.
        unlabelled_class: class of the rows that have no label.
        seed: of what is drawn at random.
        max_memory: bytes that may be used; None for half of the machine's.
        progress: see :func:`featurestore.system.progress.reporting`.
        note: is called with remarks.
    """

    table: FeatureTable
    count: int
    designs: Sequence[HeadDesign] = ()
    to: str | None = None
    pool: str | None = None
    unlabelled_class: str | None = None
    seed: int = 0
    max_memory: int | None = None
    progress: bool | Progress | None = None
    note: Callable[[str], None] = lambda text: None

    @property
    def store(self) -> Path:
        """Folder for features of images without labels, where no command takes them for those of the data set."""
        return self.table.files[0].parent / "unlabelled"

    def likeness(self) -> Likeness:
        """Return all rows, to be compared.

        Raises:
            HeadError: there are fewer than two, or they hold NaN or infinity.
        """
        if len(self.table.y) < 2:
            raise HeadError(f"{self.table.path}: {len(self.table.y)} rows: to be compared, there must be two or more")
        return Likeness(self.table, np.arange(len(self.table.y)), self.max_memory)

    def rows(self) -> Labels:
        """Return the rows of all splits that heads are fitted to or judged on, without those that have no label."""
        rows = self.table.rows(*SPLITS)
        return rows if self.unlabelled_class is None else rows[self.table.y[rows] != self.without_label()]

    def without_label(self) -> int:
        """Return the number of the class whose rows have no label.

        Raises:
            HeadError: there is no such class.
        """
        names = self.table.class_names
        if self.unlabelled_class not in names:
            name = str(self.unlabelled_class)
            raise HeadError(f"{self.table.path}: has no class {name!r}: {suggest(name, names)}")
        return names.index(self.unlabelled_class)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a mode found.

    Attributes:
        table: the features of the rows that it names.
        looks: a line for each, the first to look at first.
        rows: their indices in the table.
        others: the index of the row that each is alike to; None for none.
        found: how many there are in all.
        compared: how many rows were looked at.
        images: where the pictures of the rows are, if elsewhere than those of the data set.
    """

    table: FeatureTable
    looks: list[Look]
    rows: list[int]
    others: list[int | None]
    found: int
    compared: int
    images: str | None = None


@dataclass(eq=False)
class Lines:
    """Collects the lines of an answer about rows of a table."""

    table: FeatureTable
    labelled: bool = True
    looks: list[Look] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    others: list[int | None] = field(default_factory=list)

    def add(self, row: int, score: float, why: str, *, other: int | None = None, label: str = "") -> None:
        """Add a line on a row: its score, why, and the row that it is alike to, or the label that it may have."""
        told = self.name(other) if other is not None else label
        self.looks.append(Look(
            len(self.looks) + 1, str(self.table.ids[row]), str(self.table.splits[row]) if self.labelled else "",
            self.name(row) if self.labelled else "", float(score),
            "" if other is None else str(self.table.ids[other]), told, why,
        ))  # fmt: skip
        self.rows.append(int(row))
        self.others.append(other)

    def name(self, row: int) -> str:
        """Return the name of a row's class."""
        return self.table.answer(row)

    def answer(self, found: int, compared: int, images: str | None = None) -> Answer:
        """Return the answer."""
        return Answer(self.table, self.looks, self.rows, self.others, found, compared, images)
