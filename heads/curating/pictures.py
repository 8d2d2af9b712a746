"""Take thumbnails of rows from where they were extracted."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from featurestore.errors import ImageError
from featurestore.pages.inspection import looks
from featurestore.sources.opener import source_of
from featurestore.sources.samples import Dataset
from featurestore.sources.tasks import TASKS
from featurestore.store.file_format import TABULAR
from featurestore.store.reader import FeatureStore
from featurestore.system.progress import Progress
from heads.prediction.inputs import Wanted

SIZED = 400
"""Images whose sizes are taken for a report; of larger sets, those with the least digests."""


class Pictures:
    """Images of rows.

    Args:
        store: the feature file of the rows.
        source: what was extracted.
        progress: is told how many images were read.

    Attributes:
        report: is told how many images were read.
        failures: path and reason of each that is gone, changed or cannot be read.
    """

    def __init__(self, store: FeatureStore, source: Any, progress: Progress | None) -> None:
        empty = Dataset(name=store.dataset, class_names=store.class_names, samples=[])
        self._source = source_of(source, empty)
        self._store = store
        self.report = progress or (lambda stage, done, total: None)
        self.failures: list[tuple[str, str]] = []

    def take(self, rows: Sequence[int], others: int = SIZED) -> tuple[dict[int, dict[str, str]], list[tuple[int, int]]]:
        """Return thumbnails of rows, and sizes of these and of some `others`, those with the least digests."""
        store = self._store
        sized = np.argsort(store.digests, kind="stable")[:others].tolist()
        wanted = list(dict.fromkeys([*rows, *sized]))
        samples = store.samples(wanted)
        shown = {str(store.digests[i]) for i in rows}
        found: dict[int, dict[str, str]] = {}
        sizes = []
        for row, (sample, look) in zip(wanted, looks(self._source, samples, shown), strict=True):
            if isinstance(look, ImageError):
                self.failures.append((sample.path or sample.id, str(look)))
                continue
            sizes.append(look[:2])
            if look[2]:
                told = TASKS[store.task].answer(sample, store.class_names)
                found[row] = {"uri": look[2], "alt": f"{told}: {sample.id}, {sample.split}"}
            self.report("pictures", len(sizes) + len(self.failures), len(wanted))
        return found, sizes

    def wanted(self, rows: Sequence[int], *, numeric: bool) -> list[Wanted]:
        """Return images of rows as predictions ask for them, with the numbers of the rows if they are `numeric`."""
        numbers = self._store.features(TABULAR)[list(rows)] if numeric else np.zeros((len(rows), 0))
        return [
            Wanted(sample.path or sample.id, tuple(values.tolist()), self._source, sample)
            for sample, values in zip(self._store.samples(rows), numbers, strict=True)
        ]
