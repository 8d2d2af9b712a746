"""The one way to open a source: each format of a data set is a file beside this one, and a line in `FORMATS`."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from featurestore.errors import SourceError
from featurestore.sources import csv_format, folder, keras_sets, npz, parquet, remote_folder, tar_shards, tfds
from featurestore.sources.base import FileSource, Format, Source, path_name
from featurestore.sources.groups import grouped
from featurestore.sources.options import SourceOptions
from featurestore.sources.remote import AddressSource
from featurestore.sources.samples import Dataset
from featurestore.system.addresses import is_address
from featurestore.system.files import why

FORMATS: list[Format] = [
    tar_shards.FORMAT,
    parquet.FORMAT,
    folder.FORMAT,
    csv_format.FORMAT,
    npz.FORMAT,
    tfds.FORMAT,
    keras_sets.FORMAT,
    remote_folder.FORMAT,
]
"""The first one that recognises a path opens it."""


def open_source(
    path: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    path_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    label_separator: str | None = None,
    target_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    group_pattern: str | None = None,
    columns: Iterable[str] = (),
    exclude: Iterable[str] = (),
    name: str | None = None,
    contained: bool = False,
) -> Source:
    """Open the source at `path`: a folder, a folder with a CSV of `labels`, a CSV beside its images, an ``.npz``; tars
    or Parquet files, of which there may be several; ``tfds:NAME`` or ``keras:NAME``.

    Args:
        path: see :mod:`featurestore.sources.folder`, :class:`featurestore.sources.csv_table.ManifestSource`,
            :func:`featurestore.sources.npz.read_npz`, :mod:`featurestore.sources.tar_shards`,
            :mod:`featurestore.sources.parquet`, :mod:`featurestore.sources.tfds` and
            :mod:`featurestore.sources.keras_sets`.
        labels, path_column, split_column, group_column, group_pattern, exclude, name, contained: see
            :class:`featurestore.sources.options.SourceOptions`.
        label_column: name of the column of class names; several, or a pattern such as ``has_*``, for columns of 0 and
            1, one for each label that an image may have.
        label_separator: what stands between the labels of a cell, such as ``|``, where an image may have several.
        target_column: name of the column of the number that is to be predicted, in place of classes.
        columns: names of numeric columns of the manifest, such as age: they become the tap ``tabular``. A column of two
            texts, such as F and M, is coded as 0 and 1; an empty cell is a missing value.

    Raises:
        SourceError: it is none of these, or cannot serve.

    Example:
        >>> from featurestore import open_source
        >>> source = open_source("images", exclude=["green"])
        >>> source.name, source.class_names, len(source.listing().samples)
        ('images', ('blue', 'red'), 20)
    """
    options = SourceOptions(
        labels=None if labels is None else Path(labels),
        path_column=path_column,
        label_columns=(label_column,) if isinstance(label_column, str) else tuple(label_column or ()),
        label_separator=label_separator,
        target_column=target_column,
        split_column=split_column,
        group_column=group_column,
        group_pattern=group_pattern,
        numeric=tuple(columns),
        exclude=tuple(exclude),
        name=name,
        contained=contained,
    )
    return source_at(os.fspath(path), options)


def recognised(path: str, options: SourceOptions) -> Format | None:
    """Return the format of what a user wrote; None if it is of none."""
    return next((form for form in FORMATS if form.recognises(path, options)), None)


def unlabelled(path: str) -> Source | None:
    """Open images that need no labels, as those of a tar; None for another format, or what is none.

    Raises:
        SourceError: no image is there.
    """
    options = SourceOptions(labelled=False)
    form = recognised(path, options)
    return form.open(path, form.name(path), options) if form and form.unlabelled else None


def source_of(path: str | os.PathLike[str], dataset: Dataset) -> Source:
    """Open that from which a feature file was extracted, to read images that the file names.

    Args:
        path: what was extracted; of a folder with a CSV of labels, the folder.
        dataset: its name, and the names of its classes.

    Raises:
        SourceError: see :func:`open_source`.
    """
    where = os.fspath(path)
    form = recognised(where, SourceOptions())
    if form is folder.FORMAT:
        return FileSource(Path(where), dataset)
    if form is remote_folder.FORMAT:
        return AddressSource(where.rstrip("/") + "/", dataset)
    return unlabelled(where) or open_source(where)


def source_at(path: str, options: SourceOptions) -> Source:
    """Do as :func:`open_source`, for options that stand in one object already."""
    form = recognised(path, options)
    if not is_address(path) and (form is None or form.name is path_name):
        try:
            os.stat(path)  # noqa: PTH116 (a Path would alter an address)
        except OSError as error:
            raise SourceError(f"{path}: {why(error)}") from error
    if options.chooses_columns and not (form and form.has_columns):
        raise SourceError(f"{path}: columns are chosen, but there is no CSV: add --labels FILE")
    if options.asks and not (form and form.has_numbers):
        raise SourceError(f"{path}: several labels, or numbers to predict, are taken from a CSV: add --labels FILE")
    if options.numeric and not (form and form.has_numbers):
        raise SourceError(f"{path}: numeric columns are taken from a CSV: add --labels FILE, or leave out --column")
    if options.group_column and options.group_pattern:
        raise SourceError(f"{path}: --group-column and --group-pattern both say what the groups are: give one of them")
    if form is None:
        raise SourceError(f"{path}: is neither {', nor '.join(form.called for form in FORMATS)}")
    if options.exclude and not form.can_exclude:
        raise SourceError(f"{path}: --exclude leaves out folders, or classes of a CSV; not rows of {form.called}")
    # The feature file holds the name as text, so bytes that are no UTF-8 are spelt out.
    name = os.fsencode(options.name or form.name(path)).decode("utf-8", "backslashreplace")
    source = form.open(path, name, options)
    return source if options.group_pattern is None else grouped(source, options.group_pattern)
