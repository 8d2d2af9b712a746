"""Samples as columns: of ten million images, an object and two strings each would take five gigabytes."""

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from featurestore.sources.samples import Sample

_BLOCK = 2**12
"""Samples that are made at a time."""


class Texts(Sequence[str]):
    """Texts in one piece of memory: each takes its bytes and eight more, where Python's own string takes fifty more.

    Bytes of file names that are no UTF-8 are kept as they are.

    Example:
        >>> texts = Texts(["b", "", "ä"])
        >>> list(texts), texts[2], texts.take([2, 0])[:]
        (['b', '', 'ä'], 'ä', ['ä', 'b'])
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._raw, self._ends = bytearray(), array("q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add a text at the end."""
        self._raw += os.fsencode(text)
        self._ends.append(len(self._raw))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, int | np.integer):
            place = range(len(self))[place]
            return os.fsdecode(bytes(self._raw[self._ends[place] : self._ends[place + 1]]))
        start, stop, step = place.indices(len(self))
        if step != 1:
            return [self[i] for i in range(start, stop, step)]
        ends = self._ends[start : max(start, stop) + 1]
        raw, first = bytes(self._raw[ends[0] : ends[-1]]), ends[0]
        return [os.fsdecode(raw[a - first : b - first]) for a, b in pairwise(ends)]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self[start : start + _BLOCK] for start in range(0, len(self), _BLOCK))

    def take(self, places: Iterable[int]) -> "Texts":
        """Return the texts at these places, in this order."""
        return Texts(self[place] for place in places)


class Names:
    """A column of texts of which few are different: each row is a number.

    Args:
        codes: int32 (N,), indices into `names`.
        names: each text once.
    """

    def __init__(self, codes: NDArray[np.int32], names: Sequence[str]) -> None:
        self.codes, self.names = codes, names

    def __getitem__(self, place: slice) -> list[str]:
        return [self.names[code] for code in self.codes[place].tolist()]

    def take(self, places: NDArray[np.integer[Any]]) -> "Names":
        """Return the texts at these places, in this order."""
        return Names(self.codes[places], self.names)


class Samples(Sequence[Sample]):
    """Samples without digests, as columns. Those that are asked for are made anew each time.

    Attributes:
        ids, paths: of the samples; one object, where all paths are the ids.
        labels: int32 (N,).
        splits, groups: of the samples.
        indices: int64 (N,), see :class:`featurestore.sources.samples.Sample`.
        values: float32 (N, C), see there; C is 0 where there are no numeric columns.

    Example:
        >>> from featurestore.sources.samples import Sample
        >>> samples = Samples.of(Sample(id=key, path=key, label=i, split="") for i, key in enumerate("ba"))
        >>> [sample.id for sample in samples], samples[-1].label
        (['a', 'b'], 0)
    """

    def __init__(
        self,
        ids: Texts,
        paths: Texts,
        labels: NDArray[np.int32],
        splits: Names,
        groups: Names,
        indices: NDArray[np.int64],
        values: NDArray[np.float32],
    ) -> None:
        self.ids, self.paths, self.labels, self.indices = ids, paths, labels, indices
        self.splits, self.groups, self.values = splits, groups, values

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Self:
        """Take in samples one by one, and put them in the order of their ids."""
        ids, paths, labels, indices, values = Texts(), Texts(), array("i"), array("q"), array("f")
        splits, groups, known = array("i"), array("i"), (dict[str, int](), dict[str, int]())
        before, in_order = "", True
        for sample in samples:
            ids.append(sample.id)
            if len(paths) or sample.path != sample.id:
                if not len(paths):  # so far each path was the id
                    paths = ids.take(range(len(ids) - 1))
                paths.append(sample.path)
            labels.append(sample.label)
            indices.append(sample.index)
            values.extend(sample.values)
            splits.append(known[0].setdefault(sample.split, len(known[0])))
            groups.append(known[1].setdefault(sample.group, len(known[1])))
            in_order, before = in_order and before <= sample.id, sample.id
        made = cls(
            ids,
            paths if len(paths) else ids,
            np.array(labels, np.int32),
            Names(np.array(splits, np.int32), list(known[0])),
            Names(np.array(groups, np.int32), list(known[1])),
            np.array(indices, np.int64),
            np.array(values, np.float32).reshape(len(labels), -1 if len(labels) else 0),
        )
        if in_order:
            return made
        texts = list(ids)
        return made.take(np.array(sorted(range(len(texts)), key=texts.__getitem__)))

    def take(self, places: NDArray[np.integer[Any]]) -> Self:
        """Return the samples at these places, in this order."""
        ids = self.ids.take(places.tolist())
        return type(self)(
            ids,
            ids if self.paths is self.ids else self.paths.take(places.tolist()),
            self.labels[places],
            self.splits.take(places),
            self.groups.take(places),
            self.indices[places],
            self.values[places],
        )

    def relabelled(self, labels: NDArray[np.int32]) -> Self:
        """Return the samples with other labels, int32 (N,)."""
        return type(self)(self.ids, self.paths, labels, self.splits, self.groups, self.indices, self.values)

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        if isinstance(place, int | np.integer):
            place = range(len(self))[place]
            return self[place : place + 1][0]
        ids = self.ids[place]
        columns = (
            ids, ids if self.paths is self.ids else self.paths[place], self.labels[place].tolist(),
            self.splits[place], self.groups[place], self.indices[place].tolist(),
            map(tuple, self.values[place].tolist()),
        )  # fmt: skip
        return [
            Sample(id=key, path=path, label=label, split=split, group=group, index=index, values=values)
            for key, path, label, split, group, index, values in zip(*columns, strict=True)
        ]

    def __iter__(self) -> Iterator[Sample]:
        return chain.from_iterable(self[start : start + _BLOCK] for start in range(0, len(self), _BLOCK))
