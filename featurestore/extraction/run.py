"""Run the backbones on all that a plan misses; each image is read and decoded once for all of them."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from featurestore import backbones, engines
from featurestore.errors import BackboneError, ImageError, SpecMismatchError, StoreError
from featurestore.extraction.decode_ahead import Wish, decode_ahead, decoder
from featurestore.extraction.lanes import Lane, Outcome, Pixels
from featurestore.extraction.plan import Item, Plan
from featurestore.extraction.timing import Timing
from featurestore.sources.base import Source
from featurestore.spec import Dtype, ExtractionSpec
from featurestore.store.journal import Journal, JournalHeader, TapLayout
from featurestore.system.files import check_space
from featurestore.system.machine import cores, machine_memory
from featurestore.system.parallel import ahead, batched

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, done, total), from one thread; the stages are ``reading`` and ``extracting``."""

CANARIES = 8
"""Old rows that are recomputed when the engine or a library has changed since they were made."""

Note = Callable[[str], None]
"""Called once, with a sentence, when a run will be long."""

PROBE, LONG = 5.0, 60.0
"""Seconds after which the time of a run is estimated, and beyond which the estimate is worth a word."""

ROUNDING = {"float32": 0.0, "float16": 3e-3}
"""What storing adds to the difference of a canary that is taken for rounding, see :data:`engines.TOLERANCE`."""

WORTH_MEASURING = 256
"""Images from which on the engines are compared: for fewer, compiling all of them takes longer than is gained."""

BEHIND = 2
"""Batches that may be in the network or on their way to the journal: one runs while another is written."""


@dataclass
class Job:
    """One backbone's part of a run.

    Attributes:
        backbone: an outline where nothing is to be computed.
        compiled: the backbone as the journal's engine runs it, once the journal is open.
        failures: reasons of images that gave no row, by digest.
    """

    backbone: backbones.Outline
    spec: ExtractionSpec
    plan: Plan
    compiled: engines.Compute | None = None
    lane: Lane[Item] | None = None
    computed: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def network(self) -> backbones.FrozenNetwork:
        """The backbone of a job that computes."""
        assert isinstance(self.backbone, backbones.FrozenNetwork)
        return self.backbone

    @property
    def journal(self) -> Journal:
        """The journal of a job that computes."""
        assert self.plan.journal is not None
        return self.plan.journal

    @property
    def taps(self) -> list[TapLayout]:
        """How each tap's rows are stored."""
        dtype = np.dtype(self.spec.dtype).newbyteorder("<").str
        return [TapLayout(tap, shape, dtype) for tap, shape in self.backbone.shapes.items()]

    def open_journal(self, source: Source, batch_size: int, engine: str) -> None:
        """Open the journal, or go on with that of an interrupted run, its engine and its batch size."""
        plan = self.plan
        if plan.journal:
            engine, batch_size = plan.journal.header.engine, plan.journal.header.batch_size
            self._check_journal(engine, batch_size)
        elif engine == engines.AUTO:
            engine = self._engine()
        self.compiled = self.compiled or engines.compile_backbone(self.network, engine)
        producer = engines.producer(self.network, engine)
        _check_canaries(self, source, producer, batch_size, self.compiled)
        if plan.journal is None:
            header = JournalHeader(self.spec.fingerprint, engine, batch_size, producer, tuple(self.taps))
            plan.journal = Journal.create(plan.journal_path, header)
            plan.rows.add_journal(plan.journal)

    def _check_journal(self, engine: str, batch_size: int) -> None:
        if engine not in engines.ENGINES[1:] or batch_size * self.spec.size**2 * 3 > machine_memory():
            raise StoreError(
                f"{self.plan.journal_path}: no run of this machine can go on with batches of {batch_size:,} images on "
                f"{engine!r}: delete it, and the rows in it will be extracted again"
            )

    def start(self, timing: Timing) -> None:
        """Set up the batches.

        They are cut at fixed places, whatever an earlier run has finished: so a row's bits do not depend on where
        that run was killed.
        """
        assert self.compiled is not None
        size, missing = self.journal.header.batch_size, self.plan.missing
        slots = [[i if i.key in missing else None for i in batch] for batch in batched(self.plan.order, size)]
        self.lane = Lane(self.compiled, self.spec.size, slots, dtype=self.spec.dtype, batch_size=size, timing=timing)

    def _engine(self) -> str:
        """That of the rows which are there, if it can be had; else the fastest."""
        producers = self.plan.previous.producers if self.plan.previous else []
        used = producers[-1].get("engine") if producers else None
        if used and engines.available(used, self.network):
            return used
        return (
            engines.fastest(self.network)
            if len(self.plan.missing) >= WORTH_MEASURING
            else engines.default(self.network)
        )

    def wanted(self) -> dict[str, list[Item]]:
        """What is missing, by the image that it needs."""
        found: dict[str, list[Item]] = {}
        for item in self.plan.order:
            if item.key in self.plan.missing:
                found.setdefault(item.sample.digest, []).append(item)
        return found

    def wish(self, items: list[Item]) -> Wish:
        """These items of one image, as this network wants them."""
        return Wish(self.spec.size, self.plan.augment, items)

    def take(self, outcome: Outcome[Item], timing: Timing) -> None:
        """Make a batch safe."""
        if outcome.items:
            _check_range(outcome, self.spec.dtype)
            with timing.measured("write"):
                self.journal.append([item.key for item in outcome.items], outcome.features)
        self.computed += len(outcome.items)
        self.failures.update((item.sample.digest, reason) for item, reason in outcome.failures)


