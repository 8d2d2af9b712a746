import hashlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import h5py
import numpy as np
import pytest
from storage import SPEC, TWO_TAPS, feature_file, publication

from featurestore import FeatureStore
from featurestore.errors import CorruptFileError, DiskFullError, StoreError
from featurestore.store import file_format
from featurestore.store.journal import Journal
from featurestore.store.lock import store_lock
from featurestore.store.writer import publish, remove_drafts, write
from featurestore.system.files import check_space


def test_a_file_holds_the_journals_rows(tmp_path):
    made = publication(tmp_path, spec=TWO_TAPS)
    write(made)
    store = FeatureStore(made.target)
    with Journal(tmp_path / "rows.journal") as journal:
        for i, digest in enumerate(store.digests):
            for tap, row in journal.read(str(digest)).items():
                np.testing.assert_array_equal(store.features(tap)[i], row)
    store.verify()


@pytest.mark.parametrize("options", [{}, {"spec": TWO_TAPS}, {"spec": replace(SPEC, dtype="float16")}])
def test_the_same_publication_gives_the_same_bytes(tmp_path, options):
    digests = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        digests.add(hashlib.sha256(feature_file(tmp_path / name, **options).read_bytes()).hexdigest())
        time.sleep(1.1)  # longer than the clock of HDF5's time stamps, had there been any
    assert len(digests) == 1


def test_the_format_is_as_specified(tmp_path):
    with h5py.File(feature_file(tmp_path)) as file:
        assert set(file) == {file_format.FEATURES, file_format.VIEWS, file_format.FAILURES, *file_format.COLUMNS}
        for name in file_format.schema(SPEC.tap_names, 1):
            assert file[name].chunks is None and file[name].compression is None
        assert set(file.attrs) == {*file_format.ATTRIBUTES, file_format.VERSION_ATTRIBUTE}


def test_publishing_in_a_child_gives_the_same_bytes(tmp_path):
    made = publication(tmp_path)
    write(made)
    before = (tmp_path / "data.h5").read_bytes()
    with store_lock(tmp_path) as lock:
        publish(made, lock)
    assert (tmp_path / "data.h5").read_bytes() == before
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob("*.part"))


def test_a_row_that_is_nowhere_is_an_error_and_leaves_the_old_file(tmp_path):
    made = publication(tmp_path)
    write(made)
    before = (tmp_path / "data.h5").read_bytes()
    made.columns[file_format.DIGEST][3] = "e" * 64
    with store_lock(tmp_path) as lock, pytest.raises(StoreError, match="could not be written"):
        publish(made, lock)
    assert (tmp_path / "data.h5").read_bytes() == before
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob("*.part"))


def test_an_error_of_the_child_is_raised_here(tmp_path):
    made = publication(tmp_path)
    (tmp_path / "rows.journal").write_bytes(b"nonsense of more than twelve bytes")
    with store_lock(tmp_path) as lock, pytest.raises(CorruptFileError, match=r"rows\.journal"):
        publish(made, lock)


def test_the_child_ends_with_its_parent(tmp_path):
    """Killed while the child waits to write (its target's name is taken by a FIFO-slow disk: here, a stopped child)."""
    made = publication(tmp_path)
    child = subprocess.Popen([sys.executable, "-m", "featurestore.store.writer"], stdin=subprocess.PIPE)
    child.send_signal(signal.SIGSTOP)
    child.stdin.write(json.dumps(asdict(made)).encode() + b"\n")
    child.stdin.close()
    child.send_signal(signal.SIGCONT)
    assert child.wait(30) in (0, 1)
    # Whichever came first, the end of the pipe or the rename: there is a whole file or none.
    if (tmp_path / "data.h5").exists():
        FeatureStore(tmp_path / "data.h5").verify()


def test_too_little_space_is_said_before_a_byte_is_written(tmp_path):
    with pytest.raises(DiskFullError, match=r"GiB needed, .* free"):
        check_space(tmp_path, 2**60)
    check_space(tmp_path, 0)


def test_a_disk_that_fills_while_the_file_is_written(small_disk, monkeypatch):
    """The child meets the real ENOSPC of HDF5: one clean error, no signal, nothing left behind."""
    made = publication(small_disk, rows=100, width=5000)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(2**20))
    monkeypatch.setattr("featurestore.store.writer.check_space", lambda folder, needed: None)
    with store_lock(small_disk) as lock:
        with pytest.raises(DiskFullError, match="No space left on device"):
            publish(made, lock)
        assert not list(small_disk.glob("*.tmp")) and not list(small_disk.glob("*.h5*"))
        filler.unlink()
        monkeypatch.undo()
        with pytest.raises(DiskFullError, match=r"4,\d\d\d KiB needed, \d,\d\d\d KiB free"):
            publish(replace(made, columns={name: values * 2 for name, values in made.columns.items()}), lock)
        publish(publication(small_disk, rows=20, width=5000), lock)
    FeatureStore(small_disk / "data.h5").verify()


def test_drafts_of_a_killed_run_are_removed(tmp_path):
    (tmp_path / "data.h5.123.tmp").write_text("half")
    (tmp_path / "data.h5.part").write_text("half")
    remove_drafts(tmp_path)
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob("*.part"))
