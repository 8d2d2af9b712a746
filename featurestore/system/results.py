"""The base of what public functions return: plain JSON types, a short text, and a table in a notebook."""

import dataclasses
import html
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

_WIDTH, _LONGEST, _MANY = 100, 80, 8
"""Characters of a line; characters and elements of a value up to which it stands in the short text as it is."""


class Result:
    """Base class of frozen dataclasses that public functions return.

    Declare them with ``@dataclass(frozen=True, repr=False)``: the short text below takes the place of Python's, which
    holds every element of every list.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, repr=False)
        ... class Counted(Result):
        ...     rows: int
        ...     failures: list[str]
        >>> Counted(rows=3, failures=["a.png", "b.png"]).to_dict()
        {'rows': 3, 'failures': ['a.png', 'b.png']}
        >>> Counted(rows=3, failures=["a.png"] * 50)
        Counted(rows=3, failures=[50 items])
    """

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in their order, as plain JSON types."""
        return {name: plain(value) for name, value in _items(self)}

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__}("]
        for name, text in self._shown():
            separator = "" if lines[-1].endswith("(") else ", "
            if len(lines[-1]) + len(separator) + len(name) + len(text) + 1 > _WIDTH and separator:
                lines[-1] += ","
                lines.append("    ")
                separator = ""
            lines[-1] += f"{separator}{name}={text}"
        return "\n".join(lines) + ")"

    def _repr_html_(self) -> str:
        rows = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in self._shown())
        return f"<table><caption>{type(self).__name__}</caption>{''.join(rows)}</table>"

    def _shown(self) -> Iterator[tuple[str, str]]:
        """Give the name and the short text of each field that holds something."""
        for name, value in _items(self):
            if value is not None and not (isinstance(value, str | list | tuple | dict) and not value):
                yield name, _short(value)


def plain(value: Any) -> Any:
    """Return a value as plain JSON types: results and dataclasses become dicts, paths strings, arrays lists."""
    if isinstance(value, Result):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        value = dict(_items(value))
    match value:
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case np.ndarray() | np.generic():
            return value.tolist()
    return str(value) if isinstance(value, PurePath) else value


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    return ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))


def _short(value: Any) -> str:
    if isinstance(value, Result):
        return f"{type(value).__name__}(…)"
    many = isinstance(value, list | tuple | dict) and len(value) > _MANY
    text = f"{value:.6g}" if isinstance(value, float) else repr(str(value) if isinstance(value, PurePath) else value)
    if not many and len(text) <= _LONGEST:
        return text
    if isinstance(value, list | tuple | dict):
        return f"{{{len(value)} items}}" if isinstance(value, dict) else f"[{len(value)} items]"
    return text[: _LONGEST - 1] + "…"
