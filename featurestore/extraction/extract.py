"""Stage 1: find out what is missing, run the backbones on that, publish."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from featurestore import backbones, engines
from featurestore.backbones import Request
from featurestore.backbones.outline_cache import Memo
from featurestore.errors import BackboneError, SourceError, suggest
from featurestore.extraction.cluster import check as check_cluster
from featurestore.extraction.cluster import compute_on
from featurestore.extraction.plan import Plan, make_plan
from featurestore.extraction.run import Job, Note, Progress, compute, nothing_to_compute
from featurestore.extraction.timing import Timing
from featurestore.images import augment as augmentation
from featurestore.sources.base import Source, open_source
from featurestore.sources.digest_cache import DigestCache
from featurestore.sources.samples import Dataset, Failure, Sample
from featurestore.sources.splits import split_table
from featurestore.spec import DECODERS, DTYPES, LAST, RESIZES, Decoder, Dtype, Pool, Precision, Resize
from featurestore.store import file_format
from featurestore.store.lock import store_lock
from featurestore.store.reader import FeatureStore
from featurestore.store.writer import Publication, publish, remove_drafts
from featurestore.system.files import open_own


@dataclass(frozen=True)
class Extraction:
    """What :func:`extract` did.

    Attributes:
        path: the feature file.
        rows: rows in it.
        views: augmented versions of training rows in it.
        computed: rows and views that went through the backbone now.
        resumed: those that an interrupted run had finished.
        copied: those taken from other data sets of the same store.
        failures: inputs that gave no row.
        skipped: files that were passed over, by reason.
        notes: what the splits had to decide.
        classes: rows per class and split.
        seconds: wall time, of all backbones of the run together.
        timing: where those of the loop over the images went, see :meth:`featurestore.extraction.timing.Timing.to_dict`;
            all 0 on a cluster.
        written: False if the file already was as it should be.
    """

    path: Path
    rows: int
    views: int
    computed: int
    resumed: int
    copied: int
    failures: list[Failure]
    skipped: dict[str, int]
    notes: list[str]
    classes: dict[str, dict[str, int]]
    seconds: float
    timing: dict[str, float]
    written: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "path": str(self.path)}


def extract(
    source: str | os.PathLike[str] | Source,
    store: str | os.PathLike[str],
    *,
    backbone: str = backbones.DEFAULT,
    weights: str = "imagenet",
    **options: Any,
) -> Extraction:
    """Run a frozen backbone once over the images of `source`, and keep its features in a file in `store`.

    As :func:`extract_all` with one backbone.
    """
    return extract_all(source, store, {backbone: weights}, **options)[0]


def extract_all(
    source: str | os.PathLike[str] | Source,
    store: str | os.PathLike[str],
    networks: Mapping[str, str],
    *,
    size: int | None = None,
    pool: Pool = "avg",
    taps: Sequence[str] = (LAST,),
    preprocessing: str | None = None,
    resize: Resize = "squash",
    dtype: Dtype = "float32",
    views: int | None = None,
    augment: str | None = None,
    precision: Precision = "float32",
    decoder: Decoder = "pillow",
    engine: str = engines.AUTO,
    batch_size: int | None = None,
    prune: bool = False,
    rehash: bool = False,
    cluster: str | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> list[Extraction]:
    """Run frozen backbones once over the images of `source`; each image is read and decoded once for all of them.

    Only what is missing is computed: rows in the file already, in another file of the store made by the same spec,
    or in the journal of an interrupted run do not go through the backbone again.

    Args:
        source: a folder, manifest or ``.npz`` file, or what :func:`featurestore.sources.base.open_source` returned.
        store: folder for the feature files, one per backbone; made if need be.
        networks: names of backbones, each with its weights.
        size, pool, taps, preprocessing: see :func:`featurestore.backbones.load_backbone`.
        resize: ``squash`` to a square, ``crop`` the centre, or ``pad`` with black.
        dtype: of the stored features.
        views: augmented versions of each training image, kept beside it. By default as many as the file has.
        augment: what they look like, one of :data:`featurestore.images.augment.PRESETS`; ``mild`` by default.
        precision: that networks compute in: ``float32``, ``bfloat16`` or ``float16``.
        decoder: ``pillow``, or ``draft``: see :func:`featurestore.images.decode.decode_sizes`.
        engine: ``keras``, ``openvino``, or ``auto``: that of the rows which are there, else the faster one.
        batch_size: images per forward pass; by default what suits the machine. An interrupted run is resumed with the
            size and engine that it began with.
        prune: drop rows of images that the source no longer holds, instead of refusing to.
        rehash: read all files, also those that look unchanged by their size, times and inode, and build every network.
        cluster: a number of processes on this machine, or the address of a Dask scheduler, see
            :mod:`featurestore.extraction.cluster`. By default this process computes alone.
        progress: called after each step.
        note: called with a sentence when a run will take long.

    Raises:
        SourceError: nothing to extract in `source`.
        BackboneError, WeightsError, MissingDependencyError: see ``load_backbone``.
        StoreLockedError: another process writes to the store.
        SpecMismatchError, CorruptFileError: a file in the way was made otherwise, or is damaged.
        DiskFullError: what is finished is kept, as with every other error.
    """
    started = time.monotonic()
    report = progress or (lambda stage, done, total: None)
    folder, trust = Path(store), not rehash
    requests = [
        Request(name, weights, size, pool, tuple(taps), preprocessing, precision) for name, weights in networks.items()
    ]
    memo = Memo(folder, requests, trust=trust)
    for request in requests:
        if memo.recall(request) is None:
            backbones.check(request)
    _check_options(resize, dtype, decoder, engine, batch_size, views, augment)
    if cluster is not None:
        check_cluster(cluster)
    if not isinstance(source, Source):
        source = open_source(source)
    with store_lock(folder) as lock, ExitStack() as opened:
        remove_drafts(folder)
        stem = file_format.shortened(file_format.safe_name(source.name), file_format.MAX_STEM)
        cache = DigestCache(folder / f"{stem}.stamps", trust=trust)
        dataset = source.dataset(lambda done, total: report("reading", done, total), cache=cache)

        def job_of(backbone: backbones.Outline) -> Job:
            spec = backbone.spec(resize, dtype, decoder)
            plan = make_plan(folder, dataset, spec, prune=prune, views=views, augment=augment)
            opened.enter_context(plan.rows)
            plan.rows.check_shapes(backbone.shapes)
            return Job(backbone, spec, plan)

        jobs = [_job(request, memo, source, job_of) for request in requests]
        timing = Timing()
        if cluster is None:
            timing = compute(jobs, source, batch_size, engine, report, note or (lambda text: None))
        else:
            compute_on(cluster, requests, jobs, source, batch_size, engine, report)
        return [_finish(job, dataset, lock, started, timing.to_dict()) for job in jobs]


def _job(request: Request, memo: Memo, source: Source, job_of: Callable[[backbones.Outline], Job]) -> Job:
    """One backbone's part of the run. Its network is built only if there is something to compute."""
    known = memo.recall(request)
    job = job_of(known) if known else None
    if job is None or not nothing_to_compute(job, source):
        backbone = backbones.load(request)
        memo.remember(request, backbone)
        job = job_of(backbone)
    _log(job.plan, "start", samples=len(job.plan.samples), missing=len(job.plan.missing))
    return job


