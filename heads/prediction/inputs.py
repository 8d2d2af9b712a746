"""What is to be predicted: images, folders of them, and CSVs that name images and perhaps give their numbers."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from featurestore.errors import SourceError
from featurestore.sources.csv_table import Finder, read_manifest
from featurestore.sources.numeric import NO_COLUMNS, NumericColumns
from featurestore.sources.tree import Tree

_TABLES = (".csv", ".tsv")


class Wanted(NamedTuple):
    """An image to be classified, and its numbers, NaN for missing ones; () if the head takes none."""

    path: Path
    values: tuple[float, ...] = ()


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
    """Find all images: each input that is a file, those below a folder, sorted, and those that a CSV names.

    A CSV is found by its suffix, and its images are looked for in its folder, as those of a manifest are.

    Args:
        inputs: files, folders and CSVs.
        needs: what the head needs beside the pixels.

    Returns:
        How many there are, and an iterator over them.

    Raises:
        SourceError: a folder without any image; a CSV that is none, lacks a column, or holds a cell that is no number;
            or something else than a CSV for a head that needs numbers.
    """
    needs = needs or Needs()
    found = [_found(Path(given), needs) for given in inputs]
    return sum(count for count, _ in found), (each for _, some in found for each in some)


def _found(given: Path, needs: Needs) -> tuple[int, Iterable[Wanted]]:
    if given.suffix.lower() in _TABLES and not given.is_dir():
        listed = _listed(given, needs)
        return len(listed), listed
    if needs.columns.names:
        names = ", ".join(map(repr, needs.columns.names))
        raise SourceError(f"{given}: {needs.head} needs {names} of each image: give a CSV of paths with these columns")
    if not given.is_dir():
        return 1, [Wanted(given)]
    images = sorted(Tree(given).images)
    if not images:
        raise SourceError(f"{given}: no images in this folder: name images, or a folder of images")
    return len(images), (Wanted(given / image) for image in images)  # as texts, they take less memory


def _listed(table: Path, needs: Needs) -> list[Wanted]:
    finder, columns = Finder(table.parent), needs.columns
    found = []
    for line in read_manifest(table, (needs.path_column, None, None, None), columns.names, labelled=False):
        where = f"{table}, line {line.number}"
        values = tuple(columns.number(i, cell, where) for i, cell in enumerate(line.values))
        found.append(Wanted(table.parent / (finder.find(line.path, where) or line.path), values))
    if not found:
        raise SourceError(f"{table}: names no images: write one in each line")
    return found
