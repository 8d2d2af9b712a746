"""Bytes to pixels. Every hazard is a real file, made here; its outcome is stated beside it."""

import hashlib
import io
import os
import socket
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from featurestore.errors import ImageError
from featurestore.images.decode import IMAGE_SUFFIXES, MAX_PIXELS, decode, decode_framings, opened, read_file
from featurestore.images.picture import Picture, scale16
from featurestore.spec import CUTTING, DECODERS, INTERPOLATIONS, RESIZES, Framing

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
CORNERS = {"A": RED, "B": GREEN, "C": BLUE, "D": WHITE}


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def plain(color, mode="RGB", size=(8, 8)):
    return Image.new(mode, size, color)


def noise(height=20, width=24, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def size_of(data, at_least):
    with opened(data, at_least) as picture:
        return picture.size


def close(pixels, color, tolerance=3):
    return np.abs(pixels.astype(int) - color).max() <= tolerance


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bits=1, color_type=0, body=b""):
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(body)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


# Orientation


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "shown"),
    [(1, "ABCD"), (2, "BADC"), (3, "DCBA"), (4, "CDAB"), (5, "ACBD"), (6, "CADB"), (7, "DBCA"), (8, "BDAC")],
)
def test_exif_orientation_is_applied(kind, orientation, shown):
    """`shown` lists the corners as a viewer shows them, when A, B, C, D are the stored ones, row by row."""
    stored = np.zeros((32, 32, 3), np.uint8)
    for corner, (y, x) in zip("ABCD", [(0, 0), (0, 16), (16, 0), (16, 16)], strict=True):
        stored[y : y + 16, x : x + 16] = CORNERS[corner]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif} | ({"lossless": True} if kind == "WEBP" else {})
    pixels = decode(encoded(Image.fromarray(stored), kind, **options), 32, "squash")
    for corner, (y, x) in zip(shown, [(4, 4), (4, 27), (27, 4), (27, 27)], strict=True):
        assert close(pixels[y, x], CORNERS[corner]), (corner, pixels[y, x])


def test_orientation_turns_before_the_resize_rule():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(plain(RED, size=(40, 20)), exif=exif)  # shown 20 wide, 40 high
    pixels = decode(data, 40, "pad")
    assert (pixels[:, :10] == 0).all() and (pixels[:, 30:] == 0).all() and (pixels[:, 10:30] == RED).all()


@pytest.mark.parametrize("exif", [b"Exif\x00\x00garbage", b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b"\xff" * 40])
def test_damaged_metadata_leave_the_pixels(exif):
    assert close(decode(encoded(plain(RED), "JPEG", exif=exif), 8, "squash"), RED)


def test_damaged_metadata_of_a_png_leave_the_pixels():
    text = PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n4\nnot hexadecimal")
    assert close(decode(encoded(plain(RED), pnginfo=text), 8, "squash"), RED)


def test_an_orientation_that_does_not_exist_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 77
    assert close(decode(encoded(plain(RED), exif=exif), 8, "squash"), RED)


# Colour


def test_cmyk():
    ink = plain((0, 255, 255, 0), "CMYK")  # magenta and yellow: red
    assert close(decode(encoded(ink, "TIFF"), 8, "squash"), RED)


def test_adobe_inverted_cmyk_jpeg():
    data = encoded(plain((0, 255, 255, 0), "CMYK"), "JPEG", quality=100)
    assert b"Adobe" in data  # Pillow writes them as Photoshop does: inverted, with Adobe's marker
    assert close(decode(data, 8, "squash"), RED)


def test_palette_with_transparency_shows_the_palette():
    image = plain(1, "P")
    image.putpalette([*RED, *GREEN, *BLUE])
    for transparency in (1, b"\xff\x00\x80"):
        assert close(decode(encoded(image, transparency=transparency), 8, "squash"), GREEN, 0)


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_alpha_is_dropped(alpha):
    assert close(decode(encoded(plain((10, 20, 30, alpha), "RGBA")), 8, "squash"), (10, 20, 30), 0)
    assert close(decode(encoded(plain((40, alpha), "LA")), 8, "squash"), (40, 40, 40), 0)


def test_a_transparent_colour_is_kept():
    assert close(decode(encoded(plain(RED), transparency=RED), 8, "squash"), RED, 0)