def _check_options(
    resize: str, dtype: str, decoder: str, engine: str, batch_size: int | None, views: int | None, augment: str | None
) -> None:
    """Everything that can be wrong is said before anything slow begins."""
    for what, value, known in (
        ("resize rule", resize, RESIZES), ("dtype", dtype, DTYPES), ("decoder", decoder, DECODERS),
        ("engine", engine, engines.ENGINES),
    ):  # fmt: skip
        if value not in known:
            raise BackboneError(f"unknown {what} {value!r}: {suggest(value, known)}")
    if batch_size is not None and batch_size < 1:
        raise BackboneError(f"batch size {batch_size}: it must be at least 1")
    if views is not None and not 0 <= views <= file_format.MOST_VIEWS:
        raise BackboneError(f"views {views}: it must be 0 to {file_format.MOST_VIEWS:,}")
    if augment is not None:
        augmentation.check(augment)


def _finish(job: Job, dataset: Dataset, lock: int, started: float, timing: dict[str, float]) -> Extraction:
    """Publish what a job has, if that is anything new, and report."""
    plan = job.plan
    kept = [sample for sample in plan.samples if sample.digest in plan.rows]
    publication = _publication(job, dataset, kept)
    written = plan.previous is None or not _same(publication, plan.previous)
    there = sum(item.key in plan.rows for item in plan.order)
    in_journals = sum(plan.rows.in_journals(item.key) for item in plan.order)
    if written:
        publish(publication, lock)
    for path in plan.worker_journals():
        path.unlink()
    plan.journal_path.unlink(missing_ok=True)
    result = Extraction(
        path=plan.target,
        rows=len(kept),
        views=len(publication.views[file_format.ROW]),
        computed=job.computed,
        resumed=in_journals - job.computed,
        copied=there - in_journals,
        failures=[Failure(*failure) for failure in publication.failures],
        skipped=dataset.skipped,
        notes=plan.notes,
        classes=split_table(kept, dataset.class_names),
        seconds=round(time.monotonic() - started, 3),
        timing=timing,
        written=written,
    )
    _log(plan, "end", rows=result.rows, computed=job.computed, seconds=result.seconds, timing=timing, written=written)
    return result


