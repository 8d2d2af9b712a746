"""What plans miss, computed by several processes or machines, through joblib's backends.

Rows are cut into shards, runs of whole batches, and each shard is one task. A worker builds the networks once, runs
its shards by the same code as a single process, and appends to journals of its own in the store that all share. A task
whose worker died runs again on another one. Its rows may then stand in two journals; the file takes them once, in the
order of the plan. Only the process that planned holds the store's lock, and it alone publishes.
"""

import logging
import os
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from featurestore import backbones, engines
from featurestore.backbones import Request
from featurestore.errors import FeatureStoreError, ImageError, SourceError, StoreError, WeightsError, missing, one_line
from featurestore.extraction.job import Job, batch_size_for
from featurestore.extraction.plan import Item
from featurestore.extraction.run import Tally, Work, compute
from featurestore.images.decode import libraries
from featurestore.sources.base import Source
from featurestore.sources.samples import Sample
from featurestore.spec import ExtractionSpec
from featurestore.store.journal import Journal, JournalHeader, journal_path, new_worker_journal, worker_journals
from featurestore.system.children import safely
from featurestore.system.progress import Progress

SHARDS_PER_WORKER, SHARD_BATCHES = 8, 32
"""Shards are small enough that workers end together, and that a worker that dies takes little with it."""

TRIES = 3
"""How often local processes are started anew after one of them died. (Dask counts for itself.)"""

CONNECT_SECONDS = 15


@dataclass(frozen=True, kw_only=True)
class ShardPart:
    """What one network has to compute in a shard.

    Attributes:
        request: how the network is built.
        spec, preset, order, missing: see :class:`featurestore.extraction.run.Work`.
        header: of the journal of the process that planned, and so of every worker's.
        target: the feature file to be, beside which the journals lie.
    """

    request: Request
    spec: ExtractionSpec
    preset: str
    order: list[Item]
    missing: set[str]
    header: JournalHeader
    target: Path


@dataclass(frozen=True)
class Shard:
    """One task.

    Attributes:
        run_id: the same for all shards of a run.
        source: of the images that the shard needs.
        parts: one for each network.
    """

    run_id: str
    source: Source
    parts: list[ShardPart]


@dataclass(frozen=True)
class ShardResult:
    """What a worker has done of a :class:`ShardPart`, and the journal that holds its rows."""

    journal: Path
    computed: int
    failures: dict[str, str]


def check_cluster(cluster: str) -> None:
    """Say what is wrong with the name of a cluster before anything slow begins.

    Raises:
        FeatureStoreError: neither a number nor an address.
        MissingDependencyError: Dask is not installed.
    """
    if not cluster.isdecimal() and "://" not in cluster:
        raise FeatureStoreError(
            f"cluster {cluster!r}: give a number of processes, or the address of a Dask scheduler such as "
            "tcp://host:8786"
        )
    if not cluster.isdecimal() and not (find_spec("dask") and find_spec("distributed")):
        raise missing(f"extracting on {cluster}", "Dask", "cluster")


def compute_on(
    cluster: str, works: Mapping[Job, Work], requests: Sequence[Request], source: Source, report: Progress | None
) -> list[Tally]:
    """Do as :func:`featurestore.extraction.run.compute`, on a cluster; its workers use the engine of each journal.

    Args:
        cluster: a number of processes on this machine, or the address of a Dask scheduler.
        works: what is to be computed for each job.
        requests: how each network is built, in the same order.
        source: of all images.
        report: called after each shard.

    Raises:
        StoreError: the cluster cannot be reached, or its workers die again and again; what is finished is kept.
    """
    tallies = [Tally() for _ in works]
    if not works:
        return tallies
    for _ in range(TRIES):
        try:
            with backend(cluster) as workers:
                shards = _shards(works, requests, source, workers)
                _run(works, shards, tallies, report)
            return tallies
        except BrokenExecutor:
            works = {job: _what_is_left(job, work) for job, work in works.items()}
    raise died(str(next(iter(works)).plan.target))


def died(where: str) -> StoreError:
    """Return the error of a run whose processes died again and again."""
    return StoreError(
        f"{where}: processes died {TRIES} times (out of memory?): what is finished is kept; run the same command again "
        "with fewer of them"
    )


def _what_is_left(job: Job, work: Work) -> Work:
    """Take in the rows of workers that have died, and give what is still missing."""
    rows = job.plan.rows
    rows.adopt(worker_journals(job.plan.target), work.journal.header)
    return replace(work, missing={item.key for item in work.order if item.key not in rows})


def _run(works: Mapping[Job, Work], shards: Iterator[Shard], tallies: Sequence[Tally], report: Progress | None) -> None:
    """Compute all shards, in whatever order, count their rows and take them in."""
    from joblib import Parallel, delayed

    total = sum(len(work.order) for work in works.values())
    done = total - sum(len(work.missing) for work in works.values())
    journals: list[set[Path]] = [set() for _ in works]
    if report:
        report("extracting", done, total)
    tasks = (delayed(run_shard)(shard) for shard in shards)
    for results in Parallel(return_as="generator_unordered", batch_size=1)(tasks):
        for tally, paths, result in zip(tallies, journals, results, strict=True):
            tally.add(result.computed, result.failures)
            paths.add(result.journal)
            done += result.computed + len(result.failures)
        if report:
            report("extracting", done, total)
    for (job, work), paths, tally in zip(works.items(), journals, tallies, strict=True):
        rows = job.plan.rows
        rows.adopt(paths, work.journal.header)
        lost = [i for i in work.order if i.key not in rows and i.sample.digest not in tally.failures]
        if lost:
            raise StoreError(
                f"{job.plan.target.parent}: {len(lost)} rows that workers have written are not to be seen here "
                f"(first: {lost[0].sample.id}): all machines must share this folder; run the same command again"
            )


