"""Numeric columns of a data set, such as age and sex: one row of numbers for each image, beside its features.

A column holds numbers, or texts of two kinds, such as F and M, which are coded as 0 and 1 in their alphabetical order.
Empty cells, and the usual words for "not available", are missing values, which become NaN.
"""

from collections.abc import Iterable, Sequence
from math import isfinite, nan
from typing import NamedTuple

from featurestore.errors import SourceError

MOST_COLUMNS, MOST_CHARACTERS = 1000, 200
"""Most numeric columns of a data set, and most characters of a column's name and of a text that is coded."""
_MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "<na>"))
_LARGEST = 1e15
"""Greatest number that heads take."""
_SHOWN = 40
"""Characters of a cell that a message shows."""


class NumericColumns(NamedTuple):
    """Names of numeric columns, and for each the two texts that 0 and 1 stand for; () for plain numbers."""

    names: tuple[str, ...] = ()
    codes: tuple[tuple[str, ...], ...] = ()

    def behind(self, first: int) -> "NumericColumns":
        """Return the columns behind so many."""
        return NumericColumns(self.names[first:], self.codes[first:])

    def number(self, column: int, cell: str, where: str) -> float:
        """Return the number of a cell, NaN for a missing value.

        Args:
            column: its index.
            cell: its text.
            where: names its row, for messages.

        Raises:
            SourceError: it is no finite number, and none of the texts that are coded.
        """
        if cell.lower() in _MISSING:
            return nan
        if self.codes[column]:
            if cell in self.codes[column]:
                return float(self.codes[column].index(cell))
            wanted = " or ".join(map(repr, self.codes[column]))
        else:
            if (value := _number(cell)) is not None:
                return value
            wanted = "a number"
        raise SourceError(f"{where}: column {self.names[column]!r} holds {cell[:_SHOWN]!r}: write {wanted}")


NO_COLUMNS = NumericColumns()


def coded(
    names: Sequence[str], cells: Sequence[tuple[int, tuple[str, ...]]], where: str
) -> tuple[NumericColumns, list[tuple[float, ...]]]:
    """Read the numeric columns of a table.

    Args:
        names: of the columns.
        cells: the number of each line, and its cells, one for each name.
        where: names the table, for messages.

    Returns:
        The columns, and the numbers of each line, NaN for missing values.

    Raises:
        SourceError: a column that is named twice or has a name that is too long; cells that are no finite numbers, in a
            column that does not hold two texts.

    Example:
        >>> cells = [(2, ("61", "M")), (3, ("", "F")), (4, ("48", "M"))]
        >>> columns, values = coded(["age", "sex"], cells, "patients.csv")
        >>> columns.codes, values
        (((), ('F', 'M')), [(61.0, 1.0), (nan, 0.0), (48.0, 1.0)])
    """
    _check_names(names, where)
    columns = NumericColumns(tuple(names), tuple(_codes(i, name, cells, where) for i, name in enumerate(names)))
    values = [
        tuple(columns.number(i, cell, f"{where}, line {line}") for i, cell in enumerate(row)) for line, row in cells
    ]
    return columns, values


def _check_names(names: Sequence[str], where: str) -> None:
    """Check the names of numeric columns.

    Raises:
        SourceError: one is empty, stands twice, or is too long, or there are too many.
    """
    if len(names) > MOST_COLUMNS:
        raise SourceError(f"{where}: {len(names):,} numeric columns, of {MOST_COLUMNS:,} at most: name fewer")
    for i, name in enumerate(names):
        if not 0 < len(name) <= MOST_CHARACTERS:
            raise SourceError(f"{where}: column {name[:20]!r}: its name must have 1 to {MOST_CHARACTERS} characters")
        if name in names[:i]:
            raise SourceError(f"{where}: column {name!r} is named twice: name it once")


def _codes(column: int, name: str, cells: Iterable[tuple[int, tuple[str, ...]]], where: str) -> tuple[str, ...]:
    """Return the texts that are coded as 0 and 1, sorted; () where all cells are numbers, or missing."""
    texts: dict[str, int] = {}
    numbers = 0
    for line, row in cells:
        if (cell := row[column]).lower() in _MISSING:
            continue
        if _number(cell) is not None:
            numbers += 1
        else:
            texts.setdefault(cell, line)
        if len(texts) > 2 or (texts and numbers):
            break
    if texts and (numbers or len(texts) > 2 or max(map(len, texts)) > MOST_CHARACTERS):
        shown = ", ".join(f"{text[:_SHOWN]!r} in line {line}" for text, line in texts.items())
        raise SourceError(
            f"{where}: column {name!r} holds {shown}{' among numbers' if numbers else ''}: write numbers, or the same "
            "two texts in all lines; for several kinds, a column of 0 and 1 for each"
        )
    return tuple(sorted(texts))


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if isfinite(value) and abs(value) <= _LARGEST else None
