"""Turn finished rows into one HDF5 file, in one step: it is there as a whole, or not at all.

The file is written as a draft, checked by the same code that will read it, synced, and renamed. That happens in a child
process, because HDF5 can crash at exit after a full disk: ``python -m featurestore.store.writer`` reads a
:class:`Publication` from its standard input, and ends when its parent does.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from featurestore import errors
from featurestore.errors import DiskFullError, FeatureStoreError, StoreError
from featurestore.images.augment import view_key
from featurestore.sources.tasks import CLASSIFICATION, TASKS
from featurestore.spec import ExtractionSpec
from featurestore.store import file_format
from featurestore.store.finished_rows import FinishedRows
from featurestore.store.journal import TapLayout
from featurestore.store.reader import FeatureStore
from featurestore.system.children import environment
from featurestore.system.files import DRAFT, check_space, replacing

_OLD_DRAFT = ".tmp"
"""What followed the name of a draft in earlier versions."""


@dataclass(frozen=True)
class Publication:
    """All that goes into a feature file. The columns are of one length, and so are those of `views`; `sources` hold
    every row and view among them. There is a column of groups only if a row has one, and `values`, the answers and the
    numbers of the rows, only if the task has answers that are no classes, or the data set has numeric columns.
    """

    target: str
    dataset: str
    spec: str
    class_names: list[str]
    augment: str
    provenance: dict[str, Any]
    taps: list[TapLayout]
    columns: dict[str, list[Any]]
    views: dict[str, list[int]]
    failures: list[tuple[str, str]] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    numeric: list[file_format.Column] = field(default_factory=list)
    values: list[Sequence[float]] = field(default_factory=list)
    task: str = CLASSIFICATION.name

    @property
    def nbytes(self) -> int:
        """The approximate size of the file in bytes."""
        widths = [max(len(os.fsencode(str(value))) for value in column) for column in self.columns.values()]
        rows, views = len(self.columns[file_format.ID]), len(self.views[file_format.ROW])
        widths.append(4 * (len(self.numeric) + TASKS[self.task].width(len(self.class_names))))
        return rows * sum(widths) + views * 8 + (rows + views) * sum(tap.row_bytes for tap in self.taps) + 2**20


def publish(publication: Publication, lock: int) -> None:
    """Write the file in a child process and wait for it.

    Args:
        publication: what to write, and where.
        lock: handle of the store's lock, which the child shares, so that it outlives this process with the child. (On
            Windows it does not, and the lock ends with this process.)

    Raises:
        DiskFullError: not enough space; the journals keep every row.
        StoreError: the file could not be written.
    """
    target = Path(publication.target)
    check_space(target.parent, publication.nbytes)
    process = subprocess.Popen(
        [sys.executable, "-m", "featurestore.store.writer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(lock,) if os.name == "posix" else (),
        env=environment(),
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    try:
        # The pipe stays open until the child ends: the child takes its end of file as the parent's death.
        for line in _lines(publication):
            process.stdin.write(line)
        process.stdin.flush()
        answer, complaint = process.stdout.read(), process.stderr.read()
        if process.wait() != 0:
            raise _child_error(target, process.returncode, answer, complaint, publication.nbytes)
    except BrokenPipeError as error:
        raise StoreError(f"{target}: the publishing process could not start: run the same command again") from error
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        remove_drafts(target.parent, target.stem)


def _lines(publication: Publication) -> Iterator[bytes]:
    """Describe a publication in lines of JSON: each column has its own, since all together may be a gigabyte."""
    yield json.dumps(asdict(replace(publication, columns={name: [] for name in publication.columns}))).encode() + b"\n"
    for column in publication.columns.values():
        yield json.dumps(column).encode() + b"\n"


def remove_drafts(folder: Path, stem: str = "*") -> None:
    """Delete what killed runs left half-written of a feature file, or of all. The caller holds the lock of these."""
    for pattern in (f"{stem}{file_format.SUFFIX}{DRAFT}", f"{stem}{_OLD_DRAFT}"):
        for draft in folder.glob(pattern):
            if not draft.is_dir():
                draft.unlink(missing_ok=True)


def _child_error(target: Path, code: int, answer: bytes, complaint: bytes, needed: int) -> FeatureStoreError:
    if answer:
        report = json.loads(answer)
        kind: Callable[[str], FeatureStoreError] = getattr(errors, report["error"])
        return kind(report["message"])
    try:
        # HDF5 may have crashed on a full disk before it could say so.
        check_space(target.parent, needed)
    except DiskFullError as error:
        return error
    last = complaint.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {code}"]
    return StoreError(
        f"{target}: could not be written ({last[0]}): the finished rows are kept; run the same command again"
    )


def write(publication: Publication) -> None:
    """Write, check, sync and rename the file, in this process.

    Raises:
        DiskFullError: no space is left.
        WriteError: the file cannot be written there.
    """
    with replacing(publication.target) as draft:
        with FinishedRows(map(Path, publication.sources)) as rows, _new_file(draft) as file:
            _fill(file, publication, rows)
        FeatureStore(draft)


def _new_file(path: Path) -> h5py.File:
    """Create an empty HDF5 file without time stamps, which h5py's own calls would put into its groups."""
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    # From this version of HDF5 on, metadata carry checksums, and attributes may be large.
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    return h5py.File(h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, creation, access))