def test_grey_and_one_bit():
    assert close(decode(encoded(plain(77, "L")), 8, "squash"), 77, 0)
    assert close(decode(encoded(plain(1, "1")), 8, "squash"), 255, 0)
    assert close(decode(encoded(plain(1, "1"), "TIFF", compression="group4"), 8, "squash"), 255, 0)


def test_one_bit_is_resized_as_grey():
    pattern = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)).convert("1")
    assert close(decode(encoded(pattern), 8, "squash"), 127, 12)  # not black or white


def grey16(values, kind):
    if kind == "PNG":
        rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in values)
        return png(values.shape[1], values.shape[0], bits=16, body=rows)
    if kind == "PGM":
        return b"P5 %d %d 65535\n" % values.shape[::-1] + values.astype(">u2").tobytes()
    order = {"TIFF little": "<u2", "TIFF big": ">u2"}[kind]
    return tiff(values.shape[1], values.shape[0], order, 1, values.astype(order).tobytes())


def tiff(width, height, dtype, sample_format, pixels):
    """An uncompressed grey TIFF; sample format 1 is unsigned, 2 signed, 3 floating-point."""
    end, bits = dtype[0], 8 * int(dtype[2])
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    tags += [(279, len(pixels)), (339, sample_format)]
    ifd = struct.pack(f"{end}H", len(tags)) + b"".join(struct.pack(f"{end}HHII", t, 4, 1, v) for t, v in tags)
    start = (b"II*\0" if end == "<" else b"MM\0*") + struct.pack(f"{end}I", 8 + len(pixels))
    return start + pixels + ifd + struct.pack(f"{end}I", 0)


@pytest.mark.parametrize("kind", ["PNG", "PGM", "TIFF little", "TIFF big"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind):
    values = np.array([[0, 257, 32896, 65535]] * 4, dtype=np.uint16)
    pixels = decode(grey16(values, kind), 4, "squash")
    assert pixels[0, :, 0].tolist() == [0, 1, 128, 255]
    assert (pixels == pixels[..., :1]).all()


def test_scale16_rounds_to_the_nearest():
    values = np.arange(65536, dtype=np.uint16)
    assert (scale16(values) == np.floor(values / 257 + 0.5)).all()


@pytest.mark.parametrize("values", [[0, 65536], [-1, 5]])
def test_integers_beyond_sixteen_bits_have_no_range(values):
    data = tiff(2, 1, "<i4", 2, np.array(values, "<i4").tobytes())
    with pytest.raises(ImageError, match="no fixed range"):
        decode(data, 2, "squash")


def test_signed_integers_within_sixteen_bits_are_scaled():
    data = tiff(2, 1, "<i4", 2, np.array([0, 65535], "<i4").tobytes())
    assert decode(data, 2, "squash")[0, :, 0].tolist() == [0, 255]


def test_floating_point_is_refused():
    with pytest.raises(ImageError, match="floating-point"):
        decode(tiff(2, 1, "<f4", 3, np.array([0, 1], "<f4").tobytes()), 2, "squash")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_counts(kind):
    frames = [plain(color, size=(16, 16)) for color in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    assert close(decode(data, 8, "squash"), RED)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP", "AVIF"])
def test_formats(kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    assert close(decode(encoded(plain((200, 60, 20)), kind), 8, "squash"), (200, 60, 20), 8)


def test_a_picture_of_two_lenses_is_its_first():
    data = encoded(plain(RED), "MPO", save_all=True, append_images=[plain(BLUE)])
    assert close(decode(data, 8, "squash"), RED)


# Sizes


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 60000), (60000, 1), (3, 1000), (7, 5), (224, 224), (500, 300)])
def test_any_aspect_ratio(resize, shape):
    height, width = shape
    pixels = decode(encoded(plain((9, 8, 7), size=(width, height))), 32, resize)
    assert pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8
    picture = pixels[(pixels != 0).any(axis=2)]
    assert (picture == (9, 8, 7)).all()
    if resize == "pad":
        scale = 32 / max(shape)
        assert len(picture) == max(1, round(height * scale)) * max(1, round(width * scale))
    else:
        assert len(picture) == 32 * 32


