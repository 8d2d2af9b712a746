"""The one printer: what a file's maker, or a file's name, puts into a text cannot command the reader's terminal."""

import codecs
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from featurestore.system.files import write_error

_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, those that turn the direction of writing, line separators, and bytes that are no text."""

ERRORS = "featurestore"
"""Name of what a stream does with a character that it cannot encode: see :func:`prepare`."""


def printable(text: str) -> str:
    """One line of text without control characters: these are spelt out.

    Example:
        >>> printable("cat\\x1b[2J\\n\\udcff")
        'cat\\\\x1b[2J\\\\n\\\\udcff'
    """
    return _HARMFUL.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def as_utf8(text: str) -> str:
    """The same text, but bytes of a file's name that are no UTF-8 are spelt out: ``caf\\udce9``, as in ``--json``."""
    return text.encode("utf-8", "backslashreplace").decode()


def all_printable(value: Any) -> Any:
    """Plain JSON types with all their texts, keys too, made :func:`printable`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {all_printable(key): all_printable(item) for key, item in value.items()}
    return [all_printable(item) for item in value] if isinstance(value, list | tuple) else value


def prepare(*streams: TextIO) -> None:
    """Let streams write any text: bytes of a file's name as they are, and what their encoding lacks spelt out."""
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ERRORS)


def say(text: str, stream: TextIO | None = None) -> None:
    """Write lines of text, whose parts have been made :func:`printable`, at once; by default to standard output.

    Raises:
        WriteError: the disk that it is redirected to is full, say.
    """
    with standard_output(stream or sys.stdout) as there:
        print(text, file=there, flush=True)


@contextmanager
def standard_output(stream: TextIO | None = None) -> Iterator[TextIO]:
    """A stream of the process, by default standard output; an error while it is written becomes ours.

    Raises:
        WriteError: it cannot be written.
        BrokenPipeError: its reader is gone.
    """
    try:
        yield stream or sys.stdout
    except OSError as error:
        # What could not be written would be tried again, with another error, when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):
            raise
        raise write_error("standard output", error) from error


def _spelt_out(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    parts = error.object[error.start : error.end]
    if all("\udc80" <= char <= "\udcff" for char in parts):
        return bytes(ord(char) - 0xDC00 for char in parts), error.end
    return codecs.backslashreplace_errors(error)


codecs.register_error(ERRORS, _spelt_out)
