"""The reader of model files: scikit-learn estimators that skops keeps in a zip archive, which anybody may have made.

Nothing in such a file runs code: skops builds only types that are named here. But skops reads all that the file refers
to, however large and however often, and so the archive is checked before skops opens it.
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
"""The most files in the archive, and the most objects in it: a head of a thousand others has fewer."""

_PLAIN = {
    *("builtins.dict", "builtins.list", "builtins.str", "builtins.tuple"),
    *("numpy.ndarray", "numpy.float64", "numpy.int64"),
}
"""Types that any model file may name, beside those of its head: :attr:`heads.kinds.base.Head.trusted_types`."""
_LOADERS = {"DictNode", "ListNode", "TupleNode", "JsonNode", "NdArrayNode", "ObjectNode", "TypeNode"}
"""The loaders of skops that may build them."""


def read_model(path: Path, limit: int, trusted: Collection[str]) -> dict[str, Any]:
    """Read a dictionary that :func:`skops.io.dumps` wrote.

    Args:
        path: the file.
        limit: the most bytes that its arrays may take.
        trusted: names of the types that it may hold beside numbers, texts, arrays and collections of them.

    Raises:
        ValueError: the file holds other types, or larger arrays.
        Exception: the file is damaged, for which skops and zipfile raise errors of many kinds.
    """
    import skops.io

    with open_regular(path) as file:
        with zipfile.ZipFile(_Bounded(file)) as archive:
            _check(archive, limit, _PLAIN.union(trusted))
        file.seek(0)
        return dict(skops.io.load(file, trusted=[]))


class _Bounded(io.RawIOBase):
    """A file that refuses to read much at a time, such as a huge directory of an archive, whose entries take memory."""

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
    """Check that the archive has the form of those that this package writes.

    Raises:
        ValueError: it does not.
    """
    members = archive.infolist()
    names = Counter(item.filename for item in members)
    # skops compresses no member, and no two of its members share their name or their bytes.
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
        if owners.setdefault(file, node.get("__id__")) != node.get("__id__"):  # skops makes one array of each object
            raise ValueError("two of its arrays share their bytes")


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield each object in a schema that skops would build."""
    if isinstance(value, dict):
        if "__class__" in value or "__loader__" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for child in value:
            yield from _nodes(child)
