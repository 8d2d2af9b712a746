"""The members of a ``.tar`` file: their names and places, from the headers alone.

Python's ``tarfile`` makes an object of a kilobyte for each member, and takes 30 µs for it; data sets have millions, so
that the headers are read here. They are those of POSIX (ustar and pax) and GNU, in blocks of 512 bytes: name (100
bytes) · mode, uid, gid (8 each) · size (12) · mtime (12) · checksum (8) · type (1) · link (100) · magic (8) · … ·
prefix (155, at 345). Numbers are octal text, or binary after a byte 0x80.
"""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from featurestore.sources.shard_files import RandomAccess

BLOCK = 512

_WINDOW = 16 * 2**10
"""Bytes that are read at a time: several members that are tiny, and little of one that is large."""

_EXTENDED_LIMIT = 2**20
"""Most bytes of a long name, or of a pax header."""

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}

FOLDERS = "folders"
_LONG_NAME, _LONG_LINK, _PAX, _GLOBAL_PAX, _SPARSE, _FOLDER = b"L", b"K", b"x", b"g", b"S", b"5"
_EMPTY = {b"1": "links", b"2": "links", b"3": "devices", b"4": "devices", b"6": "FIFOs", _FOLDER: FOLDERS}
"""What has no bytes in a tar, though a link tells the size of what it points to."""
_OTHERS = {_SPARSE: "sparse members", b"V": "labels", b"M": "parts of members", b"D": FOLDERS, b"N": "long names"}


class TarError(ValueError):
    """A damaged or truncated ``.tar``: what came before is good."""


class Member(NamedTuple):
    """One member of a tar: a file, or what else it is.

    Attributes:
        name: as it stands there, with "/" between folders.
        start, size: of its bytes in the tar.
        other: "" for a file; else what it is instead, in the plural.
    """

    name: str
    start: int
    size: int
    other: str


class TarMembers:
    """The members of one tar.

    Args:
        file: is read from its beginning to its end, but for what lies in large members.
    """

    def __init__(self, file: RandomAccess) -> None:
        self._file = file
        self._start, self._window = 0, b""

    def compression(self) -> str:
        """Return by what the whole file is compressed, as its first bytes tell; "" if it is not."""
        head = self.read(0, 6)
        return next((name for magic, name in _COMPRESSED.items() if head.startswith(magic)), "")

    def read(self, start: int, size: int) -> bytes:
        """Return bytes of the tar, which are mostly in memory already."""
        at = start - self._start
        if not 0 <= at <= at + size <= len(self._window):
            self._start, self._window = start, self._file.read(start, max(size, _WINDOW))
            at = 0
        return self._window[at : at + size]

    def __iter__(self) -> Iterator[Member]:
        """Give the members.

        Raises:
            TarError: the tar is damaged, or ends too early.
            OSError: it cannot be read.
        """
        at, name, pax = 0, "", dict[bytes, bytes]()
        while head := self._header(at):
            kind, start = head[156:157], at + BLOCK
            if kind == _SPARSE:
                start = self._behind_map(head, start)
            size = (
                0
                if kind in _EMPTY
                else _number(pax.get(b"size", b"") or head[124:136], at, 10 if b"size" in pax else 8)
            )
            if start + size > self._file.size:
                shown = _text(pax.get(b"path", b"")) or name or _name(head)
                raise TarError(f"cut off, or damaged, in member {shown!r}, which should have {size:,} bytes")
            at = start + -(-size // BLOCK) * BLOCK
            if kind in (_LONG_NAME, _LONG_LINK, _PAX, _GLOBAL_PAX):
                if size > _EXTENDED_LIMIT:
                    raise TarError(f"damaged: a name of {size:,} bytes at byte {start}")
                if kind == _LONG_NAME:
                    name = _text(self.read(start, size))
                elif kind == _PAX:
                    pax = _records(self.read(start, size), start)
                continue
            name = _text(pax.get(b"path", b"")) or name or _name(head)
            other = _EMPTY.get(kind) or _OTHERS.get(kind, "")
            if pax and any(key.startswith(b"GNU.sparse") for key in pax):
                other = _OTHERS[_SPARSE]
            yield Member(name, start, size, other)
            name, pax = "", {}

    def _header(self, at: int) -> bytes:
        """Return the header at a place; nothing where the zeros are that end a tar."""
        head = self.read(at, BLOCK)
        if len(head) < BLOCK:
            told = f"in a header, at byte {at}" if head else "without the zeros that end a tar"
            raise TarError(f"ends {told}: it is cut off")
        field = head[148:156]
        if not any(field):
            if any(head):
                raise TarError(f"damaged, or no tar: no header at byte {at}")
            return b""
        # The low half of Adler-32 is one more than the sum of all bytes, modulo 65521. The checksum is over the header
        # with spaces in the checksum's own place.
        total = (zlib.adler32(head) & 0xFFFF) - 1 - sum(field) + len(field) * ord(" ")
        if (total - _number(field, at)) % 65521:
            raise TarError(f"damaged, or no tar: no header at byte {at}")
        return head

    def _behind_map(self, head: bytes, start: int) -> int:
        """Return where the bytes of a sparse member begin, behind the blocks with the map of its holes."""
        more = head[482]
        while more:
            block = self.read(start, BLOCK)
            if len(block) < BLOCK:
                raise TarError("ends in the map of a sparse member: it is cut off")
            more, start = block[504], start + BLOCK
        return start


def _number(field: bytes, at: int, base: int = 8) -> int:
    """Return the number in a field of the header at a place."""
    try:
        if field[0] == 0x80:
            return int.from_bytes(field[1:])
        number = int(field.partition(b"\0")[0].strip() or b"0", base)
        if number >= 0:
            return number
    except ValueError:
        pass
    raise TarError(f"damaged, or no tar: no number in the header at byte {at}")


def _records(data: bytes, start: int) -> dict[bytes, bytes]:
    """Return what a pax header says: records of ``LENGTH KEY=VALUE`` and a line's end."""
    found, at = dict[bytes, bytes](), 0
    while at < len(data) and data[at]:
        length, _, _ = data[at : at + 20].partition(b" ")
        end = at + _number(length or b"?", start, 10)
        key, equals, value = data[at + len(length) + 1 : end - 1].partition(b"=")
        if not equals or end > len(data):
            raise TarError(f"damaged: no pax header at byte {start}")
        found[key] = value
        at = end
    return found


def _name(head: bytes) -> str:
    prefix = head[345:500] if head[257:263] == b"ustar\0" else b""
    name = _text(head[:100])
    return f"{_text(prefix)}/{name}" if prefix and prefix[0] else name


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")
