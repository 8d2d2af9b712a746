"""Images out of Parquet files, in bounded memory: one row after the other, as the file holds them.

A column lies in row groups, and inside of them in pages, which can only be read from the first one on. So a reader
goes on from where it is, and what it passes stays in memory for a while, for threads that are a few rows behind.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from featurestore.errors import ImageError, one_line
from featurestore.sources.shard_files import OpenFiles, RandomAccess, Stream
from featurestore.system.files import why

_AT_ONCE = 4 * 2**20
"""Bytes of images that are read at a time, as their mean size tells."""

_AT_MOST = 256 * 2**20
"""The same, if each was as large as all images of the row group: rows may share one that stands there once."""

_ROWS = 256
"""Rows that are read at a time, at most."""

_KEPT = 64 * 2**20
"""Bytes of images that are kept, at least one reading of them."""

_CURSORS, _FOOTERS = 4, 16
"""Row groups that are being read, and files whose footers are in memory."""


def open_parquet(file: RandomAccess, footer: Any = None) -> Any:
    """Open a Parquet file, as ``pyarrow.parquet.ParquetFile``, perhaps with the metadata that it has shown before.

    Raises:
        ValueError, OSError: it is none, or cannot be read; see :func:`reason`.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    stream = pa.PythonFile(Stream(file), mode="r")
    return ParquetFile(stream, metadata=footer, pre_buffer=False, buffer_size=2**20, page_checksum_verification=True)


def reason(error: Exception) -> str:
    """Return what is wrong with a Parquet file, from what pyarrow or the system has raised."""
    return why(error) if isinstance(error, OSError) and error.strerror else one_line(error) or type(error).__name__


class _Cursor(NamedTuple):
    """A row group that is being read: its batches, each of so many rows."""

    batches: Iterator[tuple[int, Any]]
    rows: int


class RowReader:
    """The values of one binary column, by file, row group and row. Many threads may ask, and one reads at a time.

    Args:
        files: the Parquet files.
        column: path of the column, such as ``image.bytes``.
    """

    def __init__(self, files: OpenFiles, column: str) -> None:
        self.files, self.column = files, column
        self._turn = threading.Lock()
        self._footers: OrderedDict[int, Any] = OrderedDict()
        self._cursors: OrderedDict[tuple[int, int], _Cursor] = OrderedDict()
        self._windows: OrderedDict[tuple[int, int, int], Any] = OrderedDict()
        self._bytes = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return RowReader, (self.files, self.column)

    def read(self, file: int, group: int, row: int) -> bytes:
        """Return one value.

        Raises:
            ImageError: it is null, or cannot be read.
        """
        try:
            with self._turn:
                values, first = self._window(file, group, row)
                value = values[row - first].as_py()
        except (ValueError, OSError, IndexError) as error:  # pyarrow's own errors are these
            raise ImageError(f"cannot be read from the Parquet file ({reason(error)})") from error
        if value is None:
            raise ImageError("no bytes in the Parquet file")
        return bytes(value)

    def _window(self, file: int, group: int, row: int) -> tuple[Any, int]:
        """Return values of a row group that have this row among them, and the row of the first."""
        cursor = self._cursors.get((file, group))
        if cursor is not None:
            number = row // cursor.rows
            if (found := self._windows.get((file, group, number))) is not None:
                self._windows.move_to_end((file, group, number))
                return found, number * cursor.rows
        for attempt in range(2):
            if cursor is None or attempt:  # the row is behind the cursor: it begins anew
                cursor = self._start(file, group)
            wanted = row // cursor.rows
            for number, values in cursor.batches:
                self._keep((file, group, number), values)
                if number == wanted:
                    return values, number * cursor.rows
        raise IndexError("fewer rows than the file says")

    def _start(self, file: int, group: int) -> _Cursor:
        # Each row group has a reader of its own: one reader knows but one size of batches.
        parquet = open_parquet(self.files[file], self._footers.get(file))
        if file not in self._footers:
            self._footers[file] = parquet.metadata
            if len(self._footers) > _FOOTERS:
                self._footers.popitem(last=False)
        chunk = _chunk(parquet.metadata.row_group(group), self.column)
        size, count = max(1, chunk.total_uncompressed_size), max(1, chunk.num_values)
        rows = max(1, min(_ROWS, _AT_ONCE * count // size, _AT_MOST // size))
        batches = parquet.iter_batches(rows, [group], [self.column], use_threads=False)
        cursor = _Cursor(self._values(batches, rows), rows)
        self._cursors[file, group] = cursor
        self._cursors.move_to_end((file, group))
        if len(self._cursors) > _CURSORS:
            self._cursors.popitem(last=False)
        return cursor

    def _values(self, batches: Iterable[Any], rows: int) -> Iterator[tuple[int, Any]]:
        """Give the binary values of batches, whatever structs they are in, and the number of each batch."""
        import pyarrow.compute as pc

        last = rows
        for number, batch in enumerate(batches):
            if last != rows:  # places could not be told any more
                raise ValueError("rows come in other portions than were asked for")
            last, values = batch.num_rows, batch.column(0)
            for name in self.column.split(".")[1:]:
                values = pc.struct_field(values, name)
            yield number, values

    def _keep(self, key: tuple[int, int, int], values: Any) -> None:
        if key in self._windows:
            return
        self._windows[key] = values
        self._bytes += values.nbytes
        while self._bytes > _KEPT and len(self._windows) > 1:
            _, gone = self._windows.popitem(last=False)
            self._bytes -= gone.nbytes


def _chunk(group: Any, column: str) -> Any:
    """Return the metadata of a column in a row group."""
    for i in range(group.num_columns):
        if group.column(i).path_in_schema == column:
            return group.column(i)
    raise ValueError(f"no column {column}")
