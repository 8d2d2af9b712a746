import os
import signal

import numpy as np
import pytest
from shards import write_tar

from featurestore.errors import ImageError, StoreError
from featurestore.extraction import decode_ahead as ahead
from featurestore.extraction.decode_ahead import ImageTask, Wish, decode_ahead
from featurestore.extraction.plan import Item
from featurestore.sources.opener import open_source
from featurestore.spec import Framing


def tasks_of(source):
    """Each image in two sizes, the second time with a view."""
    for sample in source.dataset().samples:
        plain = Item(key=sample.digest, sample=sample, number=0)
        view = Item(key="ab" * 32, sample=sample, number=1)
        wishes = [(32, [plain]), (16, [plain, view]), (8, [])]
        yield ImageTask(sample, [Wish(Framing(size), "mild", items) for size, items in wishes])


@pytest.mark.parametrize("packed", [False, True])
def test_processes_give_what_threads_give(images, tmp_path, monkeypatch, packed):
    next(iter(images.glob("*/*.png"))).write_bytes(b"\x89PNG\r\n\x1a\nno more than that")
    members = [(str(file.relative_to(images)), file.read_bytes()) for file in sorted(images.glob("*/*.png"))]
    source = open_source(write_tar(tmp_path / "packed.tar", members) if packed else images)
    found = {}
    for processes in (False, True):
        monkeypatch.setattr(ahead, "_processes", lambda *_, processes=processes: processes)
        monkeypatch.setattr(ahead, "cores", lambda: 2)
        found[processes] = list(decode_ahead(source, tasks_of(source), 12, window=8))
    assert len(found[True]) == len(found[False]) > 4
    failures = 0
    for threads, processes in zip(found[False], found[True], strict=True):
        assert processes.read > 0
        for one, other in zip(threads.pixels, processes.pixels, strict=True):
            assert list(one) == list(other)
            for a, b in zip(one.values(), other.values(), strict=True):
                failures += isinstance(a, ImageError)
                assert str(a) == str(b) if isinstance(a, ImageError) else np.array_equal(a, b)
    assert failures == 3


def test_a_process_that_dies_is_told(images, monkeypatch):
    source = open_source(images)
    monkeypatch.setattr(ahead, "_processes", lambda *_: True)
    monkeypatch.setattr(ahead, "_chunk", lambda chunk: os.kill(os.getpid(), signal.SIGKILL))
    monkeypatch.setattr(ahead, "cores", lambda: 2)
    with pytest.raises(StoreError, match="a process that decodes images died"):
        list(decode_ahead(source, tasks_of(source), 12, window=8))
