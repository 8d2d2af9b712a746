"""A CSV that gives each image's file and class, and perhaps its split: its rows, and the file that each row means."""

import csv
import io
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from posixpath import basename, normpath, relpath, splitext
from typing import NamedTuple, TextIO

from featurestore.errors import ImageError, SourceError
from featurestore.sources.answers import Asked
from featurestore.sources.base import FileSource, Row, Values, check_known, first_of, listing_of
from featurestore.sources.numeric import coded
from featurestore.sources.options import SourceOptions
from featurestore.sources.samples import Dataset, Failure
from featurestore.sources.split_names import split_named
from featurestore.sources.tree import OUTSIDE, Tree, inside
from featurestore.system.files import open_regular, why
from featurestore.system.machine import machine_memory

# Usual names of the columns, the likeliest first; in lower case, with "_" for a space.
_USUAL = {
    "path": "path file filename file_name filepath file_path image image_path image_name img id image_id",
    "label": "label labels class class_name category breed species target y",
    "split": "split set subset partition",
    "group": "",
}


MAX_BYTES, MAX_LINE = 512 * 2**20, 10**6
"""Most bytes of a manifest, and most characters of one line: a file with more is no manifest, or is hostile."""

MAX_ROWS = machine_memory() // 4 // 1024
"""A row costs up to a kilobyte of memory, and all of them a quarter of it at most."""

_NAMED = 40
"""Columns that a message names at most, and characters of each."""


PLAIN = SourceOptions()
"""Nothing said."""

_REMEDY = "list images of two classes or more; --label-column chooses the column"


class ManifestSource(FileSource):
    """A CSV that gives each image's file and class, and perhaps its split; and the folder where the images lie.

    A cell names a file by its path in the folder, with or without its suffix, or by the end of that path: a bare
    name or id finds the one file called so in whatever folder. An absolute path, or one that leads out of the folder
    (``../more/1.jpg``), is taken as it is, unless the source is to be contained.

    Args:
        manifest: see :func:`read_manifest`.
        root: the folder.
        name: of the data set.
        options: see :class:`featurestore.sources.options.SourceOptions`.

    Raises:
        SourceError: whatever makes the table ambiguous, with its line; no image there; a single class.
    """

    def __init__(
        self,
        manifest: Path,
        root: Path,
        *,
        name: str,
        options: SourceOptions = PLAIN,
    ) -> None:
        finder = Finder(root, contained=options.contained)
        stays = inside(root) if options.contained else None

        def place(cell: str, where: str) -> str:
            if not (path := finder.find(cell, where)):
                raise ImageError("no such file")
            if stays is not None and not stays(path):
                raise ImageError(OUTSIDE)
            return path

        table = Table(
            manifest,
            f"is in {root}",
            "give the folder of the images as the source, and this file with --labels",
            options,
        )
        super().__init__(root, table.listing(place, name))


