"""The one reader of JSON that may come from anybody: a document has the expected types, or it is refused.

A few bytes of JSON can become a hundred times as many in memory, or nest so deeply that whoever walks through them
falls; so size, number of values and depth are limited before anything looks at the content.
"""

import json
import os
from typing import Any, TypeVar

from featurestore.system.files import read_regular, size_text

LIMIT = 32 * 2**20
"""Most bytes of a document: a sweep of ten thousand heads, or a head of a million classes, has less."""

_CONTAINERS, _VALUES, _DEPTH = 2**19, 2**22, 100

T = TypeVar("T")


def read(path: str | os.PathLike[str], kind: type[T]) -> T:
    """The document in a file, see :func:`parse`.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger than :data:`LIMIT`.
        ValueError: see :func:`parse`.
    """
    return parse(read_regular(path, LIMIT), kind)


def parse(text: str | bytes, kind: type[T]) -> T:
    """A document of the type that is expected.

    Args:
        text: JSON; as Python writes it, so NaN, Infinity and lone surrogates (bytes of a file's name) may occur.
        kind: type of the result: plain types with type arguments, or a dataclass. Keys that a dataclass does not
            know are passed over, since a later version may have added them.

    Raises:
        ValueError: no JSON, not of that type, or beyond the limits; the text is a reason of one line.

    Example:
        >>> parse('{"a": [1, 2]}', dict[str, list[int]])
        {'a': [1, 2]}
        >>> parse('{"a": [1, "2"]}', dict[str, list[int]])
        Traceback (most recent call last):
        ValueError: Expected `int`, got `str` - at `$[...][1]`
    """
    return typed(_loaded(text), kind)


def typed(value: Any, kind: type[T]) -> T:
    """A part of a document that was read already, of the type that is expected of it.

    Raises:
        ValueError: it is not of that type.
    """
    import msgspec

    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def _loaded(text: str | bytes) -> Any:
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > LIMIT:
        raise ValueError(f"more than {size_text(LIMIT)} of JSON")
    containers = raw.count(b"[") + raw.count(b"{")
    if containers > _CONTAINERS or containers + raw.count(b",") > _VALUES:
        raise ValueError(f"more than {_CONTAINERS:,} lists and objects, or {_VALUES:,} values")
    try:
        found = json.loads(raw)
    except RecursionError:
        raise _too_deep() from None
    level = [found]
    for _ in range(_DEPTH):
        level = [child for node in level for child in _children(node) if isinstance(child, dict | list)]
        if not level:
            return found
    raise _too_deep()


def _children(node: Any) -> Any:
    return node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()


def _too_deep() -> ValueError:
    return ValueError(f"nested more than {_DEPTH} deep")