def _new_group(file: h5py.File, name: str) -> None:
    creation = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    creation.set_obj_track_times(False)
    h5py.h5g.create(file.id, name.encode(), gcpl=creation)


def _fill(file: h5py.File, publication: Publication, rows: FinishedRows) -> None:
    columns, views = publication.columns, publication.views
    taps = [tap.name for tap in publication.taps]
    version = _version(publication)
    for group in file_format.children(file_format.schema(taps, version)):
        if group != "/":
            _new_group(file, group)
    for name in file_format.columns(version):
        is_label = name == file_format.LABEL
        values = columns.get(name) or [""] * len(columns[file_format.ID])  # without groups, from version 3 on
        file[name] = np.array(values, np.int32) if is_label else file_format.encode(values)
    if version >= file_format.NUMERIC:
        task, rows_of = TASKS[publication.task], len(columns[file_format.ID])
        width = task.width(len(publication.class_names))
        numbers = np.array(publication.values, np.float32).reshape(rows_of, width + len(publication.numeric))
        file[file_format.TABULAR] = numbers[:, width:]
        if version >= file_format.ASKED:
            file[file_format.TARGETS] = numbers[:, :width].astype(task.dtype)
    for name in file_format.VIEW_COLUMNS:
        file[f"{file_format.VIEWS}/{name}"] = np.array(views[name], np.int32)
    for i, name in enumerate(file_format.FAILURE_COLUMNS):
        file[f"{file_format.FAILURES}/{name}"] = file_format.encode(failure[i] for failure in publication.failures)
    digests = columns[file_format.DIGEST]
    pairs = zip(views[file_format.ROW], views[file_format.NUMBER], strict=True)
    _copy(file, publication, rows, "", digests)
    keys = [view_key(digests[row], publication.augment, number) for row, number in pairs]
    _copy(file, publication, rows, file_format.VIEWS, keys)
    attributes = {
        "format": file_format.FORMAT,
        "dataset": publication.dataset,
        "spec": publication.spec,
        "fingerprint": ExtractionSpec.from_json(publication.spec).fingerprint,
        "class_names": json.dumps(publication.class_names),
        "augment": publication.augment,
        "provenance": json.dumps(publication.provenance, sort_keys=True),
    }
    if version >= file_format.NUMERIC:
        attributes[file_format.COLUMNS_ATTRIBUTE] = json.dumps([asdict(column) for column in publication.numeric])
    if version >= file_format.ASKED:
        attributes[file_format.TASK_ATTRIBUTE] = publication.task
    for name, text in attributes.items():
        file.attrs[name] = np.bytes_(os.fsencode(text))
    file.attrs[file_format.VERSION_ATTRIBUTE] = np.int64(version)
    file.attrs["content_digest"] = np.bytes_(file_format.content_digest(file, taps))


def _version(publication: Publication) -> int:
    """Return the lowest version that can hold a file."""
    if publication.task != CLASSIFICATION.name:
        return file_format.ASKED
    if publication.numeric:
        return file_format.NUMERIC
    return file_format.GROUPED if file_format.GROUP in publication.columns else 1


def _copy(file: h5py.File, publication: Publication, rows: FinishedRows, group: str, keys: Sequence[str]) -> None:
    """Write the features of the rows called `keys`, a block at a time."""
    names = file_format.feature_names([tap.name for tap in publication.taps], group)
    for tap in publication.taps:
        file.create_dataset(names[tap.name], (len(keys), *tap.shape), tap.dtype, fill_time="never")
    for block in file_format.blocks(len(keys), sum(tap.row_bytes for tap in publication.taps)):
        part = [rows[key] for key in keys[block]]
        for tap in publication.taps:
            file[names[tap.name]][block] = np.stack([row[tap.name] for row in part])


def _main() -> None:
    """Run the child process: publish what standard input describes, and answer with an error, if any, as JSON."""
    values = json.loads(sys.stdin.buffer.readline())
    for name in values["columns"]:
        values["columns"][name] = json.loads(sys.stdin.buffer.readline())
    # After these lines the parent writes no more: an end of file means that it is gone, and nothing may be published.
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(1)), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    values["taps"] = [TapLayout(tap["name"], tuple(tap["shape"]), tap["dtype"]) for tap in values["taps"]]
    values["numeric"] = [file_format.Column(each["name"], tuple(each["codes"])) for each in values["numeric"]]
    try:
        write(Publication(**values))
    except FeatureStoreError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
        os._exit(1)
    # A plain return would make the interpreter close standard input, which the thread above still reads.
    os._exit(0)


if __name__ == "__main__":
    _main()
