"""One tree for every error that a user can cause or meet.

Each message is one line that says what happened, to which file, and what to do next. The command line prints
it and ends with exit code 1; a Python caller catches :class:`FeatureStoreError`, or one of its children.
"""

import difflib
from collections.abc import Iterable, Sequence


class FeatureStoreError(Exception):
    """Root of the tree."""


class SourceError(FeatureStoreError):
    """A folder, manifest or array file that cannot serve as a source of samples."""


class ImageError(FeatureStoreError):
    """One image that gives no pixels. Recorded in the file's ``failures``; it never stops a run."""

    def alone(self) -> "ImageError":
        """To keep: without the traceback, whose frames would keep the half-decoded image."""
        return ImageError(*self.args)


class NoImagesError(SourceError, ValueError):
    """A transformer is given other things than images. A ``ValueError`` too, as scikit-learn expects of estimators."""


class BackboneError(FeatureStoreError):
    """An unknown backbone, or an input size, tap or pooling that it cannot serve."""


class WeightsError(BackboneError):
    """Weights that cannot be had, or that do not fit the backbone."""


class MissingDependencyError(FeatureStoreError):
    """A library of an extra that is not installed."""


class StoreError(FeatureStoreError):
    """Anything about a store folder or a feature file."""


class StoreLockedError(StoreError):
    """Another process is writing to the store."""


class SpecMismatchError(StoreError):
    """Features made by another extraction than the one expected; the message names the fields that differ."""


class CorruptFileError(StoreError):
    """A feature file or journal that is truncated, altered or not one of ours."""


class UnsafeFileError(CorruptFileError):
    """A feature file that uses an HDF5 facility which could read other files or exhaust memory."""


class WriteError(StoreError):
    """A file that cannot be written where the user wants it."""


class DiskFullError(WriteError):
    """No space left. What is finished stays; free some space and run the same command again."""


class AddressError(SourceError, StoreError):
    """What an address names cannot be had: an image, a table of images, or a feature file."""


class ServerError(AddressError):
    """A server that answers nobody. It stops a run, where an address that cannot be had is one failure of many."""


class DesignError(FeatureStoreError):
    """An unknown head, or a hyperparameter that it does not take."""


class HeadError(FeatureStoreError):
    """A saved head that cannot be read, or that does not fit the data it is asked to judge."""


class InputError(HeadError, ValueError):
    """Rows or labels that a head cannot take. A ``ValueError`` too, which scikit-learn expects of its estimators."""


class ExportError(FeatureStoreError):
    """A head or file that cannot be written in a format, or whose copy does not give what it gives itself."""


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown `name`: the nearest known one, else all of them."""
    options = {option.lower(): option for option in sorted(known)}
    found = difflib.get_close_matches(name.lower(), options, n=1)
    return f"did you mean {options[found[0]]!r}?" if found else f"known: {', '.join(options.values())}"


def nearest(name: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown `name` among very many: the nearest known ones, else a few as examples."""
    found = difflib.get_close_matches(name, known, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, found))}?" if found else f"such as {', '.join(known[-4:])}"


def one_line(error: Exception | str) -> str:
    """The beginning of a message on one line."""
    return " ".join(str(error).split())[:200]


def missing(task: str, library: str, extra: str) -> MissingDependencyError:
    """The error for a `task` whose `library` comes with an `extra` that is not installed."""
    return MissingDependencyError(
        f"{task} needs {library}, which is not installed: run  pip install 'featurestore[{extra}]'"
    )
