"""See what a source holds, before anything is extracted: classes, splits, sizes, duplicates, unreadable files."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import ImageError
from featurestore.images.decode import opened
from featurestore.pages.html import thumbnail, write
from featurestore.sources.base import Source, brought
from featurestore.sources.samples import Dataset, Sample
from featurestore.sources.splits import assign_splits, split_counts, split_table
from featurestore.sources.tasks import TASKS, Task
from featurestore.system.files import check_writable
from featurestore.system.parallel import ahead
from featurestore.system.progress import Progress, reporting
from featurestore.system.results import Result

Look = tuple[int, int, str]
"""Width, height, and a thumbnail as a data URI or ""."""

PICTURES, PER_CLASS, GROUPS = 240, 24, 24
"""How many thumbnails a page shows at most: in its sample grid, of one class there, and of duplicates."""

_AHEAD = 256
"""Images that are decoded before they are asked for, at most."""

SHAPES = {
    "narrow, to 1:2": 1 / 2,
    "upright, to 4:5": 4 / 5,
    "squarish, to 5:4": 5 / 4,
    "wide, to 2:1": 2.0,
    "wider": np.inf,
}
"""Ranges of width / height, each with its upper end."""


@dataclass(frozen=True, repr=False)
class Inspection(Result):
    """What :func:`inspect_source` found.

    Attributes:
        dataset: name of the data set.
        images: how many images were decoded.
        classes: images of each class in each split, as ``extract`` would place them.
        groups: number of groups whose images must not be divided.
        notes: what the splits had to decide.
        width, height: smallest, median and largest, in pixels.
        duplicates: groups of ids whose files have the same bytes.
        failures: path and reason of each file that cannot be read.
        skipped: how many files were passed over, by reason.
    """

    dataset: str
    images: int
    classes: dict[str, dict[str, int]]
    splits: dict[str, int]
    groups: int
    notes: list[str]
    width: list[int]
    height: list[int]
    duplicates: list[list[str]]
    failures: list[tuple[str, str]]
    skipped: dict[str, int]


def inspect_source(
    source: Source, progress: bool | Progress = True, *, page: str | os.PathLike[str] | None = None
) -> Inspection:
    """Read and decode every image once. Nothing is written but the page, and no backbone is needed.

    Args:
        source: see :func:`featurestore.open_source`.
        progress: see :func:`featurestore.system.progress.reporting`.
        page: an HTML file to write, which shows what was found in pictures.

    Raises:
        SourceError: no image can be read.
        WriteError: the page cannot be written; this is found before the first image is read.

    Example:
        >>> from featurestore import open_source
        >>> found = inspect_source(open_source("images"), progress=False)
        >>> found.images, list(found.classes), found.failures
        (30, ['blue', 'green', 'red'], [])
    """
    if page is not None:
        check_writable(page)
    with reporting(progress) as update:
        report = update or (lambda stage, done, total: None)
        dataset = source.dataset(lambda done, total: report("reading", done, total))
        task, names = TASKS[dataset.task], dataset.class_names
        samples, notes = assign_splits(dataset.samples, {}, class_names=names, task=task)
        groups = _duplicates(samples, task, len(names))
        grid = _grid(samples, task, len(names)) if page else {}
        shown = {sample.digest for row in (*grid.values(), *(groups[:GROUPS] if page else ())) for sample in row}
        sizes, pictures, failures = _decode_all(source, samples, shown, report)
    quantiles = np.quantile(np.array(sizes or [(0, 0)]), [0, 0.5, 1], axis=0).round().astype(int)
    found = Inspection(
        dataset=dataset.name,
        images=len(sizes),
        classes=split_table(samples, names, task),
        splits=split_counts(samples),
        groups=len({sample.group for sample in samples} - {""}),
        notes=notes,
        width=quantiles[:, 0].tolist(),
        height=quantiles[:, 1].tolist(),
        duplicates=sorted([sample.id for sample in group] for group in groups),
        failures=sorted([(failure.path, failure.reason) for failure in dataset.failures] + failures),
        skipped=dict(dataset.skipped),
    )
    if page:
        _draw(Path(page), found, dataset, np.array(sizes).reshape(-1, 2), grid, groups, pictures)
    return found


def _decode_all(
    source: Source, samples: Sequence[Sample], shown: set[str], report: Progress
) -> tuple[list[tuple[int, int]], dict[str, Look], list[tuple[str, str]]]:
    """Return the size of each image, the looks at those to be `shown` by digest, and path and reason of failures."""
    sizes, pictures, failures = list[tuple[int, int]](), dict[str, Look](), list[tuple[str, str]]()
    for done, (sample, look) in enumerate(looks(source, samples, shown), 1):
        if isinstance(look, ImageError):
            failures.append((sample.path or sample.id, str(look)))
        else:
            sizes.append(look[:2])
            if look[2]:
                pictures[sample.digest] = look
        report("decoding", done, len(samples))
    return sizes, pictures, failures


def _duplicates(samples: Sequence[Sample], task: Task, classes: int) -> list[list[Sample]]:
    """Return groups of samples that have the same bytes; those under two classes come first."""
    groups = defaultdict(list)
    for sample in samples:
        groups[sample.digest].append(sample)
    return sorted(
        (g for g in groups.values() if len(g) > 1), key=lambda g: (not _contradict(g, task, classes), g[0].id)
    )


def _contradict(group: Sequence[Sample], task: Task, classes: int) -> bool:
    return any(task.contradicts(group[0], other, classes) for other in group[1:])


def _grid(samples: Sequence[Sample], task: Task, count: int) -> dict[int, list[Sample]]:
    """Choose a few different images of each class, the largest class first, by their digests and not by their names."""
    classes: dict[int, dict[str, Sample]] = defaultdict(dict)
    for sample in samples:
        for label in task.classes(sample, count):
            classes[label].setdefault(sample.digest, sample)
    largest = sorted(classes, key=lambda label: (-len(classes[label]), label))[:PICTURES]
    each = min(PER_CLASS, PICTURES // len(largest))
    return {label: [classes[label][digest] for digest in nsmallest(each, classes[label])] for label in largest}


def looks(source: Source, samples: Sequence[Sample], shown: set[str]) -> Iterator[tuple[Sample, Look | ImageError]]:
    """Decode samples, in threads: give the size of each, and a thumbnail where `shown` has its digest."""

    def look(sample: Sample) -> Look | ImageError:
        try:
            with source.reading(sample) as data, opened(data) as picture:
                return *picture.size, thumbnail(picture) if sample.digest in shown else ""
        except ImageError as error:
            return error.alone()

    yield from ahead(brought(source, samples, lambda sample: sample), look, window=_AHEAD)


def _draw(
    file: Path,
    found: Inspection,
    dataset: Dataset,
    sizes: NDArray[np.int64],
    grid: Mapping[int, Sequence[Sample]],
    groups: Sequence[Sequence[Sample]],
    pictures: Mapping[str, Look],
) -> None:
    """Write the page."""
    task, class_names = TASKS[dataset.task], dataset.class_names

    def shown(samples: Sequence[Sample]) -> list[dict[str, str]]:
        return [
            {"uri": uri, "alt": f"{task.answer(sample, class_names)}: {sample.id}, {width} × {height}, {sample.split}"}
            for sample in samples
            for width, height, uri in [pictures.get(sample.digest, (0, 0, ""))]
            if uri
        ]

    ratios = sizes[:, 0] / sizes[:, 1]
    shapes = np.bincount(np.searchsorted(list(SHAPES.values()), ratios), minlength=len(SHAPES)).tolist()
    groups = groups[:GROUPS]
    doubted = [_contradict(group, task, len(class_names)) for group in groups]
    named = [(shown(group[:1]), [sample.id for sample in group]) for group in groups]
    write(
        file,
        "inspection.html",
        found=found,
        classes=sorted(found.classes.items(), key=lambda item: (-sum(item[1].values()), item[0])),
        sizes=sizes,
        ratios=np.quantile(ratios, [0, 0.5, 1]) if len(ratios) else [],
        shapes=[(name, {"images": count}) for name, count in zip(SHAPES, shapes, strict=True)],
        grid=[(class_names[label], shown(row)) for label, row in grid.items()],
        each=max(map(len, grid.values())),
        contradictions=[each for each, doubt in zip(named, doubted, strict=True) if doubt],
        duplicates=[each for each, doubt in zip(named, doubted, strict=True) if not doubt],
    )
