"""Feature files at addresses, from a real server on this machine: copied once, checked, and again when they change."""

import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import pytest
from storage import feature_file

from featurestore import FeatureStore
from featurestore.errors import CorruptFileError, MissingDependencyError, StoreError, UnsafeFileError
from featurestore.store.reader import find_file, find_files
from featurestore.system.user_cache import cache_folder
from heads.feature_table import load_features

DAY = 86_400


class Server(ThreadingHTTPServer):
    """Serves the files of a folder, below a bucket's name too, and notes what is asked of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.downloads = folder, 0
        self.etags, self.dates, self.cut, self.status = True, True, False, 200

    def address(self, name: str = "data.h5") -> str:
        return f"http://127.0.0.1:{self.server_port}/some/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(b"")

    def do_GET(self):
        self.answer(None)

    def answer(self, body):
        path = self.server.folder / self.path.partition("?")[0].rpartition("/")[2]
        if not path.is_file() or self.server.status != 200:
            self.send_error(404 if self.server.status == 200 else self.server.status)
            return
        data, status = path.read_bytes(), path.stat()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        if self.server.etags:
            self.send_header("ETag", f'"{status.st_mtime_ns:x}"')
        if self.server.dates:
            self.send_header("Last-Modified", formatdate(status.st_mtime, usegmt=True))
        self.end_headers()
        if body is None:
            self.server.downloads += 1
            self.wfile.write(data[: len(data) // 2] if self.server.cut else data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    feature_file(tmp_path / "served")
    (tmp_path / "served" / "rows.journal").unlink()
    os.utime(tmp_path / "served" / "data.h5", (DAY, DAY))
    with Server(tmp_path / "served") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def copies() -> list[str]:
    return sorted(path.name for path in cache_folder().rglob("*") if path.is_file()) if cache_folder().exists() else []


@contextmanager
def refused(kind: type, match: str):
    before = copies()
    with pytest.raises(kind, match=match) as caught:
        yield
    assert copies() == before and "\n" not in str(caught.value)


@pytest.mark.parametrize("etags", [True, False])
def test_a_second_use_downloads_nothing_and_a_change_is_noticed(server, etags):
    server.etags = etags
    served = server.folder / "data.h5"
    copy = find_file(server.address())
    assert copy == cache_folder() / FeatureStore(served).content_digest / "data.h5"
    assert copy.read_bytes() == served.read_bytes()
    assert find_files(server.address()) == [copy] and find_file(Path(server.address())) == copy
    assert server.downloads == 1
    feature_file(server.folder, rows=20)
    os.utime(served, (2 * DAY, 2 * DAY))
    assert len(FeatureStore(find_file(server.address()))) == 20
    assert (server.downloads, len(FeatureStore(copy))) == (2, 30)


def test_one_copy_serves_all_addresses_of_a_file(server):
    shutil.copy2(server.folder / "data.h5", server.folder / "same.h5")
    first, other = find_file(server.address()), find_file(server.address("same.h5?token=1"))
    assert first.parent == other.parent and other.name == "same.h5"
    assert not any("token" in path.read_text() for path in cache_folder().glob("*.json"))


@pytest.mark.parametrize("dates", [True, False])
def test_a_server_that_does_not_tell_versions_apart_is_asked_each_time(server, dates):
    """A date alone, of just now, might stay the same when the file changes once more."""
    server.etags, server.dates = False, dates
    (server.folder / "data.h5").touch()
    for downloads in (1, 2):
        find_file(server.address())
        assert server.downloads == downloads


def test_heads_are_fitted_on_a_remote_file(server):
    table = load_features(server.address())
    assert table.X.shape == (30, 7) and table.path.parent.parent == cache_folder()


def test_files_that_are_not_to_be_trusted_are_not_kept(server):
    served, url = server.folder / "data.h5", server.address()
    whole = served.read_bytes()
    served.write_text("<html>log in first</html>")
    with refused(CorruptFileError, f"{url}: not a readable feature file"):
        find_file(url)
    served.write_bytes(whole)
    with h5py.File(served, "r+") as file:
        file["features"][3, 3] += 1
    with refused(CorruptFileError, f"{url}: content digest .* differs"):
        find_file(url)
    served.write_bytes(whole)
    with h5py.File(served, "r+") as file:
        del file["id"]
        file["id"] = h5py.ExternalLink("/etc/passwd", "id")
    with refused(UnsafeFileError, f"{url}: 'id' is a link"):
        find_file(url)


def test_an_interrupted_download_leaves_nothing(server):
    server.cut = True
    with refused(StoreError, r"data.h5: cannot be had \(.*\): check the address"):
        find_file(server.address())
    assert not list(cache_folder().iterdir())
    server.cut = False
    assert find_file(server.address()).exists()


def test_what_cannot_be_had(server, tmp_path, monkeypatch):
    with refused(StoreError, r"other.h5: no such file there"):
        find_file(server.address("other.h5"))
    server.status = 403
    with refused(StoreError, r"cannot be had \(the server says 403\): check the address, your access rights"):
        find_file(server.address())
    with refused(StoreError, r"https://nowhere.invalid/data.h5: cannot be had \(Cannot connect"):
        find_file("https://nowhere.invalid/data.h5")
    server.status = 200
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(StoreError, match=r"cannot keep a copy of .* set XDG_CACHE_HOME"):
        find_file(server.address())


def test_a_lost_copy_is_made_again(server):
    copy = find_file(server.address())
    shutil.rmtree(copy.parent)
    assert find_file(server.address()).exists() and server.downloads == 2


@pytest.mark.parametrize("library", ["fsspec", "aiohttp"])
def test_without_the_extra(server, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with refused(MissingDependencyError, r"pip install 'featurestore\[remote\]'"):
        find_file(server.address())


def test_s3(server, monkeypatch):
    """The server is no S3, but answers what S3 answers when an object is looked at and fetched."""
    for name, value in (("ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}"), ("ACCESS_KEY_ID", "a"),
                        ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "us-east-1")):  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)
    for _ in range(2):
        assert len(FeatureStore(find_file("s3://bucket/data.h5"))) == 30
    assert server.downloads == 1
    with refused(StoreError, r"s3://bucket/other.h5: "):
        find_file("s3://bucket/other.h5")


def test_the_command_line(server):
    command = [sys.executable, "-m", "cli", "info", server.address()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "30 rows" in done.stdout and done.stderr == ""
    server.status = 500
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "the server says 500" in done.stderr and len(done.stderr.splitlines()) == 1
