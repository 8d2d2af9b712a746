"""What a user may say about a source beside its path: written once, for the Python call and the command line."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """The options of :func:`featurestore.sources.opener.open_source`.

    Attributes:
        labels: a manifest (CSV) for a folder of images.
        path_column, label_column, split_column: names of the manifest's columns; None to look for the usual ones.
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
    label_column: str | None = None
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
        return self.path_column, self.label_column, self.split_column, self.group_column
