"""Feature files and store folders from anybody: one line that names the file, at once, in little memory."""

import os
import shutil
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from measured import refused, run
from storage import feature_file, publication
from store_makers import (
    FILES,
    JOURNALS,
    attribute,
    device,
    fifo,
    header,
    long_columns,
    many_class_names,
    not_finite,
    reheader,
    retap,
    terabyte,
    views,
)

from featurestore import FeatureStore, extract
from featurestore.errors import SpecMismatchError, StoreError, UnsafeFileError
from featurestore.sources.digest_cache import DigestCache
from featurestore.store import file_format
from featurestore.store.journal import Journal
from featurestore.store.lock import LOCK_NAME, store_lock
from featurestore.store.reader import find_files, verify_files
from heads import fit_head, probe, sweep

ROOT = Path(__file__).parents[2]
MOST = 500
"""MB that opening a hostile file may take, Python and its libraries among them."""


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    return feature_file(tmp_path_factory.mktemp("good"))


@pytest.fixture
def file(good, tmp_path):
    return Path(shutil.copy(good, tmp_path / "data.h5"))


# ------------------------------------------------------------------------------------------------- every command


@pytest.mark.parametrize("attack", FILES)
def test_a_hostile_file_is_refused_by_whoever_opens_it(file, tmp_path, attack):
    maker, fragment = FILES[attack]
    maker(file)
    attempts = [
        lambda: [FeatureStore(path).summary() for path in find_files(file)],
        lambda: verify_files(file),
        lambda: probe(file),
        lambda: fit_head(file, out=tmp_path / "head"),
        lambda: sweep(file, tmp_path / "sweep", preset="quick"),
    ]
    for attempt in attempts:
        refused(attempt, file, fragment)


@pytest.mark.parametrize(
    "attack",
    ["path of 7 MB", "reason of 80 MB", "a billion rows in holes", "one row of 16 GB in holes", "100 MB of class names",
     "300 MB of data set's name", "5 million class names", "4 million class names", "100 MB of spec"],
)  # fmt: skip
@pytest.mark.parametrize("command", ["info", "verify"])
def test_a_hostile_file_takes_little_memory(file, attack, command):
    FILES[attack][0](file)
    code, _, lines, peak = run(command, file)
    assert (code, len(lines)) == (1, 1) and lines[0].startswith(f"error: {file}")
    assert peak < MOST


@pytest.mark.parametrize("command", ["info", "verify"])
def test_a_million_rows_with_long_names_are_welcome(file, command):
    long_columns(file)
    with h5py.File(file, "r+") as opened:
        opened.attrs["content_digest"] = np.bytes_(file_format.content_digest(opened, ["last"]))
    code, _, lines, peak = run(command, file)
    assert (code, lines) == (0, [])
    assert peak < MOST


def test_names_that_padding_would_multiply_are_objects(file):
    long_columns(file)
    store = FeatureStore(file)
    assert store.ids.dtype == object and store.ids[0] == "b" * 300 and set(store.ids[1:]) == {"a"}
    assert store.splits.dtype == "U5" and (store.splits == "train").all()


def test_nan_is_found_by_whoever_computes_with_it(file, tmp_path):
    not_finite(file)
    FeatureStore(file).verify()
    for attempt in (
        lambda: probe(file),
        lambda: fit_head(file, out=tmp_path / "head"),
        lambda: sweep(file, tmp_path / "sweep", preset="quick"),
    ):
        refused(attempt, file, "NaN")


@pytest.mark.slow_hostile
def test_a_million_classes_can_be_looked_at_but_not_judged(file, tmp_path):
    many_class_names(1_700_000)(file)
    code, _, lines, peak = run("info", file)
    assert (code, lines) == (0, []) and peak < MOST
    for attempt in (
        lambda: probe(file),
        lambda: fit_head(file, out=tmp_path / "head"),
        lambda: sweep(file, tmp_path / "sweep", preset="quick"),
    ):
        refused(attempt, file, "1,700,000 classes")


@pytest.mark.parametrize("text", ["{}", '{"weights": "x"}', '{"producers": []}', '{"later": 1}'])
def test_what_provenance_does_not_tell_is_not_known(file, text):
    attribute("provenance", text)(file)
    code, _, lines, _ = run("info", file)
    assert (code, lines) == (0, [])


