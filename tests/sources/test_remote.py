"""Images at addresses: from a real S3 server, and from a web server. What is there is fetched once."""

import pickle

import pytest
from pictures import write_images
from servers import s3, serving, settle
from source_files import refused, rows, table

from featurestore import extract
from featurestore.errors import ImageError, MissingDependencyError, ServerError, SourceError
from featurestore.extraction.decode_ahead import ImageTask, Wish, decode_ahead
from featurestore.extraction.plan import Item
from featurestore.pages.inspection import inspect_source
from featurestore.sources import remote
from featurestore.sources.copies import ROOM
from featurestore.sources.digest_cache import DigestCache
from featurestore.sources.opener import open_source, source_of
from featurestore.sources.remote import below, images_at_addresses
from featurestore.sources.samples import Dataset, Sample
from featurestore.spec import Framing
from featurestore.system import stamps, transfer
from heads import fit_head, predict
from heads.reporting.report import report


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    folder = write_images(tmp_path_factory.mktemp("remote") / "colours", 10)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    lines = [f"{name},{name.partition('/')[0]}" for name in names]
    table(folder / "list.csv", "path,label", *lines)
    settle(folder)
    return folder


@pytest.fixture(scope="module")
def bucket(colours):
    """The same images below ``s3://bucket/colours/``."""
    with pytest.MonkeyPatch.context() as patch, s3(patch, colours.parent) as files:
        yield files


@pytest.fixture
def server(colours):
    with serving(colours) as server:
        yield server


@pytest.fixture
def asked(monkeypatch):
    """The addresses that images were fetched from."""
    found, get = [], transfer.Downloads.get
    monkeypatch.setattr(transfer.Downloads, "get", lambda self, *args: (found.append(args[0]), get(self, *args))[1])
    return found


def local(colours):
    return [(sample.id, sample.digest) for sample in open_source(colours).dataset().samples]


@pytest.mark.parametrize("where", ["s3://bucket/colours", "s3://bucket/colours/", "s3://bucket/colours/list.csv"])
def test_a_bucket_is_what_a_folder_is(bucket, colours, where, asked):
    source = open_source(where)
    data = source.dataset()
    assert [(sample.id, sample.digest) for sample in data.samples] == local(colours) and not data.failures
    assert source.name == ("list" if where.endswith("csv") else "colours")
    assert rows(source) == rows(open_source(colours))
    before = len(asked)
    assert source.read(data.samples[3]) == (colours / data.samples[3].path).read_bytes() and len(asked) == before


def test_unchanged_images_are_not_fetched_again(bucket, tmp_path, monkeypatch, asked):
    monkeypatch.setattr(stamps, "MARGIN_NS", -(10**12))  # the bucket has just been filled
    bucket.copy("bucket/colours", "bucket/changing", recursive=True)
    for where in ("s3://bucket/changing/", "s3://bucket/changing/list.csv"):
        first = open_source(where).dataset(cache=DigestCache(tmp_path / "c.stamps"))
        asked.clear()
        again = open_source(where).dataset(cache=DigestCache(tmp_path / "c.stamps"))
        assert list(again.samples) == list(first.samples)
        assert asked == [address for address in (where,) if where.endswith("csv")]
    bucket.pipe_file("bucket/changing/red/0-003.png", bucket.cat_file("bucket/changing/red/0-004.png"))
    again = open_source("s3://bucket/changing/").dataset(cache=DigestCache(tmp_path / "c.stamps"))
    assert asked[1:] == ["s3://bucket/changing/red/0-003.png"] and list(again.samples) != list(first.samples)


@pytest.mark.parametrize("etags", [True, False])
def test_a_web_server_is_asked_whether_images_have_changed(server, tmp_path, etags):
    server.etags = etags
    for fetched in (30, 30 if not etags else 0):
        server.asked.clear()
        cache = DigestCache(tmp_path / "c.stamps")
        assert len(open_source(server.address("list.csv")).dataset(cache=cache).samples) == 30
        assert server.gets() == fetched + 1


