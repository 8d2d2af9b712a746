"""One network's part of a run: what is planned for it, and what it takes to begin with it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from featurestore import backbones, engines
from featurestore.errors import BackboneError, ImageError, SpecMismatchError, StoreError
from featurestore.extraction.decode_ahead import ImageTask, Wish, decoder
from featurestore.extraction.lanes import Lane, Pixels
from featurestore.extraction.plan import Item, Plan
from featurestore.extraction.run import BEHIND, Work
from featurestore.images.decode import libraries
from featurestore.sources.base import Source
from featurestore.spec import ExtractionSpec
from featurestore.store.journal import Journal, JournalHeader, TapLayout, journal_path
from featurestore.system.files import check_space
from featurestore.system.machine import machine_memory

CANARIES = 8
"""Old rows that are recomputed when the engine or a library has changed since they were made."""

ROUNDING = {"float32": 0.0, "float16": 3e-3}
"""What storing adds to the difference of a canary that is taken for rounding, see :data:`engines.TOLERANCE`."""

Keep = Callable[[backbones.FrozenNetwork, str], None]
"""Called with a network, in the form that an engine begins with, and that engine: later runs find them."""


@dataclass(frozen=True, eq=False)
class Job:
    """One network's part of a run, before anything is computed.

    Attributes:
        backbone: the network; or only its outline, if nothing is to be computed.
        spec: how its features are made.
        plan: what is there, and what is missing.
        lock: handle of the lock under which the file is written.
        failures: reasons of images that were tried while the run was planned and gave no row, by digest.
        engine: that earlier runs have chosen for the network, if any.
        keep: for the runs to come.
    """

    backbone: backbones.Outline
    spec: ExtractionSpec
    plan: Plan
    lock: int
    failures: Mapping[str, str] = field(default_factory=dict)
    engine: str | None = None
    keep: Keep | None = None

    @property
    def taps(self) -> tuple[TapLayout, ...]:
        """How each tap's rows are stored."""
        dtype = np.dtype(self.spec.dtype).newbyteorder("<").str
        return tuple(TapLayout(tap, shape, dtype) for tap, shape in self.backbone.shapes.items())


def prepare(jobs: Sequence[Job], source: Source, batch_size: int | None, engine: str) -> dict[Job, Work]:
    """Begin with the jobs that have something to compute: open their journals, compile their networks.

    Raises:
        FeatureStoreError: whatever stands against the run, before its first batch.
    """
    busy = {job: job.backbone for job in jobs if job.plan.missing and isinstance(job.backbone, backbones.FrozenNetwork)}
    sizes = [batch_size_for(job.taps, batch_size) for job in busy]
    if busy:
        check_space(next(iter(busy)).plan.target.parent, disk_space(busy))
    compiler = engines.Compiler()
    return {
        job: _begin(job, network, source, size, engine, compiler)
        for (job, network), size in zip(busy.items(), sizes, strict=True)
    }


def disk_space(jobs: Iterable[Job]) -> int:
    """Return the bytes that the journals and the files of some jobs will take."""
    return sum(
        (len(job.plan.missing) + sum(len(job.plan.views.numbers(sample)) for sample in job.plan.samples))
        * sum(tap.row_bytes for tap in job.taps)
        for job in jobs
    )


