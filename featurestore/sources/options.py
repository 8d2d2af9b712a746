"""What a user may say about a source beside its path: written once, for the Python call and the command line."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """The options of :func:`featurestore.sources.opener.open_source`.

    Attributes:
        labels: a manifest (CSV) for a folder of images.
        path_column, split_column: names of the manifest's columns; None to look for the usual ones.
        label_columns: name of the column of class names; () to look for the usual ones. Several names, or a pattern
            such as ``has_*``: columns of 0 and 1, one for each label that an image may have.
        label_separator: what stands between the labels of a cell, where an image may have several or none.
        target_column: name of the column of numbers that are to be predicted, in place of classes.
        group_column: name of the manifest's column of groups, whose images must not be divided: patients, say.
        group_pattern: regular expression that finds the name of an image's group in its path: what its brackets hold,
            or all of it. Images in whose paths it is not found are each for itself.
        numeric: names of the manifest's numeric columns, such as age, which become the tap ``tabular``.
        exclude: names of folders or, of a manifest, of classes to leave out.
        name: of the data set; None for the base name of the path, without a file's suffix.
        contained: refuse files outside the source's folder, where a manifest's paths or symlinks may lead.
        labelled: whether images need labels; for prediction and pictures they do not, where the format can do without.
    """

    labels: Path | None = None
    path_column: str | None = None
    label_columns: tuple[str, ...] = ()
    label_separator: str | None = None
    target_column: str | None = None
    split_column: str | None = None
    group_column: str | None = None
    group_pattern: str | None = None
    numeric: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    name: str | None = None
    contained: bool = False
    labelled: bool = True

    @property
    def columns(self) -> tuple[str | None, str | None, str | None, str | None]:
        """Names of the path, label, split and group columns."""
        label = self.label_columns[0] if self.label_columns and not self.by_columns else None
        return self.path_column, label, self.split_column, self.group_column

    @property
    def chooses_columns(self) -> bool:
        """Whether anything is said of columns, which a table must have."""
        return any(self.columns) or self.asks

    @property
    def asks(self) -> bool:
        """Whether another task than one class for each image is asked for."""
        return self.by_columns or self.label_separator is not None or self.target_column is not None

    @property
    def by_columns(self) -> bool:
        """Whether each label has a column of its own."""
        return len(self.label_columns) > 1 or any(map(is_pattern, self.label_columns))


def is_pattern(name: str) -> bool:
    """Tell whether a name stands for all that it fits, as in a shell."""
    return any(mark in name for mark in "*?[")
