"""What a manifest is asked for beside images: one class of each, several labels, or a number; and how cells say it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from featurestore.errors import SourceError
from featurestore.sources.numeric import NumericColumns
from featurestore.sources.options import SourceOptions, is_pattern
from featurestore.sources.tasks import (
    CLASSIFICATION,
    MULTILABEL,
    REGRESSION,
    Task,
    label_columns,
    label_sets,
    numbers_of,
)


@dataclass(frozen=True)
class Asked:
    """A task, and where the cells of a table hold its answers.

    Attributes:
        task: what is asked.
        columns: those that hold answers as numbers; () where the label column holds them as text.
        separator: what stands between the labels of a cell; None where a cell has one.
    """

    task: Task = CLASSIFICATION
    columns: tuple[str, ...] = ()
    separator: str | None = None

    @classmethod
    def of(cls, options: SourceOptions) -> "Asked":
        """Find out what options ask for.

        Raises:
            SourceError: two tasks at once, or options that do not go together.
        """
        ways = {
            "--label-separator": options.label_separator is not None,
            "several --label-column": options.by_columns,
            "--target-column": options.target_column is not None,
        }
        if len(given := [name for name, there in ways.items() if there]) > 1:
            raise SourceError(f"{' and '.join(given)}: each asks for a task of its own: give one of them")
        if options.target_column is not None and options.label_columns:
            raise SourceError("--label-column asks for classes, and --target-column for a number: give one of them")
        if options.label_separator == "":
            raise SourceError("--label-separator is empty: give what stands between two labels, such as '|'")
        if given and options.exclude:
            raise SourceError(
                f"--exclude leaves out classes, and {given[0]} asks for none: drop those rows, or columns"
            )
        if options.target_column is not None:
            return cls(REGRESSION, (options.target_column,))
        if options.by_columns:
            return cls(MULTILABEL, options.label_columns)
        return cls(CLASSIFICATION if options.label_separator is None else MULTILABEL, (), options.label_separator)

    @property
    def labels(self) -> str:
        """How many labels a row's label cell must have: ``one``, ``any`` number, or ``none``, if nobody looks there."""
        return "none" if self.columns else "one" if self.separator is None else "any"

    def among(self, header: Sequence[str], where: str) -> "Asked":
        """Return the same with the names of columns for patterns such as ``has_*``.

        Args:
            header: names of the table's columns.
            where: names the table, for messages.

        Raises:
            SourceError: a pattern fits no column.
        """
        found: list[str] = []
        for name in self.columns:
            fitting = [each for each in header if each == name or (is_pattern(name) and fnmatchcase(each, name))]
            if not fitting and is_pattern(name):
                raise SourceError(f"{where}: no column is called like {name!r}: its columns are {', '.join(header)}")
            found += [each for each in fitting or [name] if each not in found]
        return replace(self, columns=tuple(found))

    def answers(
        self, labels: Sequence[str], numbers: Sequence[tuple[float, ...]], coded: NumericColumns, where: str
    ) -> tuple[tuple[str, ...] | None, Sequence[tuple[float, ...]]]:
        """Read the answers.

        Args:
            labels: the label cell of each row.
            numbers: the numbers of :attr:`columns`, and then of others.
            coded: how they were read.
            where: names the table, for messages.

        Returns:
            The class names, None where the labels are the classes; and the values of each sample.

        Raises:
            SourceError: see :mod:`featurestore.sources.tasks`, and a separator that stands in no cell.
        """
        if self.task is CLASSIFICATION:
            return None, numbers
        for name, codes in zip(self.columns, coded.codes, strict=False):
            if codes:
                wanted = "0 or 1" if self.task is MULTILABEL else "a number"
                raise SourceError(f"{where}: column {name!r} holds {codes[0][:40]!r}: write {wanted} for each image")
        n = len(self.columns)
        own, others = [row[:n] for row in numbers], [row[n:] for row in numbers]
        if self.task is REGRESSION:
            return self.columns, [a + b for a, b in zip(numbers_of(self.columns[0], own, where), others, strict=True)]
        if self.columns:
            names, found = label_columns(self.columns, own, where)
        else:
            names, found = label_sets(self._divided(labels, where), where)
        return names, [a + b for a, b in zip(found, others or [()] * len(found), strict=True)]

    def _divided(self, labels: Sequence[str], where: str) -> list[tuple[str, ...]]:
        separator = self.separator or ""
        if not any(separator in cell for cell in labels):
            first = next((cell for cell in labels if cell), "")
            raise SourceError(
                f"{where}: no label cell holds {separator!r} (the first is {first[:40]!r}): check --label-separator, "
                "or leave it out: each image then has one label"
            )
        return [tuple(sorted(_parts(cell, separator))) for cell in labels]


def _parts(cell: str, separator: str) -> Iterable[str]:
    return {part for each in cell.split(separator) if (part := each.strip())}