def batch_size_for(taps: Sequence[TapLayout], asked: int | None) -> int:
    """Return the batch size that is asked for, or one that suits the machine.

    A flattened early layer can take megabytes for each image.

    Raises:
        BackboneError: the features of such a batch would fill the memory; said before the run.
    """
    row = sum(tap.row_bytes for tap in taps)
    memory = machine_memory() // 4 // (BEHIND + 1)
    size = asked or max(1, min(engines.batch_size(), memory // row))
    if size * row > memory:
        largest = max(taps, key=lambda tap: tap.row_bytes)
        raise BackboneError(
            f"a batch of {size} would take {size * row / 2**30:.1f} GiB of memory, most of it tap "
            f"{largest.name!r} with {largest.row_bytes / 2**20:.1f} MiB an image: pool it, or lower --batch-size"
        )
    return size


def unreadable_as_before(plan: Plan, spec: ExtractionSpec, source: Source) -> dict[str, str] | None:
    """Find out whether a plan needs no network: all rows are there, but for images that gave none and still do not.

    Returns:
        The reasons of those images by digest, if so; None if the network is needed.
    """
    missing = {item.sample.digest: item for item in plan.order if item.key in plan.missing}
    if missing and (plan.previous is None or len(missing) > len(plan.previous.failures)):
        return None
    reasons: dict[str, str] = {}
    for digest, item in missing.items():
        outcome = _pixels(source, spec, plan, item)[item]
        if not isinstance(outcome, ImageError):
            return None
        reasons[digest] = str(outcome)
    return reasons


def _begin(
    job: Job,
    network: backbones.FrozenNetwork,
    source: Source,
    batch_size: int,
    engine: str,
    compiler: engines.Compiler,
) -> Work:
    """Compile the network and open a journal; or go on with that of an interrupted run, its engine and batch size."""
    plan = job.plan
    if plan.interrupted is not None:
        engine, batch_size = plan.interrupted.header.engine, plan.interrupted.header.batch_size
        _check_resumable(job, engine, batch_size)
    elif engine == engines.AUTO:
        engine = _engine(job, network)
    network, compute = compiler.compiled(network, engine)
    producer = engines.producer(network, engine, libraries(job.spec.decoder))
    if job.keep and len(plan.missing) >= engines.WORTH_CONVERTING and not engines.accelerators():
        job.keep(network, engine)
    _check_canaries(job, source, producer, batch_size, compute)
    journal = plan.interrupted
    if journal is None:
        header = JournalHeader(job.spec.fingerprint, engine, batch_size, producer, job.taps)
        journal = Journal.create(journal_path(plan.target), header)
        plan.rows.add_journal(journal)
    return Work(job.spec, plan.views.preset, plan.order, plan.missing, compute, journal)


def _check_resumable(job: Job, engine: str, batch_size: int) -> None:
    if engine not in engines.ENGINES[1:] or batch_size * job.spec.framing.side**2 * 3 > machine_memory():
        raise StoreError(
            f"{journal_path(job.plan.target)}: no run of this machine can go on with batches of {batch_size:,} images "
            f"on {engine!r}: delete it, and the rows in it will be extracted again"
        )


def _engine(job: Job, network: backbones.FrozenNetwork) -> str:
    """Choose the engine of the rows which are there, or of earlier runs, if this machine has it."""
    producers = job.plan.previous.producers if job.plan.previous else []
    for used in (producers[-1].get("engine") if producers else None, job.engine):
        if used and engines.available(used, network):
            return used
    return engines.choose(network, len(job.plan.missing))


def _pixels(source: Source, spec: ExtractionSpec, plan: Plan, item: Item) -> dict[Item, Pixels]:
    """Decode the pixels of one item alone, now."""
    decode = decoder(source)
    return decode(ImageTask(item.sample, [Wish(spec.framing, plan.views.preset, [item])])).pixels[0]


def _check_canaries(
    job: Job, source: Source, producer: dict[str, str], batch_size: int, compute: engines.Compute
) -> None:
    """Recompute a few old rows of every file or journal that other versions made; refuse to mix what differs."""
    plan, spec = job.plan, job.spec
    foreign = [origin for origin in plan.rows.origins() if origin[1] != [producer]]
    if not foreign:
        return
    by_key = {item.key: item for sample in plan.samples for item in plan.views.items(sample)}
    tolerance = max(engines.TOLERANCE[spec.precision], ROUNDING[spec.dtype])
    for path, makers, keys in foreign:
        old = [by_key[key] for key in keys if key in by_key]
        if not old:
            continue
        some = old[:: max(1, len(old) // CANARIES)][:CANARIES]
        lane = Lane(compute, spec.framing.side, [[item] for item in some], dtype=spec.dtype, batch_size=batch_size)
        for item in some:
            for batch in lane.offer(_pixels(source, spec, plan, item)):
                for tap, new in batch().features.items():
                    if (difference := engines.difference(plan.rows[item.key][tap], new[0])) > tolerance:
                        raise SpecMismatchError(
                            f"{path}: made by other versions ({makers}), and the features of {item.sample.id} now "
                            f"differ by {difference:.1%}: extract into another --store, or delete that file to make "
                            "all rows anew"
                        )
