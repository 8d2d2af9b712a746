"""Servers of images that drop, stall and lie: each image is a recorded failure, or comes at a later attempt."""

import socket

import pytest
from pictures import write_images
from servers import serving, settle
from source_files import refused, table

from featurestore.errors import ImageError, ServerError, SourceError
from featurestore.sources import remote
from featurestore.sources.opener import open_source
from featurestore.system import transfer
from featurestore.system.addresses import TRUSTED_HOSTS
from featurestore.system.user_cache import cache_folder


@pytest.fixture(autouse=True)
def impatient(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(TRUSTED_HOSTS, raising=False)
    monkeypatch.setattr(transfer, "PAUSES", (0.01, 0.02))
    monkeypatch.setattr(transfer, "PATIENCE", (0.6, 2**17))


@pytest.fixture
def server(tmp_path):
    write_images(tmp_path / "served", 2)
    settle(tmp_path / "served")
    with serving(tmp_path / "served") as server:
        yield server


def listed(server, how, *others):
    """A table of two good images of two classes, and a red one that is served in another way."""
    folder = server.folder.parent
    good = [(server.address(f"{kind}/0-000.png"), kind) for kind in ("blue", "green")]
    bad = [(server.address("red/0-000.png", how), "red")]
    return table(folder / "list.csv", "path,label", *(f"{path},{label}" for path, label in [*good, *bad, *others]))


def outcome(server, how, *others):
    """What became of the image that is served otherwise; the good ones are there."""
    data = open_source(listed(server, how, *others)).dataset()
    assert {sample.label for sample in data.samples} >= {0, 1} and len(data.samples) + len(data.failures) >= 3
    assert not list(cache_folder().rglob("*.part"))
    return data.failures[0].reason if data.failures else None


@pytest.mark.parametrize(
    ("how", "reason", "times"),
    [
        ("cut", "", 3),
        ("silent", "0 bytes in 0.6 seconds are too few to wait for", 3),
        ("drip", "bytes in 0.6 seconds are too few", 3),
        ("always", "the server says 503", 3),
        ("round", "", 10),
        ("lie", None, 1),
        ("huge", "larger than 512 MiB", 1),
    ],
)
def test_an_image_that_does_not_come_is_a_failure(server, how, reason, times):
    found = outcome(server, how)
    assert (found is None) if reason is None else (reason in found and "\n" not in found)
    assert server.asked[f"GET /{how}/red/0-000.png"] == times


def test_a_lie_about_the_length_is_half_an_image(server):
    source = open_source(listed(server, "lie"))
    half = next(sample for sample in source.dataset().samples if "/lie/" in sample.path)
    whole = (server.folder / "red" / "0-000.png").read_bytes()
    assert source.read(half) == whole[: len(whole) // 2]


def test_what_has_no_end_is_cut_at_the_limit(server, monkeypatch):
    monkeypatch.setattr(remote, "MAX_BYTES", 20 * 2**20)
    assert outcome(server, "endless") == "larger than 20 MiB"


@pytest.mark.parametrize("how", ["drop", "short", "busy"])
def test_a_later_attempt_succeeds(server, how):
    server.times = 2
    assert outcome(server, how) is None
    assert server.asked[f"GET /{how}/red/0-000.png"] == 3


@pytest.mark.parametrize(("status", "times"), [(404, 1), (403, 1), (401, 1), (410, 1), (429, 3), (500, 3), (504, 3)])
def test_what_is_permanent_is_not_tried_again(server, status, times):
    server.status = status
    reason = outcome(server, "always")
    assert reason == (f"the server says {status}" if status not in (404, 410) else "no such file there")
    assert server.asked["GET /always/red/0-000.png"] == times


def test_a_server_that_asks_for_patience_gets_some(server, monkeypatch):
    slept = []
    monkeypatch.setattr(transfer.time, "sleep", slept.append)
    server.after, server.status, server.times = 7, 429, 1
    assert outcome(server, "busy") is None and slept == [7]
    server.after, server.times = 10**6, 3
    server.asked.clear()
    assert outcome(server, "busy") == "the server says 429" and slept[1:] == [transfer.LONGEST_PAUSE] * 2


def test_other_servers_only_if_they_are_trusted(server, tmp_path, monkeypatch):
    assert outcome(server, "here") is None
    with serving(server.folder) as other:
        server.elsewhere = other.address()
        reason = outcome(server, "away")
        assert "sends us on to another server, 127.0.0.1" in reason and f"set {TRUSTED_HOSTS}=127.0.0.1" in reason
        assert not other.asked
        monkeypatch.setenv(TRUSTED_HOSTS, "127.0.0.1")
        assert outcome(server, "away") is None and other.gets() == 1


def test_addresses_that_are_not_asked(server):
    others = {
        "http://example.org/1.png": "plain http can be read and altered",
        "file:///etc/passwd": "no address of a server",
        "zip://x::https://example.org/1.zip": "no address of a server",
        "https://host:port/x.png": "no address (",
        "/etc/passwd": "is no address below that of the source",
        "red/1.png": "is no address below that of the source",
    }
    data = open_source(listed(server, "whole", *((path, "red") for path in others))).dataset()
    assert len(data.samples) == 3 and len(data.failures) == 6
    for failure in data.failures:
        assert others[failure.path] in failure.reason


@pytest.fixture
def nobody():
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_a_server_that_is_down_stops_the_run_at_once(nobody, tmp_path):
    rows = (f"{nobody}/{i % 3}/{i}.png,{i % 3}" for i in range(50_000))
    source = open_source(table(tmp_path / "list.csv", "path,label", *rows))
    begun = []
    with pytest.raises(ServerError, match=rf"{nobody}: does not answer \(.*\), \d+ times in a row: what is finished"):
        source.dataset(progress=lambda *step: begun.append(step))
    assert not begun


def test_a_host_that_is_gone_does_not_stop_the_others(server, nobody, monkeypatch):
    """Its images are failures, and after the first few it is not asked any more."""
    monkeypatch.setattr(remote.AddressSource, "readers", 4)
    rows = [(f"{nobody}/{i}.png", "red") for i in range(60)]
    data = open_source(listed(server, "whole", *rows)).dataset()
    assert (len(data.samples), len(data.failures)) == (3, 60)
    reasons = [failure.reason for failure in data.failures]
    assert sum("its server does not answer" in reason for reason in reasons) >= 40


def test_a_server_that_goes_down_between_reading_and_extracting(server):
    source = open_source(listed(server, "whole"))
    samples = source.dataset().samples
    for sample in samples:
        source._copies.forget(sample.digest)
    server.status = 500
    for sample in samples:
        (server.folder / sample.path.partition("/whole/")[2]).unlink()
        source.bring(sample)
        with pytest.raises(ImageError, match="no such file there"), source.reading(sample):
            pass


def test_an_image_that_changed_meanwhile(server):
    source = open_source(listed(server, "whole"))
    sample = source.dataset().samples[0]
    source._copies.forget(sample.digest)
    (server.folder / "blue" / "0-000.png").write_bytes(b"other")
    with pytest.raises(ImageError, match="changed since it was read first"), source.reading(sample):
        pass


def test_a_table_that_cannot_be_had(server, nobody):
    assert "no such file there" in refused(server.address("no.csv"))
    server.status = 403
    (server.folder / "list.csv").write_text("path,label\n")
    assert "the server says 403" in refused(server.address("list.csv", "always"))
    assert "does not answer" in refused(f"{nobody}/list.csv") or True
    assert "web servers do not list folders" in refused(server.address("red/"))
    assert "plain http can be read" in refused("http://example.org/list.csv")
    assert "no address of a server" in refused("file:///etc/list.csv")


def test_without_room_for_copies(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(SourceError, match=r"images cannot be copied here .* set XDG_CACHE_HOME"):
        open_source(listed(server, "whole")).dataset()


def test_copies_that_were_tampered_with_are_fetched_anew(server):
    source = open_source(listed(server, "whole"))
    sample = source.dataset().samples[0]
    whole = source.read(sample)
    with open(source._copies.find(sample.digest), "wb") as file:  # noqa: PTH123
        file.write(b"other")
    before = server.gets()
    assert source.read(sample) == whole and server.gets() == before + 1
