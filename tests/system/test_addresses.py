"""What is an address, and which errors of file systems mean what."""

from email.utils import formatdate

import pytest

from featurestore.errors import AddressError
from featurestore.system.addresses import TRUSTED_HOSTS, check_address, is_address, server, understood
from featurestore.system.transfer import stamp_from


@pytest.mark.parametrize(
    ("text", "expected"),
    [("s3://b/k", True), ("HTTPS://h/k", True), ("gs://b", True), ("c:/x", False), ("c://x", False), ("a/b", False),
     ("s3:/b/k", False), ("tfds:mnist", False), ("s3://", False), ("", False), ("/s3://x", False)],
)  # fmt: skip
def test_what_an_address_is(text, expected):
    assert is_address(text) is expected


@pytest.mark.parametrize("address", ["s3://b/k", "https://h/k", "http://127.0.0.1:1/k", "http://[::1]/k", "gs://b/k",
                                     "https://h/k?a=x::y", "http://localhost/x"])  # fmt: skip
def test_addresses_that_may_be_asked(address):
    check_address(address)


@pytest.mark.parametrize("address", ["file:///etc/passwd", "local://x", "memory://x", "simplecache::https://h/x",
                                     "zip://x::https://h/y", "reference://x", "http://h/k", "ftp://h/k", "data:x",
                                     "https://h:port/x", "http://127.0.0.1.nip.io/x"])  # fmt: skip
def test_addresses_that_may_not(address, monkeypatch):
    monkeypatch.delenv(TRUSTED_HOSTS, raising=False)
    with pytest.raises(AddressError):
        check_address(address)


def test_who_is_asked():
    assert server("https://h:80/a/b?c") == "https://h:80" and server("s3://bucket/a/b") == "s3://bucket"


class WebError(Exception):
    def __init__(self, status, **headers):
        self.status, self.headers = status, headers


class NoCredentialsError(Exception):
    pass


def test_what_errors_mean():
    assert understood(FileNotFoundError("x")).gone and not understood(FileNotFoundError("x")).again
    assert understood(WebError(404)).gone
    assert understood(WebError(503, **{"Retry-After": "3"}))[:2] == ("the server says 503", True)
    assert understood(WebError(503, **{"Retry-After": "3"})).after == 3
    assert understood(WebError(503, **{"Retry-After": formatdate()})).after == 0
    assert not understood(WebError(403)).again and understood(WebError(429)).again
    assert understood(ConnectionResetError("gone")).again and understood(TimeoutError()).again
    assert not understood(PermissionError("x")).again and not understood(ValueError("x")).again
    assert understood(NoCredentialsError()).fatal
    assert understood(ConnectionResetError("two\nlines")).reason == "two lines"


def test_stamps_change_with_what_the_server_says():
    from datetime import UTC, datetime

    one = {"ETag": '"a"', "Last-Modified": "Mon, 30 Nov 2026 02:49:49 GMT", "size": 5}
    listed = {"ETag": '"a"', "LastModified": datetime(2026, 11, 30, 2, 49, 49, 7000, UTC), "Size": 5, "size": 5}
    assert stamp_from("s3://b/k", one) == stamp_from("s3://b/k", listed) and len(stamp_from("s3://b/k", one)) == 40
    others = [one | {"ETag": '"b"'}, one | {"size": 6}, one | {"Last-Modified": "Mon, 30 Nov 2026 02:49:50 GMT"}]
    assert len({stamp_from("s3://b/k", each) for each in (one, *others)} | {stamp_from("s3://b/l", one)}) == 5
    assert stamp_from("s3://b/k", {"size": 5}) == b"" and stamp_from("s3://b/k", {"ETag": "x", "updated": "nonsense"})
