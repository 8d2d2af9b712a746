"""Stage 1: find out what is missing, run the backbones on that, publish."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
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
from featurestore.sources.opener import open_source
from featurestore.sources.samples import Dataset
from featurestore.spec import LAST, Augment, Decoder, Dtype, Engine, Interpolation, Pool, Precision, Resize
from featurestore.store import file_format
from featurestore.store.lock import store_lock
from featurestore.store.run_log import log
from featurestore.store.writer import remove_drafts
from featurestore.system.progress import Progress, reporting


def extract(
    source: str | os.PathLike[str] | Source,
    store: str | os.PathLike[str],
    *,
    backbone: str = backbones.DEFAULT,
    weights: str = "imagenet",
    size: int | None = None,
    pool: Pool | None = None,
    taps: Sequence[str] = (LAST,),
    preprocessing: str | None = None,
    resize: Resize | None = None,
    interpolation: Interpolation | None = None,
    crop_share: float | None = None,
    dtype: Dtype = "float32",
    views: int | None = None,
    augment: Augment | None = None,
    precision: Precision = "float32",
    decoder: Decoder = "pillow",
    engine: Engine = "auto",
    batch_size: int | None = None,
    prune: bool = False,
    rehash: bool = False,
    cluster: str | None = None,
    progress: bool | Progress | None = True,
    note: Note | None = None,
) -> Extraction:
    """Run a frozen backbone once over the images of `source`, and keep its features in a file in `store`.

    As :func:`extract_all`, which tells the arguments, with one backbone.

    Example:
        >>> from featurestore import FeatureStore, extract
        >>> done = extract("images", "store", backbone="small_cnn", weights="random", size=32, progress=False)
        >>> done.rows, done.computed, FeatureStore(done.path).features().shape
        (30, 30, (30, 256))
        >>> extract("images", "store", backbone="small_cnn", weights="random", size=32, progress=False).computed
        0
    """
    options = ExtractionOptions(
        size=size, pool=pool, taps=tuple(taps), preprocessing=preprocessing, resize=resize, interpolation=interpolation,
        crop_share=crop_share, dtype=dtype, views=views, augment=augment, precision=precision, decoder=decoder,
        engine=engine, batch_size=batch_size, prune=prune, rehash=rehash, cluster=cluster,
    )  # fmt: skip
    return _extract(source, Path(store), {backbone: weights}, options, progress, note)[0]


def extract_all(
    source: str | os.PathLike[str] | Source,
    store: str | os.PathLike[str],
    networks: Mapping[str, str],
    *,
    size: int | None = None,
    pool: Pool | None = None,
    taps: Sequence[str] = (LAST,),
    preprocessing: str | None = None,
    resize: Resize | None = None,
    interpolation: Interpolation | None = None,
    crop_share: float | None = None,
    dtype: Dtype = "float32",
    views: int | None = None,
    augment: Augment | None = None,
    precision: Precision = "float32",
    decoder: Decoder = "pillow",
    engine: Engine = "auto",
    batch_size: int | None = None,
    prune: bool = False,
    rehash: bool = False,
    cluster: str | None = None,
    progress: bool | Progress | None = True,
    note: Note | None = None,
) -> list[Extraction]:
    """Run frozen backbones once over the images of `source`; each image is read and decoded once for all of them.

    Only what is missing is computed: rows in the file already, in another file of the store made by the same spec,
    or in the journal of an interrupted run do not go through the backbone again.

    Args:
        source: a folder, manifest or ``.npz`` file, or what :func:`featurestore.open_source` returned.
        store: folder for the feature files, one per backbone; made if need be.
        networks: names of backbones, each with its weights (``imagenet``, ``random`` or a file).
        size, pool, taps, preprocessing, resize, interpolation, crop_share, dtype, views, augment, precision, decoder,
            engine, batch_size, prune, rehash, cluster: see :class:`featurestore.extraction.options.ExtractionOptions`.
        progress: True for bars or lines on standard error, False for nothing, or a function to call: see
            :func:`featurestore.system.progress.reporting`.
        note: called with a sentence when a run will take long.

    Raises:
        SourceError: nothing to extract in `source`.
        BackboneError, WeightsError, MissingDependencyError: see :func:`featurestore.backbones.load_backbone`.
        StoreLockedError: another process writes to the store.
        SpecMismatchError, CorruptFileError: a file in the way was made otherwise, or is damaged.
        DiskFullError: what is finished is kept, as with every other error.

    Example:
        >>> from featurestore import extract_all
        >>> networks = {"small_cnn": "random", "mobilenet:alpha=0.25": "random"}
        >>> [done.rows for done in extract_all("images", "store", networks, size=32, progress=False)]
        [30, 30]
    """
    options = ExtractionOptions(
        size=size, pool=pool, taps=tuple(taps), preprocessing=preprocessing, resize=resize, interpolation=interpolation,
        crop_share=crop_share, dtype=dtype, views=views, augment=augment, precision=precision, decoder=decoder,
        engine=engine, batch_size=batch_size, prune=prune, rehash=rehash, cluster=cluster,
    )  # fmt: skip
    return _extract(source, Path(store), networks, options, progress, note)


def _extract(
    source: str | os.PathLike[str] | Source,
    folder: Path,
    networks: Mapping[str, str],
    options: ExtractionOptions,
    progress: bool | Progress | None,
    note: Note | None,
) -> list[Extraction]:
    started = time.monotonic()
    requests = options.requests(networks)
    known = NetworkCache(requests, trust=not options.rehash)
    for request in requests:
        if known.recall(request) is None:
            backbones.check(request)
    if not isinstance(source, Source):
        source = open_source(source)
    with reporting(progress) as report, store_lock(folder) as lock, ExitStack() as opened:
        remove_drafts(folder)
        dataset = digested(source, folder, report, trust=not options.rehash)

        def planned(backbone: backbones.Outline) -> Job:
            spec = backbone.spec(options.dtype, options.decoder)
            plan = make_plan(folder, dataset, spec, prune=options.prune, views=options.views, augment=options.augment)
            opened.enter_context(plan.rows)
            plan.rows.check_shapes(backbone.shapes)
            return Job(backbone, spec, plan)

        later = opened.enter_context(ThreadPoolExecutor(1))  # networks are written down while they compute
        asked = {_job(request, known, source, planned, later): request for request in requests}
        works, timing = prepare(list(asked), source, options.batch_size, options.engine), Timing()
        if options.cluster is None:
            tallies, timing = compute(list(works.values()), source, report, note, disk_space(works))
        else:
            tallies = compute_on(options.cluster, works, [asked[job] for job in works], source, report)
        found = dict(zip(works, tallies, strict=True))
        how = started, timing.to_dict(), len(works)
        return [finish(job, found.get(job, Tally()), dataset, lock, *how) for job in asked]


def digested(source: Source, folder: Path, report: Progress | None = None, *, trust: bool = True) -> Dataset:
    """Return all images with their digests; those of files that did not change come from the store's cache.

    Args:
        source: of the images.
        folder: the store.
        report: called as ``report("reading", done, total)`` after every few images.
        trust: whether to use the cache.

    Raises:
        SourceError: not one image can be read.
    """
    stem = file_format.shortened(file_format.safe_name(source.name), file_format.MAX_STEM)
    cache = DigestCache(folder / f"{stem}.stamps", trust=trust)
    return source.dataset(report and (lambda done, total: report("reading", done, total)), cache=cache)


def _job(
    request: Request,
    known: NetworkCache,
    source: Source,
    planned: Callable[[backbones.Outline], Job],
    later: Executor,
) -> Job:
    """Plan one network's part of the run. The network is built only if there is something to compute."""
    outline = known.recall(request)
    job = planned(outline) if outline else None
    failures = unreadable_as_before(job.plan, job.spec, source) if job else None
    if job is not None and failures is not None:
        job = replace(job, failures=failures)
    else:
        network = known.network(request)
        if job is None or outline is None or network.facts() != outline.facts():
            if job is not None:
                job.plan.rows.close()
            job = planned(network)

        def keep(network: backbones.FrozenNetwork, engine: str) -> None:
            later.submit(known.keep, request, network, engine)

        job = replace(job, backbone=network, engine=known.engine(request), keep=keep)
    log(job.plan.target, "start", samples=len(job.plan.samples), missing=len(job.plan.missing))
    return job
