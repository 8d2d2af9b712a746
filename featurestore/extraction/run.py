"""The loop: run networks on all that is missing; each image is read and decoded once for all of them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from featurestore.engines import Compute
from featurestore.errors import StoreError
from featurestore.extraction.decode_ahead import ImageTask, Wish, decode_ahead
from featurestore.extraction.lanes import Lane, Outcome
from featurestore.extraction.plan import Item
from featurestore.extraction.timing import Timing
from featurestore.sources.base import Source
from featurestore.spec import Dtype, ExtractionSpec
from featurestore.store.journal import Journal
from featurestore.system.machine import cores
from featurestore.system.parallel import ahead, batched
from featurestore.system.progress import Progress

Note = Callable[[str], None]
"""Called once, with a sentence, when a run will be long."""

PROBE, LONG = 5.0, 60.0
"""Seconds after which the time of a run is estimated, and beyond which the estimate is worth a sentence."""

BEHIND = 2
"""Batches that may be in the network or on their way to the journal: one runs while another is written."""


@dataclass(frozen=True, eq=False)
class Work:
    """What one network has to compute, and where its rows go.

    Attributes:
        spec: how the rows are made.
        preset: of the augmented views among them.
        order: the rows from which batches are cut.
        missing: keys of those that are to be computed.
        compute: the network, compiled; it takes the pixels of the spec's framing.
        journal: open for appending; its header holds the batch size.
    """

    spec: ExtractionSpec
    preset: str
    order: list[Item]
    missing: set[str]
    compute: Compute
    journal: Journal

    def lane(self, timing: Timing) -> Lane[Item]:
        """Return the network with its batches.

        They are cut at fixed places, whatever an earlier run has finished: so a row's bits do not depend on where
        that run was killed.
        """
        size = self.journal.header.batch_size
        slots = [[i if i.key in self.missing else None for i in batch] for batch in batched(self.order, size)]
        return Lane(self.compute, self.spec.framing.side, slots, dtype=self.spec.dtype, batch_size=size, timing=timing)

    def wanted(self) -> dict[str, list[Item]]:
        """Return the missing items, by the digest of the image that they need."""
        found: dict[str, list[Item]] = {}
        for item in self.order:
            if item.key in self.missing:
                found.setdefault(item.sample.digest, []).append(item)
        return found

    def keep(self, outcome: Outcome[Item]) -> None:
        """Write a batch into the journal; when this returns, its rows survive any crash.

        Raises:
            StoreError: a feature is beyond the range of its type; or the disk is full.
        """
        if outcome.items:
            _check_range(outcome, self.spec.dtype)
            self.journal.append([item.key for item in outcome.items], outcome.features)


@dataclass
class Tally:
    """A count of what a run has computed for one network.

    Attributes:
        rows: that went through the network.
        failures: reasons of images that gave no row, by digest.
    """

    rows: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, rows: int, failures: Mapping[str, str]) -> None:
        """Count rows and failures of one more batch, or shard."""
        self.rows += rows
        self.failures.update(failures)


def compute(
    works: Sequence[Work], source: Source, report: Progress | None = None, note: Note | None = None, disk: int = 0
) -> tuple[list[Tally], Timing]:
    """Run networks on all that is missing. A batch is in its journal, safe, before it is reported.

    Args:
        works: one for each network.
        source: of all images.
        report: called as ``report("extracting", done, total)`` after each batch.
        note: called with a sentence if the run will take long.
        disk: bytes that it will take, for that sentence.

    Returns:
        One tally for each of the works, and where the time went.

    Raises:
        StoreError: see :meth:`Work.keep`; what is finished is kept.
    """
    tallies, timing = [Tally() for _ in works], Timing()
    if not works:
        return tallies, timing
    total = sum(len(work.order) for work in works)
    before = done = total - sum(len(work.missing) for work in works)
    if report:
        report("extracting", done, total)
    started, probed = time.perf_counter(), False
    finished = ahead(
        _batches(works, source, timing), lambda batch: _kept(works, batch, timing), BEHIND, ThreadPoolExecutor(1)
    )
    for (number, _), outcome in finished:
        tallies[number].add(len(outcome.items), {item.sample.digest: reason for item, reason in outcome.failures})
        done += len(outcome.items) + len(outcome.failures)
        if report:
            report("extracting", done, total)
        timing.total = time.perf_counter() - started
        if note and timing.total > PROBE and not probed:
            probed = True
            left = timing.total / (done - before) * (total - done)
            if left > LONG:
                note(f"this will take about {left / 60:.0f} minutes, and {disk / 2**20:,.0f} MiB of the disk")
    return tallies, timing


Batch = tuple[int, Callable[[], Outcome[Item]]]
"""The number of a network, and its running batch: see :meth:`featurestore.extraction.lanes.Lane.offer`."""


def _batches(works: Sequence[Work], source: Source, timing: Timing) -> Iterator[Batch]:
    """Start every batch as its decoded images come."""
    lanes, wanted = [work.lane(timing) for work in works], [work.wanted() for work in works]
    samples = {item.sample.digest: item.sample for found in wanted for items in found.values() for item in items}
    todo = sorted(samples.values(), key=lambda sample: sample.id)
    tasks = (
        ImageTask(
            sample,
            [
                Wish(work.spec.framing, work.preset, found.get(sample.digest, []))
                for work, found in zip(works, wanted, strict=True)
            ],
        )
        for sample in todo
    )
    per_image = max(len(items) for found in wanted for items in found.values())
    largest = max(work.journal.header.batch_size for work in works)
    window = max(2 * cores(), 2 * largest // per_image)
    for found in decode_ahead(source, tasks, len(todo), window):
        timing.add("read", found.read)
        timing.add("decode", found.decode)
        for number, (lane, pixels) in enumerate(zip(lanes, found.pixels, strict=True)):
            for batch in lane.offer(pixels):
                yield number, batch


def _kept(works: Sequence[Work], batch: Batch, timing: Timing) -> Outcome[Item]:
    """Wait for a batch and make its rows safe."""
    number, finish = batch
    outcome = finish()
    with timing.measured("write"):
        works[number].keep(outcome)
    return outcome


def _check_range(outcome: Outcome[Item], dtype: Dtype) -> None:
    for tap, array in outcome.features.items():
        if not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0])
            way_out = "use --dtype float32" if dtype == "float16" else "check the weights"
            raise StoreError(
                f"{outcome.items[row].sample.id}: a feature of tap {tap!r} is beyond the range of {dtype}: {way_out}; "
                "what is finished is kept"
            )
