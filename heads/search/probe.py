"""Which features suit a data set? One quick linear head is fitted on each tap."""

import os
import time

import numpy as np

from featurestore.errors import HeadError
from featurestore.store.reader import FeatureStore, find_files
from featurestore.system.progress import Progress, reporting
from heads.feature_table import FeatureTable
from heads.fit import check_train
from heads.kinds.linear import LogisticHead
from heads.metrics.estimates import estimates_of
from heads.metrics.outcomes import Outcomes
from heads.search.results import ProbeResult
from heads.solvers.calibration import stratified_folds

_FOLDS = 3
"""Number of folds of the train rows, where there are no validation rows."""


def probe(path: str | os.PathLike[str], *, seed: int = 0, progress: bool | Progress | None = True) -> list[ProbeResult]:
    """Fit a logistic head on each tap of a feature file, or of all files in a folder. Test rows are not read.

    Args:
        path: feature file or store folder.
        seed: of the folds.
        progress: see :func:`featurestore.system.progress.reporting`.

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
    taps = [(store, tap) for store in map(FeatureStore, find_files(path)) for tap in store.taps]
    found: list[ProbeResult] = []
    with reporting(progress) as told:
        for store, tap in taps:
            found.append(_judge(store, tap, seed))
            if told:
                told("taps", len(found), len(taps), f"{tap}: accuracy {found[-1].accuracy:.3f}")
    return sorted(found, key=lambda row: (-row.accuracy, -row.macro_f1))


def _judge(store: FeatureStore, tap: str, seed: int) -> ProbeResult:
    table = FeatureTable(store.path, [(store, tap)])
    known = {split: table.select(split) for split in ("train", "validation") if len(table.rows(split))}
    check_train(table, table.rows("train"))
    X, y = known["train"]
    if "validation" in known:
        trials = iter([((X, y), known["validation"])])
    else:
        folds = stratified_folds(y.astype(np.intp), _FOLDS, seed, table.groups(table.rows("train")))
        if folds.max() < 0:
            raise HeadError(f"{store.path}: too few train rows to hold some out: extract more images")
        trials = (((X[folds != i], y[folds != i]), (X[folds == i], y[folds == i])) for i in range(folds.max() + 1))
    started, parts = time.perf_counter(), []
    for train, (rows, labels) in trials:
        with table.named():
            head = LogisticHead(random_state=seed).fit(*train, temperature=1.0)
            parts.append(head.outcomes(rows, labels, len(table.class_names)))
    seconds = time.perf_counter() - started
    found = estimates_of(Outcomes.joined(parts))
    flops = store.provenance.get("flops", {}).get(tap)
    return ProbeResult(
        file=str(store.path),
        backbone=store.spec.backbone,
        tap=tap,
        width=X.shape[1],
        accuracy=found["accuracy"].value,
        macro_f1=found["macro_f1"].value,
        gflops=flops and flops / 1e9,
        seconds=round(seconds, 3),
    )
