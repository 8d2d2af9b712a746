"""What a source of images is, and the source whose images are files below one folder.

Finding samples takes two steps, because one is cheap and the other reads every byte. A source that is opened has
looked at names alone; what it found is ``source.listing()``. ``source.dataset()`` reads the images, in threads, and
adds their digests. Neither keeps an image in memory.

A format of its own is one file beside this one: see :mod:`featurestore.sources.opener`.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from featurestore.errors import ImageError, SourceError, suggest
from featurestore.images.decode import file_in_turn, hash_file, read_file
from featurestore.sources.columns import Samples
from featurestore.sources.digest_cache import DigestCache
from featurestore.sources.numeric import NO_COLUMNS, NumericColumns
from featurestore.sources.options import SourceOptions
from featurestore.sources.samples import Dataset, Failure, Sample
from featurestore.sources.tasks import CLASSIFICATION, Task
from featurestore.system.parallel import ahead
from featurestore.system.stamps import stamp

PORTION = 512
"""Images whose digests are asked for at a time: a million futures at once would fill the memory."""

_SLICE = 32
"""Files that a thread reads in one go: a small file is read faster than it is handed to another thread."""

_EARLY = 8
"""Images, for each thread that brings them, that may be here before their turn: one that is late delays none."""

Item = TypeVar("Item")

ImageData = bytes | NDArray[np.uint8]
"""One image as a source gives it: the bytes of a file, or uint8 pixels (H, W) or (H, W, C)."""


class Source(ABC):
    """Samples, and the way to their images. Made by :func:`featurestore.open_source`, or as an
    :class:`featurestore.ArraySource`.

    Attributes:
        name: of the data set.
        class_names: class `i` is ``class_names[i]``.
        readers: threads that read ahead of those that decode; 0 if reading takes no waiting. See :meth:`bring`.
        portion: images whose digests are asked for at a time.
        portable: whether other processes can read a few samples as quickly as this one, see :meth:`part`.
    """

    readers = 0
    portion = PORTION
    portable = False

    def __init__(self, listing: Dataset) -> None:
        self._listing = listing
        self.name = listing.name
        self.class_names = listing.class_names

    def listing(self) -> Dataset:
        """Return what the names alone tell: every sample but its digest."""
        return self._listing

    def relist(self, listing: Dataset) -> None:
        """Take what the names alone tell from `listing`: the same samples, with more said of them."""
        self._listing = listing

    def dataset(
        self,
        progress: Callable[[int, int], object] | None = None,
        workers: int | None = None,
        cache: DigestCache | None = None,
    ) -> Dataset:
        """Return the listing with digests. This reads every image once, but for unchanged files that the cache knows.

        Args:
            progress: called in this thread as ``progress(done, total)`` after every few images.
            workers: threads; by default a few more than there are cores.
            cache: of digests; it is saved, and forgets other images, but where this data set is a part of more.

        Raises:
            SourceError: not one image can be read.
        """
        listed, samples, failures = self._listing.samples, [], list(self._listing.failures)
        try:
            with ThreadPoolExecutor(workers or self.readers or None) as pool:
                for start in range(0, len(listed), self.portion):
                    part = listed[start : start + self.portion]
                    for sample, outcome in zip(part, self._digests(part, pool, cache), strict=True):
                        if isinstance(outcome, Failure):
                            failures.append(outcome)
                        else:
                            samples.append(structs.replace(sample, digest=outcome))
                    if progress:
                        progress(start + len(part), len(listed))
        except BaseException:
            if cache is not None:
                cache.save(forget=False)  # over a network, these digests may have taken hours
            raise
        if cache is not None:
            cache.save(forget=not self._listing.partial)
        if not samples:
            raise SourceError(f"{self.name}: none of its {len(listed)} images can be read ({first_of(failures)})")
        return replace(self._listing, samples=samples, failures=_by_path(failures))

    def narrowed(self, samples: Sequence[Sample], *, rest: bool) -> Self:
        """Return a source of some of the samples of :meth:`listing` only, with or without what gave no sample."""
        narrowed, listing = copy(self), replace(self._listing, samples=samples)
        narrowed._listing = listing if rest else replace(listing, failures=[], skipped={})
        return narrowed

    def part(self, samples: Sequence[Sample]) -> Self:
        """Return a source that can read these samples in another process, and is small enough to be sent there."""
        return self.narrowed([], rest=False)

    def bring(self, sample: Sample) -> None:
        """Make a sample of :meth:`dataset` quick to read, which most are. Many threads may call it at once, ahead of
        :meth:`reading`; an image that cannot be had fails there.
        """
        return

    def read(self, sample: Sample) -> ImageData:
        """Return the data of a sample of :meth:`dataset`, as :func:`featurestore.images.decode.decode` takes them. Many
        threads may call it at once. A sample of :meth:`listing` is read as it is now.

        Raises:
            ImageError: it cannot be read, or is no longer what :meth:`dataset` saw.
        """
        data = self._load(sample)
        if sample.digest and digest_of(data) != sample.digest:
            raise ImageError("changed since it was read first")
        return data

    @contextmanager
    def reading(self, sample: Sample) -> Iterator[ImageData]:
        """Give the data of :meth:`read` for as long as they are needed. Threads share the memory for files' bytes."""
        path = self._file(sample)
        with file_in_turn(path) if path else nullcontext():
            yield self.read(sample)

    def _digests(
        self, part: Sequence[Sample], pool: ThreadPoolExecutor, cache: DigestCache | None
    ) -> list[str | Failure]:
        def read(which: Sequence[int]) -> list[str | Failure]:
            slices = (which[start : start + _SLICE] for start in range(0, len(which), _SLICE))
            return [*chain.from_iterable(pool.map(lambda some: [self._digest(part[i]) for i in some], slices))]

        return cache.complete(self._stamps(part), read) if cache else read(range(len(part)))

    def _digest(self, sample: Sample) -> str | Failure:
        path = self._file(sample)
        try:
            return hash_file(path) if path else digest_of(self._load(sample))
        except ImageError as error:
            return Failure(path=sample.path, reason=str(error))

    @abstractmethod
    def _load(self, sample: Sample) -> ImageData:
        """Read the data of one sample.

        Raises:
            ImageError: it cannot be read.
        """

    def _file(self, sample: Sample) -> str:
        """Return the path of the file that holds the sample's data, and nothing else; "" where there is none."""
        return ""

    def _stamps(self, samples: Sequence[Sample]) -> list[bytes]:
        """Return stamps for :mod:`featurestore.sources.digest_cache`; empty where an image has no file of its own."""
        paths = map(self._file, samples)
        return [stamp(path) if path else b"" for path in paths]


