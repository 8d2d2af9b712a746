"""Stage 1: find out what is missing, run the backbones on that, publish."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featurestore import augment as augmentation
from featurestore import backbones, engines, images, layout
from featurestore.dataset import Dataset, Failure, Sample, Source, open_source
from featurestore.errors import BackboneError, ImageError, SourceError, SpecMismatchError, StoreError, suggest
from featurestore.forward import Lane, Outcome, Pixels, ahead, batched
from featurestore.journal import Journal, JournalHeader, TapLayout
from featurestore.lock import store_lock
from featurestore.plan import Item, Plan, make_plan
from featurestore.publish import Publication, check_space, publish, remove_drafts
from featurestore.spec import DTYPES, LAST, RESIZES, Dtype, ExtractionSpec, Pool, Resize
from featurestore.splits import split_table
from featurestore.store import FeatureStore

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, done, total), from one thread; the stages are ``reading`` and ``extracting``."""

CANARIES = 8
"""Old rows that are recomputed when the engine or a library has changed since they were made."""

TOLERANCE = {"float32": 1e-3, "float16": 3e-3}
"""Largest difference of a canary that is taken for rounding, relative to the row's largest value."""


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
    batch_size: int = 32,
    prune: bool = False,
    progress: Progress | None = None,
) -> list[Extraction]:
    """Run frozen backbones once over the images of `source`; each image is read and decoded once for all of them.

    Only what is missing is computed: rows in the file already, in another file of the store made by the same spec,
    or in the journal of an interrupted run do not go through the backbone again.

    Args:
        source: a folder, manifest or ``.npz`` file, or what :func:`featurestore.dataset.open_source` returned.
        store: folder for the feature files, one per backbone; made if need be.
        networks: names of backbones, each with its weights.
        size, pool, taps, preprocessing: see :func:`featurestore.backbones.load_backbone`.
        resize: ``squash`` to a square, ``crop`` the centre, or ``pad`` with black.
        dtype: of the stored features.
        views: augmented versions of each training image, kept beside it. By default as many as the file has.
        augment: what they look like, one of :data:`featurestore.augment.PRESETS`; ``mild`` by default.
        batch_size: images per forward pass. An interrupted run is resumed with the size that it began with.
        prune: drop rows of images that the source no longer holds, instead of refusing to.
        progress: called after each step.

    Raises:
        SourceError: nothing to extract in `source`.
        BackboneError, WeightsError, MissingDependencyError: see ``load_backbone``.
        StoreLockedError: another process writes to the store.
        SpecMismatchError, CorruptFileError: a file in the way was made otherwise, or is damaged.
        DiskFullError: what is finished is kept, as with every other error.
    """
    started = time.monotonic()
    report = progress or (lambda stage, done, total: None)
    for name, weights in networks.items():
        backbones.check(name, size, pool, weights, taps, preprocessing)
    _check_options(resize, dtype, batch_size, views, augment)
    if not isinstance(source, Source):
        source = open_source(source)
    with store_lock(Path(store)) as lock, ExitStack() as opened:
        remove_drafts(Path(store))
        dataset = source.dataset(lambda done, total: report("reading", done, total))
        jobs = []
        for name, weights in networks.items():
            frozen = backbones.load_backbone(
                name, weights=weights, size=size, pool=pool, taps=taps, preprocessing=preprocessing
            )
            spec = frozen.spec(resize, dtype)
            plan = make_plan(Path(store), dataset, spec, prune=prune, views=views, augment=augment)
            opened.enter_context(plan.rows)
            jobs.append(_Job(frozen, spec, plan))
            _log(plan, "start", samples=len(plan.samples), missing=len(plan.missing))
        _compute(jobs, source, batch_size, report)
        return [_finish(job, dataset, lock, started) for job in jobs]


def _check_options(resize: str, dtype: str, batch_size: int, views: int | None, augment: str | None) -> None:
    """Everything that can be wrong is said before anything slow begins."""
    for what, value, known in (("resize rule", resize, RESIZES), ("dtype", dtype, DTYPES)):
        if value not in known:
            raise BackboneError(f"unknown {what} {value!r}: {suggest(value, known)}")
    if batch_size < 1:
        raise BackboneError(f"batch size {batch_size}: it must be at least 1")
    if views is not None and views < 0:
        raise BackboneError(f"views {views}: it must be 0 or more")
    if augment is not None:
        augmentation.check(augment)


