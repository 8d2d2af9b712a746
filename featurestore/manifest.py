"""Reading a CSV that lists images: its rows, and the file that each of them means."""

import csv
import itertools
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from posixpath import basename, normpath, relpath, splitext
from typing import NamedTuple

from featurestore.errors import SourceError
from featurestore.system.files import why
from featurestore.walk import Tree

# Usual names of the columns, the likeliest first; in lower case, with "_" for a space.
_USUAL = {
    "path": "path file filename file_name filepath file_path image image_path image_name img id image_id",
    "label": "label labels class class_name category breed species target y",
    "split": "split set subset partition",
}


class Line(NamedTuple):
    """One row: the number of its line, and its cells; the split is None without such a column."""

    number: int
    path: str
    label: str
    split: str | None


def read_manifest(manifest: Path, chosen: Sequence[str | None]) -> Iterator[Line]:
    """The rows of a CSV in UTF-8 whose first line names the columns; comma, semicolon or tab separate the cells.

    Args:
        manifest: the file.
        chosen: names of the path, label and split columns; None to look for the usual ones.

    Raises:
        SourceError: not such a file, columns that are not there, or an empty cell, with its line.
    """
    number = 1
    try:
        # surrogateescape: a file's name need not be UTF-8.
        with manifest.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            first = file.readline()
            delimiter = max(",;\t", key=first.count)
            table = csv.reader(itertools.chain([first], file), delimiter=delimiter, strict=True)
            header = [cell.strip() for cell in next(table, [])]
            path_at, label_at, split_at = _columns(header, chosen, manifest)
            for cells in table:
                number = table.line_num
                row = {i: text for i, cell in enumerate(cells) if (text := cell.strip())}
                if not row:
                    continue
                if not {path_at, label_at} <= row.keys():
                    missing = "label" if path_at in row else "path"
                    raise SourceError(f"{manifest}, line {number}: no {missing}: fill in the cell or drop the line")
                yield Line(number, row[path_at], row[label_at], None if split_at is None else row.get(split_at, ""))
    except OSError as error:
        raise SourceError(f"{manifest}: {why(error)}") from error
    except csv.Error as error:
        raise SourceError(f"{manifest}, after line {number}: not a table of cells ({error})") from error


def _columns(header: list[str], chosen: Sequence[str | None], manifest: Path) -> tuple[int, int, int | None]:
    there = f"its columns are {', '.join(map(repr, header))}"
    lower = [name.lower().replace(" ", "_") for name in header]
    found: dict[str, int] = {}
    for (role, usual), choice in zip(_USUAL.items(), chosen, strict=True):
        if choice is not None and choice not in header:
            raise SourceError(f"{manifest}: no column {choice!r}: {there}")
        likely = [lower.index(name) for name in usual.split() if name in lower]
        if choice is not None or likely:
            found[role] = likely[0] if choice is None else header.index(choice)
        elif role != "split":
            raise SourceError(f"{manifest}: choose the {role} column with --{role}-column: {there}")
    return found["path"], found["label"], found.get("split")


class Finder:
    """Finds the files below `root` that a manifest means. One walk, when first a path is not simply there."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)

    def find(self, cell: str, where: str) -> str | None:
        """The path, relative to the root, that a cell names: in full, without its suffix, or by its end.

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
        for path in sorted(Tree(Path(self._root)).images):
            paths.setdefault(_stem(path), []).append(path)
        return paths

    def _ending(self, cell: str) -> list[str]:
        near = [path for stem in sorted({basename(cell), _stem(cell)}) for path in self._by_stem.get(stem, ())]
        tail = f"/{cell}"
        return [path for path in near if f"/{path}".endswith(tail) or f"/{splitext(path)[0]}".endswith(tail)]


def _stem(path: str) -> str:
    return splitext(basename(path))[0]