class FileSource(Source):
    """Samples that are files below one folder.

    Args:
        root: the folder; a sample's path is relative to it.
        listing: the samples, without digests: see :func:`listing_of`.
    """

    portable = True

    def __init__(self, root: Path, listing: Dataset) -> None:
        super().__init__(listing)
        self._root = str(root)

    def part(self, samples: Sequence[Sample]) -> Self:
        """Return a source as :meth:`Source.part`, which works from any working directory."""
        part = super().part(samples)
        part._root = str(Path(self._root).absolute())
        return part

    def _load(self, sample: Sample) -> ImageData:
        return read_file(self._file(sample))

    def _file(self, sample: Sample) -> str:
        return f"{self._root}/{sample.path}"


def path_name(where: str) -> str:
    """Return the name of the folder, or of the file without its suffix, at a path."""
    path = Path(where)
    return path.resolve().name if path.is_dir() else path.stem


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way in which a data set lies on disk: an entry of :data:`featurestore.sources.opener.FORMATS`.

    Attributes:
        called: how messages speak of it, such as ``an .npz``.
        recognises: from what the user wrote, a path or an address, and the options, to whether the format is this one.
        open: from the same, the name of the data set and the user's options to the source.
        has_columns: whether it takes the options that choose columns; any takes ``group_pattern``.
        has_numbers: whether it takes numeric columns.
        can_exclude: whether it takes the option `exclude`.
        unlabelled: whether it gives images without labels too, if the options say so.
        name: from what the user wrote to the name of the data set; by default that of the folder, or of the file
            without its suffix.
    """

    called: str
    recognises: Callable[[str, SourceOptions], bool]
    open: Callable[[str, str, SourceOptions], Source]
    has_columns: bool = False
    has_numbers: bool = False
    can_exclude: bool = False
    unlabelled: bool = False
    name: Callable[[str], str] = path_name


class Row(NamedTuple):
    """One image as a folder or a table names it; split, group and values are empty where it names none, and the number
    is -1 where the source finds it by its path.
    """

    id: str
    path: str
    class_name: str
    split: str
    group: str = ""
    number: int = -1
    values: tuple[float, ...] = ()


class Values(NamedTuple):
    """What the values of rows are: the answers of a task, and behind them numeric columns."""

    task: Task = CLASSIFICATION
    numeric: NumericColumns = NO_COLUMNS


CLASSES_ALONE = Values()
"""Each row has a class, and nothing else."""


def listing_of(
    name: str,
    where: str | Path,
    rows: Iterable[Row],
    failures: Sequence[Failure] = (),
    skipped: Mapping[str, int] | None = None,
    remedy: str = "list images of two classes or more",
    class_names: Sequence[str] | None = None,
    values: Values = CLASSES_ALONE,
) -> Dataset:
    """Return the data set of `rows`, without digests.

    Args:
        name: of the data set.
        where: the folder or file that names the rows, for messages.
        rows: in any order.
        failures, skipped: see :class:`featurestore.sources.samples.Dataset`; they may grow while the rows are taken.
        remedy: what the user can do about a data set without images, or of one class.
        class_names: in their order; by default the distinct ones of the rows, sorted.
        values: what the rows' values are; if the task asks for no class, the rows have that of the first name.

    Raises:
        SourceError: no rows, or rows of a single class.
    """
    index: dict[str, int] = {}
    samples = Samples.of(
        Sample(
            id=row.id, path=row.path, label=index.setdefault(row.class_name, len(index)), split=row.split,
            group=row.group, index=row.number, values=row.values,
        )
        for row in rows
    )  # fmt: skip
    failures = list(failures)
    counts = dict(sorted((skipped or {}).items()))
    if not samples:
        passed = [f"{n} {reason}" for reason, n in counts.items()] + ([first_of(failures)] if failures else [])
        raise SourceError(f"{where}: no images of a class (passed over: {', '.join(passed) or 'nothing'}): {remedy}")
    if len(index) == 1 and values.task is CLASSIFICATION:
        raise SourceError(f"{where}: only one class, {next(iter(index))!r}: {remedy}")
    class_names = tuple(sorted(index) if class_names is None else class_names)
    place = {class_name: i for i, class_name in enumerate(class_names)}
    return Dataset(
        name=name,
        class_names=class_names,
        samples=samples.relabelled(np.array([place[class_name] for class_name in index], np.int32)[samples.labels]),
        failures=_by_path(failures),
        skipped=counts,
        columns=values.numeric.names,
        codes=values.numeric.codes,
        task=values.task.name,
    )


def check_known(exclude: Iterable[str], known: Iterable[str], where: str | Path) -> None:
    """Check that each name to be left out is there.

    Raises:
        SourceError: nothing is called so.
    """
    known = set(known)
    for name in sorted(set(exclude) - known):
        raise SourceError(f"{where}: nothing to exclude is called {name!r}: {suggest(name, known)}")


def brought(source: Source, items: Iterable[Item], sample: Callable[[Item], Sample]) -> Iterable[Item]:
    """Give items as soon as the images of their samples are here. Many threads wait for a network, and hold no pixels.

    Args:
        source: of the images; where they are here anyway, the items are returned as they are.
        items: in the order in which they are wanted.
        sample: of an item.
    """
    if not source.readers:
        return items
    window, pool = _EARLY * source.readers, ThreadPoolExecutor(source.readers)
    return (item for item, _ in ahead(items, lambda item: source.bring(sample(item)), window, pool))


def digest_of(data: ImageData) -> str:
    """Compute the SHA-256 of a file's bytes, or of an array's dtype, shape and bytes."""
    if isinstance(data, np.ndarray):
        data = f"{data.dtype.str} {data.shape} ".encode() + data.tobytes()
    return hashlib.sha256(data).hexdigest()


def first_of(failures: Sequence[Failure]) -> str:
    """Return the first failure as a part of a message."""
    return f"first: {failures[0].path!r}, {failures[0].reason}"


def _by_path(failures: Iterable[Failure]) -> list[Failure]:
    return sorted(failures, key=lambda failure: failure.path)
