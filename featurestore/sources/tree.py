"""The names below a folder. No file is opened: a file with the name of an image counts as one until it is read."""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable
from pathlib import Path

from featurestore.errors import SourceError
from featurestore.images.decode import IMAGE_SUFFIXES
from featurestore.system.files import why

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
        """Sort the names in one folder by what they are; its subfolders wait for their turn."""
        folders: list[tuple[str, bool]] = []
        above = f"{folder}/" if folder else ""
        with os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                name = entry.name
                path = above + name
                if name.startswith("."):
                    self.skipped["hidden"] += 1
                elif _is_folder(entry):
                    self.names.add(name)
                    if name in self._exclude:
                        self.skipped["excluded folders"] += 1
                    elif self._stays(entry, path):
                        folders.append((path, entry.is_symlink()))
                elif reason := no_image(name):
                    self.skipped[reason] += 1
                elif self._stays(entry, path):
                    self.images.append(path)
        for path, link in sorted(folders):
            (self._links if link else self._waiting).append(path)

    def _stays(self, entry: os.DirEntry[str], path: str) -> bool:
        """Tell whether a name may be followed; if not, note it as a failure."""
        if self._is_inside is None or not entry.is_symlink() or self._is_inside(path):
            return True
        self.failures.append((path, OUTSIDE))
        return False


def inside(root: Path) -> Callable[[str], bool]:
    """Return a test of whether a path that is relative to `root` ends below it, whatever symlinks are on its way."""
    top = os.path.join(os.path.realpath(root), "")  # noqa: PTH118
    return lambda path: os.path.realpath(f"{root}/{path}").startswith(top)


def no_image(name: str) -> str:
    """Return why a file of this name is passed over; "" if it has the suffix of an image."""
    _, dot, end = name.rpartition(".")
    suffix = (dot + end).lower() if dot else ""
    if suffix in IMAGE_SUFFIXES:
        return ""
    return f"with suffix {suffix}" if suffix else "without a suffix"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
