"""What a plan misses, computed by several processes or machines, through joblib's backends.

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
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from featurestore import backbones, engines
from featurestore.backbones import FrozenNetwork, Request
from featurestore.errors import FeatureStoreError, ImageError, SourceError, StoreError, WeightsError, missing, one_line
from featurestore.extraction.plan import Plan
from featurestore.extraction.run import Job, Progress, compute, prepare
from featurestore.sources.base import Source
from featurestore.sources.samples import Sample
from featurestore.spec import ExtractionSpec
from featurestore.store.finished_rows import Rows
from featurestore.store.journal import Journal, JournalHeader
from featurestore.system.children import safely

SHARDS_PER_WORKER, SHARD_BATCHES = 8, 32
"""Shards are small enough that workers end together, and that a worker that dies takes little with it."""

TRIES = 3
"""How often local processes are started anew after one of them died. (Dask counts for itself.)"""

CONNECT_SECONDS = 15


class Part(NamedTuple):
    """One backbone's part of a shard."""

    request: Request
    spec: ExtractionSpec
    header: JournalHeader
    plan: Plan


@dataclass(frozen=True)
class Shard:
    """One task. The `run` is the same for all shards of a run."""

    run: str
    source: Source
    parts: list[Part]


class Done(NamedTuple):
    """What became of a :class:`Part`."""

    journal: Path
    computed: int
    failures: dict[str, str]


def check(cluster: str) -> None:
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
    cluster: str,
    requests: Sequence[Request],
    jobs: Sequence[Job],
    source: Source,
    batch_size: int | None,
    engine: str,
    report: Progress,
) -> None:
    """As :func:`featurestore.extraction.run.compute`, on a cluster. Engine and batch size are decided here, for all
    workers.

    Args:
        cluster: a number of processes on this machine, or the address of a Dask scheduler.
        requests: how each job's backbone is built.

    Raises:
        StoreError: the cluster cannot be reached, or its workers die again and again; what is finished is kept.
    """
    asked = {id(job): request for job, request in zip(jobs, requests, strict=True)}
    busy = prepare(jobs, source, batch_size, engine)
    for _ in range(TRIES if busy else 0):
        try:
            with _backend(cluster) as workers:
                _run(busy, _shards(busy, [asked[id(job)] for job in busy], source, workers), report)
            break
        except BrokenExecutor:
            for job in busy:
                job.plan.adopt_journals(job.plan.worker_journals())
                job.plan.missing = {item.key for item in job.plan.order if item.key not in job.plan.rows}
    else:
        if busy:
            raise StoreError(
                f"{busy[0].plan.target}: processes died {TRIES} times (out of memory?): what is finished is kept; "
                "run the same command again with fewer of them"
            )


def _run(jobs: Sequence[Job], shards: Iterator[Shard], report: Progress) -> None:
    """Compute all shards, in whatever order, and take in their rows."""
    from joblib import Parallel, delayed

    total = sum(len(job.plan.order) for job in jobs)
    done = total - sum(len(job.plan.missing) for job in jobs)
    journals: list[set[Path]] = [set() for _ in jobs]
    report("extracting", done, total)
    tasks = (delayed(run_shard)(shard) for shard in shards)
    for results in Parallel(return_as="generator_unordered", batch_size=1)(tasks):
        for job, paths, result in zip(jobs, journals, results, strict=True):
            job.computed += result.computed
            job.failures.update(result.failures)
            paths.add(result.journal)
            done += result.computed + len(result.failures)
        report("extracting", done, total)
    for job, paths in zip(jobs, journals, strict=True):
        job.plan.adopt_journals(paths)
        lost = [i for i in job.plan.order if i.key not in job.plan.rows and i.sample.digest not in job.failures]
        if lost:
            raise StoreError(
                f"{job.plan.journal_path.parent}: {len(lost)} rows that workers have written are not to be seen here "
                f"(first: {lost[0].sample.id}): all machines must share this folder; run the same command again"
            )


@contextmanager
def _backend(cluster: str) -> Iterator[int]:
    """Make joblib use a cluster; gives the number of its workers."""
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


def _shards(jobs: Sequence[Job], requests: Sequence[Request], source: Source, workers: int) -> Iterator[Shard]:
    """Runs of whole batches that hold anything missing. All jobs are cut at the same batches: with one batch size and
    one order, the usual case, a shard decodes its images once for all of them.
    """
    run = uuid.uuid4().hex
    batches = max(-(-len(job.plan.order) // job.journal.header.batch_size) for job in jobs)
    length = min(SHARD_BATCHES, -(-batches // (SHARDS_PER_WORKER * workers)))
    for start in range(0, batches, length):
        parts, samples = [], {}
        for job, request in zip(jobs, requests, strict=True):
            size = job.journal.header.batch_size
            order = job.plan.order[start * size : (start + length) * size]
            needed = {item.key for item in order} & job.plan.missing
            samples.update({item.sample.digest: item.sample for item in order if item.key in needed})
            plan = replace(
                job.plan, target=job.plan.target.absolute(), previous=None, rows=Rows(), journal=None, samples=[],
                order=order, missing=needed,
            )  # fmt: skip
            parts.append(Part(backbones.anywhere(request), job.spec, job.journal.header, plan))
        if samples:
            yield Shard(run, source.part(list(samples.values())), parts)


# ------------------------------------------------------------------------------------------------- on a worker

_bench: dict[str, list[tuple[FrozenNetwork, engines.Compute, Journal]]] = {}
"""Networks, compiled, and journals of the run that this process works for."""
_one_at_a_time = threading.Lock()  # each shard uses all cores


def run_shard(shard: Shard) -> list[Done]:
    """The task: compute one shard and tell where its rows are."""
    with _one_at_a_time:
        if shard.run not in _bench:
            _bench.clear()
            _bench[shard.run] = [_set_up(part) for part in shard.parts]
        jobs = [
            Job(backbone, part.spec, replace(part.plan, journal=journal), compiled)
            for part, (backbone, compiled, journal) in zip(shard.parts, _bench[shard.run], strict=True)
        ]
        header = shard.parts[0].header
        compute(jobs, shard.source, header.batch_size, header.engine, lambda *_: None, lambda _: None)
    if all(job.failures for job in jobs) and not any(job.computed for job in jobs):
        _check_sees(shard.source, [item.sample for part in shard.parts for item in part.plan.order])
    return [Done(job.journal.path, job.computed, job.failures) for job in jobs]


def _set_up(part: Part) -> tuple[FrozenNetwork, engines.Compute, Journal]:
    """Build a network, which must be the same as where the run was planned, and open a journal for its rows."""
    here = f"worker {socket.gethostname()}, process {os.getpid()}"
    if not part.plan.journal_path.exists():
        raise StoreError(f"{here}: does not see {part.plan.journal_path}: all machines must share the store's folder")
    backbone = backbones.load(part.request)
    if backbone.weights_digest != part.spec.weights_digest:
        raise WeightsError(f"{here}: has other weights of {backbone.name}: give all machines the same file")
    producer = engines.producer(backbone, part.header.engine)
    if producer != part.header.producer:
        raise StoreError(f"{here}: has {producer}, not {part.header.producer}: install the same versions")
    path = part.plan.journal_path.with_suffix(f".{uuid.uuid4().hex[:12]}{part.plan.journal_path.suffix}")
    return backbone, engines.compile_backbone(backbone, part.header.engine), Journal.create(path, part.header)


def _check_sees(source: Source, samples: Sequence[Sample]) -> None:
    """That no image of a shard can be read means another thing than damaged images."""
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
