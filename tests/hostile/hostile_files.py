"""Makers of hostile image files, and the cost of what is done to them, measured in a process of its own."""

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of a PNG, by its colour type."""


class Cost(NamedTuple):
    """What a process took and said: its largest memory in MB, beyond what it had at the mark, if it set one."""

    code: int
    peak: int
    out: str
    err: str


def cost_of(*arguments: str, cwd: Path | None = None) -> Cost:
    """Run the command line."""
    return _measured([sys.executable, "-m", "cli", *arguments], cwd)


def cost_of_code(code: str) -> Cost:
    """Run some lines of Python."""
    return _measured([sys.executable, "-c", code], None)


def _measured(command: list[str], cwd: Path | None) -> Cost:
    # A process between, whose only child this is: the largest memory of children is that of the largest one so far.
    watcher = (
        "import json, resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], capture_output=True)\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024\n"
        "print(json.dumps([done.returncode, peak, done.stdout.decode(errors='replace'), "
        "done.stderr.decode(errors='replace')]))\n"
    )
    done = subprocess.run([sys.executable, "-c", watcher, *command], capture_output=True, cwd=cwd, check=True)
    return Cost(*json.loads(done.stdout))


def png(width: int, height: int, colour_type: int = 2, bits: int = 8) -> bytes:
    """A black PNG. Hundreds of megapixels are a few hundred kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = bytes(1 + (width * CHANNELS[colour_type] * bits + 7) // 8)
    packer, rows = zlib.compressobj(), max(1, 2**20 // len(row))
    body = [packer.compress(row * min(rows, height - start)) for start in range(0, height, rows)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    palette = chunk(b"PLTE", bytes(6)) if colour_type == 3 else b""
    data = chunk(b"IDAT", b"".join(body) + packer.flush())
    return b"\x89PNG\r\n\x1a\n" + header + palette + data + chunk(b"IEND", b"")


def tiff(pixels: np.ndarray, *, white_is_zero: bool = False, deflated: bool = False, rows: int = 5) -> bytes:
    """A greyscale TIFF of 1 (for bool), 8 or 16 bits in strips of some rows, as an X-ray machine may write it."""
    height, width = pixels.shape
    bits = 1 if pixels.dtype == bool else 8 * pixels.itemsize
    strips = [np.packbits(part, axis=1) if bits == 1 else part for part in np.split(pixels, range(rows, height, rows))]
    data = [zlib.compress(part.tobytes()) if deflated else part.tobytes() for part in strips]
    tags = {
        256: [width], 257: [height], 258: [bits], 259: [8 if deflated else 1], 262: [0 if white_is_zero else 1],
        273: [0] * len(data), 277: [1], 278: [rows], 279: [len(part) for part in data],
    }  # fmt: skip
    return directory(tags, data)


def directory(tags: dict[int, list[int]], data: list[bytes]) -> bytes:
    """A TIFF of such tags; 273 and 324 become the places of the `data`."""
    lists = 8 + 2 + 12 * len(tags) + 4
    start = lists + sum(4 * len(values) for values in tags.values() if len(values) > 1)
    places = [start + sum(map(len, data[:i])) for i in range(len(data))]
    entries, behind = b"", b""
    for tag, values in sorted(tags.items()):
        texts = struct.pack(f"<{len(values)}I", *(places if tag in (273, 324) else values))
        where = struct.pack("<I", lists + len(behind)) if len(values) > 1 else texts
        entries += struct.pack("<HHI", tag, 4, len(values)) + where
        behind += texts if len(values) > 1 else b""
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + behind + b"".join(data)


def broken_tiff() -> bytes:
    """A TIFF that libtiff complains of."""
    file = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(file, "TIFF", compression="tiff_lzw")
    return file.getvalue()[:2000] + bytes(1000) + file.getvalue()[3000:]


def two_classes(folder: Path, data: list[bytes], suffix: str) -> Path:
    """A folder of two classes with the same files."""
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    for i, content in enumerate(data):
        (folder / "ab"[i % 2] / f"{i}{suffix}").write_bytes(content)
    return folder


def sparse(path: Path, size: int, beginning: bytes = b"") -> None:
    """A file of so many zeros, that takes no room."""
    with path.open("wb") as file:
        file.write(beginning)
        file.truncate(size)