def test_a_long_strip_costs_no_more_memory_than_itself():
    """Stretched before it is shrunk, this one would take 32 GB on the way."""
    code = (
        "import resource, numpy as np\n"
        "from featurestore.images.decode import decode\n"
        "strip = np.repeat(np.uint8([0, 255]), 2_000_000)[:, None]\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "pixels = decode(strip, 2048, 'squash')\n"
        "assert pixels[0].max() == 0 and pixels[-1].min() == 255\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_squash_keeps_pixels_that_fit():
    pixels = noise(16, 16)
    assert (decode(encoded(Image.fromarray(pixels)), 16, "squash") == pixels).all()


def test_crop_is_the_central_square():
    pixels = noise(16, 30)
    assert (decode(pixels, 16, "crop") == pixels[:, 7:23]).all()
    assert (decode(pixels.transpose(1, 0, 2), 16, "crop") == pixels[:, 7:23].transpose(1, 0, 2)).all()


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.sampled_from([1.0, 0.95, 0.875, 0.5, 0.1]),
    st.sampled_from(INTERPOLATIONS), st.sampled_from([1, 6]), st.integers(1, 4096),
    st.sampled_from(CUTTING),
)  # fmt: skip
def test_shortest_is_the_centre_of_the_whole_image_resized(height, width, size, share, how, turn, strip, rule):
    framing = Framing(size, rule, how, share)
    # No value is so near to 0 or 255 that a filter goes beyond between the two passes.
    picture = Picture(Image.fromarray(noise(height, width) // 2 + 64), turn)
    with patch("featurestore.images.picture._STRIP", strip):
        found = picture.framed(framing)
    assert found.shape == (size, size, 3)
    width, height = picture.size
    if max(width, height) > 8 * min(width, height):
        return
    whole = (int(framing.shortest * width / min(width, height)), int(framing.shortest * height / min(width, height)))
    resampling = Image.Resampling[how.upper()]
    resized = np.asarray(picture.part((0, 0, width, height)).resize(whole, resampling)).astype(int)
    left, top = (round((side - size) / 2) if rule == "shortest" else (side - size) // 2 for side in whole)
    # Versions of Pillow differ in which side they resize first, and so in rounding.
    assert np.abs(found - resized[top : top + size, left : left + size]).max() <= 2


def test_where_a_centre_lies_between_two_pixels():
    """torchvision takes the even one, transformers the first."""
    pixels = noise(30, 33)
    for rule, left in (("shortest", 2), ("shortest-floor", 1)):
        framing = Framing(30, rule)
        assert (decode_framings(pixels, [framing])[framing] == pixels[:, left : left + 30]).all()


def test_a_photographs_centre_is_that_of_torchvision():
    """Of an image of Pillow's, torchvision's Resize(248, bicubic) and CenterCrop(224) are these two calls."""
    y, x = np.mgrid[0:333, 0:500]
    image = np.stack([x / 2, y * 0.7, (x * y) % 256], axis=-1).astype(np.uint8)
    framing = Framing(224, "shortest", "bicubic", 0.9)
    found = decode_framings(image, [framing])[framing]
    resized = Image.fromarray(image).resize((int(248 * 500 / 333), 248), Image.Resampling.BICUBIC)
    assert (found == np.asarray(resized)[12:236, 74:298]).all()


def test_pad_keeps_everything_centred_on_black():
    pixels = np.maximum(noise(10, 16), 1)
    padded = decode(pixels, 16, "pad")
    assert (padded[3:13] == pixels).all() and not padded[:3].any() and not padded[13:].any()


@pytest.mark.parametrize(
    ("resize", "digest"),
    [
        ("squash", "c959cf1968e5cfb6"),
        ("crop", "ca5999b8ab3f955c"),
        ("pad", "c46c72e4947b62be"),
        ("shortest", "dbf5dc333fff3f5a"),
        ("shortest-floor", "dbf5dc333fff3f5a"),
    ],
)
def test_pixels_are_pinned(resize, digest):
    """The same with every version of Pillow: else features of one store would be of two kinds."""
    pixels = np.concatenate([decode(noise(*shape), 32, resize) for shape in [(50, 40), (500, 40), (40, 500), (5, 80)]])
    assert hashlib.sha256(pixels.tobytes()).hexdigest().startswith(digest)


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    assert close(decode(stripes, 8, "squash")[:, 1:-1], 127, 3)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 40), st.sampled_from(RESIZES))
def test_every_size_gives_the_size_asked_for(height, width, size, resize):
    pixels = decode(np.full((height, width), 200, np.uint8), size, resize)
    assert pixels.shape == (size, size, 3)
    assert set(np.unique(pixels)) <= ({0, 200} if resize == "pad" else {200})


# Arrays


def test_arrays_go_the_way_of_files():
    color, grey = noise(), noise()[:, :, 0]
    for pixels, image in [(color, Image.fromarray(color)), (grey, Image.fromarray(grey))]:
        assert (decode(pixels, 12, "squash") == decode(encoded(image), 12, "squash")).all()
    assert (decode(grey[:, :, None], 12, "squash") == decode(grey, 12, "squash")).all()
    assert (decode(np.dstack([color, grey]), 12, "squash") == decode(color, 12, "squash")).all()
    assert (decode(color[::-1, ::2], 12, "squash") == decode(color[::-1, ::2].copy(), 12, "squash")).all()


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4)), np.zeros(4, np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 5), np.uint8)]
)
def test_other_arrays_are_refused(pixels):
    with pytest.raises(ImageError):
        decode(pixels, 4, "squash")