def _publication(job: Job, dataset: Dataset, kept: Sequence[Sample]) -> Publication:
    """The file to be: every sample that has a row, in the order of their ids."""
    plan = job.plan
    failed = [(failure.path, failure.reason) for failure in dataset.failures]
    failed += [(s.path or s.id, job.failures[s.digest]) for s in plan.samples if s.digest in job.failures]
    if not kept:
        name, reason = failed[0]
        raise SourceError(f"{dataset.name}: none of {len(failed)} images could be read (first: {name}: {reason})")
    items = [(row, item) for row, sample in enumerate(kept) for item in plan.items(sample)[1:]]
    views = [(row, item) for row, item in items if item.key in plan.rows]
    used = {plan.rows.path(sample.digest) for sample in kept} | {plan.rows.path(item.key) for _, item in views}
    producers: list[dict[str, str]] = []
    for path, makers, _ in plan.rows.origins():
        producers += [maker for maker in makers if path in used and maker not in producers]
    return Publication(
        target=str(plan.target),
        dataset=dataset.name,
        spec=job.spec.to_json(),
        class_names=list(dataset.class_names),
        augment=plan.augment,
        provenance={"weights": job.backbone.weights, "flops": job.backbone.flops, "producers": producers},
        taps=job.taps,
        columns={name: [getattr(sample, name) for sample in kept] for name in file_format.COLUMNS},
        views={file_format.ROW: [row for row, _ in views], file_format.NUMBER: [item.number for _, item in views]},
        failures=sorted(failed),
        sources=[str(path) for path, *_ in plan.rows.origins() if path in used],
    )


def _same(publication: Publication, file: FeatureStore) -> bool:
    """Whether the file already says what would be written."""
    columns = {
        file_format.ID: file.ids,
        file_format.PATH: file.paths,
        file_format.DIGEST: file.digests,
        file_format.LABEL: file.labels,
        file_format.SPLIT: file.splits,
    }
    views = {file_format.ROW: file.view_rows, file_format.NUMBER: file.view_numbers}
    return (
        publication.columns == {name: values.tolist() for name, values in columns.items()}
        and publication.views == {name: values.tolist() for name, values in views.items()}
        and list(file.failures) == publication.failures
        and list(file.class_names) == publication.class_names
    )


def _log(plan: Plan, event: str, **values: Any) -> None:
    """Times and circumstances go beside the file, never into it. A full disk stops the run elsewhere, not here."""
    line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, "pid": os.getpid(), **values}
    path = plan.target.with_name(plan.target.name.removesuffix(file_format.SUFFIX) + ".log.jsonl")
    with suppress(OSError), os.fdopen(open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "a") as log:
        log.write(json.dumps(line) + "\n")
