"""Run the backbones on all that a plan misses; each image is read and decoded once for all of them."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featurestore import augment, backbones, engines, images
from featurestore.dataset import Sample, Source
from featurestore.errors import BackboneError, ImageError, SpecMismatchError, StoreError
from featurestore.forward import Lane, Outcome, Pixels, ahead, batched
from featurestore.journal import Journal, JournalHeader, TapLayout
from featurestore.plan import Item, Plan
from featurestore.publish import check_space
from featurestore.spec import Dtype, ExtractionSpec

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, done, total), from one thread; the stages are ``reading`` and ``extracting``."""

CANARIES = 8
"""Old rows that are recomputed when the engine or a library has changed since they were made."""

TOLERANCE = {"float32": 1e-3, "float16": 3e-3}
"""Largest difference of a canary that is taken for rounding, relative to the row's largest value."""


@dataclass
class Job:
    """One backbone's part of a run. The backbone is an outline where nothing is to be computed."""

    backbone: backbones.Outline
    spec: ExtractionSpec
    plan: Plan
    lane: Lane[Item] | None = None
    computed: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    """Reasons of images that gave no row, by digest."""

    @property
    def network(self) -> backbones.Backbone:
        """The backbone of a job that computes."""
        assert isinstance(self.backbone, backbones.Backbone)
        return self.backbone

    @property
    def taps(self) -> list[TapLayout]:
        """How each tap's rows are stored."""
        dtype = np.dtype(self.spec.dtype).newbyteorder("<").str
        return [TapLayout(tap, shape, dtype) for tap, shape in self.backbone.shapes.items()]

    def open_journal(self, source: Source, batch_size: int) -> None:
        """Open the journal, or go on with that of an interrupted run, its engine and its batch size."""
        plan = self.plan
        engine = plan.journal.header.engine if plan.journal else engines.DEFAULT
        batch_size = plan.journal.header.batch_size if plan.journal else batch_size
        producer = engines.producer(engine)
        _check_canaries(self, source, producer, batch_size, engine)
        if plan.journal is None:
            header = JournalHeader(self.spec.fingerprint, engine, batch_size, producer, tuple(self.taps))
            plan.journal = Journal.create(plan.journal_path, header)
            plan.rows.add_journal(plan.journal)

    def start(self) -> None:
        """Set up the batches.

        They are cut at fixed places, whatever an earlier run has finished: so a row's bits do not depend on where
        that run was killed.
        """
        assert self.plan.journal is not None
        header, missing = self.plan.journal.header, self.plan.missing
        slots = [
            [item if item.key in missing else None for item in batch]
            for batch in batched(self.plan.order, header.batch_size)
        ]
        self.lane = Lane(self.network, slots, dtype=self.spec.dtype, batch_size=header.batch_size, engine=header.engine)

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


def prepare(jobs: Sequence[Job], source: Source, batch_size: int) -> list[Job]:
    """The jobs that have something to compute, their journals open. What stands against it is said now."""
    busy = [job for job in jobs if job.plan.missing and isinstance(job.backbone, backbones.Backbone)]
    if busy:
        _check_budget(busy, batch_size)
    for job in busy:
        job.open_journal(source, batch_size)
    return busy


def compute(jobs: Sequence[Job], source: Source, batch_size: int, report: Progress) -> None:
    """Run the backbones on all that is missing. A batch is in its journal, safe, before it is reported."""
    busy = prepare(jobs, source, batch_size)
    if not busy:
        return
    for job in busy:
        job.start()
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


def nothing_to_compute(job: Job, source: Source) -> bool:
    """Whether a job needs no network: its rows are all there, but for images that gave none before and still do not."""
    plan = job.plan
    missing = {item.sample.digest: item for item in plan.order if item.key in plan.missing}
    if missing and (plan.previous is None or len(missing) > len(plan.previous.failures)):
        return False
    for digest, item in missing.items():
        outcome = _pixels(source, item.sample, [job], [[item]])[0][item]
        if not isinstance(outcome, ImageError):
            return False
        job.failures[digest] = str(outcome)
    return True


def _check_budget(jobs: Sequence[Job], batch_size: int) -> None:
    """Say before the run what would not fit: a flattened early layer can take megabytes for each image."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    disk = 0
    for job in jobs:
        largest = max(job.taps, key=lambda tap: tap.row_bytes)
        row = sum(tap.row_bytes for tap in job.taps)
        disk += (len(job.plan.missing) + sum(len(job.plan.numbers(s)) for s in job.plan.samples)) * row  # journal, file
        if batch_size * row > memory // 4:
            raise BackboneError(
                f"a batch of {batch_size} would take {batch_size * row / 2**30:.1f} GiB of memory, most of it tap "
                f"{largest.name!r} with {largest.row_bytes / 2**20:.1f} MiB an image: pool it, or lower --batch-size"
            )
    check_space(jobs[0].plan.target.parent, disk)


def _pixels(
    source: Source, sample: Sample, jobs: Sequence[Job], wanted: Sequence[list[Item]]
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
    return augment.view(plain, item.key, preset) if item.number else plain


def _check_range(outcome: Outcome[Item], dtype: Dtype) -> None:
    for tap, array in outcome.features.items():
        if not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0])
            way_out = "use --dtype float32" if dtype == "float16" else "check the weights"
            raise StoreError(
                f"{outcome.items[row].sample.id}: a feature of tap {tap!r} is beyond the range of {dtype}: {way_out}; "
                "what is finished is kept"
            )


def _check_canaries(job: Job, source: Source, producer: dict[str, str], batch_size: int, engine: str) -> None:
    """Recompute a few old rows of every file or journal that other versions made; refuse to mix what differs."""
    foreign = [origin for origin in job.plan.rows.origins() if origin[1] != [producer]]
    if not foreign:
        return
    by_key = {item.key: item for sample in job.plan.samples for item in job.plan.items(sample)}
    for path, makers, keys in foreign:
        old = [by_key[key] for key in keys if key in by_key]
        if not old:
            continue
        some = old[:: max(1, len(old) // CANARIES)][:CANARIES]
        lane = Lane(job.network, [[i] for i in some], dtype=job.spec.dtype, batch_size=batch_size, engine=engine)
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
