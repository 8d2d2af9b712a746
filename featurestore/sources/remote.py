"""Images at addresses, each in a file of its own: below one folder, or wherever a table says.

A copy of each comes to this machine's disk, and is read there: see :mod:`featurestore.sources.copies`. What a server
says of an image (its ETag, the date of its last change) takes the place of what a file system says of a file: an image
of which the server says the same as in an earlier run is not fetched for its digest again.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import AddressError, ImageError, ServerError
from featurestore.images.decode import MAX_BYTES, hash_file, read_file
from featurestore.sources.base import PORTION, ImageData, Source
from featurestore.sources.copies import Copies
from featurestore.sources.digest_cache import DigestCache
from featurestore.sources.samples import Dataset, Failure, Sample
from featurestore.system.addresses import check_address, is_address, server
from featurestore.system.files import write_error
from featurestore.system.transfer import DEAD_SERVERS, STREAMS, Downloads

OUTSIDE = "is no address below that of the source"


class AddressSource(Source):
    """Samples whose images are files at addresses.

    Args:
        root: the address of the folder that the samples' paths are relative to, with a slash at its end; "" if each
            path is an address.
        listing: the samples, without digests.
        stamps: (N,) of 40 bytes, of the images where a listing told them; by ``sample.index``.
    """

    readers = STREAMS
    portion = 4 * PORTION

    def __init__(self, root: str, listing: Dataset, stamps: NDArray[np.void] | None = None) -> None:
        super().__init__(listing)
        self._root, self._listed = root, stamps
        self._lost: dict[str, ImageError] = {}
        # The servers that the user has named, by an address or by a table; None for any.
        addresses = {"/".join(sample.path.split("/", 3)[:3]) for sample in listing.samples if is_address(sample.path)}
        self._named: frozenset[str] | None = frozenset(map(server, addresses | ({root} if root else set())))

    @cached_property
    def _copies(self) -> Copies:
        return Copies()

    @cached_property
    def _downloads(self) -> Downloads:
        return Downloads(DEAD_SERVERS if self._named is None else len(self._named))

    def __getstate__(self) -> dict[str, Any]:
        """Each process has copies and connections of its own."""
        return {key: value for key, value in vars(self).items() if key not in ("_copies", "_downloads")}

    def part(self, samples: Sequence[Sample]) -> Self:
        """Return a source as :meth:`Source.part`."""
        part = super().part(samples)
        part._listed, part._lost = None, {}
        return part

    def bring(self, sample: Sample) -> None:
        """Copy an image here, if no copy of it is here."""
        try:
            if self._copies.find(self._key(sample)) is None:
                self._fetch(sample, wait=True)
        except ImageError as error:
            self._lost[self._key(sample)] = error.alone()

    def read(self, sample: Sample) -> ImageData:
        """Return the data as :meth:`Source.read`; a copy that is damaged is fetched anew."""
        try:
            return super().read(sample)
        except ImageError:
            if not self._copies.forget(self._key(sample)):
                raise
            return super().read(sample)

    @contextmanager
    def reading(self, sample: Sample) -> Iterator[ImageData]:
        """Give the data as :meth:`Source.reading`; a copy for which there is no room is deleted then."""
        try:
            with super().reading(sample) as data:
                yield data
        finally:
            self._copies.done(self._key(sample))

    def _load(self, sample: Sample) -> ImageData:
        return read_file(self._file(sample))

    def _file(self, sample: Sample) -> str:
        key = self._key(sample)
        if error := self._lost.pop(key, None):
            raise error
        path = self._copies.find(key)
        if path is None:
            self._fetch(sample, wait=True)
            path = self._copies.find(key)
        if path is None:
            raise ImageError("its copy was deleted before it was read")
        return path

    def _digests(
        self, part: Sequence[Sample], pool: ThreadPoolExecutor, cache: DigestCache | None
    ) -> list[str | Failure]:
        stamps = [b""] * len(part)
        if cache and not cache.empty:
            stamps = self._asked(part, pool)

        def digest(i: int) -> str | Failure:
            try:
                found, stamps[i] = self._fetch(part[i], wait=False)
            except ImageError as error:
                return Failure(path=part[i].path, reason=str(error))
            return found

        def read(which: Sequence[int]) -> list[str | Failure]:
            return [*pool.map(digest, which)]

        return cache.complete(stamps, read) if cache else read(range(len(part)))

    def _asked(self, part: Sequence[Sample], pool: ThreadPoolExecutor) -> list[bytes]:
        """Return what the servers say of images now; nothing where they say nothing, and the image is fetched."""
        if self._listed is not None:
            listed = self._listed[[sample.index for sample in part]].tolist()
            return [stamp if any(stamp) else b"" for stamp in listed]

        def stamp(sample: Sample) -> bytes:
            try:
                return self._downloads.look(self._address(sample))[1]
            except ServerError:
                raise
            except AddressError:
                return b""

        return [*pool.map(stamp, part)]

    def _address(self, sample: Sample) -> str:
        """Return where an image is. A feature file tells the paths of samples too, and names no new server."""
        address = sample.path if is_address(sample.path) else self._root + sample.path
        if self._named is not None and server(address) not in self._named:
            raise ImageError(f"not contacted, because only a file names this address: {address}")
        return address

    def _key(self, sample: Sample) -> str:
        """Return the name of an image's copy; one of which no digest is known is fetched for this time only."""
        return sample.digest or hashlib.sha256(f"address {self._address(sample)}".encode()).hexdigest()

    def _fetch(self, sample: Sample, *, wait: bool) -> tuple[str, bytes]:
        """Copy an image here; return its digest and its stamp.

        Raises:
            ImageError: it cannot be had.
            ServerError: nothing can be had there.
        """
        draft = self._copies.draft()
        try:
            stamp = fetch(self._downloads, self._address(sample), draft)
            digest = hash_file(draft)
            if sample.digest not in ("", digest):
                raise ImageError("changed since it was read first")
            name = self._key(sample) if wait else digest
            self._copies.take(draft, name, wait=wait, keep=name == digest)
            return digest, stamp
        finally:
            with suppress(OSError):
                os.unlink(draft)  # noqa: PTH108