# ------------------------------------------------------------------------------------------------- access rights


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("what", ["file", "folder", "folder of file"])
def test_what_may_not_be_read_is_one_line(good, what):
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # pytest's own folders are root's alone
        folder = Path(name)
        folder.chmod(0o755)
        file = Path(shutil.copy(good, folder / "data.h5"))
        (file if what == "file" else folder).chmod(0)
        asked = folder if what == "folder" else file
        os.seteuid(65534)
        try:
            for attempt in (lambda: list(map(FeatureStore, find_files(asked))), lambda: verify_files(asked)):
                refused(attempt, asked, "cannot be read (permission denied)")
        finally:
            os.seteuid(0)


# ------------------------------------------------------------------------------------------------- journals


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("attack", JOURNALS)
def test_a_hostile_journal_is_refused(tmp_path, attack, read_only):
    publication(tmp_path)
    path = tmp_path / "rows.journal"
    maker, fragment = JOURNALS[attack]
    maker(path)
    refused(lambda: Journal(path, read_only=read_only), path, fragment)


def test_a_journal_that_is_a_link_is_not_written_through(tmp_path):
    publication(tmp_path)
    (tmp_path / "rows.journal").rename(tmp_path / "mine")
    (tmp_path / "rows.journal").symlink_to(tmp_path / "mine")
    refused(lambda: Journal(tmp_path / "rows.journal"), tmp_path / "rows.journal", "a link")


# ------------------------------------------------------------------------------------------------- store folders

OPTIONS = {"backbone": "small_cnn", "weights": "random", "size": 32, "batch_size": 8, "engine": "keras"}


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """Images, a store with their features, and one with the journal of a run that was interrupted."""
    from pictures import write_images

    folder = tmp_path_factory.mktemp("extracted")
    images = write_images(folder / "colours", 20)  # more than the batches on their way when it is stopped
    extract(images, folder / "store", **OPTIONS)

    def stop(stage, done, total):
        if stage == "extracting" and done >= 16:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        extract(images, folder / "begun", **OPTIONS, progress=stop)
    return folder


@pytest.fixture
def copied(extracted, tmp_path):
    """Images, and the only file of some suffix in a copy of a store."""

    def copy(name, suffix):
        shutil.copytree(extracted / name, tmp_path / name)
        return extracted / "colours", next((tmp_path / name).glob(f"*{suffix}"))

    return copy


IN_THE_WAY = ["path of 7 MB", "a billion rows in holes", "a terabyte", "size '224'", "version 0", "provenance []",
              "unknown split", "no columns", "FIFO", "device", "folder", "garbage"]  # fmt: skip


