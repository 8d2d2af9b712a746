"""Sources that find images by their numbers: what they have in common."""

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import ImageError
from featurestore.sources.base import Source
from featurestore.sources.samples import Dataset, Sample


class IndexedSource(Source):
    """Samples whose images stand at numbered places, which are columns of numbers and no objects.

    A sample of the source's own listing knows its number (``Sample.index``). One that comes from a feature file does
    not, and is found by its id.

    Args:
        listing: the samples, sorted by their ids, with their numbers.
    """

    def __init__(self, listing: Dataset) -> None:
        super().__init__(listing)
        self._kept: NDArray[np.int64] | None = None

    def part(self, samples: Sequence[Sample]) -> Self:
        """Return a source as :meth:`Source.part`, with the places of these samples only."""
        part = super().part(samples)
        places = np.unique(np.array([self._place(sample) for sample in samples], np.int64))
        part._kept = places if self._kept is None else self._kept[places]
        part._keep(places)
        return part

    @abstractmethod
    def _keep(self, places: NDArray[np.int64]) -> None:
        """Keep these places alone, in this order, and what they need."""

    def _place(self, sample: Sample) -> int:
        """Return the place of a sample's image.

        Raises:
            ImageError: no image here is called so.
        """
        index = sample.index
        if index < 0:
            listed = self._listing.samples
            at = bisect_left(listed, sample.id, key=lambda each: each.id)
            if at == len(listed) or listed[at].id != sample.id:
                raise ImageError("no longer there")
            index = listed[at].index
        return index if self._kept is None else int(np.searchsorted(self._kept, index))
