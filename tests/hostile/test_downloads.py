"""Servers that do harm, and files that name one: what is asked, and what is kept."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from storage import feature_file
from yarl import URL

from featurestore.errors import DiskFullError, StoreError
from featurestore.store import remote
from featurestore.store.reader import find_file
from featurestore.store.remote import Recorded
from featurestore.system.addresses import TRUSTED_HOSTS, check_redirect
from featurestore.system.user_cache import cache_folder
from heads import sweep
from heads.reporting.report import report


class Server(ThreadingHTTPServer):
    """Each address is served in its own way: see :class:`Handler`. Notes what is asked."""

    def __init__(self, data: bytes, elsewhere: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.elsewhere, self.asked, self.over = data, elsewhere, list[str](), threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def address(self, how: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{how}/data.h5"


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.server.asked.append(self.path)
        getattr(self, self.path.split("/")[1])()

    def do_GET(self):
        self.do_HEAD()

    def log_message(self, *arguments):
        pass

    def begin(self, size=None, status=200, location=None):
        self.send_response(status)
        for name, value in {"Content-Length": size, "Location": location}.items():
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()

    def send(self, data):
        """Send the same again and again, for as long as somebody listens."""
        while self.command == "GET" and not self.server.over.wait(0.01):
            try:
                self.wfile.write(data)
            except OSError:
                return

    def whole(self):
        self.begin(len(self.server.data))
        if self.command == "GET":
            self.wfile.write(self.server.data)

    def here(self):
        self.begin(0, 302, "/whole/data.h5")

    def elsewhere(self):
        self.begin(0, 302, self.server.elsewhere)

    def endless(self):
        self.begin(1000 if self.command == "HEAD" else None)
        self.send(b"x" * 2**16)

    def huge(self):
        self.begin(10**18)
        self.send(b"x" * 2**16)

    def empty(self):
        self.begin(0)

    def drip(self):
        self.begin(10**6)
        self.send(b"x")

    def silent(self):
        self.server.over.wait()

    def heading(self):
        self.wfile.write(b"HTTP/1.0 200 OK\r\nName: ")
        while not self.server.over.wait(0.01):
            self.wfile.write(b"x")


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(TRUSTED_HOSTS, raising=False)
    data = feature_file(tmp_path).read_bytes()
    with Server(data) as other, Server(data, other.address("whole")) as server:
        server.other = other
        yield server
        for each in (server, other):
            each.over.set()
            each.shutdown()


def refused(kind: type, match: str, address: str) -> None:
    """One line, and nothing that stays."""
    with pytest.raises(kind, match=match) as caught:
        find_file(address)
    assert "\n" not in str(caught.value) and (not cache_folder().exists() or not list(cache_folder().iterdir()))


@pytest.mark.parametrize("host", ["example.org", "192.0.2.1"])
def test_plain_http_is_for_hosts_that_the_user_trusts(server, monkeypatch, host):
    class AskedError(Exception):
        pass

    def ask(address: str) -> None:
        raise AskedError(address)

    monkeypatch.setattr(remote, "_ask", ask)
    address = f"http://{host}/data.h5"
    refused(StoreError, f"{address}: plain http .* write https://, or set {TRUSTED_HOSTS}={host}", address)
    monkeypatch.setenv(TRUSTED_HOSTS, "mirror.lan, Example.org,192.0.2.1")
    with pytest.raises(AskedError, match=address):
        find_file(address)


def test_a_server_may_send_us_on_within_itself(server):
    assert find_file(server.address("here")).read_bytes() == server.data


def test_a_server_may_send_us_on_to_another_only_if_the_user_trusts_that(server, monkeypatch):
    address = server.address("elsewhere")
    refused(StoreError, f"{address}: sends us on to another server, 127.0.0.1:.*set {TRUSTED_HOSTS}=127.0.0.1", address)
    assert not server.other.asked
    monkeypatch.setenv(TRUSTED_HOSTS, "127.0.0.1")
    assert find_file(address).read_bytes() == server.data


@pytest.mark.parametrize(
    ("there", "match"),
    [
        ("http://a.org/f.h5", "plain http"),
        ("http://trusted.org/f.h5", "plain http"),
        ("https://a.org:8443/f.h5", "another server, a.org:8443"),
        ("//b.org/f.h5", "another server, b.org:443"),
        ("https://169.254.169.254/", "another server"),
        ("https://trusted.org/f.h5", None),
        ("/g.h5", None),
    ],
)
def test_https_stays_https_and_a_host_itself(monkeypatch, there, match):
    monkeypatch.setenv(TRUSTED_HOSTS, "trusted.org")
    step = SimpleNamespace(url=URL("https://a.org/f.h5"), response=SimpleNamespace(headers={"Location": there}))
    if match is None:
        asyncio.run(check_redirect(None, None, step))
    else:
        with pytest.raises(StoreError, match=match):
            asyncio.run(check_redirect(None, None, step))


def test_a_server_gets_no_more_of_the_disk_than_it_announced(server):
    refused(StoreError, "more came than the 1,000 bytes that were announced", server.address("endless"))


def test_what_is_larger_than_the_disk_is_not_begun(server):
    with pytest.raises(DiskFullError, match=r"huge/data.h5 announces more than fits: .* free"):
        find_file(server.address("huge"))
    assert len(server.asked) == 1 and not list(cache_folder().iterdir())


def test_an_empty_file(server):
    refused(StoreError, "empty/data.h5: an empty file", server.address("empty"))


@pytest.mark.parametrize("how", ["drip", "silent", "heading"])
def test_a_server_that_gives_next_to_nothing_is_not_waited_for(server, monkeypatch, how):
    monkeypatch.setattr(remote, "_PATIENCE_SECONDS", 0.5)
    refused(StoreError, f"{how}/data.h5: [0-9]+ bytes in 0.5 seconds are too few", server.address(how))


def test_what_killed_downloads_left_is_removed_and_a_live_one_is_left_alone(server):
    (cache_folder() / "download-old").mkdir(parents=True)  # as an earlier version called its drafts
    command = [sys.executable, "-m", "cli", "info", server.address("drip")]
    dead, live = (subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2))

    def drafts(process: subprocess.Popen) -> set[Path]:
        paths = [Path(file.path) for file in psutil.Process(process.pid).open_files()]
        return {path for path in paths if path.name.startswith("download-")}

    try:
        while not (drafts(dead) and drafts(live)):
            assert dead.poll() is None and live.poll() is None
            time.sleep(0.05)
        left, used = drafts(dead), drafts(live)
        dead.kill()
        dead.wait()
        assert all(path.exists() for path in left)
        find_file(server.address("whole"))
        assert set(cache_folder().glob("download-*")) == used
    finally:
        for process in (dead, live):
            process.kill()
            process.wait()


@pytest.fixture
def run(tmp_path, server):
    (tmp_path / "space.toml").write_text('[[heads]]\nkind = "logreg"\nC = [1e-3]\n')
    sweep(tmp_path / "data.h5", tmp_path / "run", space=tmp_path / "space.toml")
    return tmp_path / "run"


def test_an_address_that_a_file_gives_is_shown_and_not_asked(run, server, tmp_path, monkeypatch):
    summary = json.loads((run / "sweep.json").read_text())
    for address in (server.address("whole"), "s3://bucket/data.h5", "https://example.org/data.h5"):
        monkeypatch.setattr(remote, "_ask", lambda address: pytest.fail("asked"))
        (run / "sweep.json").write_text(json.dumps(summary | {"features": address}))
        (note,) = report(run, tmp_path / "page.html").notes
        assert f"{address}: not contacted, because only a file names this address" in note and "--features" in note
        assert "not contacted" in (tmp_path / "page.html").read_text()
        with pytest.raises(StoreError, match="not contacted"):
            find_file(Recorded(address))
        monkeypatch.undo()
    assert not server.asked


def test_an_address_that_the_user_gives_is_asked(run, server, tmp_path):
    assert report(run, tmp_path / "page.html", features=server.address("whole")).evaluation and server.asked


@pytest.mark.parametrize("where", ["/dev/zero", "/etc/passwd", "fifo"])
def test_other_places_that_a_file_gives_do_no_harm(run, tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    summary = json.loads((run / "sweep.json").read_text())
    (run / "sweep.json").write_text(json.dumps(summary | {"features": where}))
    assert report(run, tmp_path / "page.html").notes
