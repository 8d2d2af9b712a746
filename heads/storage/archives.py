"""The one reader of model files: scikit-learn estimators as skops keeps them, in a zip archive, from anybody.

Nothing in such a file runs code: skops builds only types that are named here. But it reads whatever the file refers
to, as often as it does, and so the archive is looked through before skops sees it.
"""

import io
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from featurestore.system.documents import LIMIT, parse
from featurestore.system.files import open_regular, size_text

_SCHEMA = "schema.json"
_MEMBERS, _NODES = 50_000, 200_000
"""Most files in the archive, and most parts that it is built of: a head of a thousand others has less."""

_PLAIN = {
    *("builtins.dict", "builtins.list", "builtins.str", "builtins.tuple"),
    *("numpy.ndarray", "numpy.float64", "numpy.int64"),
}
"""Types that any model file may name, beside those of its head: :attr:`heads.kinds.base.Head.trusted_types`."""
_LOADERS = {"DictNode", "ListNode", "TupleNode", "JsonNode", "NdArrayNode", "ObjectNode", "TypeNode"}
"""What skops may build them with."""


def read_model(path: Path, limit: int, trusted: Collection[str]) -> dict[str, Any]:
    """What :func:`skops.io.dumps` made of a dictionary.

    Args:
        path: of the file.
        limit: most bytes of its arrays.
        trusted: names of the types that it may hold beside numbers, texts, arrays and collections of them.

    Raises:
        ValueError: something else is in it, or more.
        Exception: skops and zipfile have errors of many kinds for what is damaged.
    """
    import skops.io

    with open_regular(path) as file:
        with zipfile.ZipFile(_Sparing(file)) as archive:
            _check(archive, limit, _PLAIN.union(trusted))
        file.seek(0)
        return dict(skops.io.load(file, trusted=[]))


class _Sparing(io.RawIOBase):
    """A file from which nobody reads a lot at a time: the directory of an archive, say, of which each entry swells."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def read(self, size: int = -1) -> bytes:
        found: bytes = self._file.read(LIMIT + 1 if size < 0 else min(size, LIMIT + 1))
        if len(found) > LIMIT:
            raise ValueError(f"a part of it has more than {size_text(LIMIT)}")
        return found


def _check(archive: zipfile.ZipFile, limit: int, trusted: Collection[str]) -> None:
    """Check that the archive is one of our making.

    Raises:
        ValueError: it is not.
    """
    members = archive.infolist()
    names = Counter(item.filename for item in members)
    # skops stores members as they are: one that swells, or shares its bytes or its name with others, is not of it.
    if len(members) > _MEMBERS or len(names) < len(members) or any(item.compress_type for item in members):
        raise ValueError("its members are too many, or of one name, or compressed")
    total = sum(item.file_size for item in members)
    archive.fp.seek(0, io.SEEK_END)  # type: ignore[union-attr]
    if total > archive.fp.tell():  # type: ignore[union-attr]
        raise ValueError("its members are larger than the file")
    if total > limit:
        raise ValueError(f"its arrays take {size_text(total)} of memory, and {size_text(limit)} may be used")
    owners: dict[str, Any] = {}
    for count, node in enumerate(_nodes(parse(archive.read(_SCHEMA), dict[str, Any]))):
        if count == _NODES:
            raise ValueError(f"it consists of more than {_NODES:,} parts")
        _check_node(node, trusted, owners)


def _check_node(node: dict[str, Any], trusted: Collection[str], owners: dict[str, Any]) -> None:
    module, name, loader = (node.get(key) for key in ("__module__", "__class__", "__loader__"))
    if f"{module}.{name}" not in trusted or loader not in _LOADERS:
        raise ValueError(f"it holds a {module}.{name} ({loader}), which no head needs")
    content = node.get("content")
    if loader == "JsonNode" and (not isinstance(content, str) or content.lstrip()[:1] in ("[", "{")):
        raise ValueError("it holds JSON within JSON, which no head needs")
    if loader == "NdArrayNode":
        file = node.get("file")
        if node.get("type") != "numpy" or not isinstance(file, str):
            raise ValueError("it holds an array of objects, which no head needs")
        if owners.setdefault(file, node.get("__id__")) != node.get("__id__"):  # of one, skops makes one array
            raise ValueError("two of its arrays share their bytes")


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """All that skops would build, in a schema."""
    if isinstance(value, dict):
        if "__class__" in value or "__loader__" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for child in value:
            yield from _nodes(child)
