import os
import subprocess
import sys

import pytest

from featurestore.errors import StoreLockedError, WriteError
from featurestore.store.lock import LOCK_NAME, store_lock

HOLD = """
import sys
from pathlib import Path
from featurestore.store.lock import store_lock
with store_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_writer_is_told_who_is_writing(tmp_path, holder):
    with pytest.raises(StoreLockedError, match=f"process {holder.pid} on "), store_lock(tmp_path):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path, holder):
    holder.kill()
    holder.wait()
    with store_lock(tmp_path):
        pass


def test_the_lock_can_be_taken_again_and_makes_the_folder(tmp_path):
    for _ in range(2):
        with store_lock(tmp_path / "deep" / "store"):
            assert (tmp_path / "deep" / "store" / LOCK_NAME).exists()


def test_a_lock_shared_with_a_child_is_held_until_the_child_ends(tmp_path):
    with store_lock(tmp_path) as handle:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(handle,))
    with pytest.raises(StoreLockedError), store_lock(tmp_path):
        pass
    child.communicate(b"\n")
    with store_lock(tmp_path):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="choose another place"), store_lock(tmp_path / "file" / "store"):
        pass


def test_a_garbled_lock_file_is_no_obstacle(tmp_path):
    (tmp_path / LOCK_NAME).write_bytes(os.urandom(100))
    with store_lock(tmp_path):
        pass
