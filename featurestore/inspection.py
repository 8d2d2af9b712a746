"""What a source holds, before anything is extracted: classes, splits, sizes, duplicates, unreadable files."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from featurestore.dataset import Sample, Source
from featurestore.errors import ImageError
from featurestore.images import dimensions
from featurestore.splits import assign_splits, split_table


def inspect_source(source: Source, progress: Callable[[str, int, int], None] | None = None) -> dict[str, Any]:
    """Read and decode every image once. Nothing is written, and no backbone is needed.

    Args:
        source: see :func:`featurestore.dataset.open_source`.
        progress: called as progress(stage, done, total).

    Returns:
        Plain JSON types: ``dataset``, ``images``, ``classes`` (images per class and split, as ``extract`` would
        place them), ``notes``, ``width`` and ``height`` (smallest, median, largest, in pixels), ``duplicates``
        (groups of ids whose files are the same), ``failures`` (pairs of path and reason), ``skipped``.

    Raises:
        SourceError: no image can be read.
    """
    report = progress or (lambda stage, done, total: None)
    dataset = source.dataset(lambda done, total: report("reading", done, total))
    samples, notes = assign_splits(dataset.samples, {}, class_names=dataset.class_names)

    def measure(sample: Sample) -> tuple[int, int] | ImageError:
        try:
            return dimensions(source.read(sample))
        except ImageError as error:
            return error

    failures = [[failure.path, failure.reason] for failure in dataset.failures]
    sizes = []
    with ThreadPoolExecutor() as pool:
        for done, (sample, outcome) in enumerate(zip(samples, pool.map(measure, samples), strict=True), 1):
            if isinstance(outcome, ImageError):
                failures.append([sample.path or sample.id, str(outcome)])
            else:
                sizes.append(outcome)
            report("decoding", done, len(samples))
    counts = Counter(sample.digest for sample in samples)
    groups: dict[str, list[str]] = {}
    for sample in samples:
        if counts[sample.digest] > 1:
            groups.setdefault(sample.digest, []).append(sample.id)
    quantiles = np.quantile(np.array(sizes or [(0, 0)]), [0, 0.5, 1], axis=0).round().astype(int)
    return {
        "dataset": dataset.name,
        "images": len(sizes),
        "classes": split_table(samples, dataset.class_names),
        "notes": notes,
        "width": quantiles[:, 0].tolist(),
        "height": quantiles[:, 1].tolist(),
        "duplicates": list(groups.values()),
        "failures": sorted(failures),
        "skipped": dict(dataset.skipped),
    }
