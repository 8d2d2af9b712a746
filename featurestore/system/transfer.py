"""Files at addresses copied here, in whole or in part: in time, of a limited size, and tried again where that helps."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from random import uniform
from typing import Any, BinaryIO

from featurestore.errors import AddressError, ServerError
from featurestore.system.addresses import (
    Answer,
    GoneError,
    check_address,
    patiently,
    server,
    shared_file_system,
    understood,
)
from featurestore.system.files import is_full, size_text
from featurestore.system.stamps import version_stamp

STREAMS = 32
"""Requests that are under way at a time. Each waits for the network most of its time."""

PAUSES = (0.5, 1.5, 4.5, 13.5)
"""Seconds before each further attempt; a server that asks for more gets it, up to :data:`LONGEST_PAUSE`."""

FIRST_PAUSES = 2
"""So many of them are for a server that has never answered."""

LONGEST_PAUSE = 30.0

PATIENCE = 30.0, 2**17
"""So many seconds, in each of which so many bytes must come."""

DEAD_AFTER = 10
"""A server that has not answered one of so many requests in a row, each tried again and again, is down."""

DEAD_SERVERS = 3
"""If so many servers are down, or all that there are, and none has answered since, it is the network."""

_BLOCK = 2**18


class Limited:
    """A file that is written as bytes come, and takes no more than a limit.

    Args:
        path: of the file.
        limit: most bytes.
    """

    def __init__(self, path: str | os.PathLike[str], limit: int) -> None:
        self._path, self._limit, self.came = path, limit, 0
        self._file: BinaryIO | None = None

    def announced(self, size: int | None) -> None:
        """Refuse what is larger before it comes."""
        if size is not None and size > self._limit:
            raise AddressError(f"larger than {size_text(self._limit)}")

    def write(self, block: bytes) -> None:
        """Take the next bytes."""
        self.came += len(block)
        self.announced(self.came)
        assert self._file is not None
        self._file.write(block)

    def __enter__(self) -> "Limited":
        self._file = open(self._path, "wb", buffering=0)  # noqa: PTH123 (closed below)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        self._file.close()


@dataclass
class _Health:
    """What is known of a server: whether it ever answered, how many requests in a row did not, and why."""

    answered: bool = False
    failed: int = 0
    reason: str = ""


class Downloads:
    """Requests to servers. Many threads may call it at once.

    A server of which nothing can be had at all, request after request, is down, and nothing more is asked of it. If it
    is the only one, that stops the run: 100,000 images that fail one after the other, each after a minute, help nobody.
    A list of addresses may name hosts that are long gone: then it takes several of them.

    Args:
        servers: how many there are to ask, as far as it is known.
    """

    def __init__(self, servers: int = 1) -> None:
        self._servers = min(max(servers, 1), DEAD_SERVERS)
        self._health: dict[str, _Health] = {}
        self._down = 0
        self._turn = threading.Lock()

    def get(self, address: str, path: str | os.PathLike[str], limit: int, span: tuple[int, int] | None = None) -> bytes:
        """Copy a file, or a part of it, to `path`.

        Args:
            address: of the file.
            path: is written anew in each attempt.
            limit: most bytes that it may have.
            span: first byte, and the one behind the last.

        Returns:
            A stamp of the file at that address, see :mod:`featurestore.system.stamps`; empty if the server tells
            nothing by which a change would be noticed.

        Raises:
            AddressError: it cannot be had; the message is the reason alone.
            ServerError: the server is down, or wants credentials.
            OSError: the disk is full.
        """

        def attempt(files: Any) -> bytes:
            with Limited(path, limit) as sink:
                kind = _web if hasattr(files, "encode_url") else _s3 if hasattr(files, "_call_s3") else None
                if kind is None:
                    version = _plainly(files, address, sink, span)
                else:
                    work = kind(files, address, sink, span)
                    version = patiently(files, work, address, lambda: sink.came, PATIENCE)
            return stamp_from(address, version)

        found: bytes = self._asked(address, attempt)
        return found

    def put(self, path: str | os.PathLike[str], address: str) -> bytes:
        """Copy a file to an address, and return its stamp there.

        Raises:
            AddressError, ServerError: see :meth:`get`.
        """

        def attempt(files: Any) -> bytes:
            files.put_file(os.fspath(path), address)
            return stamp_from(address, files.info(address))

        found: bytes = self._asked(address, attempt)
        return found

    def look(self, address: str) -> tuple[int | None, bytes]:
        """Return the size of a file, None if the server does not tell it, and its stamp; see :meth:`get`.

        Raises:
            AddressError, ServerError: see there.
        """

        def attempt(files: Any) -> tuple[int | None, bytes]:
            if hasattr(files, "_info"):
                info = patiently(files, files._info(address), address, lambda: 0, PATIENCE)
            else:
                info = files.info(address)
            if info.get("type", "file") != "file":
                raise AddressError("a folder, and no file")
            size = info.get("size")
            return None if size is None else int(size), stamp_from(address, info)

        found: tuple[int | None, bytes] = self._asked(address, attempt)
        return found

    def _asked(self, address: str, attempt: Callable[[Any], Any]) -> Any:
        """Try, and try again where it may help."""
        check_address(address)
        who = server(address)
        with self._turn:
            health = self._health.setdefault(who, _Health())
        self._check_alive(who, health)
        files, tries = shared_file_system(address, STREAMS), 0
        while True:
            try:
                result = attempt(files)
            except Exception as error:  # each file system has errors of its own
                if is_full(error):
                    raise
                found = understood(error)
                if found.fatal:
                    raise ServerError(f"{who}: {found.reason}") from error
                if found.again and tries < (len(PAUSES) if health.answered else FIRST_PAUSES):
                    time.sleep(min(max(PAUSES[tries] * uniform(0.75, 1.25), found.after), LONGEST_PAUSE))
                    tries += 1
                    self._check_alive(who, health)
                    continue
                self._note(health, found)
                self._check_alive(who, health)
                raise (GoneError if found.gone else AddressError)(found.reason) from error
            self._note(health, None)
            return result

    def _note(self, health: _Health, found: Answer | None) -> None:
        """Count what became of a request."""
        with self._turn:
            if found is None or not found.again:
                health.answered, health.failed, self._down = True, 0, 0
                return
            health.failed, health.reason = health.failed + 1, found.reason
            self._down += health.failed == DEAD_AFTER

    def _check_alive(self, who: str, health: _Health) -> None:
        """Ask nothing more of a server that is down, and stop the run if it is not this one alone."""
        if health.failed < DEAD_AFTER:
            return
        if self._down < self._servers:
            raise AddressError(f"its server does not answer ({health.reason})")
        raise ServerError(
            f"{who}: does not answer ({health.reason}), {health.failed} times in a row: what is finished is kept; "
            "check the address and the network, and run the same command again"
        )


async def _web(files: Any, address: str, sink: Limited, span: tuple[int, int] | None) -> Mapping[str, Any]:
    """Fetch a file of a web server; return what it said of it."""
    headers = {"Accept-Encoding": "identity"}
    if span:
        headers["Range"] = f"bytes={span[0]}-{span[1] - 1}"
    session = await files.set_session()
    async with session.get(files.encode_url(address.replace("#", "%23")), headers=headers) as answer:
        files._raise_not_found_for_status(answer, address)
        if span and answer.status != 206:
            raise AddressError("its server gives no parts of files: copy it here")
        sink.announced(answer.content_length)
        async for block in answer.content.iter_chunked(_BLOCK):
            sink.write(block)
        return {**answer.headers, "size": _whole(answer.headers.get("Content-Range")) if span else sink.came}


async def _s3(files: Any, address: str, sink: Limited, span: tuple[int, int] | None) -> Mapping[str, Any]:
    """Fetch an object of S3; return what was said of it."""
    bucket, key, version = files.split_path(address)
    more = {"Range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
    if version:
        more["VersionId"] = version
    answer = await files._call_s3("get_object", Bucket=bucket, Key=key, **more)
    sink.announced(answer.get("ContentLength"))
    async with answer["Body"] as body:
        while block := await body.read(_BLOCK):
            sink.write(block)
    return {**answer, "size": _whole(answer.get("ContentRange")) if span else sink.came}


def _whole(content_range: str | None) -> int | None:
    """Return the size of a file that a server has sent a part of, as in ``bytes 0-99/1234``."""
    size = (content_range or "").rpartition("/")[2]
    return int(size) if size.isdecimal() else None


def _plainly(files: Any, address: str, sink: Limited, span: tuple[int, int] | None) -> Mapping[str, Any]:
    """Fetch a file of any other file system."""
    info: dict[str, Any] = files.info(address)
    start, end = span or (0, info.get("size"))
    if end is None:
        raise AddressError("its server does not tell its size: copy it here")
    sink.announced(end - start)
    while start < end:
        block = files.cat_file(address, start=start, end=min(start + _BLOCK, end))
        if not block:
            raise OSError(f"ends after {start} of {end} bytes")
        sink.write(block)
        start += len(block)
    return info


def stamp_from(address: str, said: Mapping[str, Any]) -> bytes:
    """Return the stamp of a file, from what its server said of it, or a listing."""
    lower = {key.lower().replace("-", "").replace("_", ""): value for key, value in said.items()}
    tag = next((str(lower[key]) for key in ("versionid", "etag", "md5hash", "contentmd5") if lower.get(key)), "")
    changed = next((lower[key] for key in ("lastmodified", "mtime", "updated", "modified") if lower.get(key)), None)
    if changed is None and not tag:
        return b""
    return version_stamp(f"{address} {tag} {lower.get('size')}", _seconds(changed))


def _seconds(moment: Any) -> int:
    """Return a moment in seconds since 1970; 0 if it is not understood."""
    try:
        if isinstance(moment, str):
            moment = parsedate_to_datetime(moment) if "," in moment else moment.replace("Z", "+00:00")
        if isinstance(moment, str):
            from datetime import datetime

            moment = datetime.fromisoformat(moment)
        return int(moment if isinstance(moment, int | float) else moment.timestamp())
    except (ValueError, TypeError, AttributeError, OverflowError, OSError):
        return 0
