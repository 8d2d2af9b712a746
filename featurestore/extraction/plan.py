"""What a store folder already holds of a data set, and what is still to be computed."""

from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from featurestore.errors import SpecMismatchError, StoreError
from featurestore.images.augment import AUGMENTATIONS, view_key
from featurestore.sources.samples import Dataset, Sample
from featurestore.sources.splits import DUPLICATE, assign_splits
from featurestore.sources.tasks import TASKS, Task
from featurestore.spec import ExtractionSpec
from featurestore.store import file_format
from featurestore.store.finished_rows import FinishedRows
from featurestore.store.journal import Journal, journal_path, worker_journals
from featurestore.store.reader import FeatureStore


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """One row to be: an image or an augmented view of it.

    Attributes:
        key: names the row in journals; two items of one key are the same row.
        sample: the image.
        number: 0 for the image itself, from 1 for its views.
    """

    key: str
    sample: Sample
    number: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Item) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True)
class ViewRule:
    """Which augmented views the images of a data set have.

    Attributes:
        count: of each training image; the other images have none.
        preset: of :data:`featurestore.images.augment.AUGMENTATIONS`, or ``none``.
    """

    count: int = 0
    preset: str = file_format.NO_AUGMENT

    def numbers(self, sample: Sample) -> range:
        """Return the numbers of one sample's rows: 0 is the image itself, the others are its views."""
        return range(self.count + 1 if sample.split == "train" else 1)

    def items(self, sample: Sample, without: Container[str] = ()) -> Iterator[Item]:
        """Give the rows of one sample, with their keys, but for those of some keys."""
        for number in self.numbers(sample):
            key = view_key(sample.digest, self.preset, number)
            if key not in without:
                yield Item(key=key, sample=sample, number=number)


@dataclass(frozen=True, eq=False)
class Plan:
    """An extraction before its first batch.

    Attributes:
        target: the feature file to be.
        previous: the same file as the last run left it; None before the first run.
        rows: every finished row that may be used, whoever made it.
        interrupted: the journal of a run that was interrupted, with which this run goes on; or None.
        samples: all samples with their splits; rows of one image share its digest.
        notes: what the splits had to decide, for people.
        views: of the training images.
        order: the rows that `previous` lacks, each once. Batches are cut from this list, and it is the same for an
            interrupted run and for the one that resumes it.
        missing: keys of those rows in `order` whose features are nowhere yet.
        numeric: the numeric columns of the samples.
        task: what is asked of them.
    """

    target: Path
    previous: FeatureStore | None
    rows: FinishedRows
    interrupted: Journal | None
    samples: list[Sample]
    notes: list[str]
    views: ViewRule
    order: list[Item]
    missing: set[str]
    numeric: list[file_format.Column]
    task: Task


def make_plan(
    target: Path,
    folder: Path,
    dataset: Dataset,
    spec: ExtractionSpec,
    prune: bool = False,
    views: int | None = None,
    augment: str | None = None,
) -> Plan:
    """Look at the store and plan the rest. The caller holds the lock of the target and closes ``plan.rows``.

    Args:
        target: the feature file to be.
        folder: the store, whose other files may have rows of the same images.
        dataset: all images.
        spec: how their rows are made.
        prune: drop rows of images that the data set no longer holds.
        views, augment: see :class:`featurestore.extraction.options.ExtractionOptions`.

    Raises:
        StoreError: rows would be lost, and `prune` does not allow it; or the file has views of another preset.
        SpecMismatchError: the target holds features of another spec.
        CorruptFileError: the target or its journal is damaged.
    """
    previous = _previous(target, spec)
    rows = FinishedRows()
    digests: list[str] = []
    if previous is not None:
        if dataset.partial:
            dataset = replace(dataset, samples=_joined(previous, dataset))
        digests = _digests(previous, dataset)
        rows.add_file(previous, digests)
        if not (dataset.partial or prune):
            _refuse_to_lose(previous, digests, dataset)
    task = TASKS[dataset.task]
    samples, notes = assign_splits(
        dataset.samples, _placed(previous, digests), class_names=dataset.class_names, task=task
    )
    rule = _view_rule(previous, views, augment)
    first = {sample.digest: sample for sample in reversed(samples)}
    unique = sorted(first.values(), key=lambda sample: sample.id)
    order = [item for sample in unique for item in rule.items(sample, without=rows)]
    for donor in _donors(folder, target, spec):
        rows.add_file(donor)
    interrupted = _interrupted(target, spec)
    if interrupted is not None:
        rows.add_journal(interrupted)
        rows.adopt(worker_journals(target), interrupted.header)
    missing = {item.key for item in order if item.key not in rows}
    numeric = [*map(file_format.Column, dataset.columns, dataset.codes)]
    if dataset.partial and previous is not None and not numeric:
        numeric = [*previous.columns]
    return Plan(target, previous, rows, interrupted, samples, notes, rule, order, missing, numeric, task)


