"""What a source holds, as plain data: its samples, the inputs that gave none, and both together."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec


class Sample(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One image of a source.

    There may be millions: a struct is made ten times as fast as a frozen dataclass, and the garbage collector, which
    would look at each of them again and again, passes over it.

    Attributes:
        id: its name in the source: the path, the manifest's cell, or the index in the array.
        path: relative POSIX path in the source's folder; "" for arrays.
        digest: SHA-256, 64 hex digits, of the file's bytes, or of an array's dtype, shape and bytes; "" until the
            image was read.
        label: index into the class names.
        split: train, validation, test, duplicate, or "" while none is assigned.
        group: name of the group whose images must not be divided, such as a patient; "" for none.
        index: number of the image in its source, where the source finds it by number; else -1.
        values: the answer, of tasks whose answer is no class (see :mod:`featurestore.sources.tasks`), and then its
            numbers in the data set's numeric columns, NaN where there is none; () if there is neither.
    """

    id: str
    path: str
    digest: str = ""
    label: int
    split: str
    group: str = ""
    index: int = -1
    values: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An input that gave no sample, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What a source holds.

    Attributes:
        name: of the data set.
        class_names: class `i` is ``class_names[i]``.
        samples: sorted by their ids. With digests it is a list; what the names alone tell may be
            :class:`featurestore.sources.columns.Samples`.
        failures: sorted by their paths.
        skipped: how many files were passed over, by reason.
        columns: names of the numeric columns, such as ``age``.
        task: name of what is asked of an image, of :data:`featurestore.sources.tasks.TASKS`.
        codes: for each numeric column the two texts that its 0 and 1 stand for, such as F and M; () for plain numbers.
        partial: whether the data set only adds to a feature file: rows of images that it does not name stay there.
    """

    name: str
    class_names: tuple[str, ...]
    samples: Sequence[Sample]
    failures: list[Failure] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    partial: bool = False
    columns: tuple[str, ...] = ()
    codes: tuple[tuple[str, ...], ...] = ()
    task: str = "classification"
