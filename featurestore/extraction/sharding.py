"""Data sets of more images than one feature file should have: shard by shard, here or on a cluster.

Each shard is a data set of its own: it is read, planned, computed, resumed and published like any other, under a lock
of its own, so that memory does not grow with the whole, and tasks on several machines need nothing but the store. What
concerns all images is decided without a look at the others: the partition says which shard an image belongs to, and a
hash of its group or content says its split. The index of the folder is written by whoever publishes the last shard.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featurestore import backbones
from featurestore.backbones import Request
from featurestore.errors import AddressError, SourceError, StoreError
from featurestore.extraction import partition
from featurestore.extraction.cluster import TRIES, backend, died
from featurestore.extraction.options import ExtractionOptions
from featurestore.extraction.partition import SHARD_ROWS, Partition
from featurestore.extraction.publishing import Extraction, together
from featurestore.extraction.runner import Runner, digested
from featurestore.sources.base import Source
from featurestore.sources.columns import Samples
from featurestore.sources.groups import divided
from featurestore.sources.samples import Dataset
from featurestore.sources.splits import DUPLICATE, hashed_splits
from featurestore.spec import ExtractionSpec
from featurestore.store import file_format, shards
from featurestore.store.lock import PATIENCE_SECONDS, store_lock
from featurestore.store.place import Place
from featurestore.store.reader import FeatureStore
from featurestore.store.writer import remove_drafts
from featurestore.system.progress import Progress

CLUSTER_PATIENCE = 600.0
"""Seconds that a worker waits for one that still computes the same shard for a run whose client is gone."""


@dataclass(frozen=True, eq=False)
class Task:
    """One shard to be computed.

    Attributes:
        run_id: the same for all shards of a run.
        source: that lists the images of the shard.
        number: of the shard.
        store: its folder, or address.
        requests: how each network is built.
        options: of the run.
        known: splits that images and groups have already, by digest and by group; None if the source gives the splits.
        patience: seconds to wait for whoever else computes the shard.
    """

    run_id: str
    source: Source
    number: int
    store: str
    requests: list[Request]
    options: ExtractionOptions
    known: Mapping[str, str] | None
    patience: float = PATIENCE_SECONDS


def is_divided(source: Source, place: Place, options: ExtractionOptions) -> bool:
    """Tell whether a data set is to be a folder of shards: since it is too large for one file, or is one already."""
    listing = source.listing()
    if listing.partial:
        return False
    if len(listing.samples) > (options.shard_rows or SHARD_ROWS) or options.shard is not None:
        return True
    path = _partition_path(place.folder, listing)
    place.pull(path)
    return path.is_file()


def extract_shards(
    source: Source,
    place: Place,
    options: ExtractionOptions,
    requests: Sequence[Request],
    runner: Runner,
    report: Progress | None,
) -> list[Extraction]:
    """Do as :func:`featurestore.extract_all`, for a data set that is a folder of shards.

    Raises:
        SourceError: no image can be read.
        StoreError: rows would be lost, and the options do not allow it.
    """
    started, listing = time.monotonic(), source.listing()
    samples = listing.samples if isinstance(listing.samples, Samples) else Samples.of(listing.samples)
    with store_lock(place.folder):
        path = _partition_path(place.folder, listing)
        place.pull(path)
        whole, numbers = _divided(path, listing, samples, options)
        place.push(path)
    part, parts = options.turn()
    wanted = np.unique(numbers).tolist()
    order, ordered, run_id = np.argsort(numbers, kind="stable"), np.sort(numbers), uuid.uuid4().hex
    kept = None if any(samples.splits.names) else _kept_splits(place.folder, listing.name, whole)

    def tasks() -> Iterator[Task]:
        for number in (each for each in wanted if each % parts == part):
            places = order[slice(*np.searchsorted(ordered, [number, number + 1]))]
            some = source.narrowed(samples.take(places), rest=number == wanted[0])
            yield Task(run_id, some, number, place.name, list(requests), options, kept)

    if options.cluster is None:
        results = _here(tasks(), runner, len(samples), report)
    else:
        results = _on(options.cluster, lambda: map(_elsewhere, tasks()), len(samples), report)
    gone = sorted(set(range(whole.count)) - set(wanted))
    found = []
    for of_one in zip(*results, strict=True):
        names = sorted({result.path.parent.name for result in of_one})
        if len(names) > 1:
            raise StoreError(f"{place.name}: workers have other weights: {', '.join(names)}")
        notes = _indexed(place, names[0], wanted, gone, options)
        result = together(of_one, place.folder / names[0])
        seconds = round(time.monotonic() - started, 3)
        found.append(replace(result, notes=[*result.notes, *notes], seconds=seconds))
    return found


def _divided(
    path: Path, listing: Dataset, samples: Samples, options: ExtractionOptions
) -> tuple[Partition, NDArray[np.int64]]:
    """Give each image its shard. The caller holds the store's lock.

    Returns:
        The partition, which is saved, and the number of each sample's shard (N,).
    """
    folder, keys = path.parent, partition.hashes(samples.ids)
    there = partition.read(path)
    found = there or _of_file(folder, listing)
    if options.shard_rows:
        found = replace(found, shard_rows=options.shard_rows)
    grown = found.with_images(keys)
    if (parts := options.turn()[1]) > grown.count:
        raise StoreError(
            f"{folder}: {len(samples):,} images are {grown.count} files of up to {grown.shard_rows:,}, fewer than "
            f"{parts} parts: pass --shard-rows {max(1, -(-len(samples) // parts))}, or divide the work less"
        )
    if there is None or (there.shard_rows, len(there.keys)) != (grown.shard_rows, len(grown.keys)):
        grown.save(path)
    _move_files(folder, listing, grown)
    return grown, grown.find(keys)[0]


def _partition_path(folder: Path, listing: Dataset) -> Path:
    return folder / f"{file_format.dataset_stem(listing.name)}.partition"


def _undivided(folder: Path, listing: Dataset) -> Iterator[tuple[Path, list[str]]]:
    """Give the files of a data set from when it was one file for each network, and the ids of their rows."""
    for path in sorted(folder.glob(f"{file_format.safe_name(listing.name)}--*{file_format.SUFFIX}")):
        file = FeatureStore(path)
        ids = file.ids.tolist() if file.dataset == listing.name else []
        file.close()
        if ids:
            yield path, ids


def _of_file(folder: Path, listing: Dataset) -> Partition:
    """Return the partition of a data set that is not divided yet: the images of its file, if it has one, in shard 0."""
    for _, ids in _undivided(folder, listing):
        return partition.taken_over(ids, SHARD_ROWS)
    return Partition()


def _move_files(folder: Path, listing: Dataset, whole: Partition) -> None:
    """Make files that hold images of shard 0 alone this shard. Others stay, and their rows are found by their digests.

    The partition is saved before, so that a killed run can be gone on with.
    """
    for path, ids in _undivided(folder, listing) if whole.taken else ():
        target = shards.shard_path(path.with_name(path.name.removesuffix(file_format.SUFFIX) + file_format.SHARDS), 0)
        shard, there = whole.find(partition.hashes(ids))
        if there.all() and not shard.any() and not target.exists():
            target.parent.mkdir(exist_ok=True)
            path.replace(target)


def _kept_splits(folder: Path, name: str, whole: Partition) -> Mapping[str, str]:
    """Return the splits that images and groups had while the data set was one file, by digest and by group."""
    kept: dict[str, str] = {}
    for path in sorted(folder.glob(f"*{file_format.SHARDS}/{shards.shard_path(Path(), 0)}")) if whole.taken else ():
        file = FeatureStore(path)
        if file.dataset == name:
            columns = map(file.texts, (file_format.DIGEST, file_format.GROUP, file_format.SPLIT))
            for digest, group, split in zip(*columns, strict=True):
                if split != DUPLICATE:
                    kept[digest] = split
                    kept[group] = split
            break
    kept.pop("", None)
    return kept


# ------------------------------------------------------------------------------------------------------ computing


def compute_shard(task: Task, runner: Runner, report: Progress | None = None) -> list[Extraction]:
    """Compute and publish one shard, for each network.

    Raises:
        SourceError: none of its images can be read.
        StoreLockedError: somebody else computes it.
    """
    place = Place.of(task.store)
    dataset = digested(task.source, place.folder, report, trust=not task.options.rehash, part=f".{task.number:05d}")
    if task.known is not None:
        dataset = replace(dataset, samples=hashed_splits(dataset.samples, task.known))
    held: dict[Path, int] = {}
    with ExitStack() as locks:

        def placed(spec: ExtractionSpec) -> tuple[Path, int]:
            folder = place.folder / f"{file_format.file_stem(dataset.name, spec)}{file_format.SHARDS}"
            target = shards.shard_path(folder, task.number)
            if target not in held:  # a network that turns out to be another one than was recalled is planned twice
                held[target] = locks.enter_context(store_lock(folder, f"{target.stem}.lock", task.patience))
                remove_drafts(folder, target.stem)
                place.pull(target)
            return target, held[target]

        results = runner.run(task.source, dataset, placed, report)
        for result in results if place.address else ():
            place.push(result.path)
            place.push(shards.write_entry(result.path))
        return results


def _here(tasks: Iterator[Task], runner: Runner, total: int, report: Progress | None) -> list[list[Extraction]]:
    """Compute shards one after the other. One whose images can all not be read is passed over: the next run tries it
    again.
    """
    results: list[list[Extraction]] = []
    unreadable: list[str] = []
    before = 0
    for task in tasks:
        count = len(task.source.listing().samples)
        try:
            results.append(compute_shard(task, runner, report and _after(report, before, total)))
        except AddressError:  # a server that is down, or a store that cannot be written
            raise
        except SourceError as error:
            unreadable.append(str(error))
        before += count
    if unreadable and results:
        first = results[0][0]
        results[0] = [replace(first, notes=[*first.notes, *unreadable]), *results[0][1:]]
    elif unreadable:
        raise SourceError(unreadable[0])
    return results


def _after(report: Progress, before: int, total: int) -> Progress:
    """Count what is done of one shard as done of the whole."""
    return lambda stage, done, _: report(stage, before + done, total)


def _on(
    cluster: str, tasks: Callable[[], Iterator[Task]], total: int, report: Progress | None
) -> list[list[Extraction]]:
    """Compute shards on a cluster, in whatever order. What a worker has finished of a shard stays in its journal."""
    from joblib import Parallel, delayed

    for _ in range(TRIES):
        results: list[list[Extraction]] = []
        done = 0
        try:
            with backend(cluster):
                parallel = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
                for count, result in parallel(delayed(_on_worker)(task) for task in tasks()):
                    results.append(result)
                    done += count
                    if report:
                        report("extracting", done, total)
            return results
        except BrokenExecutor:
            continue
    raise died(cluster)


def _elsewhere(task: Task) -> Task:
    """Return a task that another process, or machine, can compute."""
    listed, source = task.source.listing(), task.source
    part = source.part(list(listed.samples))
    part.relist(listed)
    return replace(
        task,
        source=part,
        requests=[backbones.anywhere(request) for request in task.requests],
        options=replace(task.options, cluster=None),
        patience=CLUSTER_PATIENCE,
    )


_runners: dict[str, Runner] = {}
"""What this process has built for the run that it works for."""
_one_at_a_time = threading.Lock()  # each shard uses all cores


def _on_worker(task: Task) -> tuple[int, list[Extraction]]:
    """Compute a shard that another process has asked for, and tell how many images it has."""
    with _one_at_a_time:
        if task.run_id not in _runners:
            _runners.clear()
            _runners[task.run_id] = Runner(Place.of(task.store).folder, task.requests, task.options)
        result = compute_shard(task, _runners[task.run_id])
    return len(task.source.listing().samples), result


# ------------------------------------------------------------------------------------------------------ the index


def _indexed(
    place: Place, name: str, wanted: Sequence[int], gone: Sequence[int], options: ExtractionOptions
) -> list[str]:
    """Write the index of a folder, if all its shards are there, and return notes for people.

    Args:
        place: the store.
        name: of the folder of the shards.
        wanted: numbers of all shards that have images.
        gone: numbers of those whose images the source no longer holds.
        options: of the run.

    Raises:
        StoreError: a shard has rows of images that are gone, and they may not be dropped.
    """
    folder = place.folder / name
    # At an address there is a note of each shard: the shards themselves may be on other machines.
    path_of = shards.entry_path if place.address else shards.shard_path
    with store_lock(folder, "index.lock"):
        for number in [*wanted, *gone]:
            place.pull(path_of(folder, number))
        for path in (path_of(folder, number) for number in gone):
            if path.exists() and not options.prune:
                raise StoreError(
                    f"{path}: the source holds none of its images any more: pass --prune to drop it, or --name to "
                    "write another folder"
                )
            if not place.address:
                path.unlink(missing_ok=True)
        there = [number for number in wanted if path_of(folder, number).exists()]
        if len(there) < len(wanted) and options.shard:
            return [f"{len(there)} of {len(wanted)} files are there: the folder is read when all are"]
        if place.address:
            place.push(shards.write_index_of_entries(folder, there))
            return [f"the folder is at {place.address}/{name}"]
        repeated = shards.write_index(folder, max(wanted) + 1)
    file = FeatureStore(folder)
    placed = zip(file.texts(file_format.GROUP), file.texts(file_format.SPLIT), strict=True)
    notes = divided(placed) if file.grouped else []
    if repeated:
        notes.append(
            f"{repeated:,} images also stand in a stronger split of another shard: left out (split 'duplicate')"
        )
    return notes
