"""The names below a folder. Nothing is opened; what is called an image is taken for one until it is read."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from featurestore.errors import SourceError
from featurestore.images import IMAGE_SUFFIXES, why

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""What people call the splits, and what we call them."""

Identity = tuple[int, int]  # device and inode


class Tree:
    """One walk over all the names below `root`, through symlinks too.

    Attributes:
        images: relative POSIX paths of whatever has an image's suffix, in no order.
        names: of all folders, excluded ones among them.
        failures: path and reason of each folder that cannot be listed, or that contains itself.
        skipped: counts by reason.

    Raises:
        SourceError: `root` itself cannot be listed.
    """

    def __init__(self, root: Path, exclude: Iterable[str] = ()) -> None:
        self.images: list[str] = []
        self.names: set[str] = set()
        self.failures: list[tuple[str, str]] = []
        self.skipped: Counter[str] = Counter()
        self._exclude = frozenset(exclude)
        waiting: list[tuple[str, frozenset[Identity]]] = [("", frozenset())]
        while waiting:
            folder, above = waiting.pop()
            try:
                status = os.stat(f"{root}/{folder}")  # noqa: PTH116 (many times faster than a Path)
                identity = (status.st_dev, status.st_ino)
                if identity in above:
                    self.failures.append((folder, "symlink loop: the folder contains itself"))
                else:
                    waiting += [(inner, above | {identity}) for inner in self._list(root, folder)]
            except OSError as error:
                if not folder:
                    raise SourceError(f"{root}: {why(error)}") from error
                self.failures.append((folder, why(error)))

    def _list(self, root: Path, folder: str) -> list[str]:
        """Sort the names in one folder; returns the folders to go on with."""
        inner = []
        with os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}".lstrip("/")
                suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
                if entry.name.startswith("."):
                    self.skipped["hidden"] += 1
                elif _is_folder(entry):
                    self.names.add(entry.name)
                    if entry.name in self._exclude:
                        self.skipped["excluded folders"] += 1
                    else:
                        inner.append(path)
                elif suffix in IMAGE_SUFFIXES:
                    self.images.append(path)
                else:
                    self.skipped[f"with suffix {suffix}" if suffix else "without a suffix"] += 1
        return inner


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def has_split_folders(images: list[str], root: Path) -> bool:
    """Whether the top folders are splits rather than classes. Folders without images don't count."""
    parts = [path.split("/", 2) for path in images]
    top = {folder for folder, *inner in parts if inner}
    named = {folder for folder in top if folder.lower() in SPLIT_WORDS}
    splits = named & {folder for folder, *inner in parts if len(inner) == 2}
    odd = sorted(top - splits)
    if splits and odd:
        raise SourceError(
            f"{root}: {', '.join(sorted(splits))} hold class folders; {', '.join(odd)} beside them, not being a split "
            f"with class folders, must be left out: --exclude {odd[0]}"
        )
    if odd and named == top:
        raise SourceError(
            f"{root}: {', '.join(odd)} hold images but no class folders: sort the images into folders by class, or "
            "give a CSV with --labels"
        )
    return bool(splits)
