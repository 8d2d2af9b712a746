"""The names below a folder. Nothing is opened; what is called an image is taken for one until it is read."""

import os
import re
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from pathlib import Path

from featurestore.errors import SourceError
from featurestore.images.decode import IMAGE_SUFFIXES
from featurestore.system.files import why

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "test": "test",
    "testing": "test",
    "holdout": "test",
    "hold-out": "test",
    "hold_out": "test",
}
"""What people call the splits, and what we call them; see :func:`split_of`."""

_WORD = f"(?P<word>{'|'.join(sorted(SPLIT_WORDS, key=len, reverse=True))}|hold out)"
_BEFORE = "(?:(?:seg|data|dataset|images?|imgs?)[ _-]+)?"
_BEHIND = "(?:[ _-]*(?:data|set|images?|imgs?|pictures|photos|samples|split|folder|dir|directory))*"
_SPLIT = re.compile(_BEFORE + _WORD + _BEHIND)
_SPLIT_INSIDE = re.compile(rf"(?<![^\W\d_]){_WORD}{_BEHIND}(?![^\W\d_])|fold[ _-]?\d+")
_HUMP = re.compile("(?<=[a-z])(?=[A-Z])")

_NAMED = 6
"""Folders that a message names, at most."""

OUTSIDE = "leads out of the source folder, which --contained forbids"

Identity = tuple[int, int]  # device and inode


class Tree:
    """One walk over all the names below `root`, through symlinks too.

    A folder is walked through once, by whatever name it is met first: those that are not below a symlink come before
    those that are, then the shallower ones, in the order of their names.

    Args:
        root: a folder.
        exclude: names of folders to leave out.
        contained: refuse symlinks that lead out of `root`.

    Attributes:
        images: relative POSIX paths of whatever has an image's suffix, in no order.
        names: of all folders, excluded ones among them.
        failures: path and reason of each folder that cannot be listed, or was walked through by another name.
        skipped: counts by reason.

    Raises:
        SourceError: `root` itself cannot be listed.
    """

    def __init__(self, root: Path, exclude: Iterable[str] = (), *, contained: bool = False) -> None:
        self.images: list[str] = []
        self.names: set[str] = set()
        self.failures: list[tuple[str, str]] = []
        self.skipped: Counter[str] = Counter()
        self._exclude = frozenset(exclude)
        self._is_inside = inside(root) if contained else None
        self._waiting, self._links = deque([""]), deque[str]()
        seen: dict[Identity, str] = {}
        while self._waiting or self._links:
            folder = (self._waiting or self._links).popleft()
            try:
                status = os.stat(f"{root}/{folder}")  # noqa: PTH116 (many times faster than a Path)
                first = seen.setdefault((status.st_dev, status.st_ino), folder)
                if first == folder:
                    self._list(root, folder)
                elif f"{folder}/".startswith(f"{first}/".lstrip("/")):
                    self.failures.append((folder, "symlink loop: the folder contains itself"))
                else:
                    self.failures.append((folder, f"the same folder as {first}: its images are taken there"))
            except OSError as error:
                if not folder:
                    raise SourceError(f"{root}: {why(error)}") from error
                self.failures.append((folder, why(error)))

    def _list(self, root: Path, folder: str) -> None:
        """Sort the names in one folder; those of folders wait for their turn."""
        folders: list[tuple[str, bool]] = []
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
                    elif self._stays(entry, path):
                        folders.append((path, entry.is_symlink()))
                elif suffix in IMAGE_SUFFIXES:
                    if self._stays(entry, path):
                        self.images.append(path)
                else:
                    self.skipped[f"with suffix {suffix}" if suffix else "without a suffix"] += 1
        for path, link in sorted(folders):
            (self._links if link else self._waiting).append(path)

    def _stays(self, entry: os.DirEntry[str], path: str) -> bool:
        """Whether a name may be followed; else it is a failure."""
        if self._is_inside is None or not entry.is_symlink() or self._is_inside(path):
            return True
        self.failures.append((path, OUTSIDE))
        return False


def inside(root: Path) -> Callable[[str], bool]:
    """Whether a path that is relative to `root` ends below it, whatever symlinks are on its way."""
    top = os.path.join(os.path.realpath(root), "")  # noqa: PTH118
    return lambda path: os.path.realpath(f"{root}/{path}").startswith(top)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


@lru_cache(256)
def split_of(word: str) -> str | None:
    """The split that a word names, alone or as in ``Training_Set``, ``test-images``, ``ValData`` or ``seg_test``."""
    found = _SPLIT.fullmatch(word.lower()) or _SPLIT.fullmatch(_lowered(word))
    return SPLIT_WORDS[found["word"].replace(" ", "-")] if found else None


def _like_a_split(name: str) -> bool:
    """Whether a name has a split's among its parts: ``train_1`` and ``old-test``, but not ``contestant``."""
    return bool(_SPLIT_INSIDE.search(_lowered(name)))


def _lowered(name: str) -> str:
    """In lower case, ``TrainA`` as ``train_a``."""
    return _HUMP.sub("_", name).lower()


def has_split_folders(images: list[str], root: Path) -> bool:
    """Whether the top folders are splits rather than classes. Folders without images don't count.

    Raises:
        SourceError: some are and some are not; or what would be taken for classes are probably splits.
    """
    parts = [path.split("/", 3) for path in images]
    top = {folder for folder, *inner in parts if inner}
    named = {folder for folder in top if split_of(folder)}
    splits = named & {folder for folder, *inner in parts if len(inner) > 1}
    odd = sorted(top - splits)
    if splits and odd:
        raise SourceError(
            f"{root}: {_some(splits)} hold class folders; {_some(odd)} beside them, not being a split with class "
            f"folders, must be left out (--exclude {odd[0]}) or, being one, be called train/, validation/ or test/; or "
            "give a CSV with --labels"
        )
    if doubtful := [] if splits else _holding_folders(parts, 1, _like_a_split):
        raise SourceError(
            f"{root}: {_some(doubtful)} hold folders of images and look like splits, but it is not clear which: "
            f"call them train/, validation/ or test/; or leave them out (--exclude {doubtful[0]}); or, if they are "
            "classes, give a CSV with --labels"
        )
    if odd and all(split_of(folder) or _like_a_split(folder) for folder in top):
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


def _holding_folders(parts: list[list[str]], depth: int, like: Callable[[str], object]) -> list[str]:
    """The folders at a depth, of such names, that have more images in folders of theirs than by themselves."""
    deeper = Counter(tuple(path[:depth]) for path in parts if len(path) > depth + 1)
    likely = {folder for folder in deeper if like(folder[-1])}
    if not likely:  # as nearly always; and there may be millions of images
        return []
    direct = Counter(tuple(path[:depth]) for path in parts if len(path) == depth + 1)
    return sorted("/".join(folder) for folder in likely if deeper[folder] > direct[folder])


def _some(folders: Collection[str]) -> str:
    """A few of them: a data set may have thousands."""
    more = f" and {len(folders) - _NAMED} more" if len(folders) > _NAMED else ""
    return ", ".join(sorted(folders)[:_NAMED]) + more
