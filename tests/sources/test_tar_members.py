"""The headers of tars, against Python's own tarfile."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.sources.tar_members import TarError, TarMembers


class InMemory:
    """Bytes as a file that is read at any place."""

    def __init__(self, data):
        self.data, self.size, self.stamp = data, len(data), b""

    def read(self, start, length):
        return self.data[start : start + length]


def packed(members, form=tarfile.PAX_FORMAT):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, data, *change in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in dict(*change).items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def read(data):
    return [tuple(member) for member in TarMembers(InMemory(data))]


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=300).filter(
    lambda name: not name.endswith("/") and name.strip() and len(name.encode()) < 900
)


@given(
    st.lists(st.tuples(names, st.binary(max_size=1500), st.sampled_from([{}, {"mtime": 1.5}])), max_size=6),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_members_are_those_that_tarfile_finds(members, form):
    data = packed(members, form)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = [(each.name, each.offset_data, each.size, "") for each in tar]
    assert read(data) == expected


@given(st.binary(max_size=3000), st.integers(0, 3000))
def test_damage_is_an_error_and_nothing_else(garbage, at):
    data = packed([("a.png", b"x" * 700), ("b" * 200, b"y" * 10)])
    data = data[:at] + garbage + data[at + len(garbage) :]
    try:
        for name, start, size, _ in read(data):
            assert isinstance(name, str) and 0 <= start <= start + size <= len(data)
    except TarError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("cut", range(0, 10240, 512))
def test_a_tar_that_was_cut_off_is_noticed(cut):
    data = packed([("a.png", b"x" * 700), ("b.png", b"y" * 10)])
    stream = iter(TarMembers(InMemory(data[:cut])))
    found = []
    if cut > 2 * 512 + 1024 + 512:  # the zeros, or some of them, are still there
        assert len(list(stream)) == 2
        return
    with pytest.raises(TarError, match="cut off"):
        found.extend(stream)


def test_what_is_no_file():
    data = packed(
        [
            ("folder", b"", {"type": tarfile.DIRTYPE}),
            ("link", b"", {"type": tarfile.SYMTYPE, "linkname": "x" * 300}),
            ("hard", b"", {"type": tarfile.LNKTYPE, "linkname": "a"}),
            ("device", b"", {"type": tarfile.CHRTYPE}),
            ("fifo", b"", {"type": tarfile.FIFOTYPE}),
            ("file", b"12", {}),
        ],
        tarfile.GNU_FORMAT,
    )
    assert [(name, other) for name, _, _, other in read(data)] == [
        ("folder/", "folders"), ("link", "links"), ("hard", "links"), ("device", "devices"), ("fifo", "FIFOs"),
        ("file", ""),
    ]  # fmt: skip


def test_sparse_members_are_told():
    # As GNU tar 1.35 writes it with --sparse: the map in the header goes on in a block of its own.
    sparse = tarfile.TarInfo("holes")
    sparse.type, sparse.size = tarfile.GNUTYPE_SPARSE, 512
    head = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    head[482] = 1
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    more = bytearray(512)
    data = bytes(head) + bytes(more) + b"d" * 512 + packed([("file", b"12")])
    assert read(data) == [("holes", 1024, 512, "sparse members"), ("file", 2048, 2, "")]
    pax = packed([("holes", b"12", {"pax_headers": {"GNU.sparse.major": "1"}}), ("file", b"12")])
    assert [member[3] for member in read(pax)] == ["sparse members", ""]


def test_sizes_that_are_absurd():
    info = tarfile.TarInfo("a.png")
    info.size = 2**62
    with pytest.raises(TarError, match=r"in member 'a.png', which should have 4,611,686,018,427,387,904 bytes"):
        read(info.tobuf(tarfile.GNU_FORMAT) + b"x" * 512)
    info.pax_headers = {"size": "-5"}
    with pytest.raises(TarError, match="no number"):
        read(info.tobuf(tarfile.PAX_FORMAT) + b"x" * 512)
    info = tarfile.TarInfo("n")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**30

    class Endless(InMemory):
        def read(self, start, length):
            assert length < 2**21
            return super().read(start, length)

    file = Endless(info.tobuf(tarfile.GNU_FORMAT))
    file.size = 2**40
    with pytest.raises(TarError, match="a name of 1,073,741,824 bytes"):
        list(TarMembers(file))
