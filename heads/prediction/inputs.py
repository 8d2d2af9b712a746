"""What is to be predicted: images, what holds images, and CSVs that name images and perhaps give their numbers."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from featurestore.errors import SourceError
from featurestore.images.decode import file_in_turn, read_file
from featurestore.sources import remote_folder
from featurestore.sources.base import ImageData, Source
from featurestore.sources.csv_table import Finder, read_manifest
from featurestore.sources.numeric import NO_COLUMNS, NumericColumns
from featurestore.sources.opener import recognised, unlabelled
from featurestore.sources.options import SourceOptions
from featurestore.sources.remote import AddressSource, images_at_addresses
from featurestore.sources.samples import Sample
from featurestore.sources.tree import Tree
from featurestore.system.addresses import check_address, is_address
from featurestore.system.parallel import ahead

_TABLES = (".csv", ".tsv")


class Wanted(NamedTuple):
    """An image to be classified: a file, or a sample of a source.

    Attributes:
        path: of the file, or in the source.
        values: its numbers, NaN for missing ones; () if the head takes none.
        source, sample: where it is, if it is no file.
    """

    path: str
    values: tuple[float, ...] = ()
    source: Source | None = None
    sample: Sample | None = None

    @contextmanager
    def reading(self) -> Iterator[ImageData]:
        """Give its data for as long as they are needed.

        Raises:
            ImageError: it cannot be read.
        """
        if self.source and self.sample:
            with self.source.reading(self.sample) as data:
                yield data
        else:
            with file_in_turn(self.path):
                yield read_file(self.path)


@dataclass(frozen=True)
class Needs:
    """What a head needs to know of each image beside the pixels.

    Attributes:
        head: names it, for messages.
        columns: the numeric columns that it was fitted to.
        path_column: that of a CSV; None to look for the usual one.
    """

    head: str = ""
    columns: NumericColumns = NO_COLUMNS
    path_column: str | None = None


def find_images(inputs: Iterable[str | os.PathLike[str]], needs: Needs | None = None) -> tuple[int, Iterator[Wanted]]:
    """Find all images: each input that is a file, the files below each that is a folder, sorted, the images, with
    labels or without, in tars, Parquet files and data sets of ``tfds:``, and those that a CSV names. An address is that
    of a folder if it ends with a slash.

    A CSV is found by its suffix, and its images are looked for in its folder, as those of a manifest are.

    Args:
        inputs: files, folders and so on.
        needs: what the head needs beside the pixels.

    Returns:
        How many there are, and an iterator over them.

    Raises:
        SourceError: a folder without any image; a CSV that is none, lacks a column, or holds a cell that is no number;
            or something else than a CSV for a head that needs numbers.
    """
    needs, alone = needs or Needs(), images_at_addresses()
    found = [_found(os.fspath(given), needs, alone) for given in inputs]
    return sum(count for count, _ in found), (each for _, some in found for each in some)


def _found(given: str, needs: Needs, alone: AddressSource) -> tuple[int, Iterable[Wanted]]:
    path = Path(given)
    if path.suffix.lower() in _TABLES and not path.is_dir():
        if is_address(given):
            raise SourceError(f"{given}: copy this CSV to this machine; the images that it names may stay elsewhere")
        listed = _listed(path, needs, alone)
        return len(listed), listed
    if needs.columns.names:
        names = ", ".join(map(repr, needs.columns.names))
        raise SourceError(f"{given}: {needs.head} needs {names} of each image: give a CSV of paths with these columns")
    if is_address(given) and not given.endswith("/") and recognised(given, SourceOptions()) is remote_folder.FORMAT:
        check_address(given)
        return 1, [_elsewhere(given, (), alone)]
    if source := unlabelled(given):
        samples = source.listing().samples
        return len(samples), (Wanted(sample.path, (), source, sample) for sample in samples)
    if not path.is_dir():
        return 1, [Wanted(str(path))]
    images = sorted(Tree(path).images)
    if not images:
        raise SourceError(f"{given}: no images in this folder: name images, or a folder of images")
    return len(images), (Wanted(str(path / image)) for image in images)  # one by one, they take less memory


def _elsewhere(address: str, values: tuple[float, ...], alone: AddressSource) -> Wanted:
    return Wanted(address, values, alone, Sample(id=address, path=address, label=0, split=""))


def here(items: Sequence[tuple[int, Wanted]]) -> Iterable[tuple[int, Wanted]]:
    """Give items as soon as their images are on this machine, see :func:`featurestore.sources.base.brought`."""

    def bring(item: tuple[int, Wanted]) -> None:
        wanted = item[1]
        if wanted.source and wanted.sample:
            wanted.source.bring(wanted.sample)

    readers = max((wanted.source.readers for _, wanted in items if wanted.source), default=0)
    return (item for item, _ in ahead(items, bring, 8 * readers, ThreadPoolExecutor(readers))) if readers else items


def _listed(table: Path, needs: Needs, alone: AddressSource) -> list[Wanted]:
    finder, columns = Finder(table.parent), needs.columns
    found = []
    for line in read_manifest(table, (needs.path_column, None, None, None), columns.names, labels="none"):
        where = f"{table}, line {line.number}"
        values = tuple(columns.number(i, cell, where) for i, cell in enumerate(line.values))
        if is_address(line.path):
            found.append(_elsewhere(line.path, values, alone))
            continue
        found.append(Wanted(str(table.parent / (finder.find(line.path, where) or line.path)), values))
    if not found:
        raise SourceError(f"{table}: names no images: write one in each line")
    return found