def _interrupted(target: Path, spec: ExtractionSpec) -> Journal | None:
    """Open the journal of an interrupted run, if there is one with rows.

    Without rows a journal binds nobody to its engine, which may have been refused over its first batch.
    """
    path = journal_path(target)
    if not path.exists():
        return None
    journal = Journal(path)
    if journal.header.fingerprint != spec.fingerprint:
        journal.close()
        raise SpecMismatchError(f"{path}: the journal of another extraction: delete it")
    if len(journal) or any(_holds_rows(worker) for worker in worker_journals(target)):
        return journal
    journal.close()
    return None


def _holds_rows(path: Path) -> bool:
    with Journal(path, read_only=True) as journal:
        return len(journal) > 0


def _view_rule(previous: FeatureStore | None, views: int | None, augment: str | None) -> ViewRule:
    """Decide how many views there will be, by which preset: what is asked for, and never fewer than the file has."""
    there = 0 if previous is None else int(max(previous.view_numbers, default=0))
    if previous is not None and there:
        _check_views(previous, there)
        if augment not in (None, previous.augment):
            raise StoreError(
                f"{previous.path}: has views made by {previous.augment!r}: keep that preset, "
                f"or pass --name to write views by {augment!r} into another file"
            )
        return ViewRule(max(there, views or 0), previous.augment)
    return ViewRule(views, augment or "mild") if views else ViewRule()


def _check_views(previous: FeatureStore, most: int) -> None:
    """Refuse a file in which few rows have many views: every training row would get as many as one row has."""
    if previous.augment not in AUGMENTATIONS:
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


def _previous(target: Path, spec: ExtractionSpec) -> FeatureStore | None:
    if not target.exists():
        if target.is_symlink():  # the file would be written wherever it leads
            raise StoreError(f"{target}: a link to a file that is not there: delete the link, or bring the file back")
        return None
    previous = FeatureStore(target)
    if previous.fingerprint != spec.fingerprint:
        raise SpecMismatchError(
            f"{target}: holds features made otherwise ({'; '.join(spec.differences(previous.spec))}): "
            "rename that file, or extract into another --store"
        )
    return previous


def _digests(previous: FeatureStore, dataset: Dataset) -> list[str]:
    """Return the digest of each row of a file. Of images that are there it is the sample's own string: a digest takes
    113 bytes, and there may be millions.
    """
    there = {sample.digest: sample.digest for sample in dataset.samples}
    return [there.get(digest, digest) for digest in previous.texts(file_format.DIGEST)]


def _placed(previous: FeatureStore | None, digests: list[str]) -> dict[str, str]:
    """Return the split that each image had in a file, by its digest."""
    splits = () if previous is None else previous.texts(file_format.SPLIT)
    return {digest: split for digest, split in zip(digests, splits, strict=True) if split != DUPLICATE}


def _refuse_to_lose(previous: FeatureStore, digests: list[str], dataset: Dataset) -> None:
    """Refuse to drop the rows of images that are gone from the source, which only the user may decide."""
    there = {sample.digest for sample in dataset.samples}
    lost = [i for i, digest in enumerate(digests) if digest not in there]
    if lost:
        raise StoreError(
            f"{previous.path}: {len(lost)} of its {len(previous)} rows are of images that the source no longer "
            f"holds (first: {previous.ids[lost[0]]}): pass --prune to drop them, or --name to write another file"
        )


def _joined(previous: FeatureStore, dataset: Dataset) -> list[Sample]:
    """Return the samples of a partial data set, and those of the file that it does not name."""
    kept = {sample.id: sample for sample in previous.samples()}
    return sorted((kept | {sample.id: sample for sample in dataset.samples}).values(), key=lambda sample: sample.id)


def _donors(folder: Path, target: Path, spec: ExtractionSpec) -> Iterator[FeatureStore]:
    """Give the files of other data sets in the store that were made by the same spec."""
    for path in sorted(folder.glob(f"*{file_format.SUFFIX}")):
        if path == target:
            continue
        try:
            donor = FeatureStore(path)
        except StoreError:
            continue  # nobody asked for it: `verify` names a damaged file, and here its rows are computed anew
        if donor.fingerprint == spec.fingerprint:
            yield donor
