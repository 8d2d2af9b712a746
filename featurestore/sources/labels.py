"""Labels that are numbers or texts, and the classes that they mean: the same for tar, Parquet and other tables."""

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from featurestore.errors import SourceError
from featurestore.sources.base import Row, check_known, first_of, listing_of
from featurestore.sources.columns import Samples, Texts
from featurestore.sources.samples import Dataset, Failure, Sample
from featurestore.system.machine import machine_memory

MAX_IMAGES = machine_memory() // 4 // 256
"""An image costs up to 256 bytes of memory until its digest is known, and all of them a quarter of it at most."""

_NUMBER = re.compile(r"[+-]?\d{1,18}")


def class_names_of(labels: Sequence[str], names: Sequence[str] = ()) -> tuple[tuple[str, ...], list[str | None]]:
    """Return the names of the classes in their order, and the class of each label, or None where it has none.

    Args:
        labels: distinct texts.
        names: of the classes, if anything tells them: whole numbers are indices into them, unless they are none and
            the classes are called by numbers. Without names each label is its own class, and if all are numbers, the
            classes have the order of these.

    Example:
        >>> class_names_of(["10", "9"])
        (('9', '10'), ['10', '9'])
        >>> class_names_of(["1", "7"], ["cat", "dog"])
        (('cat', 'dog'), ['dog', None])
    """
    whole = all(map(_NUMBER.fullmatch, labels))
    if not names:
        found = {label: str(int(label)) if whole else label for label in labels}
        return tuple(sorted(set(found.values()), key=int if whole else None)), [found[label] for label in labels]
    if whole and (all(0 <= int(label) < len(names) for label in labels) or not set(names) >= set(labels)):
        return tuple(names), [names[i] if 0 <= i < len(names) else None for i in map(int, labels)]
    known = set(names)
    return tuple(names), [label if label in known else None for label in labels]


class About(NamedTuple):
    """What many images share: "" for what is not said. Where no label is, a folder may tell the class."""

    label: str
    split: str = ""
    group: str = ""
    folder: str = ""


class Gathered:
    """Images that were found, in columns, before it is known which classes there are.

    Args:
        where: what the user wrote, for messages.

    Attributes:
        known: what was said of images, each combination once.
        failures, skipped: see :class:`featurestore.sources.samples.Dataset`.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.known: dict[About, int] = {}
        self.failures: list[Failure] = []
        self.skipped = Counter[str]()
        self._ids, self._paths, self._codes, self._numbers = Texts(), Texts(), array("i"), array("q")

    def add(self, key: str, path: str, about: About, number: int) -> None:
        """Add an image: its id, its path, what is said of it, and its number in the source."""
        if len(self._numbers) >= MAX_IMAGES:
            raise SourceError(f"{self.where}: more than {MAX_IMAGES:,} images, too many for the memory here: divide it")
        if "\0" in path or any("\0" in each for each in about):  # which no file can hold as text
            path, about = path.replace("\0", "\ufffd"), About(*(each.replace("\0", "\ufffd") for each in about))
        if len(self._paths) or path != key:
            if not len(self._paths):  # so far each path was the id
                self._paths = self._ids.take(range(len(self._ids)))
            self._paths.append(path)
        self._ids.append(key)
        self._codes.append(self.known.setdefault(about, len(self.known)))
        self._numbers.append(number)

    def counts(self) -> list[int]:
        """Return how many images each of the known ones is said of."""
        counts: list[int] = np.bincount(np.array(self._codes, np.intp), minlength=len(self.known)).tolist()
        return counts

    def by_label(
        self, named: tuple[str, Sequence[str]], exclude: set[str], lacking: str
    ) -> tuple[Sequence[str], list[About | str]]:
        """Find the classes that the labels mean.

        Args:
            named: what tells the names of the classes, for messages, and the names; "" and none if nothing does.
            exclude: names of classes to leave out.
            lacking: the reason why an image without a label fails.

        Returns:
            The class names; and for each of the known ones the class in the label's place, or the reason why it has
            none, "" if that is counted as skipped.
        """
        labels = list(dict.fromkeys(about.label for about in self.known if about.label))
        class_names, classes = class_names_of(labels, named[1])
        check_known(exclude, class_names, self.where)
        class_of = dict(zip(labels, classes, strict=True))
        meant: list[About | str] = []
        for about, count in zip(self.known, self.counts(), strict=True):
            class_name = class_of.get(about.label)
            if not about.label:
                meant.append(lacking)
            elif class_name is None:
                meant.append(f"label {about.label[:80]!r} is none of the {len(named[1])} class names in {named[0]}")
            elif class_name in exclude:
                meant.append("")
                self.skipped["of an excluded class"] += count
            else:
                meant.append(about._replace(label=class_name))
        return [each for each in class_names if each not in exclude], meant

    def unlabelled(self, name: str) -> Dataset:
        """Return the data set of all images, whatever is said of them: it has no classes."""
        paths = self._paths if len(self._paths) else self._ids
        samples = Samples.of(
            Sample(id=key, path=path, label=0, split="", index=number)
            for key, path, number in zip(self._ids, paths, self._numbers, strict=True)
        )
        if not samples:
            told = f" ({first_of(self.failures)})" if self.failures else ""
            raise SourceError(f"{self.where}: no images in it{told}")
        return Dataset(name=name, class_names=(), samples=samples, failures=self.failures, skipped=self.skipped)

    def listing(
        self, name: str, meant: Sequence[About | str], class_names: Sequence[str] | None, remedy: str
    ) -> Dataset:
        """Return the data set, see :func:`featurestore.sources.base.listing_of`.

        Args:
            name: of the data set.
            meant: for each of the known ones its class, split and group, or the reason of a failure: see `by_label`.
            class_names, remedy: see there.
        """
        rows = self._rows(meant)
        return listing_of(name, self.where, rows, self.failures, self.skipped, remedy, class_names)

    def _rows(self, meant: Sequence[About | str]) -> Iterator[Row]:
        paths = self._paths if len(self._paths) else self._ids
        for key, path, code, number in zip(self._ids, paths, self._codes, self._numbers, strict=True):
            about = meant[code]
            if isinstance(about, About):
                yield Row(key, key if paths is self._ids else path, about.label, about.split, about.group, number)
            elif about:
                self.failures.append(Failure(path=path, reason=about))
