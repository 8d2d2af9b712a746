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
from contextlib import contextmanager, suppress

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import ImageError, SourceError
from featurestore.images.decode import FILES
from featurestore.sources.base import PORTION, Format, ImageData, check_known
from featurestore.sources.folder import class_and_split, has_split_folders
from featurestore.sources.indexed import IndexedSource
from featurestore.sources.labels import About, Gathered
from featurestore.sources.options import SourceOptions
from featurestore.sources.samples import Dataset, Failure, Sample
from featurestore.sources.shard_files import OpenFiles, ShardFiles, has_suffix, holds_only, shard_files, shards_name
from featurestore.sources.split_names import split_of
from featurestore.sources.tar_contents import Told, key_of, read_tar
from featurestore.sources.tar_members import TarMembers
from featurestore.system.files import why
from featurestore.system.stamps import part_stamps
from featurestore.system.transfer import STREAMS

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

    portable = True

    def __init__(self, files: ShardFiles, *, name: str, options: SourceOptions) -> None:
        self._files = OpenFiles(files.addresses)
        if self._files.remote:
            self.readers, self.portion, self.portable = STREAMS, 4 * PORTION, False
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

    def bring(self, sample: Sample) -> None:
        """Have the blocks of a tar that is elsewhere on this machine, see :meth:`Source.bring`."""
        with suppress(ImageError):
            for _ in self._blocks(sample, _BLOCK):
                pass

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


class _Scan:
    """The headers of all tars, read one after the other into columns.

    Attributes:
        shard, start, size: for each image, the number of its tar, and its place and size in that.
    """

    def __init__(self, files: ShardFiles, options: SourceOptions) -> None:
        if options.path_column:
            raise SourceError(f"{files.where}: a tar has no column of paths: leave --path-column out")
        self._files, self._exclude, self._columns = files, set(options.exclude), options.columns[1:]
        self._labelled = options.labelled
        self._splits = files.splits() if options.labelled else [""] * len(files.names)
        self.shard, self.start, self.size = array("i"), array("q"), array("q")
        self._gathered = Gathered(files.where)

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
        found, gathered = read_tar(members, self._columns), self._gathered
        for each in found.failures:
            gathered.failures.append(Failure(path=f"{tar}/{each.path}".rstrip("/"), reason=each.reason))
        gathered.skipped.update(found.skipped)
        for image in found.images:
            told = found.told.get(key_of(image.name), Told()) if found.told else Told()
            folder = "" if found.told else image.name.rpartition("/")[0]
            about = About(told.label, told.split or self._splits[number], told.group, folder)
            gathered.add(key := f"{tar}/{image.name}", key, about, len(self.shard))
            self.shard.append(number)
            self.start.append(image.start)
            self.size.append(image.size)
        return file.stamp

    def dataset(self, name: str) -> Dataset:
        """Return the data set of what was read, without digests."""
        class_names: Sequence[str] | None = None
        if not self._labelled:
            return self._gathered.unlabelled(name)
        if any(about.label for about in self._gathered.known):
            lacking = "no label: no KEY.cls or KEY.json beside it tells one"
            class_names, meant = self._gathered.by_label(self._files.class_names(), self._exclude, lacking)
        else:
            meant = self._by_folder(self._gathered)
        return self._gathered.listing(name, meant, class_names, _REMEDY)

    def _by_folder(self, gathered: Gathered) -> list[About | str]:
        """Do as :meth:`Gathered.by_label`, for tars that are packed folders."""
        known, counts = list(gathered.known), gathered.counts()
        shared = _shared_folder([about.folder for about in known])
        parts = [about.folder[len(shared) :].split("/") for about in known]
        check_known(self._exclude, {part for some in parts for part in some}, gathered.where)
        left = [not self._exclude.intersection(some) for some in parts]
        folders = Counter[str]()
        for some, count, stays in zip(parts, counts, left, strict=True):
            folders["/".join(some)] += count * stays
        above = int(has_split_folders(+folders, gathered.where))
        meant: list[About | str] = []
        for about, some, count, stays in zip(known, parts, counts, left, strict=True):
            found = class_and_split("/".join(some), above) if stays else None
            if found:
                meant.append(about._replace(label=found[0], split=found[1] or about.split))
            else:
                meant.append("")
                gathered.skipped["without a class folder" if stays else "in excluded folders"] += count
        return meant


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
    return has_suffix(where, (_SUFFIX, *_PACKED)) or holds_only(where, _SUFFIX)


def _open(where: str, name: str, options: SourceOptions) -> TarSource:
    if has_suffix(where, _PACKED):
        raise SourceError(f"{where}: compressed, so that no image can be read alone: unpack it to a plain .tar")
    return TarSource(shard_files(where, _SUFFIX, contained=options.contained), name=name, options=options)


FORMAT = Format(
    called="a .tar",
    recognises=_recognises,
    open=_open,
    has_columns=True,
    can_exclude=True,
    unlabelled=True,
    name=shards_name,
)
