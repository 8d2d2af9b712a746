"""Stage 1: find out what is missing, run the backbone on that, publish."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featurestore import backbones, engines, layout
from featurestore.dataset import Dataset, Failure, Sample, Source, open_source
from featurestore.errors import BackboneError, SourceError, SpecMismatchError, StoreError, suggest
from featurestore.forward import Forward, Outcome, batched
from featurestore.journal import Journal, JournalHeader, TapLayout
from featurestore.lock import store_lock
from featurestore.plan import Plan, make_plan
from featurestore.publish import Publication, check_space, publish, remove_drafts
from featurestore.spec import DTYPES, RESIZES, Dtype, ExtractionSpec, Pool, Resize
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
        computed: images that went through the backbone now.
        resumed: images that an interrupted run had finished.
        copied: images taken from other data sets of the same store.
        failures: inputs that gave no row.
        skipped: files that were passed over, by reason.
        notes: what the splits had to decide.
        classes: rows per class and split.
        seconds: wall time.
        written: False if the file already was as it should be.
    """

    path: Path
    rows: int
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
    size: int | None = None,
    pool: Pool = "avg",
    resize: Resize = "squash",
    dtype: Dtype = "float32",
    batch_size: int = 32,
    prune: bool = False,
    progress: Progress | None = None,
) -> Extraction:
    """Run a frozen backbone once over the images of `source`, and keep its features in a file in `store`.

    Only what is missing is computed: images in the file already, in another file of the store made by the same
    spec, or in the journal of an interrupted run do not go through the backbone again.

    Args:
        source: a folder, manifest or ``.npz`` file, or what :func:`featurestore.dataset.open_source` returned.
        store: folder for the feature file; made if need be.
        backbone, weights, size, pool: see :func:`featurestore.backbones.load_backbone`.
        resize: ``squash`` to a square, ``crop`` the centre, or ``pad`` with black.
        dtype: of the stored features.
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
    _check_options(backbone, size, pool, weights, resize, dtype, batch_size)
    if not isinstance(source, Source):
        source = open_source(source)
    with store_lock(Path(store)) as lock:
        remove_drafts(Path(store))
        dataset = source.dataset(lambda done, total: report("reading", done, total))
        frozen = backbones.load_backbone(backbone, weights=weights, size=size, pool=pool)
        spec = frozen.spec(resize, dtype)
        plan = make_plan(Path(store), dataset, spec, prune=prune)
        with plan.rows:
            resumed = sum(sample.digest in plan.journal for sample in plan.order) if plan.journal else 0
            _log(plan, "start", samples=len(plan.samples), missing=len(plan.missing))
            failures = _compute(plan, source, frozen, spec, batch_size, report) if plan.missing else {}
            publication = _publication(plan, dataset, frozen, spec, failures)
            written = plan.previous is None or not _same(publication, plan.previous)
            if written:
                publish(publication, lock)
            if plan.journal is not None:
                plan.journal.path.unlink()
    computed = len(plan.missing) - len(failures)
    kept = [sample for sample in plan.samples if sample.digest not in failures]
    result = Extraction(
        path=plan.target,
        rows=len(kept),
        computed=computed,
        resumed=resumed,
        copied=len(plan.order) - len(plan.missing) - resumed,
        failures=[Failure(*failure) for failure in publication.failures],
        skipped=dataset.skipped,
        notes=plan.notes,
        classes=split_table(kept, dataset.class_names),
        seconds=round(time.monotonic() - started, 3),
        written=written,
    )
    _log(plan, "end", rows=result.rows, computed=computed, seconds=result.seconds, written=written)
    return result


def _check_options(
    backbone: str, size: int | None, pool: str, weights: str, resize: str, dtype: str, batch_size: int
) -> None:
    """Everything that can be wrong is said before anything slow begins."""
    backbones.check(backbone, size, pool, weights)
    for what, value, known in (("resize rule", resize, RESIZES), ("dtype", dtype, DTYPES)):
        if value not in known:
            raise BackboneError(f"unknown {what} {value!r}: {suggest(value, known)}")
    if batch_size < 1:
        raise BackboneError(f"batch size {batch_size}: it must be at least 1")


def _taps(backbone: backbones.Backbone, dtype: Dtype) -> list[TapLayout]:
    return [TapLayout(tap, shape, np.dtype(dtype).newbyteorder("<").str) for tap, shape in backbone.shapes.items()]


def _compute(
    plan: Plan,
    source: Source,
    backbone: backbones.Backbone,
    spec: ExtractionSpec,
    batch_size: int,
    report: Progress,
) -> dict[str, str]:
    """Run the backbone on all that is missing. Returns the reasons of images that gave no row, by digest.

    A batch is in the journal, safe, before it is reported. Batches are cut at fixed places, whatever an earlier run
    has finished, and keep that run's engine and size: so a row's bits do not depend on where that run was killed.
    """
    taps = _taps(backbone, spec.dtype)
    row_bytes = sum(tap.row_bytes for tap in taps)
    check_space(plan.target.parent, (len(plan.missing) + len(plan.samples)) * row_bytes)
    header = plan.journal.header if plan.journal else None
    engine = header.engine if header else engines.DEFAULT
    batch_size = header.batch_size if header else batch_size
    producer = engines.producer(engine)
    forward = Forward(source.read, backbone, resize=spec.resize, dtype=spec.dtype, batch_size=batch_size, engine=engine)
    _check_canaries(plan, forward, producer, spec.dtype)
    if plan.journal is None:
        header = JournalHeader(spec.fingerprint, engine, batch_size, producer, tuple(taps))
        plan.journal = Journal.create(plan.journal_path, header)
        plan.rows.add_journal(plan.journal)
    slots = [[s if s.digest in plan.missing else None for s in batch] for batch in batched(plan.order, batch_size)]
    failures: dict[str, str] = {}
    done, total = len(plan.order) - len(plan.missing), len(plan.order)
    report("extracting", done, total)
    for outcome in forward.run(batch for batch in slots if any(batch)):
        if outcome.items:
            _check_range(outcome, spec.dtype)
            plan.journal.append([sample.digest for sample in outcome.items], outcome.features)
        failures.update((sample.digest, reason) for sample, reason in outcome.failures)
        done += len(outcome.items) + len(outcome.failures)
        report("extracting", done, total)
    return failures


def _check_range(outcome: Outcome[Sample], dtype: Dtype) -> None:
    for tap, array in outcome.features.items():
        if not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0])
            way_out = "use --dtype float32" if dtype == "float16" else "check the weights"
            raise StoreError(
                f"{outcome.items[row].id}: a feature of tap {tap!r} is beyond the range of {dtype}: {way_out}; "
                "what is finished is kept"
            )


def _check_canaries(plan: Plan, forward: Forward[Sample], producer: dict[str, str], dtype: Dtype) -> None:
    """Recompute a few old rows of every file or journal that other versions made; refuse to mix what differs."""
    by_digest = {sample.digest: sample for sample in plan.samples}
    for path, makers, digests in plan.rows.origins():
        old = [by_digest[digest] for digest in digests if digest in by_digest]
        if makers == [producer] or not old:
            continue
        some = old[:: max(1, len(old) // CANARIES)][:CANARIES]
        for outcome in forward.run([sample] for sample in some):
            for sample in outcome.items:
                difference = max(
                    _difference(plan.rows[sample.digest][tap], new[0]) for tap, new in outcome.features.items()
                )
                if difference > TOLERANCE[dtype]:
                    raise SpecMismatchError(
                        f"{path}: made by other versions ({makers}), and the features of {sample.id} now differ by "
                        f"{difference:.1%}: extract into another --store, or delete that file to make all rows anew"
                    )


def _difference(old: Any, new: Any) -> float:
    """Largest difference relative to the largest old value."""
    old, new = np.asarray(old, np.float64), np.asarray(new, np.float64)
    return float(np.abs(new - old).max() / max(np.abs(old).max(), np.finfo(np.float32).tiny))


def _publication(
    plan: Plan,
    dataset: Dataset,
    backbone: backbones.Backbone,
    spec: ExtractionSpec,
    failures: Mapping[str, str],
) -> Publication:
    """The file to be: every sample that has a row, in the order of their ids."""
    kept = [sample for sample in plan.samples if sample.digest not in failures]
    failed = [(failure.path, failure.reason) for failure in dataset.failures]
    failed += [(s.path or s.id, failures[s.digest]) for s in plan.samples if s.digest in failures]
    if not kept:
        name, reason = failed[0]
        raise SourceError(f"{dataset.name}: none of {len(failed)} images could be read (first: {name}: {reason})")
    used = {plan.rows.path(sample.digest) for sample in kept}
    producers: list[dict[str, str]] = []
    for path, makers, _ in plan.rows.origins():
        producers += [maker for maker in makers if path in used and maker not in producers]
    return Publication(
        target=str(plan.target),
        dataset=dataset.name,
        spec=spec.to_json(),
        class_names=list(dataset.class_names),
        provenance={"weights": backbone.weights, "producers": producers},
        taps=_taps(backbone, spec.dtype),
        columns={name: [getattr(sample, name) for sample in kept] for name in layout.COLUMNS},
        failures=sorted(failed),
        sources=[str(path) for path, *_ in plan.rows.origins() if path in used],
    )


def _same(publication: Publication, file: FeatureStore) -> bool:
    """Whether the file already says what would be written."""
    there: dict[str, Sequence[Any]] = {
        layout.ID: file.ids.tolist(),
        layout.PATH: file.paths.tolist(),
        layout.DIGEST: file.digests.tolist(),
        layout.LABEL: file.labels.tolist(),
        layout.SPLIT: file.splits.tolist(),
    }
    return (
        there == publication.columns
        and list(file.failures) == publication.failures
        and list(file.class_names) == publication.class_names
    )


def _log(plan: Plan, event: str, **values: Any) -> None:
    """Times and circumstances go beside the file, never into it."""
    line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, "pid": os.getpid(), **values}
    with plan.target.with_name(plan.target.name.removesuffix(layout.SUFFIX) + ".log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