def test_digests_that_were_computed_survive_a_server_that_goes_down(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(remote.AddressSource, "portion", 10)
    server.status = 500

    def progress(done, total):
        server.times = 10**9 if done == 20 else 0

    lines = [(f"{server.address(f'{kind}/0-00{i}.png', 'busy')}", kind) for kind in ("blue", "red") for i in range(10)]
    lines += [(f"{server.address(f'red/0-00{i}.png', 'busy')}?again", "red") for i in range(10)]
    source = open_source(table(tmp_path / "list.csv", "path,label", *map(",".join, lines)))
    with pytest.raises(ServerError, match="the server says 500"):
        source.dataset(progress, cache=DigestCache(tmp_path / "c.stamps"))
    assert (tmp_path / "c.stamps").stat().st_size == 8 + 20 * 72


def test_a_table_of_this_machine_may_name_any_servers(server, bucket, colours, tmp_path):
    names = [sample.path for sample in open_source(colours).listing().samples]
    places = [server.address(name) if i % 2 else f"s3://bucket/colours/{name}" for i, name in enumerate(names)]
    lines = [f"{place},{name.partition('/')[0]}" for place, name in zip(places, names, strict=True)]
    source = open_source(table(tmp_path / "mine.csv", "path,label", *lines))
    data = source.dataset()
    assert sorted(sample.digest for sample in data.samples) == sorted(digest for _, digest in local(colours))
    assert {sample.path for sample in data.samples} == set(places) and source.name == "mine"
    with pytest.raises(SourceError, match=r"none of its 30 images has an address .*--contained forbids"):
        open_source(tmp_path / "mine.csv", contained=True)


def test_a_table_of_this_machine_for_a_folder_elsewhere(bucket, tmp_path):
    labels = table(tmp_path / "labels.csv", "id,kind,set", "red/0-001.png,r,train", "blue/0-001.png,b,test")
    source = open_source("s3://bucket/colours", labels=labels, path_column="id", label_column="kind")
    assert rows(source) == [
        ("blue/0-001.png", "blue/0-001.png", "b", "test"),
        ("red/0-001.png", "red/0-001.png", "r", "train"),
    ]
    assert len(source.dataset().samples) == 2 and source.name == "colours"


def test_folders_of_splits_and_exclusions(bucket, colours):
    image = (colours / "red" / "0-000.png").read_bytes()
    for name in ("train/a/1.png", "train/b/1.png", "test/a/2.PNG", "train/a/.hidden.png", "train/a/readme.txt"):
        bucket.pipe_file(f"bucket/sorted/{name}", image)
    source = open_source("s3://bucket/sorted/")
    assert {(path, split) for _, path, _, split in rows(source)} == {
        ("train/a/1.png", "train"), ("train/b/1.png", "train"), ("test/a/2.PNG", "test"),
    }  # fmt: skip
    assert source.listing().skipped == {"hidden": 1, "with suffix .txt": 1}
    assert {path for _, path, *_ in rows(open_source("s3://bucket/colours", exclude=["green"]))} == {
        path for _, path, *_ in rows(open_source(colours, exclude=["green"]))
    }
    assert "nothing to exclude is called 'grene'" in refused("s3://bucket/colours", exclude=["grene"])
    assert "nothing is there, or may be listed" in refused("s3://bucket/nothing/")
    assert "s3://nobucket/: cannot be had" in refused("s3://nobucket/") or True


def test_extraction_gives_the_file_of_the_local_folder(bucket, colours, tmp_path, asked):
    options = {"backbone": "small_cnn", "weights": "random", "size": 32, "batch_size": 8, "progress": False}
    there = extract(colours, tmp_path / "here", **options)
    done = extract("s3://bucket/colours/", tmp_path / "far", **options)
    assert done.path.read_bytes() == there.path.read_bytes()
    assert sorted(asked) == sorted(f"s3://bucket/colours/{sample_id}" for sample_id, _ in local(colours))
    extract("s3://bucket/colours/", tmp_path / "far", **options | {"size": 40})
    fit_head(done.path, "knn", out=tmp_path / "head")
    found = report(tmp_path / "head", tmp_path / "page.html", features=done.path, source="s3://bucket/colours/")
    assert not found.notes and (tmp_path / "page.html").read_text().count("data:image") >= 10
    images = ["s3://bucket/colours/red/", "s3://bucket/colours/blue/0-000.png", "s3://bucket/colours/no.png"]
    predicted = predict(tmp_path / "head", images, progress=False)
    assert [each.label for each in predicted] == ["red"] * 10 + ["blue", None]
    assert predicted[0].path == "s3://bucket/colours/red/0-000.png" and predicted[-1].error == "no such file there"
    assert list((tmp_path / "cache" / "featurestore" / "images").glob("run-*/*")) == []


@pytest.mark.parametrize("room", ["10", "0"])
def test_images_are_brought_ahead_of_the_threads_that_decode(server, monkeypatch, asked, room):
    monkeypatch.setenv(ROOM, room)
    source = open_source(server.address("list.csv"))
    samples, framing = source.dataset().samples, Framing(16)
    items = [Item(key=sample.digest, sample=sample, number=0) for sample in samples]
    tasks = [ImageTask(item.sample, [Wish(framing, "none", [item])]) for item in items]
    decoded = list(decode_ahead(source, iter(tasks), len(tasks), 8))
    assert [next(iter(found.pixels[0].values())).shape for found in decoded] == [(16, 16, 3)] * 30
    assert len(asked) == 1 + (30 if room == "10" else 60)
    left = [path for path in source._copies._folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert len(left) == (30 if room == "10" else 0)


def test_a_server_that_goes_down_while_images_are_brought_stops_the_run(server, tmp_path, monkeypatch):
    monkeypatch.setenv(ROOM, "0")
    monkeypatch.setattr(transfer, "PAUSES", (0.0, 0.0))
    lines = [f"{server.address(f'{kind}/0-00{i}.png', 'busy')},{kind}" for kind in ("blue", "red") for i in range(10)]
    source = open_source(table(tmp_path / "list.csv", "path,label", *lines))
    items = [Item(key=sample.digest, sample=sample, number=0) for sample in source.dataset().samples]
    tasks = [ImageTask(item.sample, [Wish(Framing(16), "none", [item])]) for item in items]
    server.times = 10**9
    with pytest.raises(ServerError, match=r"the server says 503.* what is finished is kept"):
        list(decode_ahead(source, iter(tasks), len(tasks), 8))


def test_a_part_of_a_source_reads_in_another_process(server):
    source = open_source(server.address("list.csv"))
    sample = source.dataset().samples[0]
    part = pickle.loads(pickle.dumps(source.part([sample])))
    assert part.read(sample) == source.read(sample) and not part.listing().samples
    assert len(pickle.dumps(part)) < 2000


def test_pictures_of_a_folder_need_no_listing(bucket, colours, monkeypatch):
    data = open_source(colours).dataset()
    known = Dataset(name="x", class_names=data.class_names, samples=[])
    monkeypatch.setattr("featurestore.sources.remote_folder._files", lambda root: pytest.fail("listed"))
    source = source_of("s3://bucket/colours", known)
    assert source.read(data.samples[0]) == (colours / data.samples[0].path).read_bytes()


def test_a_feature_file_names_no_new_servers(server, bucket, colours, tmp_path):
    """Whoever made it chose the paths in it."""
    known = Dataset(name="x", class_names=("a", "b"), samples=[])
    table(
        tmp_path / "list.csv",
        "path,label",
        "s3://bucket/colours/red/0-000.png,r",
        "s3://bucket/colours/blue/0-000.png,b",
    )
    for source in (source_of("s3://bucket/colours/", known), source_of(tmp_path / "list.csv", known)):
        sample = Sample(id="x", path=server.address("red/0-000.png"), digest="0" * 64, label=0, split="")
        with pytest.raises(ImageError, match="not contacted, because only a file names this address"):
            source.read(sample)
        source.bring(sample)
    assert not server.asked


def test_inspection(server):
    found = inspect_source(open_source(server.address("list.csv")), progress=False)
    assert found.images == 30 and found.width == [48, 48, 48]


def test_images_without_digests(server, tmp_path):
    source = images_at_addresses()
    places = [server.address(f"red/{name}.png") for name in ("0-000", "no")]
    first, second = (Sample(id=place, path=place, label=0, split="") for place in places)
    for sample in (first, second):
        source.bring(sample)
    with source.reading(first) as data:
        assert data == (server.folder / "red" / "0-000.png").read_bytes()
    with pytest.raises(ImageError, match="no such file there"), source.reading(second):
        pass
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize(
    ("root", "cell", "path"),
    [
        ("s3://b/a/", "x/1.jpg", "x/1.jpg"),
        ("s3://b/a/", "./x//1.jpg", "x//1.jpg"),
        ("s3://b/a/", "s3://b/a/1.jpg", "1.jpg"),
        ("s3://b/a/", "s3://b/c/1.jpg", "s3://b/c/1.jpg"),
        ("", "https://h/1.jpg?size=2", "https://h/1.jpg?size=2"),
        ("s3://b/a/", "../c/1.jpg", None),
        ("s3://b/a/", "s3://b/a/../../c/1.jpg", None),
        ("s3://b/a/", "/etc/passwd", None),
        ("s3://b/a/", "file:///etc/passwd", None),
        ("", "1.jpg", None),
        ("", "http://h/1.jpg", None),
    ],
)
def test_where_a_cell_leads(root, cell, path):
    if path is None:
        with pytest.raises(ImageError):
            below(root, cell)
    else:
        assert below(root, cell) == path


def test_credentials_that_are_missing_stop_the_run(bucket, monkeypatch, tmp_path):
    from featurestore.system import addresses

    monkeypatch.setattr(addresses, "_systems", {})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "credentials" in refused("s3://bucket/colours/")
    source = open_source(table(tmp_path / "l.csv", "path,label", *(f"s3://bucket/{i}.png,{i}" for i in range(1000))))
    with pytest.raises(ServerError, match="s3://bucket: no credentials"):
        source.dataset()


def test_without_the_extra(server, monkeypatch):
    monkeypatch.setattr("featurestore.system.addresses._systems", {})
    monkeypatch.setitem(__import__("sys").modules, "aiohttp", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'featurestore\[remote\]'"):
        open_source(server.address("list.csv"))