@dataclass(frozen=True)
class Table:
    """A manifest, as messages speak of it.

    Attributes:
        manifest: its path or address.
        there: what holds of an image that is found.
        remedy: what to do if none is.
        options: of the user.
        copy: the path of a copy, if `manifest` is an address.
    """

    manifest: Path | str
    there: str
    remedy: str
    options: SourceOptions = PLAIN
    copy: str | None = None

    def listing(self, place: Callable[[str, str], str], name: str) -> Dataset:
        """Return the data set that the table tells, without digests.

        Args:
            place: from a cell and its line, for messages, to the image's path; raises an ImageError if it has none.
            name: of the data set.

        Raises:
            SourceError: see :class:`ManifestSource`.
        """
        manifest, exclude, skipped = self.manifest, frozenset(self.options.exclude), Counter[str]()
        asked = self._asked()
        numeric = (*asked.columns, *self.options.numeric)
        lines = read_manifest(manifest, self.options.columns, numeric, labels=asked.labels, copy=self.copy)
        rows: list[Row] = []
        cells: list[tuple[int, tuple[str, ...]]] = []
        failures: list[Failure] = []
        seen: dict[str, int] = {}
        labels: set[str] = set()
        for number, cell, label, word, group, values in lines:
            where = f"{manifest}, line {number}"
            if seen.setdefault(cell, number) != number:
                raise SourceError(f"{where}: {cell!r} stands in line {seen[cell]} too: keep one of them")
            labels.add(label)
            split = "" if word is None else split_named(word, where)
            if label in exclude:
                skipped["of an excluded class"] += 1
                continue
            try:
                rows.append(Row(id=cell, path=place(cell, where), class_name=label, split=split, group=group))
            except ImageError as error:
                reason = f"{error} ({basename(os.fspath(manifest))}, line {number})"
                failures.append(Failure(path=cell, reason=reason))
                continue
            if numeric:
                cells.append((number, values))
        check_known(exclude, labels, manifest)
        if failures and not rows:
            raise SourceError(
                f"{manifest}: none of its {len(failures)} images {self.there} ({first_of(failures)}): {self.remedy}"
            )
        found, numbers = coded(numeric, cells, str(manifest))
        names, told = asked.answers([row.class_name for row in rows], numbers, found, str(manifest))
        if names is not None:
            rows = [row._replace(class_name=names[0]) for row in rows]
        if told:
            rows = [row._replace(values=each) for row, each in zip(rows, told, strict=True)]
        whole = Values(asked.task, found.behind(len(asked.columns)))
        return listing_of(name, manifest, rows, failures, skipped, _REMEDY, names, whole)

    def _asked(self) -> Asked:
        """Return what the options ask for, of the table's own columns."""
        asked = Asked.of(self.options)
        return asked.among(header_of(self.manifest, self.copy), str(self.manifest)) if asked.columns else asked


class Line(NamedTuple):
    """One row: the number of its line, and its cells; the split is None without such a column, the group empty, and so
    are the numeric cells that have no text.
    """

    number: int
    path: str
    label: str
    split: str | None
    group: str
    values: tuple[str, ...] = ()


def read_manifest(
    manifest: Path | str,
    chosen: Sequence[str | None],
    numeric: Sequence[str] = (),
    *,
    labels: str = "one",
    copy: str | os.PathLike[str] | None = None,
) -> Iterator[Line]:
    """Give the rows of a CSV in UTF-8 whose first line names the columns; comma, semicolon or tab separate the cells.

    Args:
        manifest: the file, or its address.
        chosen: names of the path, label, split and group columns; None to look for the usual ones.
        numeric: names of further columns, whose cells are given as they are.
        labels: how many a row must have: ``one``; ``any`` number; ``none``, which are not looked for, and empty.
        copy: the path of a copy, if `manifest` is an address.

    Raises:
        SourceError: not such a file, columns that are not there, or an empty cell, with its line.
    """
    number, rows = 1, 0
    try:
        # surrogateescape: a file's name need not be UTF-8.
        with (
            open_regular(copy or manifest, MAX_BYTES) as raw,
            io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as file,
        ):
            lines = _lines(file, manifest)
            first = next(lines, "")
            delimiter = max(",;\t", key=first.count)
            table = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
            header = [cell.strip() for cell in next(table, [])]
            path_at, label_at, split_at, group_at = _columns(header, chosen, manifest, labels != "none")
            needed = {path_at, label_at} - {None} if labels == "one" else {path_at}
            numeric_at = _numeric_columns(header, numeric, manifest)
            for cells in table:
                number = table.line_num
                row = {i: text for i, cell in enumerate(cells) if (text := cell.strip())}
                if not row:
                    continue
                if not needed <= row.keys():
                    missing = "label" if path_at in row else "path"
                    raise SourceError(f"{manifest}, line {number}: no {missing}: fill in the cell or drop the line")
                if (rows := rows + 1) > MAX_ROWS:
                    raise SourceError(
                        f"{manifest}: more than {MAX_ROWS:,} rows, too many for the memory of this machine: divide it"
                    )
                split = None if split_at is None else row.get(split_at, "")
                group = "" if group_at is None else row.get(group_at, "")
                values = tuple(row.get(at, "") for at in numeric_at)
                label = "" if label_at is None else row.get(label_at, "")
                yield Line(number, row[path_at], label, split, group, values)
    except OSError as error:
        raise SourceError(f"{manifest}: {why(error)}") from error
    except csv.Error as error:
        raise SourceError(f"{manifest}, after line {number}: not a table of cells ({error})") from error


