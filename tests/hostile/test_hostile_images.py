"""Images that mean harm: what they may cost, and what they must not hide."""

import io
import struct
import threading

import numpy as np
import pytest
from hostile_files import broken_tiff, cost_of, cost_of_code, directory, png, sparse, tiff, two_classes
from PIL import Image

from featurestore.errors import ImageError
from featurestore.images import decode as decoding
from featurestore.images.decode import MAX_BYTES, decode_framings, hash_file, read_file
from featurestore.images.picture import Picture
from featurestore.images.turbo import QuickPicture
from featurestore.sources.base import digest_of
from featurestore.spec import DECODERS, RESIZES, Framing
from featurestore.system.budget import Budget

IMPORTS = """
from pathlib import Path
from featurestore.images.decode import decode_framings
from featurestore.spec import Framing
"""


@pytest.fixture(params=DECODERS)
def decoder(request):
    return request.param


@pytest.fixture
def decode(decoder):
    def decode(data, size, resize):
        framing = Framing(size, resize, decoder=decoder)
        return decode_framings(data, [framing])[framing]

    return decode


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# Memory


def test_a_budget_is_never_overdrawn_and_one_alone_always_goes():
    budget, held, seen = Budget(100), [], []

    def hold(size):
        with budget.share(size):
            held.append(size)
            seen.append(list(held))
            held.remove(size)

    threads = [threading.Thread(target=hold, args=(size,)) for size in [30, 60, 50, 250, 10, 90] * 20]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(seen) == 120
    assert all(sum(sizes) <= 100 or len(sizes) == 1 for sizes in seen)


def test_processes_go_one_by_one_through_the_gate():
    budget, passed = Budget(100), []

    class Gate:
        def __enter__(self):
            passed.append("in")

        def __exit__(self, *error):
            passed.append("out")

    budget.divide(4, Gate())
    with budget.share(25):
        assert not passed
    with budget.share(26):
        assert passed == ["in"]
    assert passed == ["in", "out"]


def test_what_fails_gives_its_share_back(decode):
    with pytest.raises(ImageError):
        decode(png(64, 64)[:-40], 8, "squash")
    assert not decoding.PIXELS._used and not decoding.FILES._used


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1", "I;16"])
@pytest.mark.parametrize("kind", [Picture, QuickPicture])
def test_an_image_in_strips_has_the_pixels_of_the_whole(mode, orientation, kind, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 200) if mode == "I;16" else Image.fromarray(pixels)
    picture = kind(image if mode == "I;16" else image.convert(mode), orientation)
    sizes = [(resize, size) for resize in RESIZES for size in (16, 80, 200)]
    whole = [np.asarray(picture.framed(Framing(size, resize))) for resize, size in sizes]
    monkeypatch.setattr("featurestore.images.picture._STRIP", 4 * 90 * 7)
    strips = [np.asarray(picture.framed(Framing(size, resize))) for resize, size in sizes]
    assert all((a == b).all() for a, b in zip(whole, strips, strict=True))


def test_what_is_kept_of_a_failure_holds_no_pixels(decode):
    try:
        decode(png(64, 64)[:-40], 8, "squash")
    except ImageError as error:
        kept = error.alone()
    assert str(kept) and kept.__traceback__ is kept.__cause__ is kept.__context__ is None


@pytest.mark.slow_hostile
def test_large_images_wait_for_each_other(tmp_path):
    """Six of 169 megapixels, together 3 MB. Pillow holds one in 0.7 GB, and so does the run; it was 4 GB."""
    folder = two_classes(tmp_path / "x", [png(13_000, 13_000 + i) for i in range(6)], ".png")
    found = cost_of("inspect", str(folder))
    assert (found.code, found.err) == (0, "")
    assert found.peak < 900


@pytest.mark.slow_hostile
@pytest.mark.parametrize(("colour_type", "bits", "most"), [(2, 8, 850), (6, 8, 850), (0, 8, 350), (0, 16, 600)])
@pytest.mark.parametrize("resize", RESIZES)
def test_a_large_image_costs_little_more_than_its_pixels(tmp_path, colour_type, bits, most, resize, decoder):
    (tmp_path / "x.png").write_bytes(png(13_000, 13_000, colour_type, bits))
    found = cost_of_code(
        f"{IMPORTS}framing = Framing(224, {resize!r}, decoder={decoder!r})\n"
        f"decode_framings(Path({str(tmp_path / 'x.png')!r}).read_bytes(), [framing])"
    )
    assert (found.code, found.err) == (0, "")
    assert found.peak < most


@pytest.mark.slow_hostile
@pytest.mark.parametrize(
    ("mode", "options", "most"), [("RGB", {}, 850), ("L", {}, 700), ("RGB", {"progressive": True}, 2000)]
)
def test_a_large_jpeg_costs_little_more_than_its_pixels(tmp_path, mode, options, most, decoder):
    """A decoder that makes RGB of grey at once must not cost more than RGB does."""
    Image.new(mode, (13_000, 13_000)).save(tmp_path / "x.jpg", exif=turned(6), **options)
    found = cost_of_code(
        f"{IMPORTS}framing = Framing(224, decoder={decoder!r})\n"
        f"decode_framings(Path({str(tmp_path / 'x.jpg')!r}).read_bytes(), [framing])"
    )
    assert (found.code, found.err) == (0, "")
    assert found.peak < most