# Files that give no pixels


@pytest.mark.parametrize("own_limit", [True, False])
def test_a_pixel_bomb_is_refused_from_its_header(own_limit, monkeypatch):
    if not own_limit:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match="more than 178,956,970 pixels"):
        decode(png(50_000, 50_000), 8, "squash")
    assert MAX_PIXELS == 178_956_970


def test_large_images_and_damaged_files_leave_the_terminal_alone(tmp_path):
    """100 million pixels are allowed, and Pillow's warning about them must not be seen; nor its other words."""
    (tmp_path / "damaged").write_bytes(encoded(plain(RED), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff"))
    (tmp_path / "large").write_bytes(png(10_000, 10_000))
    one, many = struct.pack("<HHII", 277, 4, 1, 1), struct.pack("<HHII", 277, 4, 1, 99)  # samples per pixel
    (tmp_path / "odd").write_bytes(tiff(2, 1, "<u1", 1, b"ab").replace(one, many))
    code = (
        "import sys; from pathlib import Path\n"
        "from featurestore.images.decode import decode; from featurestore.errors import ImageError\n"
        "for path in sys.argv[1:]:\n"
        "    try: decode(Path(path).read_bytes(), 8, 'squash')\n"
        "    except ImageError as error: print(error)\n"
    )
    paths = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "truncated" in done.stdout and "not an image of a known format" in done.stdout


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_a_truncated_file_is_a_failure(kind):
    data = encoded(Image.fromarray(noise(64, 64)), kind)
    with pytest.raises(ImageError) as caught:
        decode(data[: len(data) * 2 // 3], 8, "squash")
    assert "\n" not in str(caught.value) and "0x" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"just some text",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
        b"\xc5\xd0\xd3\xc6" + struct.pack("<6I", 32, 40, 0, 0, 0, 0) + b"%!PS-Adobe-3.0 EPSF-3.0\n" + b" " * 64,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x00",
    ],
)
def test_text_and_postscript_are_no_images(data):
    with pytest.raises(ImageError, match="not an image of a known format"):
        decode(data, 8, "squash")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"]), st.data())
def test_damaged_files_give_pixels_or_an_image_error(kind, data):
    damaged = bytearray(encoded(Image.fromarray(noise()), kind))
    for position in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=8)):
        damaged[position] = data.draw(st.integers(0, 255))
    try:
        assert decode(bytes(damaged), 8, "squash").shape == (8, 8, 3)
    except ImageError as error:
        assert str(error) and "\n" not in str(error)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
@example(b"")
@example(b"BM")
@example(b"\xff\xd8\xff")
def test_any_bytes_give_pixels_or_an_image_error(data):
    try:
        decode(data, 8, "squash")
    except ImageError as error:
        assert str(error)


