"""What a data set asks of an image: one class of several, any number of labels, or a number.

What stage 2 knows of these tasks (losses, metrics, what a prediction says) stands in :mod:`heads.tasks`, under the same
names.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from featurestore.errors import SourceError
from featurestore.sources.samples import Sample

_BINS = 10
"""Numbers are divided into so many ranges of as many images, and splits have their share of each."""


class Task(ABC):
    """One kind of question. A sample's ``values`` begin with the answer, in :meth:`width` numbers.

    Attributes:
        name: as files and messages have it.
        dtype: type of the answers in a feature file; None where the file's labels are the answers.
        answers: what several of them are called.
        named: whether strata are classes, which have names.
        several: whether an image may count for several classes.
    """

    name: ClassVar[str]
    dtype: ClassVar[DTypeLike | None] = None
    answers: ClassVar[str]
    named: ClassVar[bool] = True
    several: ClassVar[bool] = False

    @abstractmethod
    def width(self, classes: int) -> int:
        """Return how many numbers the answer has, of so many classes."""

    @abstractmethod
    def classes(self, sample: Sample, classes: int) -> Sequence[int]:
        """Return the classes, of so many, that an image counts for in tables."""

    @abstractmethod
    def answer(self, sample: Sample, class_names: Sequence[str]) -> str:
        """Return the answer in words, such as ``cat``."""

    def strata(self, samples: Sequence[Sample], classes: int) -> list[tuple[int, ...]]:
        """Return the strata that each image is of: splits get their share of each. By default its classes."""
        return [tuple(self.classes(sample, classes)) for sample in samples]

    def contradicts(self, one: Sample, other: Sample, classes: int) -> bool:
        """Tell whether two samples of one image have different answers."""
        width = self.width(classes)
        return one.label != other.label or one.values[:width] != other.values[:width]


class Classification(Task):
    """One class of several. The answer is ``Sample.label``."""

    name, answers = "classification", "classes"

    def width(self, classes: int) -> int:
        """See :class:`Task`."""
        return 0

    def classes(self, sample: Sample, classes: int) -> Sequence[int]:
        """See :class:`Task`."""
        return (sample.label,)

    def answer(self, sample: Sample, class_names: Sequence[str]) -> str:
        """See :class:`Task`."""
        return class_names[sample.label]


class MultiLabel(Task):
    """Any number of labels, or none: 0 or 1 for each."""

    name, answers, dtype, several = "multilabel", "sets of labels", np.uint8, True

    def width(self, classes: int) -> int:
        """See :class:`Task`."""
        return classes

    def classes(self, sample: Sample, classes: int) -> Sequence[int]:
        """See :class:`Task`."""
        return [i for i, value in enumerate(sample.values[:classes]) if value]

    def strata(self, samples: Sequence[Sample], classes: int) -> list[tuple[int, ...]]:
        """Return the labels of each image; those without any are a stratum of their own."""
        return [each or (classes,) for each in super().strata(samples, classes)]

    def answer(self, sample: Sample, class_names: Sequence[str]) -> str:
        """See :class:`Task`."""
        return ", ".join(class_names[i] for i in self.classes(sample, len(class_names))) or "no label"


class Regression(Task):
    """A number. The only class is called as the column that it is from."""

    name, answers, dtype, named = "regression", "numbers", np.float32, False

    def width(self, classes: int) -> int:
        """See :class:`Task`."""
        return 1

    def classes(self, sample: Sample, classes: int) -> Sequence[int]:
        """See :class:`Task`."""
        return (0,)

    def strata(self, samples: Sequence[Sample], classes: int) -> list[tuple[int, ...]]:
        """Return in which tenth of the numbers each image's is."""
        values = np.array([sample.values[0] for sample in samples], np.float32)
        edges = np.quantile(values, np.arange(1, _BINS) / _BINS)
        return [(place,) for place in np.searchsorted(edges, values, "right").tolist()]

    def answer(self, sample: Sample, class_names: Sequence[str]) -> str:
        """See :class:`Task`."""
        return f"{class_names[0]} {sample.values[0]:g}"


CLASSIFICATION, MULTILABEL, REGRESSION = Classification(), MultiLabel(), Regression()
TASKS: dict[str, Task] = {task.name: task for task in (CLASSIFICATION, MULTILABEL, REGRESSION)}
"""The tasks by name."""


def label_sets(cells: Sequence[tuple[str, ...]], where: str) -> tuple[tuple[str, ...], list[tuple[float, ...]]]:
    """Return the labels of a data set, sorted, and for each image 0 or 1 for each of them.

    Args:
        cells: the labels of each image; none for an image without any.
        where: names the table, for messages.

    Raises:
        SourceError: there are fewer than two labels.

    Example:
        >>> label_sets([("cat", "dog"), (), ("dog",)], "pets.csv")
        (('cat', 'dog'), [(1.0, 1.0), (0.0, 0.0), (0.0, 1.0)])
    """
    names = tuple(sorted({name for cell in cells for name in cell}))
    if len(names) < 2:
        found = f"only one label, {names[0]!r}" if names else "no label at all"
        raise SourceError(f"{where}: {found}: list images of two labels or more; one label alone is two classes")
    known: dict[tuple[str, ...], tuple[float, ...]] = {}
    for cell in cells:  # of a million images, most have labels that others have too
        if cell not in known:
            known[cell] = tuple(float(name in cell) for name in names)
    return names, [known[cell] for cell in cells]


def label_columns(
    names: Sequence[str], values: Sequence[tuple[float, ...]], where: str
) -> tuple[tuple[str, ...], list[tuple[float, ...]]]:
    """Check columns of 0 and 1, one for each label.

    Args:
        names: of the columns.
        values: one row for each image.
        where: names the table, for messages.

    Raises:
        SourceError: a label that no image has, or a value that is neither 0 nor 1.
    """
    table = np.array(values, np.float32).reshape(-1, len(names))
    for name, column in zip(names, table.T, strict=True):
        wrong = column[(column != 0) & (column != 1)]
        if len(wrong):
            shown = "an empty cell" if np.isnan(wrong[0]) else f"{wrong[0]:g}"
            raise SourceError(f"{where}: column {name!r} holds {shown}: write 0 or 1 for each image")
        if not column.any():
            raise SourceError(f"{where}: no image has the label {name!r}: leave the column out, or add images of it")
    return tuple(names), list(values)


def numbers_of(name: str, values: Sequence[tuple[float, ...]], where: str) -> list[tuple[float, ...]]:
    """Check the numbers that are to be predicted, one for each image.

    Raises:
        SourceError: one is missing, or all are the same.
    """
    table = np.array(values, np.float32)
    if np.isnan(table).any():
        raise SourceError(
            f"{where}: {int(np.isnan(table).sum())} images have no {name!r}: drop them, or fill the cells"
        )
    if len(table) and table.min() == table.max():
        raise SourceError(f"{where}: all images have the same {name!r}, {table.min():g}: there is nothing to predict")
    return list(values)
