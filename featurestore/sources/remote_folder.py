"""A folder of class folders at an address such as ``s3://bucket/images/``, as its file system lists it."""

from collections import Counter
from typing import Any

import numpy as np

from featurestore.errors import AddressError, SourceError
from featurestore.sources.base import Format, check_known, listing_of
from featurestore.sources.folder import REMEDY, rows_of
from featurestore.sources.options import SourceOptions
from featurestore.sources.remote import AddressSource, address_name
from featurestore.sources.samples import Dataset, Sample
from featurestore.sources.tree import no_image
from featurestore.system.addresses import cannot_be_had, is_address, shared_file_system
from featurestore.system.stamps import STAMP
from featurestore.system.transfer import STREAMS, stamp_from


def globbed(pattern: str) -> list[str]:
    """Return the addresses of the files that a pattern with ``*`` names.

    Raises:
        SourceError: they cannot be listed.
    """
    files = _listing_system(pattern)
    try:
        return [str(files.unstrip_protocol(path)) for path in files.glob(pattern)]
    except Exception as error:  # each file system has errors of its own
        raise cannot_be_had(pattern, error) from error


def _images(root: str) -> list[str]:
    """Return the addresses of the images in a folder."""
    found = [root + path for path in sorted(_files(root)) if not no_image(path) and not _hidden(path)]
    if not found:
        raise SourceError(f"{root}: no images in this folder: name images, or a folder of images")
    return found


def _listing_system(where: str) -> Any:
    """Return the file system of an address, which must be one that lists folders."""
    if where.startswith(("http://", "https://")):
        raise SourceError(
            f"{where}: web servers do not list folders: name the files in a CSV, or tars as in data-{{000..129}}.tar"
        )
    return shared_file_system(where, STREAMS)


def _hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _open(where: str, name: str, options: SourceOptions) -> AddressSource:
    root = where.rstrip("/") + "/"
    if not options.labelled:
        samples = [Sample(id=path, path=path, label=0, split="") for path in _images(root)]
        return AddressSource("", Dataset(name=name, class_names=(), samples=samples))
    skipped, names, exclude = Counter[str](), set[str](), frozenset(options.exclude)
    images: dict[str, int] = {}
    stamps = bytearray()
    for path, said in sorted(_files(root).items()):
        folders = path.split("/")[:-1]
        names.update(folders)
        if _hidden(path):
            skipped["hidden"] += 1
        elif exclude.intersection(folders):
            skipped["in excluded folders"] += 1
        elif reason := no_image(path):
            skipped[reason] += 1
        else:
            images[path] = len(images)
            stamps += stamp_from(root + path, said).ljust(STAMP.size, b"\0")
    check_known(exclude, names, root)
    rows = (row._replace(number=images[row.path]) for row in rows_of(images, root, skipped))
    listing = listing_of(name, root, rows, (), skipped, REMEDY)
    return AddressSource(root, listing, np.frombuffer(stamps, f"V{STAMP.size}"))


def _files(root: str) -> dict[str, dict[str, Any]]:
    """Return what the file system says of each file below a folder, by its path there."""
    files = _listing_system(root)
    try:
        above: str = files._strip_protocol(root).rstrip("/") + "/"
        found = files.find(root, detail=True)
    except Exception as error:  # each file system has errors of its own
        raise cannot_be_had(root, error) from error
    if not found:
        raise AddressError(f"{root}: nothing is there, or may be listed: check the address, and your access rights")
    return {
        path.removeprefix(above): said
        for path, said in found.items()
        if path.startswith(above) and not path.endswith("/") and ".." not in path.split("/")
    }


FORMAT = Format(
    called="an address of a folder",
    recognises=lambda where, options: is_address(where) and options.labels is None,
    open=_open,
    can_exclude=True,
    unlabelled=True,
    name=lambda where: address_name(where.rstrip("/") + "/"),
)
