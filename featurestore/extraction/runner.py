"""One feature file for each network, from images that are listed to files that are published."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from featurestore import backbones
from featurestore.backbones import Request
from featurestore.backbones.network_cache import NetworkCache
from featurestore.extraction.cluster import compute_on
from featurestore.extraction.job import Job, disk_space, prepare, unreadable_as_before
from featurestore.extraction.options import ExtractionOptions
from featurestore.extraction.plan import make_plan
from featurestore.extraction.publishing import Extraction, finish
from featurestore.extraction.run import Note, Tally, compute
from featurestore.extraction.timing import Timing
from featurestore.sources.base import Source
from featurestore.sources.digest_cache import DigestCache
from featurestore.sources.samples import Dataset
from featurestore.spec import ExtractionSpec
from featurestore.store import file_format
from featurestore.store.run_log import log
from featurestore.system.progress import Progress

Placed = Callable[[ExtractionSpec], tuple[Path, int]]
"""From a spec to the feature file to be, and the handle of the lock under which it is written."""


class Runner:
    """Runs networks over data sets. What it has built serves for the next one too.

    Args:
        folder: the store.
        requests: how each network is built.
        options: of the run.
        note: called with a sentence when a run will take long.

    Raises:
        BackboneError, WeightsError, MissingDependencyError: see :func:`featurestore.backbones.load_backbone`.
    """

    def __init__(
        self, folder: Path, requests: Sequence[Request], options: ExtractionOptions, note: Note | None = None
    ) -> None:
        self._folder, self._requests, self._options, self._note = folder, requests, options, note
        self._known = NetworkCache(requests, trust=not options.rehash)
        self._built: dict[Request, backbones.FrozenNetwork] = {}
        for request in requests:
            if self._known.recall(request) is None:
                backbones.check(request)

    def run(
        self, source: Source, dataset: Dataset, placed: Placed, report: Progress | None, cluster: str | None = None
    ) -> list[Extraction]:
        """Compute what is missing of a data set, and publish one file for each network.

        Args:
            source: of the images.
            dataset: all of them, with digests.
            placed: says where the files are written.
            report: of progress.
            cluster: see :mod:`featurestore.extraction.cluster`; None for this process alone.
        """
        started, options = time.monotonic(), self._options
        with ExitStack() as opened:

            def planned(backbone: backbones.Outline) -> Job:
                spec = backbone.spec(options.dtype, options.decoder)
                target, lock = placed(spec)
                views = options.views, options.augment
                plan = make_plan(target, self._folder, dataset, spec, options.prune, *views)
                opened.enter_context(plan.rows)
                plan.rows.check_shapes(backbone.shapes)
                return Job(backbone, spec, plan, lock)

            later = opened.enter_context(ThreadPoolExecutor(1))  # networks are written down while they compute
            asked = {self._job(request, source, planned, later): request for request in self._requests}
            works, timing = prepare(list(asked), source, options.batch_size, options.engine), Timing()
            if cluster is None:
                tallies, timing = compute(list(works.values()), source, report, self._note, disk_space(works))
            else:
                tallies = compute_on(cluster, works, [asked[job] for job in works], source, report)
            found = dict(zip(works, tallies, strict=True))
            how = started, timing.to_dict(), len(works)
            return [finish(job, found.get(job, Tally()), dataset, *how) for job in asked]

    def _job(
        self, request: Request, source: Source, planned: Callable[[backbones.Outline], Job], later: Executor
    ) -> Job:
        """Plan one network's part of the run. The network is built only if there is something to compute."""
        outline = self._built.get(request) or self._known.recall(request)
        job = planned(outline) if outline else None
        failures = unreadable_as_before(job.plan, job.spec, source) if job else None
        if job is not None and failures is not None:
            job = replace(job, failures=failures)
        else:
            network = self._network(request)
            if job is None or outline is None or network.facts() != outline.facts():
                if job is not None:
                    job.plan.rows.close()
                job = planned(network)

            def keep(network: backbones.FrozenNetwork, engine: str) -> None:
                later.submit(self._known.keep, request, network, engine)

            job = replace(job, backbone=network, engine=self._known.engine(request), keep=keep)
        log(job.plan.target, "start", samples=len(job.plan.samples), missing=len(job.plan.missing))
        return job

    def _network(self, request: Request) -> backbones.FrozenNetwork:
        """Return the network for a request; one that is built already for another framing serves for this one too."""
        if request not in self._built:
            alike = (network for other, network in self._built.items() if other.network == request.network)
            self._built[request] = self._known.network(request, next(alike, None))
        return self._built[request]


def digested(
    source: Source, folder: Path, report: Progress | None = None, *, trust: bool = True, part: str = ""
) -> Dataset:
    """Return all images with their digests; those of files that did not change come from the store's cache.

    Args:
        source: of the images.
        folder: the store.
        report: called as ``report("reading", done, total)`` after every few images.
        trust: whether to use the cache.
        part: of the data set that the source holds, which has a cache of its own.

    Raises:
        SourceError: not one image can be read.
    """
    cache = DigestCache(folder / f"{file_format.dataset_stem(source.name, len(part))}{part}.stamps", trust=trust)
    return source.dataset(report and (lambda done, total: report("reading", done, total)), cache=cache)