@dataclass
class _Job:
    """One backbone's part of a run."""

    backbone: backbones.Backbone
    spec: ExtractionSpec
    plan: Plan
    lane: Lane[Item] | None = None
    computed: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    """Reasons of images that gave no row, by digest."""

    @property
    def taps(self) -> list[TapLayout]:
        """How each tap's rows are stored."""
        dtype = np.dtype(self.spec.dtype).newbyteorder("<").str
        return [TapLayout(tap, shape, dtype) for tap, shape in self.backbone.shapes.items()]

    def start(self, source: Source, batch_size: int) -> None:
        """Open the journal and set up the batches, with the engine and size of an interrupted run if there is one.

        Batches are cut at fixed places, whatever an earlier run has finished: so a row's bits do not depend on where
        that run was killed.
        """
        plan = self.plan
        engine = plan.journal.header.engine if plan.journal else engines.DEFAULT
        batch_size = plan.journal.header.batch_size if plan.journal else batch_size
        producer = engines.producer(engine)
        _check_canaries(self, source, producer, batch_size, engine)
        if plan.journal is None:
            header = JournalHeader(self.spec.fingerprint, engine, batch_size, producer, tuple(self.taps))
            plan.journal = Journal.create(plan.journal_path, header)
            plan.rows.add_journal(plan.journal)
        slots = [[i if i.key in plan.missing else None for i in batch] for batch in batched(plan.order, batch_size)]
        self.lane = Lane(self.backbone, slots, dtype=self.spec.dtype, batch_size=batch_size, engine=engine)

    def wanted(self) -> dict[str, list[Item]]:
        """What is missing, by the image that it needs."""
        found: dict[str, list[Item]] = {}
        for item in self.plan.order:
            if item.key in self.plan.missing:
                found.setdefault(item.sample.digest, []).append(item)
        return found

    def take(self, outcome: Outcome[Item]) -> None:
        """Make a batch safe."""
        assert self.plan.journal is not None
        if outcome.items:
            _check_range(outcome, self.spec.dtype)
            self.plan.journal.append([item.key for item in outcome.items], outcome.features)
        self.computed += len(outcome.items)
        self.failures.update((item.sample.digest, reason) for item, reason in outcome.failures)


def _compute(jobs: Sequence[_Job], source: Source, batch_size: int, report: Progress) -> None:
    """Run the backbones on all that is missing. A batch is in its journal, safe, before it is reported."""
    busy = [job for job in jobs if job.plan.missing]
    needed = sum(
        (len(job.plan.missing) + len(job.plan.samples)) * sum(tap.row_bytes for tap in job.taps) for job in busy
    )
    if not busy:
        return
    check_space(busy[0].plan.target.parent, needed)
    for job in busy:
        job.start(source, batch_size)
    wanted = [job.wanted() for job in busy]
    samples = {item.sample.digest: item.sample for job in busy for item in job.plan.order}
    todo = sorted(
        (sample for digest, sample in samples.items() if any(digest in items for items in wanted)),
        key=lambda sample: sample.id,
    )

    def work(sample: Sample) -> list[dict[Item, Pixels]]:
        return _pixels(source, sample, busy, [items.get(sample.digest, []) for items in wanted])

    total = sum(len(job.plan.order) for job in busy)
    done = total - sum(len(job.plan.missing) for job in busy)
    report("extracting", done, total)
    per_image = max(len(items) for found in wanted for items in found.values())
    for _, found in ahead(todo, work, window=max(4, 2 * batch_size // per_image)):
        for job, pixels in zip(busy, found, strict=True):
            assert job.lane is not None
            for outcome in job.lane.offer(pixels):
                job.take(outcome)
                done += len(outcome.items) + len(outcome.failures)
                report("extracting", done, total)


def _pixels(
    source: Source, sample: Sample, jobs: Sequence[_Job], wanted: Sequence[list[Item]]
) -> list[dict[Item, Pixels]]:
    """Per job, the pixels of the items that it wants of one image, which is decoded once."""
    sizes = {job.spec.size for job, items in zip(jobs, wanted, strict=True) if items}
    try:
        plain = images.decode_sizes(source.read(sample), sizes, jobs[0].spec.resize)
    except ImageError as error:
        return [dict.fromkeys(items, error) for items in wanted]
    return [
        {item: _view(plain[job.spec.size], item, job.plan.augment) for item in items}
        for job, items in zip(jobs, wanted, strict=True)
    ]


def _view(plain: Any, item: Item, preset: str) -> Any:
    return augmentation.view(plain, item.key, preset) if item.number else plain


def _check_range(outcome: Outcome[Item], dtype: Dtype) -> None:
    for tap, array in outcome.features.items():
        if not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0])
            way_out = "use --dtype float32" if dtype == "float16" else "check the weights"
            raise StoreError(
                f"{outcome.items[row].sample.id}: a feature of tap {tap!r} is beyond the range of {dtype}: {way_out}; "
                "what is finished is kept"
            )


