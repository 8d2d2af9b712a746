"""Tars on servers: read by blocks, each of which is fetched once, and never taken from two versions of a file."""

import os
import pickle
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import s3, serving, settle
from shards import picture, write_parquet, write_shards
from source_files import refused

from featurestore.errors import ImageError, ServerError
from featurestore.sources import remote_file
from featurestore.sources.copies import ROOM
from featurestore.sources.digest_cache import DigestCache
from featurestore.sources.opener import open_source
from featurestore.sources.remote_file import Reach, RemoteFile
from featurestore.system import transfer


@pytest.fixture(autouse=True)
def small_blocks(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_file, "BLOCK", 2048)
    monkeypatch.setattr(remote_file, "_WAITING", 3)
    monkeypatch.setattr(transfer, "PAUSES", (0.01, 0.02))
    monkeypatch.setattr(transfer, "PATIENCE", (0.4, 2**17))


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    folder = write_shards(tmp_path_factory.mktemp("tars"), 12)
    settle(folder)
    return folder


@pytest.fixture
def server(tars):
    with serving(tars) as server:
        yield server


def told(data):
    return [(sample.id, sample.digest, sample.label) for sample in data.samples]


@pytest.mark.parametrize("room", ["10", "0"])
def test_a_range_of_tars_on_a_web_server(server, tars, tmp_path, monkeypatch, room):
    monkeypatch.setenv(ROOM, room)
    source = open_source(server.address("pets-{000..001}.tar"))
    data = source.dataset(cache=DigestCache(tmp_path / "c.stamps"))
    here = open_source(tars).dataset()
    assert told(data) == told(here) and source.name == "pets"
    for one, other in zip(data.samples, here.samples, strict=True):
        source.bring(one)
        with source.reading(one) as image:
            assert image == open_source(tars).read(other)
    if room == "10":
        assert server.gets() == sum(-(-path.stat().st_size // 2048) for path in tars.glob("*.tar"))
    before = server.gets()
    again = open_source(server.address("pets-{000..001}.tar")).dataset(cache=DigestCache(tmp_path / "c.stamps"))
    assert told(again) == told(data) and (room == "0" or server.gets() == before)
    assert len(source._files._reach._waiting) <= 3


def test_tars_in_a_bucket(tars, monkeypatch):
    with s3(monkeypatch, tars):
        for where in ("s3://bucket/pets-*.tar", "s3://bucket/pets-{000..001}.tar"):
            assert told(open_source(where).dataset()) == told(open_source(tars).dataset())
        source = open_source("s3://bucket/pets-000.tar")
        sample = source.dataset().samples[3]
        assert pickle.loads(pickle.dumps(source.part([sample]))).read(sample) == source.read(sample)
        assert "no such file there" in refused("s3://bucket/pets-{000..002}.tar")


def test_parquet_files_on_a_web_server(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    folder = tmp_path / "tables"
    for i in range(2):
        labels = [n % 3 for n in range(20)]
        write_parquet(
            folder / f"pets-{i}.parquet", [picture(n, n) for n in range(20 * i, 20 * i + 20)], labels, ["a", "b", "c"]
        )
    settle(folder)
    here = open_source(folder).dataset()
    with serving(folder) as server:
        where = server.address("pets-{0..1}.parquet")
        source = open_source(where)
        data = source.dataset(cache=DigestCache(tmp_path / "c.stamps"))
        assert told(data) == told(here)
        assert source.read(data.samples[1]) == open_source(folder).read(here.samples[1])
        assert max(server.asked.values()) <= 1 + max(path.stat().st_size for path in folder.iterdir()) // 2048
        assert told(open_source(where).dataset(cache=DigestCache(tmp_path / "c.stamps"))) == told(here)
        monkeypatch.setattr(transfer, "DEAD_AFTER", 1)
        lost = open_source(where)
        for i in range(2):
            file = lost._rows.files[i]
            file.address, file._version = file.address.replace("/whole/", "/always/"), "other"
        with pytest.raises(ServerError, match="does not answer"):
            lost.dataset()


@given(st.data())
def test_any_part_of_a_file(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("any")
    whole = os.urandom(data.draw(st.integers(1, 9000)))
    (folder / "f").write_bytes(whole)
    with serving(folder) as server:
        file = RemoteFile(server.address("f"), Reach())
        assert file.size == len(whole) and len(file.stamp) == 40
        for _ in range(4):
            start, length = data.draw(st.integers(0, 9500)), data.draw(st.integers(0, 9500))
            assert file.read(start, length) == whole[start : start + length]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("deaf", "gives no parts of files"),
        ("drop", "disconnected"),
        ("always", "server says 503"),
        ("silent", "too few to wait for"),
    ],
)
def test_servers_that_give_no_parts_or_break_off(server, how, reason, monkeypatch):
    monkeypatch.setattr(transfer, "DEAD_AFTER", 1000)
    server.times = 10**9
    assert reason in refused(server.address("pets-000.tar", how))


def test_a_server_that_is_down(server, monkeypatch):
    monkeypatch.setattr(transfer, "DEAD_AFTER", 2)
    source = open_source(server.address("pets-000.tar"))
    monkeypatch.setenv(ROOM, "0")
    samples = source.dataset().samples
    server.times = 10**9
    source._files[0].address = server.address("pets-000.tar", "busy")
    with pytest.raises(ServerError, match="does not answer"):
        for sample in samples:
            with suppress(ImageError), source.reading(sample):
                pass


def test_a_tar_that_changes_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setenv(ROOM, "0")
    folder = write_shards(tmp_path / "tars", 12, 1)
    settle(folder)
    with serving(folder) as server:
        source = open_source(server.address("pets-000.tar"))
        samples = source.dataset().samples
        write_shards(folder, 13, 1)
        with pytest.raises(ImageError, match="changed since it was opened"):
            for sample in samples:
                source.read(sample)


def test_a_folder_on_a_web_server_cannot_be_listed(server):
    assert "web servers do not list folders" in refused(server.address("pets-*.tar"))
