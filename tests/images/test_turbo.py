"""The decoder turbo gives Pillow's pixels, off by 1 at most, and Pillow's own errors."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from featurestore.errors import ImageError, MissingDependencyError
from featurestore.images import turbo
from featurestore.images.decode import decode_framings, opened
from featurestore.images.picture import Picture
from featurestore.spec import RESIZES, Framing


def photograph(height=90, width=120):
    """Smooth colours and some noise, as a camera sees them."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    pixels = np.stack([255 * x, 255 * y, 127 + 100 * np.sin(9 * x * y)], axis=-1)
    return Image.fromarray((pixels + np.random.default_rng(0).normal(0, 9, pixels.shape)).clip(0, 255).astype(np.uint8))


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def outcome(data, size, resize, decoder):
    framing = Framing(size, resize, decoder=decoder)
    try:
        return decode_framings(data, [framing])[framing].astype(int)
    except ImageError as error:
        return str(error)


def assert_same(data, size=32, resize="squash"):
    """The pixels of both decoders are close, or their errors the same."""
    expected, found = (outcome(data, size, resize, decoder) for decoder in ("pillow", "turbo"))
    if isinstance(expected, str):
        assert found == expected
    else:
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif}


JPEGS = {
    "plain": {},
    "fine": {"quality": 100, "subsampling": 0},
    "progressive": {"progressive": True},
    "rgb": {"keep_rgb": True},
    "restarts": {"restart_marker_rows": 1},
    **{f"turned {i}": turned(i) for i in range(1, 9)},
    "damaged exif": {"exif": b"Exif\x00\x00II*\x00\xff\xff\xff\xff"},
}


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("name", JPEGS)
def test_jpegs(name, resize):
    for size in (16, 100, 200):
        assert_same(encoded(photograph(), **JPEGS[name]), size, resize)


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
def test_plain_jpegs_are_decoded_to_the_same_pixels_without_pillow(options, monkeypatch):
    data = encoded(photograph(), **options)
    with opened(data) as picture:
        expected = np.asarray(picture.part((5, 7, 60, 80)))
    monkeypatch.setattr(Image.Image, "load", None)  # so that Pillow could not
    with opened(data, quick=True) as picture:
        np.testing.assert_array_equal(picture.pixels((5, 7, 60, 80)), expected)
    monkeypatch.undo()
    np.testing.assert_array_equal(np.asarray(picture.part((5, 7, 60, 80))), expected)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpegs_of_other_colours(mode):
    assert_same(encoded(photograph().convert(mode)))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
def test_pngs(mode):
    grey = np.asarray(photograph().convert("L")).astype(np.uint16) * 257
    image = Image.fromarray(grey) if mode == "I;16" else photograph().convert(mode)
    for size in (32, 200):
        assert_same(encoded(image, "PNG"), size)


@pytest.mark.parametrize("kind", ["MPO", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_other_formats(kind):
    options = {"save_all": True, "append_images": [photograph()]} if kind == "MPO" else {}
    assert_same(encoded(photograph(), kind, **options))


@pytest.mark.parametrize("kept", [0, 2, 20, 300, 0.5, 0.95, -2, -1])
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_jpeg_that_is_cut_off_ends_as_with_pillow(options, kept):
    data = encoded(photograph(), **options)
    assert_same(data[: int(kept * len(data)) if isinstance(kept, float) else kept])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([{}, {"progressive": True}, {"restart_marker_rows": 1}]), st.data())
def test_damaged_jpegs_end_as_with_pillow(options, data):
    damaged = bytearray(encoded(photograph(20, 24), **options))
    for position in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=8)):
        damaged[position] = data.draw(st.integers(0, 255))
    assert_same(bytes(damaged), 8)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 40), st.sampled_from(RESIZES))
def test_any_shape(height, width, size, resize):
    assert_same(np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8), size, resize)


@pytest.mark.parametrize("shape", [(1, 60000), (60000, 1), (3, 1000), (1, 1)])
def test_strips(shape):
    for resize in RESIZES:
        assert_same(encoded(photograph(*shape)), 32, resize)


def test_nearly_all_values_are_those_of_pillow():
    data = encoded(photograph(333, 500), quality=95)
    expected, found = (outcome(data, 224, "squash", decoder) for decoder in ("pillow", "turbo"))
    assert np.mean(expected != found) < 0.01


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_picture_in_parts_has_the_pixels_of_the_whole(orientation, monkeypatch):
    data = encoded(photograph(), **turned(orientation))
    whole = [outcome(data, size, resize, "turbo") for resize in RESIZES for size in (16, 100, 200)]
    monkeypatch.setattr("featurestore.images.picture._STRIP", 4 * 90 * 7)
    parts = [outcome(data, size, resize, "turbo") for resize in RESIZES for size in (16, 100, 200)]
    assert all((a == b).all() for a, b in zip(whole, parts, strict=True))


def test_a_header_that_two_libraries_read_differently_is_pillows():
    assert turbo.decoded(encoded(photograph()), (120, 91)) is None


def test_threads_get_the_same_pixels():
    files = [encoded(photograph(40 + i, 50), kind) for kind in ("JPEG", "PNG") for i in range(40)]
    alone = [outcome(data, 16, "squash", "turbo") for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: outcome(data, 16, "squash", "turbo"), files))
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


def test_pixels_do_not_depend_on_the_instructions_of_the_processor():
    from cykooz_resizer import CpuExtensions

    data = encoded(photograph(333, 500))
    expected = outcome(data, 224, "squash", "turbo")
    resizer, _ = turbo._resizer()
    usual = resizer.cpu_extensions
    resizer.cpu_extensions = CpuExtensions.none
    try:
        np.testing.assert_array_equal(outcome(data, 224, "squash", "turbo"), expected)
    finally:
        resizer.cpu_extensions = usual


@pytest.mark.parametrize("library", turbo.LIBRARIES)
def test_a_library_that_is_missing_is_named(library, monkeypatch):
    found = turbo.find_spec
    monkeypatch.setattr(turbo, "find_spec", lambda name: None if name == library.replace("-", "_") else found(name))
    turbo.check.cache_clear()
    with pytest.raises(MissingDependencyError, match=rf"--decoder turbo needs {library}.*featurestore\[turbo\]"):
        decode_framings(encoded(photograph()), [Framing(8, decoder="turbo")])
    turbo.check.cache_clear()


def test_the_libraries_are_imported_where_they_are_asked_for_alone():
    code = "import featurestore, sys; sys.exit(bool({'simplejpeg', 'cykooz_resizer'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pictures_of_pillow_stay_its_own():
    with opened(encoded(photograph())) as picture:
        assert type(picture) is Picture
