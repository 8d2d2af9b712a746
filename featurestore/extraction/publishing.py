"""From finished rows to the feature file, and what a run says of it."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from math import nan
from operator import eq
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.backbones import Outline, licence_notes
from featurestore.errors import SourceError
from featurestore.extraction.job import Job
from featurestore.extraction.plan import Item, Plan
from featurestore.extraction.run import Tally
from featurestore.sources.samples import Dataset, Failure, Sample
from featurestore.sources.splits import split_counts, split_table
from featurestore.store import file_format
from featurestore.store.journal import journal_path, worker_journals
from featurestore.store.reader import FeatureStore
from featurestore.store.run_log import log
from featurestore.store.writer import Publication, publish
from featurestore.system.results import Result


@dataclass(frozen=True, repr=False)
class Extraction(Result):
    """What :func:`featurestore.extract` did.

    Attributes:
        path: the feature file.
        look: how its images are seen, see :attr:`featurestore.spec.Framing.look`.
        rows: rows in it.
        views: augmented versions of training rows in it.
        computed: rows and views that went through the backbone now.
        resumed: those that an interrupted run had finished.
        copied: those taken from other data sets of the same store.
        failures: inputs that gave no row.
        skipped: files that were passed over, by reason.
        notes: what the splits had to decide, and licences that are not free.
        classes: rows per class and split; where images have several labels, they count for each.
        splits: rows per split.
        seconds: wall time, of all backbones of the run together.
        timing: where those of the loop over the images went, see :meth:`featurestore.extraction.timing.Timing.to_dict`;
            all 0 on a cluster.
        written: False if the file already was as it should be.
    """

    path: Path
    look: str
    rows: int
    views: int
    computed: int
    resumed: int
    copied: int
    failures: list[Failure]
    skipped: dict[str, int]
    notes: list[str]
    classes: dict[str, dict[str, int]]
    splits: dict[str, int]
    seconds: float
    timing: dict[str, float]
    written: bool


def finish(
    job: Job, tally: Tally, dataset: Dataset, started: float, timing: dict[str, float], networks: int
) -> Extraction:
    """Publish what a job has, if that is anything new, and report.

    Args:
        job: all of whose rows are in its plan's files and journals now.
        tally: what this run has computed of it.
        dataset: all images.
        started: when the run began, by :func:`time.monotonic`.
        timing: for the result.
        networks: number of those that computed rows in this run.
    """
    plan = job.plan
    kept = [sample for sample in plan.samples if sample.digest in plan.rows]
    publication = _publication(job, {**job.failures, **tally.failures}, dataset, kept)
    written = plan.previous is None or not _same(publication, plan.previous)
    there = sum(item.key in plan.rows for item in plan.order)
    in_journals = sum(plan.rows.in_journals(item.key) for item in plan.order)
    plan.rows.close()
    if written:
        publish(publication, job.lock)
    for path in worker_journals(plan.target):
        path.unlink()
    journal_path(plan.target).unlink(missing_ok=True)
    result = Extraction(
        path=plan.target,
        look=job.spec.framing.look,
        rows=len(kept),
        views=len(publication.views[file_format.ROW]),
        computed=tally.rows,
        resumed=in_journals - tally.rows,
        copied=there - in_journals,
        failures=[Failure(path=path, reason=reason) for path, reason in publication.failures],
        skipped=dataset.skipped,
        notes=[*plan.notes, *licence_notes(job.backbone.name, job.backbone.licence)],
        classes=split_table(kept, dataset.class_names, plan.task),
        splits=split_counts(kept),
        seconds=round(time.monotonic() - started, 3),
        timing=timing,
        written=written,
    )
    log(plan.target, "end", rows=result.rows, computed=tally.rows, seconds=result.seconds, timing=timing,
        networks=networks, written=written)  # fmt: skip
    return result


def together(results: Sequence[Extraction], path: Path) -> Extraction:
    """Return what the extractions of parts of one data set, which lie in the folder `path`, have done together."""
    classes = {name: Counter(counts) for name, counts in results[0].classes.items()}
    for result in results[1:]:
        for name, counts in result.classes.items():
            classes[name].update(counts)
    numbers = {
        name: sum(getattr(result, name) for result in results)
        for name in ("rows", "views", "computed", "resumed", "copied")
    }
    columns = [split for split in file_format.FILE_SPLITS if any(split in counts for counts in classes.values())]
    return Extraction(
        path=path,
        look=results[0].look,
        failures=[failure for result in results for failure in result.failures],
        skipped=dict(sum((Counter(result.skipped) for result in results), Counter())),
        notes=list(dict.fromkeys(note for result in results for note in result.notes)),
        classes={name: {split: counts[split] for split in columns} for name, counts in classes.items()},
        splits=dict(sum((Counter(result.splits) for result in results), Counter())),
        timing={key: round(sum(result.timing[key] for result in results), 3) for key in results[0].timing},
        seconds=max(result.seconds for result in results),
        written=any(result.written for result in results),
        **numbers,
    )


def _publication(job: Job, reasons: dict[str, str], dataset: Dataset, kept: Sequence[Sample]) -> Publication:
    """Describe the file to be: every sample that has a row, in the order of their ids.

    Args:
        job: see :func:`finish`.
        reasons: of images that gave no row, by digest.
        dataset: see there.
        kept: the samples that have a row.

    Raises:
        SourceError: none has.
    """
    plan = job.plan
    failed = [(failure.path, failure.reason) for failure in dataset.failures]
    failed += [(s.path or s.id, reasons[s.digest]) for s in plan.samples if s.digest in reasons]
    if not kept:
        name, reason = failed[0]
        raise SourceError(f"{dataset.name}: none of {len(failed)} images could be read (first: {name}: {reason})")
    views = [(row, item) for row, sample in enumerate(kept) for item in _views(plan, sample)]
    used = set(map(plan.rows.path, chain((sample.digest for sample in kept), (item.key for _, item in views))))
    producers: list[dict[str, str]] = []
    for path, makers, _ in plan.rows.origins():
        producers += [maker for maker in makers if path in used and maker not in producers]
    return Publication(
        target=str(plan.target),
        dataset=dataset.name,
        spec=job.spec.to_json(),
        class_names=list(dataset.class_names),
        augment=plan.views.preset,
        provenance=_provenance(job.backbone, producers),
        taps=list(job.taps),
        columns=_columns(kept),
        views={file_format.ROW: [row for row, _ in views], file_format.NUMBER: [item.number for _, item in views]},
        failures=sorted(failed),
        sources=[str(path) for path, *_ in plan.rows.origins() if path in used],
        numeric=plan.numeric,
        values=_values(kept, plan.task.width(len(dataset.class_names)) + len(plan.numeric)),
        task=plan.task.name,
    )


def _provenance(backbone: Outline, producers: list[dict[str, str]]) -> dict[str, Any]:
    """Return what :class:`featurestore.store.file_format.Provenance` says."""
    known = {"licence": backbone.licence, "revision": backbone.revision}
    told = {name: text for name, text in known.items() if text}
    flops = {tap: count and count * backbone.crops for tap, count in backbone.flops.items()}
    return {"weights": backbone.weights, "flops": flops, "producers": producers, **told}


def _columns(samples: Sequence[Sample]) -> dict[str, list[Any]]:
    names = [*file_format.COLUMNS, *([file_format.GROUP] if any(sample.group for sample in samples) else [])]
    return {name: [getattr(sample, name) for sample in samples] for name in names}


def _values(samples: Sequence[Sample], columns: int) -> list[Sequence[float]]:
    """Return the values of each sample; a row that the data set does not name may have none, and gets NaN."""
    none = (nan,) * columns
    return [sample.values or none for sample in samples] if columns else []


def _views(plan: Plan, sample: Sample) -> list[Item]:
    """Return the views of one sample that have a row."""
    if len(plan.views.numbers(sample)) == 1:
        return []
    return [item for item in plan.views.items(sample) if item.number and item.key in plan.rows]


def _same(publication: Publication, file: FeatureStore) -> bool:
    """Tell whether the file already holds what would be written."""
    views = {file_format.ROW: file.view_rows, file_format.NUMBER: file.view_numbers}

    def column(name: str) -> Iterable[str]:
        return publication.columns.get(name) or repeat("", len(file))

    return (
        publication.columns[file_format.LABEL] == file.labels.tolist()
        # As an array or a list, a column would be the largest thing in memory.
        and all(all(map(eq, column(name), file.texts(name))) for name in file_format.TEXT_COLUMNS)
        and publication.numeric == list(file.columns)
        and publication.task == file.task
        and _equal(publication.values, file)
        and publication.views == {name: values.tolist() for name, values in views.items()}
        and list(file.failures) == publication.failures
        and list(file.class_names) == publication.class_names
    )


def _equal(values: Sequence[Sequence[float]], file: FeatureStore) -> bool:
    """Tell whether the answers and numbers of a file are these."""
    parts = [] if file.targets is None else [np.asarray(file.targets, np.float32)]
    parts += [np.asarray(file.features(file_format.TABULAR))] if file.columns else []
    if not parts:
        return not values
    return np.array_equal(np.array(values, np.float32), np.concatenate(parts, axis=1), equal_nan=True)