@pytest.mark.parametrize("attack", IN_THE_WAY)
def test_a_hostile_file_in_the_way_is_reported_and_stays(copied, attack):
    images, file = copied("store", ".h5")
    FILES[attack][0](file)
    before = os.lstat(file)
    refused(lambda: extract(images, file.parent, **OPTIONS), file)
    assert (os.lstat(file).st_ino, os.lstat(file).st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("attack", JOURNALS)
def test_a_hostile_journal_in_the_way_is_reported_and_stays(copied, attack):
    images, journal = copied("begun", ".journal")
    maker, fragment = JOURNALS[attack]
    maker(journal)
    before = os.lstat(journal)
    refused(lambda: extract(images, journal.parent, **OPTIONS), journal, fragment)
    assert os.lstat(journal).st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(
    ("maker", "fragment"),
    [
        (reheader(engine="evil"), "'evil': delete it"),
        (reheader(fingerprint="0" * 64), "another extraction"),
        (lambda path: retap(shape=[1, *header(path)[0]["taps"][0]["shape"]])(path), "not of the shape"),
        (retap(name="other"), "not of the shape"),
    ],
)
def test_a_journal_that_does_not_fit_the_run_is_reported(copied, maker, fragment):
    images, journal = copied("begun", ".journal")
    maker(journal)
    refused(lambda: extract(images, journal.parent, **OPTIONS), journal, fragment)


def test_rows_of_another_width_than_the_networks_are_reported(copied):
    images, file = copied("store", ".h5")
    with h5py.File(file, "r+") as opened:
        for name in ("features", "views/features"):
            data = opened[name][:, :5]
            del opened[name]
            opened[name] = data
    refused(lambda: extract(images, file.parent, **OPTIONS), file, "not of the shape")


@pytest.mark.parametrize(("augment", "fragment"), [("none", "'none'"), ("later", "does not know")])
def test_views_of_an_unknown_preset_are_not_continued(copied, augment, fragment):
    images, file = copied("store", ".h5")
    views([0], [1], FeatureStore(file).features().shape[1])(file)
    attribute("augment", augment)(file)
    assert len(FeatureStore(file).view_rows) == 1
    refused(lambda: extract(images, file.parent, **OPTIONS), file, fragment)


def test_a_number_of_views_that_few_rows_can_have_is_not_believed(copied, monkeypatch):
    images, file = copied("store", ".h5")
    row = int(FeatureStore(file).rows("train")[0])
    views([row] * 5, [1, 2, 3, 4, 5], FeatureStore(file).features().shape[1])(file)
    monkeypatch.setattr("featurestore.extraction.plan._SPARSEST", 1)
    refused(lambda: extract(images, file.parent, **OPTIONS), file, "too few for 5 of each training row")
    monkeypatch.undo()
    assert extract(images, file.parent, **OPTIONS).views == 5 * len(FeatureStore(file).rows("train"))


@pytest.mark.parametrize("maker", [fifo, device])
def test_a_hostile_neighbour_is_passed_over(copied, maker):
    images, file = copied("store", ".h5")
    maker(file.with_name("neighbour.h5"))
    (file.parent / "folder.tmp").mkdir()
    assert extract(images, file.parent, **OPTIONS).computed == 0


@pytest.mark.parametrize("maker", [fifo, device])
@pytest.mark.parametrize("suffix", [".stamps", ".stamps.part", ".log.jsonl"])
def test_caches_and_logs_that_are_no_files_stop_nothing(copied, maker, suffix):
    images, file = copied("store", ".h5")
    name = {".log.jsonl": f"{file.stem}.log.jsonl"}.get(suffix, f"colours{suffix}" if suffix[0] == "." else suffix)
    maker(file.with_name(name))
    assert extract(images, file.parent, **OPTIONS).rows == 60


def test_a_log_that_is_a_link_is_not_written_through(copied, tmp_path):
    images, file = copied("store", ".h5")
    (tmp_path / "mine").write_text("precious")
    file.with_name(f"{file.stem}.log.jsonl").unlink()
    file.with_name(f"{file.stem}.log.jsonl").symlink_to(tmp_path / "mine")
    extract(images, file.parent, **OPTIONS)
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize("maker", [fifo, device])
def test_a_lock_that_is_no_file_is_reported(tmp_path, maker):
    maker(tmp_path / LOCK_NAME)
    with pytest.raises(StoreError, match="not a regular file"), store_lock(tmp_path):
        pass


def test_a_lock_that_is_a_link_empties_nobodys_file(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "store" / LOCK_NAME).symlink_to(tmp_path / "mine")
    with pytest.raises(StoreError, match="a link"), store_lock(tmp_path / "store"):
        pass
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_cache_of_a_terabyte_counts_as_empty(tmp_path):
    terabyte(tmp_path / "c.stamps")
    assert DigestCache(tmp_path / "c.stamps").complete([bytes(40)], list) == [0]


def test_an_input_beyond_any_network_is_said_before_one_is_built(extracted, tmp_path):
    for options in ({"size": 100_000}, {"views": 2**31}):
        refused(lambda options=options: extract(extracted / "colours", tmp_path, **OPTIONS | options), "", "")


def test_errors_keep_their_kinds(file, tmp_path):
    """A file that could read other files or fill the memory is unsafe; one of another extraction does not match."""
    FILES["path of 7 MB"][0](file)
    assert isinstance(refused(lambda: FeatureStore(file), file), UnsafeFileError)
    assert issubclass(SpecMismatchError, StoreError)
