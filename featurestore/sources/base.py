"""Where samples come from: a tree of class folders, a CSV manifest with a folder of images, or arrays.

Two steps, because one is cheap and the other reads every byte. :func:`open_source` looks at names alone; what it
found is ``source.listing()``. ``source.dataset()`` reads the images, in threads, and adds their digests. Neither
keeps an image in memory.
"""

import hashlib
import os
import stat
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import ImageError, SourceError, suggest
from featurestore.images.decode import file_in_turn, hash_file, read_file
from featurestore.sources.csv_table import Finder, read_manifest
from featurestore.sources.digest_cache import DigestCache
from featurestore.sources.npz import checked_images, classes, read_npz, to_uint8
from featurestore.sources.samples import Dataset, Failure, Sample
from featurestore.sources.tree import OUTSIDE, SPLIT_WORDS, Tree, has_split_folders, inside, split_of
from featurestore.system.files import why
from featurestore.system.stamps import stamp

_PORTION = 512

Data = bytes | NDArray[np.uint8]
Row = tuple[str, str, str, str]  # id, path, class, split


class Source(ABC):
    """Samples, and the way to their data. Made by :func:`open_source`, or as an :class:`ArraySource`."""

    def __init__(self, listing: Dataset) -> None:
        self._listing = listing
        self.name = listing.name
        self.class_names = listing.class_names

    def listing(self) -> Dataset:
        """What the names alone tell: every sample but its digest."""
        return self._listing

    def dataset(
        self,
        progress: Callable[[int, int], object] | None = None,
        workers: int | None = None,
        cache: DigestCache | None = None,
    ) -> Dataset:
        """The listing with digests: reads every image once, but for unchanged files that the cache knows.

        Args:
            progress: called in this thread as ``progress(done, total)`` after every few images.
            workers: threads; by default a few more than there are cores.
            cache: of digests; it is saved.

        Raises:
            SourceError: not one image can be read.
        """
        listed, samples, failures = self._listing.samples, [], list(self._listing.failures)
        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(listed), _PORTION):  # a million futures at once would fill the memory
                part = listed[start : start + _PORTION]
                for sample, outcome in zip(part, self._digests(part, pool, cache), strict=True):
                    if isinstance(outcome, Failure):
                        failures.append(outcome)
                    else:
                        samples.append(Sample(sample.id, sample.path, outcome, sample.label, sample.split))
                if progress:
                    progress(start + len(part), len(listed))
        if cache is not None:
            cache.save()
        if not samples:
            raise SourceError(f"{self.name}: none of its {len(listed)} images can be read ({_first(failures)})")
        return replace(self._listing, samples=samples, failures=_by_path(failures))

    def part(self, samples: Sequence[Sample]) -> Self:
        """What it takes to read these samples in another process."""
        part = copy(self)
        part._listing = replace(self._listing, samples=[], failures=[])
        return part

    def read(self, sample: Sample) -> Data:
        """The data of a sample of :meth:`dataset`, as :func:`featurestore.images.decode.decode` takes them.
        Thread-safe.

        Raises:
            ImageError: it cannot be read, or is no longer what :meth:`dataset` saw.
        """
        data = self._load(sample)
        if digest_of(data) != sample.digest:
            raise ImageError("changed since it was read first")
        return data

    @contextmanager
    def reading(self, sample: Sample) -> Iterator[Data]:
        """As :meth:`read`, for as long as the data are needed: threads share what all of them hold of files' bytes."""
        path = self._file(sample)
        with file_in_turn(path) if path else nullcontext():
            yield self.read(sample)

    def _digests(
        self, part: Sequence[Sample], pool: ThreadPoolExecutor, cache: DigestCache | None
    ) -> list[str | Failure]:
        def read(which: Sequence[int]) -> list[str | Failure]:
            # A few at a time: a small file is read faster than it is handed to another thread.
            slices = (which[start : start + 32] for start in range(0, len(which), 32))
            return [*chain.from_iterable(pool.map(lambda some: [self._digest(part[i]) for i in some], slices))]

        return cache.complete(self._stamps(part), read) if cache else read(range(len(part)))

    def _digest(self, sample: Sample) -> str | Failure:
        path = self._file(sample)
        try:
            return hash_file(path) if path else digest_of(self._load(sample))
        except ImageError as error:
            return Failure(sample.path, str(error))

    @abstractmethod
    def _load(self, sample: Sample) -> Data: ...

    def _file(self, sample: Sample) -> str:
        """Path of the file that holds the sample's data, and nothing else; "" where there is none."""
        return ""

    def _stamps(self, samples: Sequence[Sample]) -> list[bytes]:
        """See :mod:`featurestore.sources.digest_cache`; empty where the data is no file."""
        paths = map(self._file, samples)
        return [stamp(path) if path else b"" for path in paths]


