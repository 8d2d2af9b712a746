"""What a store folder already holds of a data set, and what is still to be computed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from featurestore.errors import SpecMismatchError, StoreError
from featurestore.images.augment import PRESETS, view_key
from featurestore.sources.samples import Dataset, Sample
from featurestore.sources.splits import DUPLICATE, assign_splits
from featurestore.spec import ExtractionSpec
from featurestore.store import file_format
from featurestore.store.finished_rows import Rows
from featurestore.store.journal import SUFFIX as JOURNAL_SUFFIX
from featurestore.store.journal import Journal
from featurestore.store.reader import FeatureStore


class Item(NamedTuple):
    """One row to be: an image, which is number 0, or a view of it. Its key names it in journals."""

    key: str
    sample: Sample
    number: int

    def __hash__(self) -> int:
        return hash(self.key)  # of all the strings, at every look into a dictionary, it is a tenth of a GPU's run


@dataclass
class Plan:
    """An extraction before its first batch.

    Attributes:
        target: the feature file to be.
        previous: the same file as the last run left it.
        rows: every finished row that may be used, whoever made it.
        journal: of an interrupted run, or None.
        samples: all samples with their splits; rows of one image share its digest.
        notes: what the splits had to decide.
        views: augmented versions of each training image.
        augment: preset that they are made by.
        order: the rows that `previous` lacks, each once. Batches are cut from this list, and it is the same for an
            interrupted run and for the one that resumes it.
        missing: keys of those whose features are nowhere yet.
    """

    target: Path
    previous: FeatureStore | None
    rows: Rows
    journal: Journal | None
    samples: list[Sample]
    notes: list[str]
    views: int
    augment: str
    order: list[Item]
    missing: set[str]

    @property
    def journal_path(self) -> Path:
        """Where rows go until they are published."""
        return self.target.with_name(self.target.name.removesuffix(file_format.SUFFIX) + JOURNAL_SUFFIX)

    def worker_journals(self) -> list[Path]:
        """Where the workers of a cluster put their rows: see :mod:`featurestore.extraction.cluster`."""
        return sorted(self.target.parent.glob(f"{self.journal_path.stem}.*{JOURNAL_SUFFIX}"))

    def adopt_journals(self, paths: Iterable[Path]) -> None:
        """Take in what workers have finished, as far as it belongs to the journal of this run."""
        known = {path for path, *_ in self.rows.origins()}
        for path in sorted(set(paths) - known):
            journal = Journal(path, read_only=True)
            if self.journal is not None and journal.header == self.journal.header:
                self.rows.add_journal(journal)
            else:
                journal.close()

    def numbers(self, sample: Sample) -> range:
        """The rows of one sample: number 0 is itself, the others its views, which it has if it is for training."""
        return range(self.views + 1 if sample.split == "train" else 1)

    def items(self, sample: Sample) -> list[Item]:
        """The rows of one sample, with their keys."""
        keys = ((view_key(sample.digest, self.augment, number), number) for number in self.numbers(sample))
        return [Item(key, sample, number) for key, number in keys]


def make_plan(
    folder: Path,
    dataset: Dataset,
    spec: ExtractionSpec,
    *,
    prune: bool = False,
    views: int | None = None,
    augment: str | None = None,
) -> Plan:
    """Look at the store and plan the rest. The caller holds the store's lock and closes ``plan.rows``.

    Raises:
        StoreError: rows would be lost, and `prune` does not allow it; or the file has views of another preset.
        SpecMismatchError: the target holds features of another spec.
        CorruptFileError: the target or its journal is damaged.
    """
    target = folder / f"{file_format.file_stem(dataset.name, spec)}{file_format.SUFFIX}"
    previous = _previous(target, spec)
    rows = Rows()
    placed: dict[str, str] = {}
    if previous is not None:
        rows.add_file(previous)
        pairs = zip(previous.digests.tolist(), previous.splits.tolist(), strict=True)
        placed = {digest: split for digest, split in pairs if split != DUPLICATE}
        if dataset.partial:
            dataset = replace(dataset, samples=_joined(previous, dataset))
        elif not prune:
            _refuse_to_lose(previous, dataset)
    samples, notes = assign_splits(dataset.samples, placed, class_names=dataset.class_names)
    plan = Plan(target, previous, rows, None, samples, notes, *_views(previous, views, augment), [], set())
    first = {sample.digest: sample for sample in reversed(samples)}
    unique = sorted(first.values(), key=lambda sample: sample.id)
    plan.order = [item for sample in unique for item in plan.items(sample) if item.key not in rows]
    for donor in _donors(folder, target, spec):
        rows.add_file(donor)
    if plan.journal_path.exists():
        journal = Journal(plan.journal_path)
        if len(journal) or any(_holds_rows(path) for path in plan.worker_journals()):
            plan.journal = journal
            rows.add_journal(journal)
        else:  # without rows it binds nobody to its engine, which may have been refused over its first batch
            journal.close()
        if journal.header.fingerprint != spec.fingerprint:
            raise SpecMismatchError(f"{plan.journal_path}: the journal of another extraction: delete it")
    plan.adopt_journals(plan.worker_journals())
    plan.missing = {item.key for item in plan.order if item.key not in rows}
    return plan


def _views(previous: FeatureStore | None, views: int | None, augment: str | None) -> tuple[int, str]:
    """How many views, by which preset: what is asked for, and never fewer than there are."""
    there = 0 if previous is None else int(max(previous.view_numbers, default=0))
    if previous is not None and there:
        _check_views(previous, there)
        if augment not in (None, previous.augment):
            raise StoreError(
                f"{previous.path}: has views made by {previous.augment!r}: keep that preset, "
                f"or pass --name to write views by {augment!r} into another file"
            )
        return max(there, views or 0), previous.augment
    return (views, augment or "mild") if views else (0, file_format.NO_AUGMENT)


def _check_views(previous: FeatureStore, most: int) -> None:
    """Every training row will get as many views as one has: so a number that few can have is not believed."""
    if previous.augment not in PRESETS:
        raise StoreError(
            f"{previous.path}: has views made by {previous.augment!r}, which this version does not know: "
            "upgrade featurestore, or pass --name to write another file"
        )
    if most * len(previous.rows("train")) > _SPARSEST * len(previous.view_rows):
        raise StoreError(
            f"{previous.path}: has {len(previous.view_rows):,} views, too few for {most:,} of each training row: "
            "delete it, or pass --name to write another file"
        )


_SPARSEST = 100
"""A file lacks views of rows whose images were gone when more views were asked for."""


def _holds_rows(path: Path) -> bool:
    journal = Journal(path, read_only=True)
    journal.close()
    return len(journal) > 0


def _previous(target: Path, spec: ExtractionSpec) -> FeatureStore | None:
    if not target.exists():
        return None
    previous = FeatureStore(target)
    if previous.fingerprint != spec.fingerprint:
        raise SpecMismatchError(
            f"{target}: holds features made otherwise ({'; '.join(spec.differences(previous.spec))}): "
            "rename that file, or extract into another --store"
        )
    return previous


def _refuse_to_lose(previous: FeatureStore, dataset: Dataset) -> None:
    """Images that are gone from the source take their rows with them only if the user says so."""
    there = {sample.digest for sample in dataset.samples}
    lost = [path for path, digest in zip(previous.ids, previous.digests, strict=True) if digest not in there]
    if lost:
        raise StoreError(
            f"{previous.path}: {len(lost)} of its {len(previous)} rows are of images that the source no longer "
            f"holds (first: {lost[0]}): pass --prune to drop them, or --name to write another file"
        )


def _joined(previous: FeatureStore, dataset: Dataset) -> list[Sample]:
    """The samples of a partial dataset, and those of the file that it does not name."""
    kept = {sample.id: sample for sample in previous.samples()}
    return sorted((kept | {sample.id: sample for sample in dataset.samples}).values(), key=lambda sample: sample.id)


def _donors(folder: Path, target: Path, spec: ExtractionSpec) -> Iterator[FeatureStore]:
    """Other data sets' files of the same store, made by the same spec."""
    for path in sorted(folder.glob(f"*{file_format.SUFFIX}")):
        if path == target:
            continue
        try:
            donor = FeatureStore(path)
        except StoreError:
            continue  # not asked for; `verify` names it, and here it only means to compute anew
        if donor.fingerprint == spec.fingerprint:
            yield donor