def _check_canaries(job: _Job, source: Source, producer: dict[str, str], batch_size: int, engine: str) -> None:
    """Recompute a few old rows of every file or journal that other versions made; refuse to mix what differs."""
    by_key = {item.key: item for sample in job.plan.samples for item in job.plan.items(sample)}
    for path, makers, keys in job.plan.rows.origins():
        old = [by_key[key] for key in keys if key in by_key]
        if makers == [producer] or not old:
            continue
        some = old[:: max(1, len(old) // CANARIES)][:CANARIES]
        lane = Lane(job.backbone, [[i] for i in some], dtype=job.spec.dtype, batch_size=batch_size, engine=engine)
        for item in some:
            for outcome in lane.offer(_pixels(source, item.sample, [job], [[item]])[0]):
                for tap, new in outcome.features.items():
                    difference = _difference(job.plan.rows[item.key][tap], new[0])
                    if difference > TOLERANCE[job.spec.dtype]:
                        raise SpecMismatchError(
                            f"{path}: made by other versions ({makers}), and the features of {item.sample.id} now "
                            f"differ by {difference:.1%}: extract into another --store, or delete that file to make "
                            "all rows anew"
                        )


def _difference(old: Any, new: Any) -> float:
    """Largest difference relative to the largest old value."""
    old, new = np.asarray(old, np.float64), np.asarray(new, np.float64)
    return float(np.abs(new - old).max() / max(np.abs(old).max(), np.finfo(np.float32).tiny))


def _finish(job: _Job, dataset: Dataset, lock: int, started: float) -> Extraction:
    """Publish what a job has, if that is anything new, and report."""
    plan = job.plan
    kept = [sample for sample in plan.samples if sample.digest not in job.failures]
    publication = _publication(job, dataset, kept)
    written = plan.previous is None or not _same(publication, plan.previous)
    resumed = sum(item.key in plan.journal for item in plan.order) - job.computed if plan.journal else 0
    if written:
        publish(publication, lock)
    if plan.journal is not None:
        plan.journal.path.unlink()
    result = Extraction(
        path=plan.target,
        rows=len(kept),
        views=len(publication.views[layout.ROW]),
        computed=job.computed,
        resumed=resumed,
        copied=len(plan.order) - len(plan.missing) - resumed,
        failures=[Failure(*failure) for failure in publication.failures],
        skipped=dataset.skipped,
        notes=plan.notes,
        classes=split_table(kept, dataset.class_names),
        seconds=round(time.monotonic() - started, 3),
        written=written,
    )
    _log(plan, "end", rows=result.rows, computed=job.computed, seconds=result.seconds, written=written)
    return result


def _publication(job: _Job, dataset: Dataset, kept: Sequence[Sample]) -> Publication:
    """The file to be: every sample that has a row, in the order of their ids."""
    plan = job.plan
    failed = [(failure.path, failure.reason) for failure in dataset.failures]
    failed += [(s.path or s.id, job.failures[s.digest]) for s in plan.samples if s.digest in job.failures]
    if not kept:
        name, reason = failed[0]
        raise SourceError(f"{dataset.name}: none of {len(failed)} images could be read (first: {name}: {reason})")
    views = [(row, item) for row, sample in enumerate(kept) for item in plan.items(sample)[1:]]
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
        columns={name: [getattr(sample, name) for sample in kept] for name in layout.COLUMNS},
        views={layout.ROW: [row for row, _ in views], layout.NUMBER: [item.number for _, item in views]},
        failures=sorted(failed),
        sources=[str(path) for path, *_ in plan.rows.origins() if path in used],
    )


def _same(publication: Publication, file: FeatureStore) -> bool:
    """Whether the file already says what would be written."""
    columns = {
        layout.ID: file.ids,
        layout.PATH: file.paths,
        layout.DIGEST: file.digests,
        layout.LABEL: file.labels,
        layout.SPLIT: file.splits,
    }
    views = {layout.ROW: file.view_rows, layout.NUMBER: file.view_numbers}
    return (
        publication.columns == {name: values.tolist() for name, values in columns.items()}
        and publication.views == {name: values.tolist() for name, values in views.items()}
        and list(file.failures) == publication.failures
        and list(file.class_names) == publication.class_names
    )


def _log(plan: Plan, event: str, **values: Any) -> None:
    """Times and circumstances go beside the file, never into it."""
    line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, "pid": os.getpid(), **values}
    with plan.target.with_name(plan.target.name.removesuffix(layout.SUFFIX) + ".log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
