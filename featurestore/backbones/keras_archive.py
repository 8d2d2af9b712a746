"""Find out how much memory a ``.keras`` file or a file of weights would take, before Keras builds or reads it.

A few KB can ask for terabytes: a layer with a billion units, a member of an archive or a dataset that is compressed a
thousandfold. What an honest file declares is about as large as the file itself.
"""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from featurestore.system import documents
from featurestore.system.files import check_filled, size_text, why
from featurestore.system.keras import import_keras

if TYPE_CHECKING:
    import keras

_SLACK = 16 * 2**20
"""Bytes that a file may declare beyond its own size: its config, and what small files weigh beside their header."""

_SWELLING = 4
"""How many times larger than the file what it holds may be: some archives compress weights a little."""

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"


def read_config(path: Path) -> tuple[dict[str, Any], int]:
    """Read the config in a ``.keras`` file, and the number of bytes of its weights.

    Raises:
        ValueError: it is no such file, or would take much more memory than its size tells; the text is a reason.
    """
    with _opened(path) as archive:
        sizes = {item.filename: item.file_size for item in archive.infolist()}
        _compare("its members", sum(sizes.values()), _SWELLING * path.stat().st_size)
        if not {_CONFIG, _WEIGHTS} <= sizes.keys():
            raise ValueError(f"it holds no {_CONFIG} and {_WEIGHTS}")
        _check_hdf5(_seekable(archive, _WEIGHTS), sizes[_WEIGHTS])
        return documents.parse(archive.read(_CONFIG), dict[str, Any]), sizes[_WEIGHTS]


def check_layers(config: dict[str, Any], there: int) -> None:
    """Check that the layers of a config ask for no more bytes of weights than are there, before they are built.

    Raises:
        ValueError: they do.
        MissingDependencyError: Keras is not installed.
        Exception: whatever Keras raises for layers that it does not know.
    """
    keras = import_keras("a .keras file")
    plain = {key: value for key, value in config.items() if key != "compile_config"}
    check_built(lambda: keras.saving.deserialize_keras_object(plain, safe_mode=True), there)


def check_built(build: Callable[[], "keras.Model"], there: int, *, reads: bool = False) -> None:
    """Check that the layers of a model ask for no more bytes of weights than are there, before it is really built.

    Args:
        build: builds it; called where neither memory nor time is spent on values.
        there: bytes.
        reads: whether a layer reads its own variables while it is built. TensorFlow then gives it symbols, which other
            layers do not take for numbers.

    Raises:
        ValueError: they do.
        Exception: whatever `build` raises.
    """
    keras = import_keras("building a network")

    def count() -> int:
        symbols = _symbols() if reads and keras.backend.backend() == "tensorflow" else nullcontext()
        with symbols, keras.StatelessScope(initialize_variables=False):
            model = build()
        return sum(math.prod(variable.shape) * np.dtype(variable.dtype).itemsize for variable in model.variables)

    # Keras keeps a list, for each thread, of variables that get their values later. The list of this thread is dropped.
    with ThreadPoolExecutor(1) as thread:
        _compare("its layers", thread.submit(count).result(), there)


def _symbols() -> AbstractContextManager[Any]:
    import tensorflow as tf

    graph: AbstractContextManager[Any] = tf.Graph().as_default()
    return graph


def check_weights(path: Path) -> None:
    """Check a file of weights, as ``save_weights`` writes it, before Keras reads it.

    Raises:
        ValueError: it is no regular HDF5 file, or would take much more memory than its size tells.
    """
    try:
        check_filled(path)
    except OSError as error:
        raise ValueError(why(error)) from error
    _check_hdf5(path, _SWELLING * path.stat().st_size)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        check_filled(path)
        with zipfile.ZipFile(path) as archive:
            yield archive
    except OSError as error:
        raise ValueError(why(error)) from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _seekable(archive: zipfile.ZipFile, name: str) -> io.IOBase:
    """Open a member so that HDF5 can move back and forth in it; zipfile would read it from its start each time."""
    item = archive.getinfo(name)
    if item.compress_type != zipfile.ZIP_STORED:  # not as Keras writes it
        return io.BytesIO(archive.read(name))
    assert archive.fp is not None
    archive.fp.seek(item.header_offset + 26)
    name_length, extra_length = struct.unpack("<HH", archive.fp.read(4))
    return _Part(archive.fp, item.header_offset + 30 + name_length + extra_length, item.file_size)


class _Part(io.RawIOBase):
    """A part of a file, which reads like a file of its own."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        data = self._file.read(min(len(buffer), max(0, self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _check_hdf5(file: Path | io.IOBase, size: int) -> None:
    """Check that the datasets lie in the file, and that together they are about as large as it is."""
    import h5py

    declared = 0

    def add(name: str, item: Any) -> None:
        nonlocal declared
        if isinstance(item, h5py.Dataset):
            if item.is_virtual or item.external:
                raise ValueError(f"{name!r} lies in another file")
            declared += item.nbytes

    try:
        with h5py.File(file, "r") as opened:
            opened.visititems(add)
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"damaged weights: {error}") from error
    _compare("its weights", declared, size)


def _compare(what: str, declared: int, size: int) -> None:
    if declared > size + _SLACK:
        raise ValueError(f"{what} would take {size_text(declared)}, and the file has {size_text(size)}")
