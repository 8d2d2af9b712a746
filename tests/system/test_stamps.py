"""Stamps of files, and of parts of files."""

import os

import numpy as np

from featurestore.system.stamps import STAMP, part_stamps, settled, stamp


def test_parts_of_a_file_have_stamps_of_their_own(tmp_path):
    (tmp_path / "x").write_bytes(b"x" * 99)
    whole = stamp(tmp_path / "x")
    starts, sizes = np.arange(0, 10**6, 512), np.full(1954, 512)
    found = part_stamps(whole, starts, sizes)
    assert len(set(found)) == 1954 and found == part_stamps(whole, starts, sizes)
    assert found[5:6] == part_stamps(whole, starts[5:6], sizes[5:6])
    assert not set(found) & set(part_stamps(whole, starts, sizes + 1))
    assert [STAMP.unpack(each)[3:] for each in found[:2]] == [STAMP.unpack(whole)[3:]] * 2
    times = (tmp_path / "x").stat()
    assert settled(found[0], times.st_ctime_ns + 1) and not settled(found[0], times.st_ctime_ns)
    os.utime(tmp_path / "x", (1, 1))
    assert not set(found) & set(part_stamps(stamp(tmp_path / "x"), starts, sizes))
    assert part_stamps(b"", starts[:2], sizes[:2]) == [b"", b""]
