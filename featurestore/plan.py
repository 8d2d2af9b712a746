"""What a store folder already holds of a data set, and what is still to be computed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from featurestore import layout
from featurestore.dataset import Dataset, Sample
from featurestore.errors import CorruptFileError, SpecMismatchError, StoreError
from featurestore.journal import SUFFIX as JOURNAL_SUFFIX
from featurestore.journal import Journal
from featurestore.rows import Rows
from featurestore.spec import ExtractionSpec
from featurestore.splits import DUPLICATE, assign_splits
from featurestore.store import FeatureStore


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
        order: one sample per image that `previous` lacks. Batches are cut from this list, and it is the same for
            an interrupted run and for the one that resumes it.
        missing: digests of those whose features are nowhere yet.
    """

    target: Path
    previous: FeatureStore | None
    rows: Rows
    journal: Journal | None
    samples: list[Sample]
    notes: list[str]
    order: list[Sample]
    missing: set[str]

    @property
    def journal_path(self) -> Path:
        """Where rows go until they are published."""
        return self.target.with_name(self.target.name.removesuffix(layout.SUFFIX) + JOURNAL_SUFFIX)


def make_plan(folder: Path, dataset: Dataset, spec: ExtractionSpec, *, prune: bool) -> Plan:
    """Look at the store and plan the rest. The caller holds the store's lock and closes ``plan.rows``.

    Raises:
        StoreError: rows would be lost, and `prune` does not allow it.
        SpecMismatchError: the target holds features of another spec.
        CorruptFileError: the target or its journal is damaged.
    """
    target = folder / f"{layout.file_stem(dataset.name, spec)}{layout.SUFFIX}"
    previous = _previous(target, spec)
    placed: dict[str, str] = {}
    rows = Rows()
    if previous is not None:
        pairs = zip(previous.digests.tolist(), previous.splits.tolist(), strict=True)
        placed = {digest: split for digest, split in pairs if split != DUPLICATE}
        rows.add_file(previous)
        if not prune:
            _refuse_to_lose(previous, dataset)
    for donor in _donors(folder, target, spec):
        rows.add_file(donor)
    samples, notes = assign_splits(dataset.samples, placed, class_names=dataset.class_names)
    first = {sample.digest: sample for sample in reversed(samples)}
    order = [sample for sample in first.values() if sample.digest not in placed]
    order.sort(key=lambda sample: sample.id)
    plan = Plan(target, previous, rows, None, samples, notes, order, set())
    if plan.journal_path.exists():
        plan.journal = Journal(plan.journal_path)
        rows.add_journal(plan.journal)
        if plan.journal.header.fingerprint != spec.fingerprint:
            raise SpecMismatchError(f"{plan.journal_path}: the journal of another extraction: delete it")
    plan.missing = {sample.digest for sample in order if sample.digest not in rows}
    return plan


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


def _donors(folder: Path, target: Path, spec: ExtractionSpec) -> Iterator[FeatureStore]:
    """Other data sets' files of the same store, made by the same spec."""
    for path in sorted(folder.glob(f"*{layout.SUFFIX}")):
        if path == target:
            continue
        try:
            donor = FeatureStore(path)
        except CorruptFileError:
            continue  # not asked for; `verify` names it, and here it only means to compute anew
        if donor.fingerprint == spec.fingerprint:
            yield donor