def prepare(jobs: Sequence[Job], source: Source, batch_size: int | None, engine: str) -> list[Job]:
    """The jobs that have something to compute, their journals open. What stands against it is said now."""
    busy = [job for job in jobs if job.plan.missing and isinstance(job.backbone, backbones.FrozenNetwork)]
    sizes = [_batch_size(job, batch_size) for job in busy]
    if busy:
        check_space(busy[0].plan.target.parent, _disk(busy))
    for job, size in zip(busy, sizes, strict=True):
        job.open_journal(source, size, engine)
    return busy


def compute(
    jobs: Sequence[Job], source: Source, batch_size: int | None, engine: str, report: Progress, note: Note
) -> Timing:
    """Run the backbones on all that is missing. A batch is in its journal, safe, before it is reported."""
    timing = Timing()
    busy = prepare(jobs, source, batch_size, engine)
    if not busy:
        return timing
    for job in busy:
        job.start(timing)
    total = sum(len(job.plan.order) for job in busy)
    before = done = total - sum(len(job.plan.missing) for job in busy)
    report("extracting", done, total)
    started, probed = time.perf_counter(), False
    for _, outcome in ahead(
        _running(busy, source, timing), lambda batch: _safe(*batch, timing), BEHIND, ThreadPoolExecutor(1)
    ):
        done += len(outcome.items) + len(outcome.failures)
        report("extracting", done, total)
        timing.total = time.perf_counter() - started
        if timing.total > PROBE and not probed:
            probed = True
            left = timing.total / (done - before) * (total - done)
            if left > LONG:
                note(f"this will take about {left / 60:.0f} minutes, and {_disk(busy) / 2**20:,.0f} MiB of the disk")
    return timing