def images_at_addresses() -> AddressSource:
    """Return a source that reads any address that a sample has, without digests: all are named by the user."""
    source = AddressSource("", Dataset(name="images", class_names=(), samples=[]))
    source._named = None
    return source


def fetch(downloads: Downloads, address: str, path: str) -> bytes:
    """Copy an image to `path`; return its stamp.

    Raises:
        ImageError: it cannot be had.
        ServerError: nothing can be had there.
        DiskFullError: what came does not fit.
    """
    try:
        return downloads.get(address, path, MAX_BYTES)
    except ServerError:
        raise
    except AddressError as error:
        raise ImageError(str(error)) from error
    except OSError as error:
        raise write_error(path, error) from error


def below(root: str, cell: str, *, contained: bool = False) -> str:
    """Return the path, below the address of a folder, that a cell of a table means; or the address that it is.

    Raises:
        ImageError: it leads elsewhere, which is not allowed, or is no address that may be asked.

    Example:
        >>> below("s3://bucket/pets/", "cats/1.jpg"), below("s3://bucket/pets/", "s3://bucket/pets/1.jpg")
        ('cats/1.jpg', '1.jpg')
    """
    if is_address(cell):
        try:
            check_address(cell)
        except AddressError as error:
            raise ImageError(str(error).removeprefix(f"{cell}: ")) from error
        if root and cell.startswith(root):
            cell = cell.removeprefix(root)
        elif contained:
            raise ImageError(f"{OUTSIDE}, which --contained forbids")
        else:
            return cell
    if not root or cell.startswith("/") or ".." in cell.split("/"):
        raise ImageError(f"{OUTSIDE}: write its address in full")
    return cell.removeprefix("./")


def folder_of(address: str) -> str:
    """Return the address of the folder that a file lies in, with a slash at its end.

    Example:
        >>> folder_of("https://host/pets/labels.csv?token=1")
        'https://host/pets/'
    """
    return address.partition("?")[0].rpartition("/")[0] + "/"


def address_name(address: str) -> str:
    """Return the name of the file, without its suffix, or of the folder, at an address.

    Example:
        >>> address_name("s3://bucket/pets/"), address_name("https://host/labels.csv?token=1")
        ('pets', 'labels')
    """
    path = address.partition("?")[0]
    name = path.rstrip("/").rpartition("/")[2]
    return name if path.endswith("/") else name.rpartition(".")[0] or name
