"""Finished rows by digest, wherever they lie: in feature files and in the journals of unfinished runs."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptFileError
from featurestore.images.augment import view_key
from featurestore.store import file_format
from featurestore.store.journal import SUFFIX as JOURNAL_SUFFIX
from featurestore.store.journal import Features, Journal, JournalHeader
from featurestore.store.reader import FeatureStore


def view_keys(file: FeatureStore) -> list[str]:
    """Return the keys of a file's views, see :func:`featurestore.images.augment.view_key`."""
    if not len(file.view_rows):
        return []
    digests = file.digests[file.view_rows].tolist()
    return [view_key(d, file.augment, n) for d, n in zip(digests, file.view_numbers.tolist(), strict=True)]


class _Table(NamedTuple):
    """A file; where each key stands in it: the number of a row, or, counted down from -1, of a view; and by tap the
    features of its rows and views.
    """

    file: FeatureStore
    places: dict[str, int]
    arrays: dict[str, tuple[NDArray[Any], NDArray[Any]]]


class FinishedRows:
    """Rows of several files and journals of one fingerprint. The first of them that holds a digest gives its row.

    Use it as a context manager, which closes them.

    Args:
        paths: feature files and journals to begin with.
    """

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._journals: list[Journal] = []
        self._tables: list[_Table] = []
        for path in paths:
            if path.name.endswith(JOURNAL_SUFFIX):
                self.add_journal(Journal(path, read_only=True))
            else:
                self.add_file(FeatureStore(path))

    def add_file(self, file: FeatureStore) -> None:
        """Take in the rows of a feature file."""
        places: dict[str, int] = {}
        for row, key in enumerate(file.texts(file_format.DIGEST)):
            places.setdefault(key, row)
        for view, key in enumerate(view_keys(file)):
            places.setdefault(key, ~view)
        # Plain arrays over the same memory: indexing a memmap row by row is several times slower.
        arrays = {tap: (np.asarray(file.features(tap)), np.asarray(file.views(tap))) for tap in file.taps}
        self._tables.append(_Table(file, places, arrays))

    def add_journal(self, journal: Journal) -> None:
        """Take over an open journal; its rows, also those appended later, are found from now on."""
        self._journals.append(journal)

    def adopt(self, paths: Iterable[Path], header: JournalHeader | None) -> None:
        """Take in journals that workers have written, as far as they belong to the run whose journal has `header`."""
        known = {journal.path for journal in self._journals}
        for path in sorted(set(paths) - known):
            journal = Journal(path, read_only=True)
            if journal.header == header:
                self.add_journal(journal)
            else:
                journal.close()

    def __enter__(self) -> "FinishedRows":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all files: Windows neither replaces nor deletes what is open. No row can be read any more."""
        for table in self._tables:
            table.arrays.clear()
            table.file.close()
        for journal in self._journals:
            journal.close()

    def __contains__(self, digest: object) -> bool:
        for table in self._tables:  # not by any(), which takes three times as long, and there may be millions of rows
            if digest in table.places:
                return True
        return self.in_journals(str(digest))

    def __getitem__(self, digest: str) -> Features:
        """Return the features of one row, by tap."""
        for table in self._tables:
            if (place := table.places.get(digest)) is not None:
                return {
                    tap: rows[place] if place >= 0 else views[~place] for tap, (rows, views) in table.arrays.items()
                }
        return next(journal for journal in self._journals if digest in journal).read(digest)

    def in_journals(self, digest: str) -> bool:
        """Tell whether a row lies in a journal."""
        return any(digest in journal for journal in self._journals)

    def path(self, digest: str) -> Path:
        """Return the file or journal in which a row lies."""
        for table in self._tables:
            if digest in table.places:
                return table.file.path
        return next(journal for journal in self._journals if digest in journal).path

    def check_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that the rows of each tap have the shape that the network gives; the spec alone does not tell.

        Raises:
            CorruptFileError: the message names the file or journal.
        """
        found = [(file.path, {tap: file.features(tap).shape[1:] for tap in file.taps}) for file, *_ in self._tables]
        found += [(journal.path, {tap.name: tap.shape for tap in journal.header.taps}) for journal in self._journals]
        for path, here in found:
            if here != shapes:
                raise CorruptFileError(f"{path}: its rows are not of the shape that its network gives: delete it")

    def origins(self) -> Iterator[tuple[Path, list[dict[str, str]], Iterable[str]]]:
        """Give the path of each file and journal, the engines and library versions that made it, and its digests."""
        for file, places, *_ in self._tables:
            yield file.path, file.producers, (key for key, place in places.items() if place >= 0)
        for journal in self._journals:
            yield journal.path, [journal.header.producer], journal
