"""Images in ``.tar`` files, as WebDataset and many others pack them.

Members of one key (their path up to the first dot of the last name) are one sample: an image, its class in ``KEY.cls``
(a number or a name) or as ``label`` in ``KEY.json``, where ``split`` may stand too. In a tar without such labels, class
folders tell the classes, as in a folder; with ``train/`` and ``test/`` above them, also the splits. Else the names of
the tars may tell the splits.

Opening a source reads the headers once. Images are read later, each from its place.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import ImageError, SourceError
from featurestore.images.decode import FILES
from featurestore.sources.base import Format, ImageData, Row, check_known, listing_of
from featurestore.sources.columns import Texts
from featurestore.sources.folder import class_and_split, has_split_folders
from featurestore.sources.indexed import IndexedSource
from featurestore.sources.labels import MAX_IMAGES, class_names_of
from featurestore.sources.options import SourceOptions
from featurestore.sources.samples import Dataset, Failure, Sample
from featurestore.sources.shard_files import OpenFiles, ShardFiles, holds_only, shard_files, shards_name
from featurestore.sources.split_names import split_of
from featurestore.sources.tar_contents import Told, key_of, read_tar
from featurestore.sources.tar_members import TarMembers
from featurestore.system.files import why
from featurestore.system.stamps import part_stamps

_SUFFIX = ".tar"
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_BLOCK = 2**20
_REMEDY = "give each KEY.jpg its class in KEY.cls or KEY.json, or put the images into class folders inside of the tar"


class TarSource(IndexedSource):
    """Images in tars.

    Args:
        files: the tars.
        name: of the data set.
        options: see :class:`featurestore.sources.options.SourceOptions`; columns are keys in ``.json`` members.

    Raises:
        SourceError: no images of a class, a single class, or tars that cannot be read at any place.
    """

    def __init__(self, files: ShardFiles, *, name: str, options: SourceOptions) -> None:
        self._files = OpenFiles(files.addresses)
        self._stamps_of: list[bytes] = []
        scan = _Scan(files, options)
        for number in range(len(files.addresses)):
            self._stamps_of.append(scan.read(self._files, number))
        super().__init__(scan.dataset(name))
        self._shard = np.array(scan.shard, np.int32)
        self._start, self._size = np.array(scan.start, np.int64), np.array(scan.size, np.int64)

    def _keep(self, places: NDArray[np.int64]) -> None:
        used, shard = np.unique(self._shard[places], return_inverse=True)
        self._shard = shard.astype(np.int32)
        self._start, self._size = self._start[places], self._size[places]
        self._files = self._files.some(used.tolist())
        self._stamps_of = [self._stamps_of[number] for number in used]

    @contextmanager
    def reading(self, sample: Sample) -> Iterator[ImageData]:
        """Give the data as :meth:`Source.reading`."""
        with FILES.share(int(self._size[self._place(sample)])):
            yield self.read(sample)

    def _load(self, sample: Sample) -> ImageData:
        return b"".join(self._blocks(sample, 2**40))

    def _digest(self, sample: Sample) -> str | Failure:
        digest = hashlib.sha256()
        try:
            for block in self._blocks(sample, _BLOCK):
                digest.update(block)
        except ImageError as error:
            return Failure(path=sample.path, reason=str(error))
        return digest.hexdigest()

    def _blocks(self, sample: Sample, most: int) -> Iterator[bytes]:
        """Give the bytes of an image, so many at a time at most."""
        place = self._place(sample)
        at, left = int(self._start[place]), int(self._size[place])
        if not left:
            raise ImageError("empty file")
        try:
            file = self._files[int(self._shard[place])]
            while left:
                block = file.read(at, min(left, most))
                if not block:
                    raise ImageError("the tar has become shorter")
                yield block
                at, left = at + len(block), left - len(block)
        except OSError as error:
            raise ImageError(why(error)) from error

    def _stamps(self, samples: Sequence[Sample]) -> list[bytes]:
        places = np.array([self._place(sample) for sample in samples], np.int64)
        shards, stamps = self._shard[places], [b""] * len(samples)
        for shard in np.unique(shards).tolist():
            there = np.flatnonzero(shards == shard)
            some = places[there]
            for i, stamp in zip(
                there.tolist(), part_stamps(self._stamps_of[shard], self._start[some], self._size[some]), strict=True
            ):
                stamps[i] = stamp
        return stamps


class _About(NamedTuple):
    """What many images share: the folder in the tar, where that tells the class, else the label; split and group."""

    folder: str | None
    label: str
    split: str
    group: str


class _Scan:
    """The headers of all tars, read one after the other into columns.

    Attributes:
        shard, start, size: for each image, the number of its tar, and its place and size in that.
    """

    def __init__(self, files: ShardFiles, options: SourceOptions) -> None:
        if options.path_column:
            raise SourceError(f"{files.where}: a tar has no column of paths: leave --path-column out")
        self._files, self._exclude, self._columns = files, set(options.exclude), options.columns[1:]
        self._splits = files.splits()
        self.shard, self.start, self.size = array("i"), array("q"), array("q")
        self._names, self._codes = Texts(), array("i")
        self._known: dict[_About, int] = {}
        self._failures: list[Failure] = []
        self._skipped = Counter[str]()

    def read(self, files: OpenFiles, number: int) -> bytes:
        """Read the headers of one tar, and return its stamp."""
        tar, address = self._files.names[number], self._files.addresses[number]
        try:
            file = files[number]
            members = TarMembers(file)
            packed = members.compression()
        except OSError as error:
            raise SourceError(f"{address}: {why(error)}") from error
        if packed:
            raise SourceError(f"{address}: compressed by {packed}, so that no image can be read alone: unpack the .tar")
        found = read_tar(members, self._columns)
        for each in found.failures:
            self._failures.append(Failure(path=f"{tar}/{each.path}".rstrip("/"), reason=each.reason))
        self._skipped.update(found.skipped)
        for image in found.images:
            told = found.told.get(key_of(image.name), Told()) if found.told else Told()
            folder = None if found.told else image.name.rpartition("/")[0]
            about = _About(folder, told.label, told.split or self._splits[number], told.group)
            self._codes.append(self._known.setdefault(about, len(self._known)))
            self._names.append(f"{tar}/{image.name}")
            self.shard.append(number)
            self.start.append(image.start)
            self.size.append(image.size)
        if len(self.shard) > MAX_IMAGES:
            raise SourceError(f"{address}: more than {MAX_IMAGES:,} images: too many for the memory here: divide them")
        return file.stamp

    def dataset(self, name: str) -> Dataset:
        """Return the data set of what was read, without digests."""
        counts = np.bincount(np.array(self._codes, np.intp), minlength=len(self._known)).tolist()
        if any(about.label for about in self._known):
            class_names, meant = self._by_label(counts)
        else:
            class_names, meant = None, self._by_folder(counts)
        return listing_of(
            name, self._files.where, self._rows(meant), self._failures, self._skipped, _REMEDY, class_names
        )

    def _by_label(self, counts: Sequence[int]) -> tuple[Sequence[str], list[_About | str]]:
        """Return the class names, and for each of the known ones its class in the label's place, or why it has none."""
        named_by, names = self._files.class_names()
        labels = list(dict.fromkeys(about.label for about in self._known if about.label))
        class_names, classes = class_names_of(labels, names)
        check_known(self._exclude, class_names, self._files.where)
        class_of = dict(zip(labels, classes, strict=True))
        meant: list[_About | str] = []
        for about, count in zip(self._known, counts, strict=True):
            class_name = class_of.get(about.label)
            if not about.label:
                meant.append("no label: no KEY.cls or KEY.json beside it tells one")
            elif class_name is None:
                meant.append(f"label {about.label[:80]!r} is none of the {len(names)} class names in {named_by}")
            elif class_name in self._exclude:
                meant.append("")
                self._skipped["of an excluded class"] += count
            else:
                meant.append(about._replace(label=class_name))
        return [each for each in class_names if each not in self._exclude], meant

    def _by_folder(self, counts: Sequence[int]) -> list[_About | str]:
        """Do as :meth:`_by_label`, for tars that are packed folders."""
        shared = _shared_folder([about.folder or "" for about in self._known])
        parts = [(about.folder or "")[len(shared) :].split("/") for about in self._known]
        check_known(self._exclude, {part for some in parts for part in some}, self._files.where)
        left = [not self._exclude.intersection(some) for some in parts]
        folders = Counter[str]()
        for some, count, stays in zip(parts, counts, left, strict=True):
            folders["/".join(some)] += count * stays
        above = int(has_split_folders(+folders, self._files.where))
        meant: list[_About | str] = []
        for about, some, count, stays in zip(self._known, parts, counts, left, strict=True):
            found = class_and_split("/".join(some), above) if stays else None
            if found:
                meant.append(about._replace(label=found[0], split=found[1] or about.split))
            else:
                meant.append("")
                self._skipped["without a class folder" if stays else "in excluded folders"] += count
        return meant

    def _rows(self, meant: Sequence[_About | str]) -> Iterator[Row]:
        for number, (name, code) in enumerate(zip(self._names, self._codes, strict=True)):
            about = meant[code]
            if isinstance(about, _About):
                yield Row(name, name, about.label, about.split, about.group, number)
            elif about:
                self._failures.append(Failure(path=name, reason=about))


def _shared_folder(folders: Sequence[str]) -> str:
    """Return the folders above all classes, as ``flower_photos/`` where a folder was packed as a whole."""
    shared = ""
    while True:
        tops = {folder[len(shared) :].partition("/")[::2] for folder in folders}
        first = {top for top, _ in tops}
        if len(first) != 1 or not all(below for _, below in tops) or split_of(*first):
            return shared
        shared += f"{first.pop()}/"


def _recognises(where: str, options: SourceOptions) -> bool:
    if options.labels is not None:
        return False
    return where.lower().endswith((_SUFFIX, *_PACKED)) or holds_only(where, _SUFFIX)


def _open(where: str, name: str, options: SourceOptions) -> TarSource:
    if where.lower().endswith(_PACKED):
        raise SourceError(f"{where}: compressed, so that no image can be read alone: unpack it to a plain .tar")
    return TarSource(shard_files(where, _SUFFIX, contained=options.contained), name=name, options=options)


FORMAT = Format(
    called="a .tar",
    recognises=_recognises,
    open=_open,
    has_columns=True,
    can_exclude=True,
    name=shards_name,
)
