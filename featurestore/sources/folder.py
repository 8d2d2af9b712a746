"""A folder of class folders, or of split folders that hold class folders."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

from featurestore.errors import SourceError
from featurestore.sources.base import FileSource, Format, Row, check_known, listing_of
from featurestore.sources.options import SourceOptions
from featurestore.sources.samples import Failure
from featurestore.sources.split_names import sounds_like_a_split, split_of
from featurestore.sources.tree import Tree

_NAMED = 6
"""Folders that a message names, at most."""

REMEDY = "give the folder that holds one folder of images per class, or a CSV with --labels"


class FolderSource(FileSource):
    """Class folders with images anywhere below them; or split folders that hold class folders.

    Args:
        root: the folder.
        name: of the data set.
        exclude: names of folders to leave out.
        contained: refuse symlinks that lead out of the folder.

    Raises:
        SourceError: no images, a single class, a doubtful mixture of the layouts, or an `exclude` that names no folder.
    """

    def __init__(self, root: Path, *, name: str, exclude: Iterable[str] = (), contained: bool = False) -> None:
        exclude = frozenset(exclude)
        tree = Tree(root, exclude, contained=contained)
        check_known(exclude, tree.names, root)
        rows = rows_of(tree.images, root, tree.skipped)
        failures = [Failure(path=path, reason=reason) for path, reason in tree.failures]
        super().__init__(root, listing_of(name, root, rows, failures, tree.skipped, REMEDY))


def rows_of(images: Collection[str], root: Path | str, skipped: Counter[str]) -> Iterator[Row]:
    """Give the rows of images in class folders, or in class folders below split folders.

    Args:
        images: relative POSIX paths.
        root: what they are relative to, for messages.
        skipped: images without a class are counted here, at once.

    Raises:
        SourceError: see :class:`FolderSource`.
    """
    folders = Counter(path.rpartition("/")[0] for path in images)
    above = 1 if has_split_folders(folders, root) else 0
    known = {folder: class_and_split(folder, above) for folder in folders}
    if count := sum(folders[folder] for folder, found in known.items() if not found):
        skipped["without a class folder"] += count
    placed = ((path, known[path.rpartition("/")[0]]) for path in images)
    return (Row(path, path, *found) for path, found in placed if found)


def _open(where: str, name: str, options: SourceOptions) -> FolderSource:
    return FolderSource(Path(where), name=name, exclude=options.exclude, contained=options.contained)


FORMAT = Format(
    called="a folder",
    recognises=lambda where, options: Path(where).is_dir() and options.labels is None,
    open=_open,
    can_exclude=True,
)


def class_and_split(folder: str, above: int) -> tuple[str, str] | None:
    """Return what images directly in a folder are; None where they have no class.

    Args:
        folder: relative POSIX path, "" for the top.
        above: folders above those of classes.
    """
    parts = folder.split("/") if folder else []
    if len(parts) <= above:
        return None
    return parts[above], (split_of(parts[0]) or "") if above else ""


def has_split_folders(folders: Mapping[str, int], root: str | Path) -> bool:
    """Tell whether the top folders are splits rather than classes. Folders without images do not count.

    Args:
        folders: how many images each folder holds itself, by its relative POSIX path.
        root: what the paths are relative to, for messages.

    Raises:
        SourceError: some are and some are not; or what would be taken for classes are probably splits.
    """
    parts = [(tuple(folder.split("/", 3)), count) for folder, count in folders.items() if folder]
    top = {inner[0] for inner, _ in parts}
    named = {folder for folder in top if split_of(folder)}
    splits = named & {inner[0] for inner, _ in parts if len(inner) > 1}
    odd = sorted(top - splits)
    if splits and odd:
        raise SourceError(
            f"{root}: {_some(splits)} hold class folders; {_some(odd)} beside them, not being a split with class "
            f"folders, must be left out (--exclude {odd[0]}) or, being one, be called train/, validation/ or test/; or "
            "give a CSV with --labels"
        )
    if doubtful := [] if splits else _holding_folders(parts, 1, sounds_like_a_split):
        raise SourceError(
            f"{root}: {_some(doubtful)} hold folders of images and look like splits, but it is not clear which: "
            f"call them train/, validation/ or test/; or leave them out (--exclude {doubtful[0]}); or, if they are "
            "classes, give a CSV with --labels"
        )
    if odd and all(split_of(folder) or sounds_like_a_split(folder) for folder in top):
        raise SourceError(
            f"{root}: {_some(odd)} hold images but no class folders: sort the images into folders by class, or "
            "give a CSV with --labels"
        )
    if nested := _holding_folders(parts, 2, split_of) if splits else []:
        raise SourceError(
            f"{root}: {_some(nested)} are called like splits and hold folders of images, where classes are expected: "
            "move the class folders up, or give a CSV with --labels"
        )
    return bool(splits)


def _holding_folders(parts: list[tuple[tuple[str, ...], int]], depth: int, like: Callable[[str], object]) -> list[str]:
    """Return the folders at a depth, with such names, that have more images in subfolders than in themselves."""
    deeper, direct = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    for folder, count in parts:
        if len(folder) >= depth and like(folder[depth - 1]):
            (deeper if len(folder) > depth else direct)[folder[:depth]] += count
    return sorted("/".join(folder) for folder in deeper if deeper[folder] > direct[folder])


def _some(folders: Collection[str]) -> str:
    """Name a few folders: a data set may have thousands."""
    more = f" and {len(folders) - _NAMED} more" if len(folders) > _NAMED else ""
    return ", ".join(sorted(folders)[:_NAMED]) + more