class FileSource(Source):
    """Samples that are files below one folder."""

    def __init__(self, root: Path, listing: Dataset) -> None:
        super().__init__(listing)
        self._root = str(root)

    def part(self, samples: Sequence[Sample]) -> Self:
        """As :meth:`Source.part`, from any working directory."""
        part = super().part(samples)
        part._root = str(Path(self._root).absolute())
        return part

    def _load(self, sample: Sample) -> Data:
        return read_file(self._file(sample))

    def _file(self, sample: Sample) -> str:
        return f"{self._root}/{sample.path}"


class FolderSource(FileSource):
    """Class folders with images anywhere below them; or split folders that hold class folders.

    Raises:
        SourceError: no images, a single class, a doubtful mixture of the layouts, or an `exclude` that names no folder.
    """

    def __init__(self, root: Path, *, name: str, exclude: Iterable[str] = (), contained: bool = False) -> None:
        exclude = frozenset(exclude)
        tree = Tree(root, exclude, contained=contained)
        _check_known(exclude, tree.names, root)
        above = 1 if has_split_folders(tree.images, root) else 0
        rows: list[Row] = []
        for path in tree.images:
            parts = path.split("/")
            if len(parts) < above + 2:
                tree.skipped["without a class folder"] += 1
            else:
                rows.append((path, path, parts[above], (split_of(parts[0]) or "") if above else ""))
        failures = [Failure(path, reason) for path, reason in tree.failures]
        super().__init__(root, _listing(name, root, rows, failures, tree.skipped, _CLASS_FOLDERS))


class ManifestSource(FileSource):
    """A CSV that gives each image's file and class, and perhaps its split; and the folder where the images lie.

    A cell names a file by its path in the folder, with or without its suffix, or by the end of that path: a bare
    name or id finds the one file called so in whatever folder. An absolute path, or one that leads out of the folder
    (``../more/1.jpg``), is taken as it is, unless the source is to be contained.

    Args:
        manifest: see :func:`featurestore.sources.csv_table.read_manifest`.
        root: the folder.
        columns: names of the path, label and split columns; None to look for the usual ones.
        name: names the dataset.
        exclude: classes to leave out.
        contained: see :func:`open_source`.

    Raises:
        SourceError: whatever makes the table ambiguous, with its line; no image there; a single class.
    """

    def __init__(
        self,
        manifest: Path,
        root: Path,
        *,
        name: str,
        columns: Sequence[str | None] = (None, None, None),
        exclude: Iterable[str] = (),
        contained: bool = False,
    ) -> None:
        exclude, finder, skipped = frozenset(exclude), Finder(root, contained=contained), Counter[str]()
        stays = inside(root) if contained else None
        rows: list[Row] = []
        failures: list[Failure] = []
        lines: dict[str, int] = {}
        labels: set[str] = set()
        for number, cell, label, word in read_manifest(manifest, columns):
            where = f"{manifest}, line {number}"
            if lines.setdefault(cell, number) != number:
                raise SourceError(f"{where}: {cell!r} stands in line {lines[cell]} too: keep one of them")
            labels.add(label)
            split = "" if word is None else _split(word, where)
            if label in exclude:
                skipped["of an excluded class"] += 1
            elif path := finder.find(cell, where):
                if stays is None or stays(path):
                    rows.append((cell, path, label, split))
                else:
                    failures.append(Failure(cell, f"{OUTSIDE} ({manifest.name}, line {number})"))
            else:
                failures.append(Failure(cell, f"no such file ({manifest.name}, line {number})"))
        _check_known(exclude, labels, manifest)
        if failures and not rows:
            raise SourceError(
                f"{manifest}: none of its {len(failures)} images is in {root} ({_first(failures)}): "
                "give the folder of the images as the source, and this file with --labels"
            )
        super().__init__(root, _listing(name, manifest, rows, failures, skipped, _CLASS_COLUMN))


