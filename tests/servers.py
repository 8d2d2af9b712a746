"""Servers on this machine for images at addresses: a real one of S3's protocol, and a web server that misbehaves."""

import os
import threading
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from featurestore.system import addresses


class Server(ThreadingHTTPServer):
    """Serves the files of a folder. An address may say how, in its first part: ``/drop/red/1.png``.

    Attributes:
        asked: how often each method and path was asked.
        times: how often a path is answered badly before it is answered well, where the way of the address is ``busy``,
            ``drop`` or ``short``.
        wait: seconds before each answer.
    """

    daemon_threads, request_queue_size = True, 256

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.asked, self.times, self.wait = folder, Counter[str](), 0, 0.0
        self.status, self.elsewhere, self.etags, self.after = 503, "", True, None
        self.over, self.turn = threading.Event(), threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def address(self, path: str = "", how: str = "whole") -> str:
        return f"http://127.0.0.1:{self.server_port}/{how}/{path}"

    def gets(self) -> int:
        return sum(count for key, count in self.asked.items() if key.startswith("GET"))

    def handle_error(self, *_) -> None:
        """A client that hangs up is what is tried here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def log_message(self, *arguments):
        pass

    def answer(self):
        key = f"{self.command} {self.path}"
        with self.server.turn:
            self.server.asked[key] += 1
            bad = self.server.asked[key] <= self.server.times
        if self.server.wait:
            time.sleep(self.server.wait)
        _, how, path = self.path.partition("?")[0].split("/", 2)
        file = self.server.folder / path
        if how in ("busy", "drop", "short") and not bad:
            how = "whole"
        if not file.is_file():
            self.begin(0, 404)
            return
        getattr(self, how)(file.read_bytes(), file.stat().st_mtime)

    def begin(self, size, status=200, **more):
        self.send_response(status)
        for name, value in {"Content-Length": size, **more}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send(self, data):
        if self.command == "GET":
            self.wfile.write(data)

    def version(self, data, changed):
        return (
            {"ETag": f'"{hash(data):x}"', "Last_Modified": formatdate(changed, usegmt=True)}
            if self.server.etags
            else {}
        )

    def whole(self, data, changed):
        more = self.version(data, changed)
        if (span := self.headers.get("Range")) and self.command == "GET":
            first, last = map(int, span.removeprefix("bytes=").split("-"))
            part = data[first : last + 1]
            self.begin(len(part), 206, Content_Range=f"bytes {first}-{last}/{len(data)}", **more)
            self.send(part)
            return
        self.begin(len(data), **more)
        self.send(data)

    def deaf(self, data, changed):
        """Knows no parts of files."""
        self.begin(len(data), **self.version(data, changed))
        self.send(data)

    def busy(self, data, changed):
        self.begin(0, self.server.status, Retry_After=self.server.after)

    def always(self, data, changed):
        self.busy(data, changed)

    def drop(self, data, changed):
        self.close_connection = True

    def short(self, data, changed):
        """Announces more than comes."""
        self.begin(len(data), **self.version(data, changed))
        self.send(data[: len(data) // 2])
        self.close_connection = True

    def cut(self, data, changed):
        self.short(data, changed)

    def lie(self, data, changed):
        """Announces less than the file has: what comes is half an image."""
        self.begin(len(data) // 2)
        self.send(data[: len(data) // 2])

    def huge(self, data, changed):
        self.begin(10**15)
        self.endlessly(b"x" * 2**16, 0)

    def endless(self, data, changed):
        self.begin(None, Connection="close")
        self.endlessly(b"x" * 2**20, 0)
        self.close_connection = True

    def drip(self, data, changed):
        self.begin(len(data))
        self.endlessly(b"x", 0.05)

    def silent(self, data, changed):
        self.server.over.wait(30)

    def here(self, data, changed):
        self.begin(0, 302, Location=self.path.replace("/here/", "/whole/"))

    def away(self, data, changed):
        self.begin(0, 302, Location=self.server.elsewhere + self.path.removeprefix("/away/"))

    def round(self, data, changed):
        self.begin(0, 302, Location=self.path)

    def endlessly(self, data, pause):
        while self.command == "GET" and not self.server.over.wait(pause):
            self.wfile.write(data)


@contextmanager
def serving(folder: Path):
    """Give a web server of a folder."""
    with Server(folder) as server:
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()


@contextmanager
def s3(monkeypatch, folder: Path, bucket: str = "bucket"):
    """Give a bucket of a real S3 server that holds the files of a folder, as s3fs sees it."""
    import logging

    import pytest

    pytest.importorskip("moto.server")
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (("ENDPOINT_URL", f"http://{host}:{port}"), ("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"),
                        ("DEFAULT_REGION", "us-east-1")):  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr(addresses, "_systems", {})
    import s3fs

    try:
        urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
        files = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
        files.mkdir(bucket)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                files.pipe_file(f"{bucket}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        yield files
    finally:
        server.stop()


def settle(folder: Path) -> None:
    """Let all files of a folder have changed yesterday."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 86_400,) * 2)
