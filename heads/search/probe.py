"""Which features suit a data set? One quick linear head is fitted on each tap."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from featurestore.errors import HeadError
from featurestore.spec import backbone_names
from featurestore.store.reader import FeatureStore, find_files
from featurestore.store.run_log import images_per_second
from featurestore.system.progress import Progress, reporting
from heads.evaluation.alike import Alike, find_alike
from heads.feature_table import FeatureTable, StoreTap, each_tap
from heads.fit import check_train, reader_of
from heads.kinds.linear import LogisticHead, RidgeHead
from heads.search.results import ProbeResult
from heads.solvers.arrays import Extent
from heads.solvers.calibration import stratified_folds
from heads.tasks.registry import SMALLER_IS_BETTER, TASKS

_FOLDS = 3
"""Number of folds of the train rows, where there are no validation rows."""


def probe(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    progress: bool | Progress | None = True,
    max_memory: int | None = None,
    group_near_duplicates: float | None = None,
    note: Callable[[str], None] | None = None,
) -> list[ProbeResult]:
    """Fit a logistic head on each tap of a feature file, or of all files in a folder. Test rows are not read.

    With files of several backbones it tells what their accuracy costs: images a second, operations, and width.

    Args:
        path: feature file or store folder.
        seed: of the folds.
        progress: see :func:`featurestore.system.progress.reporting`.
        max_memory: bytes that each fit may use, see :func:`heads.fit.fit_head`.
        group_near_duplicates, note: see :func:`heads.fit.fit_head`; found in the first features, for all.

    Returns:
        One result for each tap, the best first.

    Raises:
        StoreError, CorruptFileError: no readable feature file.
        HeadError: no train rows, one class only, NaN or infinity.

    Example:
        >>> [found] = probe("digits.h5", progress=False)
        >>> found.tap, found.width, found.accuracy > 0.8
        ('last', 64, True)
    """
    stores = [*map(FeatureStore, find_files(path))]
    taps, called = each_tap(stores), dict(zip(stores, backbone_names([s.spec for s in stores]), strict=True))
    groups = None
    if group_near_duplicates is not None:
        first = taps[0][1]
        groups = find_alike(FeatureTable(first[0][0].path, first), group_near_duplicates, note)
    found: list[ProbeResult] = []
    with reporting(progress) as told:
        for tap, sources in taps:
            found.append(replace(_judge(tap, sources, groups, seed, max_memory), backbone=called[sources[0][0]]))
            if told:
                name, value = next(iter(found[-1].metrics.items()))
                told("taps", len(found), len(taps), f"{tap}: {name} {value:.3f}")
    return sorted(found, key=_rank)


def _rank(result: ProbeResult) -> tuple[float, ...]:
    return tuple(-value for name, value in result.metrics.items() if name not in SMALLER_IS_BETTER)


def _judge(
    tap: str, sources: Sequence[StoreTap], groups: Alike | None, seed: int, max_memory: int | None
) -> ProbeResult:
    store = sources[0][0]
    table = FeatureTable(store.path, sources)
    table = table if groups is None else table.grouped_by(groups.names)
    train, validation, none = table.rows("train"), table.rows("validation"), np.arange(0)
    check_train(table, train)
    task = TASKS[table.task]
    if len(validation):
        trials = [(train, validation)]
    else:
        folds = stratified_folds(task.encode(table.y[train]).codes, _FOLDS, seed, table.groups(train))
        if folds.max() < 0:
            raise HeadError(f"{store.path}: too few train rows to hold some out: extract more images")
        trials = [(train[folds != i], train[folds == i]) for i in range(folds.max() + 1)]
    head = (RidgeHead if task.name not in LogisticHead.tasks else LogisticHead)(random_state=seed)
    extent = Extent(len(train), len(train), table.columns, task.width(table.y[train]))
    started, parts = time.perf_counter(), []
    for fitted, held in trials:
        numeric = table.scaling(fitted)
        read = reader_of(table, head, extent, max_memory, numeric)
        with table.named():
            head.fit(read(fitted, none), table.y[fitted], temperature=1.0, task=task.name)
            parts.append(head.outcomes(table.stream(held, numeric), table.y[held], len(table.class_names)))
    seconds = time.perf_counter() - started
    found = task.estimates(task.joined(parts))
    flops = store.provenance.get("flops", {}).get(sources[0][1])
    return ProbeResult(
        file=str(store.path),
        backbone=store.spec.backbone,
        tap=tap,
        width=table.columns,
        metrics={name: found[name].value for name in task.metrics if name in found},
        gflops=flops and flops / 1e9,
        images_per_second=images_per_second(store.path),
        seconds=round(seconds, 3),
    )