def _running(jobs: Sequence[Job], source: Source, timing: Timing) -> Iterator[tuple[Job, Callable[[], Outcome[Item]]]]:
    """Every batch that has been started, with its job, as the decoded images come."""
    wanted = [job.wanted() for job in jobs]
    samples = {item.sample.digest: item.sample for job in jobs for item in job.plan.order}
    todo = sorted(
        (sample for digest, sample in samples.items() if any(digest in items for items in wanted)),
        key=lambda sample: sample.id,
    )
    tasks = (
        (sample, [job.wish(items.get(sample.digest, [])) for job, items in zip(jobs, wanted, strict=True)])
        for sample in todo
    )
    per_image = max(len(items) for found in wanted for items in found.values())
    largest = max(job.journal.header.batch_size for job in jobs)
    spec, window = jobs[0].spec, max(2 * cores(), 2 * largest // per_image)
    for found in decode_ahead(source, spec.resize, spec.decoder, tasks, len(todo), window):
        timing.add("read", found.read)
        timing.add("decode", found.decode)
        for job, pixels in zip(jobs, found.pixels, strict=True):
            assert job.lane is not None
            for batch in job.lane.offer(pixels):
                yield job, batch


def _safe(job: Job, batch: Callable[[], Outcome[Item]], timing: Timing) -> Outcome[Item]:
    outcome = batch()
    job.take(outcome, timing)
    return outcome


def nothing_to_compute(job: Job, source: Source) -> bool:
    """Whether a job needs no network: its rows are all there, but for images that gave none before and still do not."""
    plan = job.plan
    missing = {item.sample.digest: item for item in plan.order if item.key in plan.missing}
    if missing and (plan.previous is None or len(missing) > len(plan.previous.failures)):
        return False
    for digest, item in missing.items():
        outcome = _pixels(source, job, item)[item]
        if not isinstance(outcome, ImageError):
            return False
        job.failures[digest] = str(outcome)
    return True


def _batch_size(job: Job, asked: int | None) -> int:
    """As asked, or what suits the machine. A flattened early layer can take megabytes for each image.

    Raises:
        BackboneError: the features of such a batch would fill the memory; said before the run.
    """
    row = sum(tap.row_bytes for tap in job.taps)
    memory = machine_memory() // 4 // (BEHIND + 1)
    size = asked or max(1, min(engines.batch_size(), memory // row))
    if size * row > memory:
        largest = max(job.taps, key=lambda tap: tap.row_bytes)
        raise BackboneError(
            f"a batch of {size} would take {size * row / 2**30:.1f} GiB of memory, most of it tap "
            f"{largest.name!r} with {largest.row_bytes / 2**20:.1f} MiB an image: pool it, or lower --batch-size"
        )
    return size


def _disk(jobs: Sequence[Job]) -> int:
    """Bytes that the journals and the files will take."""
    rows = [len(job.plan.missing) + sum(len(job.plan.numbers(s)) for s in job.plan.samples) for job in jobs]
    return sum(count * sum(tap.row_bytes for tap in job.taps) for count, job in zip(rows, jobs, strict=True))


def _pixels(source: Source, job: Job, item: Item) -> dict[Item, Pixels]:
    """One item alone, now."""
    decode = decoder(source, job.spec.resize, job.spec.decoder)
    return decode((item.sample, [job.wish([item])])).pixels[0]


def _check_range(outcome: Outcome[Item], dtype: Dtype) -> None:
    for tap, array in outcome.features.items():
        if not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0])
            way_out = "use --dtype float32" if dtype == "float16" else "check the weights"
            raise StoreError(
                f"{outcome.items[row].sample.id}: a feature of tap {tap!r} is beyond the range of {dtype}: {way_out}; "
                "what is finished is kept"
            )


def _check_canaries(
    job: Job, source: Source, producer: dict[str, str], batch_size: int, network: engines.Compute
) -> None:
    """Recompute a few old rows of every file or journal that other versions made; refuse to mix what differs."""
    foreign = [origin for origin in job.plan.rows.origins() if origin[1] != [producer]]
    if not foreign:
        return
    by_key = {item.key: item for sample in job.plan.samples for item in job.plan.items(sample)}
    tolerance = max(engines.TOLERANCE[job.spec.precision], ROUNDING[job.spec.dtype])
    for path, makers, keys in foreign:
        old = [by_key[key] for key in keys if key in by_key]
        if not old:
            continue
        some = old[:: max(1, len(old) // CANARIES)][:CANARIES]
        lane = Lane(network, job.spec.size, [[i] for i in some], dtype=job.spec.dtype, batch_size=batch_size)
        for item in some:
            for batch in lane.offer(_pixels(source, job, item)):
                for tap, new in batch().features.items():
                    if (difference := engines.difference(job.plan.rows[item.key][tap], new[0])) > tolerance:
                        raise SpecMismatchError(
                            f"{path}: made by other versions ({makers}), and the features of {item.sample.id} now "
                            f"differ by {difference:.1%}: extract into another --store, or delete that file to make "
                            "all rows anew"
                        )