@pytest.mark.slow_hostile
def test_truncated_images_are_not_kept(tmp_path):
    """Each error held its half-decoded image until the run had an answer to all."""
    folder = two_classes(tmp_path / "x", [png(9_000, 9_000 + i)[:-200] for i in range(6)], ".png")
    found = cost_of("inspect", str(folder))
    assert found.code == 3 and found.out.count("truncated") == 6
    assert found.peak < 700


@pytest.mark.parametrize("size", [(5_000_000, 2), (2, 5_000_000)])
def test_endless_strips_are_refused(size, decode):
    with pytest.raises(ImageError, match="more than 4,194,304 pixels wide or high"):
        decode(png(*size, colour_type=0), 8, "squash")


def test_a_tile_larger_than_any_image(decode):
    """Eight pixels of a tile of 1.6 gigapixels: a file of 1.5 MB that cost 1.6 GB and 12 seconds."""
    tags = {
        256: [8], 257: [8], 258: [8], 259: [8], 262: [1], 277: [1], 322: [40_000], 323: [40_000], 324: [0], 325: [9],
    }  # fmt: skip
    with pytest.raises(ImageError, match="more than 178,956,970 pixels"):
        decode(directory(tags, [bytes(9)]), 8, "squash")


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_a_tiff_of_millions_of_strips(large, order, decode):
    """Pillow made an object of each: 30 million in a sparse file of 120 MB took 0.8 GB."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + ("HHHQ" if large else "HI"), *(
        (43, 8, 0, 16) if large else (42, 8)
    ))  # fmt: skip
    entry = struct.pack(order + ("HHQQ" if large else "HHII"), 273, 4, decoding.MAX_PARTS + 1, 100)
    with pytest.raises(ImageError, match="more than 262,144 strips or tiles"):
        decode(head + struct.pack(order + ("Q" if large else "H"), 1) + entry, 8, "squash")


# Files


def test_a_digest_by_blocks_is_that_of_the_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "_BLOCK", 7)
    for size in (1, 7, 50):
        (tmp_path / "x.png").write_bytes(bytes(range(size)))
        assert hash_file(tmp_path / "x.png") == digest_of(read_file(tmp_path / "x.png"))


def test_files_that_are_none_have_no_digest(tmp_path):
    (tmp_path / "empty").touch()
    sparse(tmp_path / "large", MAX_BYTES + 1)
    for name, reason in [("empty", "empty file"), ("large", "larger than 512 MiB"), ("gone", "no such file")]:
        for read in (hash_file, read_file):
            with pytest.raises(ImageError, match=reason):
                read(tmp_path / name)


def test_a_large_file_that_is_no_image_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "LARGE_FILE", 100)
    (tmp_path / "x.png").write_bytes(bytes(101))
    with pytest.raises(ImageError, match="not an image of a known format"), decoding.file_in_turn(tmp_path / "x.png"):
        pass


@pytest.mark.slow_hostile
def test_large_files_are_hashed_by_blocks(tmp_path):
    """Twelve sparse files of 511 MiB: they were in memory all at once."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(6):
            sparse(tmp_path / name / f"{i}.jpg", 511 * 2**20 + i + 10 * (name == "b"))
    (tmp_path / "a" / "good.png").write_bytes(png(8, 8))
    found = cost_of("inspect", str(tmp_path))
    assert found.code == 3 and "… and 2 more" in found.out
    assert found.peak < 300


# X-rays


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("kind", [bool, np.uint8, np.uint16])
def test_where_white_is_zero_the_picture_is_the_same(kind, deflated, decode):
    """Pillow turns 1 and 8 bits round, and left 16 as they were: a negative."""
    most = True if kind is bool else np.iinfo(kind).max
    pixels = np.random.default_rng(0).integers(0, most, (33, 48), dtype=kind, endpoint=True)
    black = tiff(pixels, deflated=deflated)
    white = tiff(~pixels, deflated=deflated, white_is_zero=True)
    assert Image.open(io.BytesIO(white)).tag_v2[262] == 0
    for size in (16, 48):
        assert (decode(white, size, "squash") == decode(black, size, "squash")).all()


# What libtiff says


def test_libtiff_leaves_the_terminal_alone(tmp_path):
    (tmp_path / "x.tif").write_bytes(broken_tiff())
    found = cost_of_code(
        "from pathlib import Path\nfrom featurestore.errors import ImageError\n"
        "from featurestore.images.decode import decode\n"
        f"try:\n    decode(Path({str(tmp_path / 'x.tif')!r}).read_bytes(), 8, 'squash')\n"
        "except ImageError as error:\n    print(error)"
    )
    assert (found.code, found.out, found.err) == (0, "decoder error -2\n", "")