class ArraySource(Source):
    """Images in memory.

    Args:
        images: (N, H, W) or (N, H, W, C) with C of 1, 3 or 4: uint8; uint16, scaled to 8 bits; or floats in [0, 1].
        labels: (N,) or (N, 1), whole numbers or texts. With `class_names`, numbers are indices into them.
        name: names the dataset.
        class_names: by default the distinct labels, sorted.
        splits: N words such as train, val, test.
        ids: N distinct names; by default the index.

    Raises:
        SourceError: shapes, types or values are others than these, or there is a single class.
    """

    def __init__(
        self,
        images: ArrayLike,
        labels: ArrayLike,
        *,
        name: str,
        class_names: Sequence[str] | None = None,
        splits: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        self._images = checked_images(np.asarray(images), name)
        n = len(self._images)
        index, names = classes(np.asarray(labels), class_names, name)
        keys = [str(i).zfill(len(str(n - 1))) for i in range(n)] if ids is None else [str(key) for key in ids]
        words = [""] * n if splits is None else [_split(str(word), name) for word in splits]
        if not n == len(index) == len(keys) == len(words):
            raise SourceError(f"{name}: {n} images, {len(index)} labels, {len(keys)} ids, {len(words)} splits")
        self._rows = {key: i for i, key in enumerate(keys)}
        if len(self._rows) < n:
            raise SourceError(f"{name}: {n - len(self._rows)} ids stand twice: each image needs its own")
        samples = [Sample(key, "", "", index[i], words[i]) for key, i in sorted(self._rows.items())]
        super().__init__(Dataset(name, names, samples))

    def part(self, samples: Sequence[Sample]) -> Self:
        """As :meth:`Source.part`, with these images only."""
        part = super().part(samples)
        part._images = self._images[[self._rows[sample.id] for sample in samples]]
        part._rows = {sample.id: i for i, sample in enumerate(samples)}
        return part

    def _load(self, sample: Sample) -> Data:
        return to_uint8(self._images[self._rows[sample.id]])


def open_source(
    path: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    exclude: Iterable[str] = (),
    name: str | None = None,
    contained: bool = False,
) -> Source:
    """The source at `path`: a folder, a folder with a CSV of `labels`, a CSV beside its images, or an ``.npz``.

    Args:
        path: see :class:`FolderSource`, :class:`ManifestSource` and :func:`featurestore.sources.npz.read_npz`.
        labels: a manifest for the folder `path`.
        path_column, label_column, split_column: columns of the manifest.
        exclude: folders or, of a manifest, classes to leave out.
        name: of the dataset; by default the base name of `path`, without a file's suffix.
        contained: refuse files outside the source's folder, where a manifest's paths or symlinks may lead.

    Raises:
        SourceError: it is none of these, or cannot serve.
    """
    path, exclude = Path(path), tuple(exclude)
    columns = (path_column, label_column, split_column)
    try:
        kind = "folder" if stat.S_ISDIR(path.stat().st_mode) else path.suffix.lower()
    except OSError as error:
        raise SourceError(f"{path}: {why(error)}") from error
    name = name or (path.resolve().name if kind == "folder" else path.stem)
    name = os.fsencode(name).decode("utf-8", "backslashreplace")  # a name is text, and stands in the feature file
    options: dict[str, Any] = {"name": name, "exclude": exclude, "contained": contained}
    if labels is not None:
        if kind != "folder":
            raise SourceError(f"{path}: with a CSV of labels, the source must be the folder of the images")
        return ManifestSource(Path(labels), path, columns=columns, **options)
    if kind in (".csv", ".tsv"):
        return ManifestSource(path, path.parent, columns=columns, **options)
    if any(columns):
        raise SourceError(f"{path}: columns are chosen, but there is no CSV: add --labels FILE")
    if kind == "folder":
        return FolderSource(path, **options)
    if kind != ".npz":
        raise SourceError(f"{path}: is neither a folder, nor a .csv, nor an .npz")
    if exclude:
        raise SourceError(f"{path}: --exclude leaves out folders, or classes of a CSV; not rows of an .npz")
    return ArraySource(**read_npz(path), name=name)


def digest_of(data: Data) -> str:
    """SHA-256 of a file's bytes, or of an array's dtype, shape and bytes."""
    if isinstance(data, np.ndarray):
        data = f"{data.dtype.str} {data.shape} ".encode() + data.tobytes()
    return hashlib.sha256(data).hexdigest()


_CLASS_FOLDERS = "give the folder that holds one folder of images per class, or a CSV with --labels"
_CLASS_COLUMN = "list images of two classes or more; --label-column chooses the column"


def _listing(
    name: str, where: Path, rows: list[Row], failures: list[Failure], skipped: Mapping[str, int], remedy: str
) -> Dataset:
    """The dataset of `rows`, without digests."""
    counts = dict(sorted(skipped.items()))
    if not rows:
        passed = [f"{n} {reason}" for reason, n in counts.items()] + ([_first(failures)] if failures else [])
        raise SourceError(f"{where}: no images of a class (passed over: {', '.join(passed) or 'nothing'}): {remedy}")
    class_names = tuple(sorted({label for _, _, label, _ in rows}))
    if len(class_names) == 1:
        raise SourceError(f"{where}: only one class, {class_names[0]!r}: {remedy}")
    index = {label: i for i, label in enumerate(class_names)}
    samples = [Sample(key, path, "", index[label], split) for key, path, label, split in sorted(rows)]
    return Dataset(name, class_names, samples, _by_path(failures), counts)


def _by_path(failures: list[Failure]) -> list[Failure]:
    return sorted(failures, key=lambda failure: failure.path)


def _first(failures: list[Failure]) -> str:
    return f"first: {failures[0].path!r}, {failures[0].reason}"


def _check_known(exclude: frozenset[str], known: set[str], where: Path) -> None:
    for name in sorted(exclude - known):
        raise SourceError(f"{where}: nothing to exclude is called {name!r}: {suggest(name, known)}")


def _split(word: str, where: str) -> str:
    if split := split_of(word):
        return split
    raise SourceError(f"{where}: unknown split {word!r}: {suggest(word, SPLIT_WORDS)}")