def test_a_draft_is_decoded_smaller_but_never_below_the_size():
    y, x = np.mgrid[0:512, 0:640]
    picture = Image.fromarray(np.stack([x / 3, y / 2, (x + y) / 5], axis=-1).astype(np.uint8))
    data = encoded(picture, "JPEG", quality=95)
    assert [size_of(data, size) for size in (513, 257, 256, 128, 64)] == [
        (640, 512), (640, 512), (320, 256), (160, 128), (80, 64)
    ]  # fmt: skip
    framings = [Framing(size, "crop", decoder="draft") for size in (64, 300)]
    both = decode_framings(data, framings)
    for framing, pixels in both.items():
        size = framing.size
        assert pixels.shape == (size, size, 3)
        np.testing.assert_array_equal(pixels, decode_framings(data, [framing])[framing])
        assert np.abs(pixels.astype(int) - decode(data, size, "crop")).max() <= 6
    np.testing.assert_array_equal(both[framings[1]], decode(data, 300, "crop"))
    padded = Framing(32, "pad", decoder="draft")
    for other in (encoded(picture), noise(300, 300)):
        np.testing.assert_array_equal(decode_framings(other, [padded])[padded], decode(other, 32, "pad"))


def test_all_framings_of_an_image_are_those_that_each_has_alone():
    data = encoded(Image.fromarray(noise(90, 120)), "JPEG")
    framings = [
        Framing(size, resize, interpolation, share, decoder)
        for size in (16, 64)
        for resize, share in (("squash", 1.0), ("crop", 1.0), ("shortest", 0.5), ("shortest", 1.0))
        for interpolation in INTERPOLATIONS
        for decoder in DECODERS
    ]
    together = decode_framings(data, framings)
    assert set(together) == set(framings)
    for framing in framings:
        np.testing.assert_array_equal(together[framing], decode_framings(data, [framing])[framing])
    assert len({pixels.tobytes() for framing, pixels in together.items() if framing.decoder == "pillow"}) == 24


def test_threads_get_the_same_pixels():
    kinds = ["JPEG", "PNG", "GIF", "WEBP", "TIFF"]
    files = [encoded(Image.fromarray(noise(40, 50)), kind) for kind in kinds] * 20
    alone = [decode(data, 16, "squash") for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: decode(data, 16, "squash"), files))
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


# Reading


def refused(path):
    with pytest.raises(ImageError) as caught:
        read_file(path)
    return str(caught.value)


def test_reads_a_file_and_through_a_link(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"abc")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    assert read_file(tmp_path / "a.jpg") == read_file(str(tmp_path / "b.jpg")) == b"abc"


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.jpg"))
        for name in ("fifo.jpg", "folder.jpg", "socket.jpg"):
            assert refused(tmp_path / name) == "not a regular file"
    assert refused("/dev/zero") == "not a regular file"


def test_links_that_lead_nowhere(tmp_path):
    (tmp_path / "dangling.jpg").symlink_to("gone.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert refused(tmp_path / "dangling.jpg") == refused(tmp_path / "gone.jpg") == "no such file"
    assert refused(tmp_path / "loop.jpg") == "symlink loop"


def test_empty_and_huge_files(tmp_path):
    (tmp_path / "empty.jpg").touch()
    assert refused(tmp_path / "empty.jpg") == "empty file"
    with Path(tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(2**40)  # sparse: takes no room
    assert refused(tmp_path / "huge.jpg") == "larger than 512 MiB"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"abc")
    (tmp_path / "a.jpg").chmod(0)
    assert refused(tmp_path / "a.jpg") == "permission denied"


def test_failures_leave_no_file_open(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "fifo.jpg")
    descriptor = os.dup(0)  # the lowest that is free
    os.close(descriptor)
    refused(tmp_path / "folder.jpg")
    refused(tmp_path / "fifo.jpg")
    refused(tmp_path / "gone.jpg")
    again = os.dup(0)
    os.close(again)
    assert again == descriptor


def test_suffixes_are_those_of_the_formats():
    assert {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm"} <= IMAGE_SUFFIXES
    assert not {".eps", ".ps", ".pdf", ".svg", ".txt", ""} & IMAGE_SUFFIXES
    assert (".avif" in IMAGE_SUFFIXES) == ("avif" in features.get_supported_modules())