def header_of(manifest: Path | str, copy: str | os.PathLike[str] | None = None) -> list[str]:
    """Return the names of a table's columns; none of what is no table, which :func:`read_manifest` then says."""
    try:
        with open_regular(copy or manifest, MAX_BYTES) as raw:
            first = raw.readline(MAX_LINE).decode("utf-8-sig", "surrogateescape")
        table = csv.reader([first], delimiter=max(",;\t", key=first.count), strict=True)
        return [cell.strip() for cell in next(table, [])]
    except (OSError, csv.Error):
        return []


def _lines(file: TextIO, manifest: Path | str) -> Iterator[str]:
    """Give the lines of a table; one that would fill the memory is refused."""
    for number in itertools.count(1):
        line = file.readline(MAX_LINE + 1)
        if len(line) > MAX_LINE:
            raise SourceError(f"{manifest}, line {number}: longer than {MAX_LINE:,} characters: give a CSV")
        if not line:
            return
        yield line


def _columns(
    header: list[str], chosen: Sequence[str | None], manifest: Path | str, labelled: bool
) -> tuple[int, int | None, int | None, int | None]:
    there = _there(header)
    lower = [name.lower().replace(" ", "_") for name in header]
    found: dict[str, int] = {}
    for (role, usual), choice in zip(_USUAL.items(), chosen, strict=True):
        if choice is not None and choice not in header:
            raise SourceError(f"{manifest}: no column {choice!r}: {there}")
        likely = [lower.index(name) for name in usual.split() if name in lower]
        if choice is not None or likely:
            found[role] = likely[0] if choice is None else header.index(choice)
        elif role == "path" or (role == "label" and labelled):
            raise SourceError(f"{manifest}: choose the {role} column with --{role}-column: {there}")
    return found["path"], found["label"] if labelled else None, found.get("split"), found.get("group")


def _numeric_columns(header: list[str], names: Sequence[str], manifest: Path | str) -> list[int]:
    for name in names:
        if name not in header:
            raise SourceError(f"{manifest}: no column {name!r}: {_there(header)}")
    return [header.index(name) for name in names]


def _there(header: list[str]) -> str:
    more = f" and {len(header) - _NAMED} more" if len(header) > _NAMED else ""
    return f"its columns are {', '.join(repr(name[:_NAMED]) for name in header[:_NAMED])}{more}"


class Finder:
    """Finds the files that a manifest names, below `root` and, by their paths, elsewhere.

    It walks through the folder once, when for the first time a path is not simply there.

    Args:
        root: the folder.
        contained: see :class:`featurestore.sources.tree.Tree`.
    """

    def __init__(self, root: Path, *, contained: bool = False) -> None:
        self._root, self._contained = str(root), contained

    def find(self, cell: str, where: str) -> str | None:
        """Return the path, relative to the root, that a cell names: in full, without its suffix, or by its end.

        Returns:
            None when there is no such file.

        Raises:
            SourceError: it could be either of two files.
        """
        cell = relpath(cell, self._root) if cell.startswith("/") else normpath(cell)
        direct = f"{self._root}/{cell}"
        if os.path.lexists(direct) and not os.path.isdir(direct):  # noqa: PTH112
            return cell
        paths = self._ending(cell)
        paths = [path for path in paths if splitext(path)[0] == cell] or paths
        if len(paths) > 1:
            raise SourceError(f"{where}: {cell!r} may be {paths[0]!r} or {paths[1]!r}: write the path in full")
        return paths[0] if paths else None

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        paths: dict[str, list[str]] = {}
        for path in sorted(Tree(Path(self._root), contained=self._contained).images):
            paths.setdefault(_stem(path), []).append(path)
        return paths

    def _ending(self, cell: str) -> list[str]:
        near = [path for stem in sorted({basename(cell), _stem(cell)}) for path in self._by_stem.get(stem, ())]
        tail = f"/{cell}"
        return [path for path in near if f"/{path}".endswith(tail) or f"/{splitext(path)[0]}".endswith(tail)]


def _stem(path: str) -> str:
    return splitext(basename(path))[0]
