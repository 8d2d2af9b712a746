"""Addresses such as ``https://host/file`` and ``s3://bucket/file``: which server may be asked, through which library,
and what its errors mean.

The file systems are fsspec's, and credentials are what these libraries find (environment, their own configuration).
"""

import asyncio
import ipaddress
import os
import re
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import wait
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from featurestore.errors import AddressError, FeatureStoreError, missing

TRUSTED_HOSTS = "FEATURESTORE_TRUSTED_HOSTS"
"""Environment variable: hosts, with commas, that may be asked by plain http, and that other hosts may send us on to."""

CONNECT_SECONDS = 15

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(?!/*$)")
_BRACKETS = re.compile(r"\[[^]]*\]")  # an IPv6 address
_PLAIN = ("http", "ftp", "webhdfs")
_HERE = frozenset({
    "file", "local", "memory", "data", "dir", "zip", "tar", "libarchive", "reference", "simplecache", "filecache",
    "blockcache", "cached", "generic", "dask", "jupyter", "jlab", "git",
})  # fmt: skip
"""File systems of fsspec that read this machine, or are layers over others: no address needs them."""

_S3 = ("s3", "s3a")
_AGAIN = frozenset({408, 421, 425, 429})
_LOST = frozenset({
    "HTTPClientError", "IncompleteReadError", "ResponseStreamingError", "ResponseParserError", "ClientConnectionError",
    "ClientPayloadError", "FSTimeoutError",
})  # fmt: skip
"""Errors of lost connections, beside those of the system."""
_NO_ACCESS = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound")


def is_address(text: str) -> bool:
    """Tell whether a text is an address, and no path of this machine."""
    return _SCHEME.match(text) is not None


def check_address(address: str) -> None:
    """Refuse an address at which nothing may be asked.

    Plain http, which others can read and alter on its way, is for this machine and for trusted hosts.

    Raises:
        AddressError: so it is, or it names no server at all.
    """
    found = _SCHEME.match(address)
    scheme = found[1].lower() if found else ""
    if not scheme or scheme in _HERE or "::" in _BRACKETS.sub("", address.partition("?")[0]):
        raise AddressError(f"{address}: no address of a server: write one such as https://… or s3://…")
    url = _split(address)
    host = url.hostname or ""
    if scheme in _PLAIN and not _is_this_machine(host) and host not in trusted():
        raise AddressError(
            f"{address}: plain {scheme} can be read and altered on its way: write https://, or set "
            f"{TRUSTED_HOSTS}={host} if you trust this network"
        )


def _split(address: str) -> Any:
    try:
        url = urlsplit(address)
        _ = url.port
        return url
    except ValueError as error:
        raise AddressError(f"{address}: no address ({error}): correct it") from error


def _is_this_machine(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def trusted() -> set[str]:
    """Return the hosts that the user trusts, see :data:`TRUSTED_HOSTS`."""
    return set(os.environ.get(TRUSTED_HOSTS, "").lower().replace(",", " ").split())


async def check_redirect(session: Any, context: Any, step: Any) -> None:
    """A hook of aiohttp's: refuse to be sent from https to http, or to another host or port."""
    from yarl import URL

    if (location := step.response.headers.get("Location")) is None:
        return
    here, there = step.url, step.url.join(URL(location))
    if here.scheme == "https" and there.scheme == "http":
        raise AddressError(f"{here}: sends us on to plain http, {there}: ask for an address of https to the end")
    same = here.host == there.host and (here.port == there.port or there.scheme != here.scheme)
    if not same and (there.host or "") not in trusted():
        raise AddressError(
            f"{here}: sends us on to another server, {there.host}:{there.port}: if you trust it, set "
            f"{TRUSTED_HOSTS}={there.host}"
        )


def server(address: str) -> str:
    """Return the part of an address that says who is asked: the host of a web address, else the bucket or host."""
    url = _split(address)
    return f"{url.scheme}://{url.netloc}"


def file_system(address: str, streams: int) -> Any:
    """Return the file system of an address, as fsspec calls it; its session with the servers is open.

    Args:
        address: of a file.
        streams: requests that may be under way at a time.

    Raises:
        MissingDependencyError: the extra, or the library of this kind of address, is not installed.
        AddressError: there is no such kind of address, or it may not be asked.
    """
    check_address(address)
    scheme = address.partition(":")[0].lower()
    try:
        import fsspec

        settings = _settings(scheme, streams)
        # A listing that was kept would be that of an earlier run.
        files, _ = fsspec.url_to_fs(address, skip_instance_cache=True, use_listings_cache=False, **settings)
        if scheme in _S3:
            files.retries = 1  # it is us who try again
        if hasattr(files, "set_session"):  # two requests at once would make two
            asyncio.run_coroutine_threadsafe(files.set_session(), files.loop).result()
        return files
    except ImportError as error:
        raise missing(f"reading {address}", "fsspec or a part of it", "remote") from error
    except FeatureStoreError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise cannot_be_had(address, error) from error


def _settings(scheme: str, streams: int) -> dict[str, Any]:
    """Return the arguments of a file system beside those in the user's configuration of fsspec."""
    from fsspec.config import conf

    def with_users(name: str, ours: dict[str, Any]) -> dict[str, Any]:
        return {name: {**conf.get(scheme, {}).get(name, {}), **ours}}

    if scheme in ("http", "https"):
        from aiohttp import ClientSession, ClientTimeout, TCPConnector, TraceConfig

        async def client(loop: Any, **settings: Any) -> Any:
            return ClientSession(loop=loop, connector=TCPConnector(limit=streams), **settings)

        trace = TraceConfig()
        trace.on_request_redirect.append(check_redirect)
        timeout = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        return {"get_client": client, **with_users("client_kwargs", {"timeout": timeout, "trace_configs": [trace]})}
    if scheme in _S3:
        # One stream for a file, so that bytes are counted as they come.
        ours = {"max_pool_connections": streams, "retries": {"max_attempts": 1}, "connect_timeout": CONNECT_SECONDS}
        return {"max_concurrency": 1, **with_users("config_kwargs", ours)}
    return {}


def patiently(
    files: Any, work: Coroutine[Any, Any, Any], address: str, came: Callable[[], int], patience: tuple[float, int]
) -> Any:
    """Wait for a file system's work and return its result, as long as enough bytes `came`.

    Args:
        files: the file system.
        work: of it.
        address: for the message.
        came: how many bytes there are.
        patience: so many seconds, in each of which so many bytes must come.

    Raises:
        AddressError: it took too long; it may be worth trying again.
    """
    task, before = asyncio.run_coroutine_threadsafe(work, files.loop), 0
    seconds, least = patience
    try:
        while not wait([task], seconds).done:
            if came() - before < least:
                raise SlowError(
                    f"{address}: {came() - before:,} bytes in {seconds} seconds are too few to wait for: try "
                    "again later, or have the file copied here in another way"
                )
            before = came()
        return task.result()
    finally:
        task.cancel()


class GoneError(AddressError):
    """There is no such file at an address."""


class SlowError(AddressError):
    """A server gave next to nothing for a long time."""


class Answer(NamedTuple):
    """What is known of a failed request: the reason in a few words, and whether to ask once more.

    Attributes:
        reason: of the failure.
        again: whether another attempt may succeed: the server did not answer, or says that it is busy or broken.
        gone: whether the server says that there is no such file.
        fatal: whether it will be the same for every other address.
        after: seconds that the server asks us to wait.
    """

    reason: str
    again: bool = False
    gone: bool = False
    fatal: bool = False
    after: float = 0.0


def understood(error: BaseException) -> Answer:
    """Return what an error of a file system means."""
    cause = error.__cause__ or error
    if isinstance(cause, SlowError):
        return Answer(str(cause).split(": ", 1)[-1].partition(":")[0], again=True)
    if isinstance(cause, FeatureStoreError):
        return Answer(str(cause))
    if type(cause).__name__ in _NO_ACCESS:
        return Answer(f"no credentials: {' '.join(str(cause).split())}", fatal=True)
    status = _status(cause)
    if status in (404, 410) or (status is None and cause is error and isinstance(error, FileNotFoundError)):
        return Answer("no such file there", gone=True)
    if status is not None and status >= 400:
        return Answer(f"the server says {status}", status in _AGAIN or status >= 500, after=_after(cause))
    reason = " ".join(str(cause).split())[:200] or type(cause).__name__
    kinds = {kind.__name__ for each in (error, cause) for kind in type(each).__mro__}
    lost = isinstance(cause, OSError) or not _LOST.isdisjoint(kinds)
    return Answer(reason, lost and not isinstance(cause, PermissionError | NotADirectoryError | IsADirectoryError))


def _status(error: BaseException) -> int | None:
    """Return the status of an answer in HTTP, as aiohttp and botocore keep it."""
    response = getattr(error, "response", None)
    found = getattr(error, "status", None)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return found if isinstance(found, int) else None


def _after(error: BaseException) -> float:
    with suppress(KeyError, TypeError, ValueError, AttributeError):
        return max(0.0, float(error.headers["Retry-After"]))  # type: ignore[attr-defined]
    return 0.0


def cannot_be_had(address: str, error: Exception) -> Exception:
    """Return the error to raise for what a file system raised."""
    cause = error.__cause__ or error
    if isinstance(cause, FeatureStoreError):
        return cause
    found = understood(error)
    if found.gone:
        return AddressError(f"{address}: no such file there: check the address")
    return AddressError(
        f"{address}: cannot be had ({found.reason}): check the address, your access rights and the network"
    )


_systems: dict[tuple[int, str], Any] = {}
_turn = threading.Lock()


def shared_file_system(address: str, streams: int) -> Any:
    """Return as :func:`file_system` the one that this process keeps for all files of this server."""
    scheme = address.partition(":")[0].lower()
    key = os.getpid(), scheme if scheme in ("http", "https", *_S3) else server(address)
    with _turn:
        if key not in _systems:
            _systems[key] = file_system(address, streams)
        return _systems[key]