@contextmanager
def backend(cluster: str) -> Iterator[int]:
    """Make joblib use a cluster, and give the number of its workers."""
    from joblib import parallel_config

    if cluster.isdecimal():
        with safely(), parallel_config("loky", n_jobs=int(cluster)):
            yield int(cluster)
        return
    from dask.distributed import CancelledError, Client, KilledWorker

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong is said once, by the error below

    try:
        client = Client(cluster, timeout=CONNECT_SECONDS, set_as_default=False)
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        raise StoreError(
            f"{cluster}: no Dask cluster with workers there ({error}): start  dask scheduler  on that machine and  "
            f"dask worker {cluster}  on all that are to work"
        ) from error
    try:
        with client, parallel_config("dask", client=client, n_jobs=-1):
            yield len(client.nthreads())
    except (KilledWorker, CancelledError) as error:
        raise StoreError(
            f"{cluster}: the cluster was lost, or its workers died over the same images ({one_line(error)}): what is "
            "finished is kept; see to their memory and the network, and run the same command again"
        ) from error


def _shards(works: Mapping[Job, Work], requests: Sequence[Request], source: Source, workers: int) -> Iterator[Shard]:
    """Give the shards that hold anything missing. All jobs are cut at the same batches: with one batch size and one
    order, the usual case, a shard decodes its images once for all of them.
    """
    run_id = uuid.uuid4().hex
    batches = max(-(-len(work.order) // work.journal.header.batch_size) for work in works.values())
    length = min(SHARD_BATCHES, -(-batches // (SHARDS_PER_WORKER * workers)))
    for start in range(0, batches, length):
        parts, samples = [], {}
        for (job, work), request in zip(works.items(), requests, strict=True):
            size = work.journal.header.batch_size
            order = work.order[start * size : (start + length) * size]
            needed = {item.key for item in order} & work.missing
            samples.update({item.sample.digest: item.sample for item in order if item.key in needed})
            parts.append(
                ShardPart(
                    request=backbones.anywhere(request), spec=work.spec, preset=work.preset, order=order,
                    missing=needed, header=work.journal.header, target=job.plan.target.absolute(),
                )
            )  # fmt: skip
        if samples:
            yield Shard(run_id, source.part(list(samples.values())), parts)


# ------------------------------------------------------------------------------------------------- on a worker

_bench: dict[str, list[tuple[engines.Compute, Journal]]] = {}
"""The compiled networks, and the journals, of the run that this process works for."""
_one_at_a_time = threading.Lock()  # each shard uses all cores


def run_shard(shard: Shard) -> list[ShardResult]:
    """Compute one shard, and tell where its rows are."""
    with _one_at_a_time:
        if shard.run_id not in _bench:
            _bench.clear()
            compiler, built = engines.Compiler(), dict[Request, backbones.FrozenNetwork]()
            _bench[shard.run_id] = [_set_up(part, compiler, built) for part in shard.parts]
        works = [
            Work(part.spec, part.preset, part.order, part.missing, compiled, journal)
            for part, (compiled, journal) in zip(shard.parts, _bench[shard.run_id], strict=True)
        ]
        tallies, _ = compute(works, shard.source)
    if all(tally.failures for tally in tallies) and not any(tally.rows for tally in tallies):
        _check_sees(shard.source, [item.sample for part in shard.parts for item in part.order])
    return [
        ShardResult(work.journal.path, tally.rows, tally.failures) for work, tally in zip(works, tallies, strict=True)
    ]


def _set_up(
    part: ShardPart, compiler: engines.Compiler, built: dict[Request, backbones.FrozenNetwork]
) -> tuple[engines.Compute, Journal]:
    """Build a network, unless it is `built` already for another framing, and open a journal for its rows.

    It must be the same as where the run was planned.
    """
    here = f"worker {socket.gethostname()}, process {os.getpid()}"
    planned = journal_path(part.target)
    if not planned.exists():
        raise StoreError(f"{here}: does not see {planned}: all machines must share the store's folder")
    batch_size_for(part.header.taps, part.header.batch_size)
    plain = part.request.network
    if plain not in built:
        built[plain] = backbones.load(part.request)
    backbone = backbones.framed(built[plain], part.request)
    if backbone.weights_digest != part.spec.weights_digest:
        raise WeightsError(f"{here}: has other weights of {backbone.name}: give all machines the same file")
    producer = engines.producer(backbone, part.header.engine, libraries(part.spec.decoder))
    if producer != part.header.producer:
        raise StoreError(f"{here}: has {producer}, not {part.header.producer}: install the same versions")
    _, compiled = compiler.compiled(backbone, part.header.engine)
    return compiled, Journal.create(new_worker_journal(part.target), part.header)


def _check_sees(source: Source, samples: Sequence[Sample]) -> None:
    """Check that a worker can read the images at all: if it can read none of a shard, they are hardly all damaged."""
    reason: Any = None
    for sample in samples:
        try:
            source.read(sample)
            return
        except ImageError as error:
            reason = error
    raise SourceError(
        f"worker {socket.gethostname()}: cannot read {samples[0].path} ({reason}): all machines must see the images "
        "under the same path"
    )
