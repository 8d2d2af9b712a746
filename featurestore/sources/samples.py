"""What a source holds, as plain data: samples, what gave none, and both together."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a source.

    Attributes:
        id: its name in the source: the path, the manifest's cell, or the index in the array.
        path: relative POSIX path in the source's folder; "" for arrays.
        digest: SHA-256, 64 hex digits, of the file's bytes, or of an array's dtype, shape and bytes; "" until the
            image was read.
        label: index into the class names.
        split: train, validation, test, duplicate, or "" while not assigned.
    """

    id: str
    path: str
    digest: str
    label: int
    split: str


@dataclass(frozen=True)
class Failure:
    """An input that gave no sample, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """What a source holds: samples sorted by id, failures sorted by path, and counts of what was passed over.

    A partial one adds to what a file holds: rows of images that it does not name stay there.
    """

    name: str
    class_names: tuple[str, ...]
    samples: list[Sample]
    failures: list[Failure] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    partial: bool = False
