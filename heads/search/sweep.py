"""A sweep judges a hundred heads for the price of one, takes the best and refits it.

With folds, designs are judged on train and validation rows together, each row held out once. Without, they are fitted
on the train rows and judged on the validation rows. The winner is the best by the metric's mean (of equally good ones,
that of the least log loss, then the smallest). It is refitted on train and validation rows, and measured once on the
test rows, which nothing before has read. In the folder of the sweep stand the trials (:data:`heads.search.trials.FILE`,
each written as soon as it is known), the winner and the summary (:data:`heads.search.results.SUMMARY`). A sweep that
was killed goes on where it was when it is called again with the same folder. Of many rows a part judges all designs,
and the best of them go on to more rows, see :mod:`heads.search.halving`.
"""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path

import numpy as np

from featurestore.errors import HeadError
from featurestore.spec import backbone_names
from featurestore.store.reader import FeatureStore, find_files
from featurestore.store.remote import is_remote
from featurestore.system.files import write_whole
from featurestore.system.progress import Progress, reporting
from heads.evaluation.alike import find_alike
from heads.evaluation.evaluate import answers
from heads.feature_table import FeatureTable, each_tap, load_features
from heads.metrics.outcomes import KEPT
from heads.search.judging import Limits
from heads.search.plan import SweepPlan
from heads.search.refit import refit
from heads.search.results import SUMMARY, WINNER, SweepResult, SweepSettings
from heads.search.rounds import JudgedSpace, judge_space, scores_of
from heads.search.samplers import start_search
from heads.search.space import load_space
from heads.search.trackers import check_tracker, track
from heads.search.trials import check_metric, contenders, select
from heads.storage.saved_head import FittedHead, check_target, save_head
from heads.storage.threshold import parsed_threshold
from heads.tasks.registry import CLASSIFICATION, TASKS, Task

_BLOCK = 2**16
"""Rows whose identity is written down at a time."""
DEFAULT_FOLDS, FEW = 5, 1000
"""Number of folds where there are fewer than :data:`FEW` validation rows: so few rank heads by luck."""


def sweep(
    features: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    preset: str = "standard",
    space: str | os.PathLike[str] | None = None,
    tap: str | None = None,
    cv: int | None = None,
    metric: str | None = None,
    budget: float | None = None,
    max_memory: int | None = None,
    views: bool = True,
    sampler: str | None = None,
    trials: int | None = None,
    trackers: Sequence[str] = (),
    ensemble: int = 1,
    smallest: bool = False,
    exhaustive: bool = False,
    group_near_duplicates: float | None = None,
    threshold: str | float | None = None,
    novelty: bool = False,
    seed: int = 0,
    progress: bool | Progress | None = True,
    note: Callable[[str], None] | None = None,
) -> SweepResult:
    """Judge every design of a space on every tap, take the best, refit it, and measure that once on the test rows.

    Args:
        features: feature file, or folder of files of the same rows.
        out: folder of the sweep.
        preset: one of :data:`heads.search.space.PRESETS`.
        space: TOML file to use instead, see :mod:`heads.search.space`.
        tap: which features, see :func:`heads.load_features`; by default each tap by itself.
        cv: number of folds; 0 for none; by default 5 where there are fewer than :data:`FEW` validation rows, else none.
        metric: what to select by, one of ``metrics`` of the task (:mod:`heads.tasks`); by default the first of them:
            ``accuracy`` of one class an image, ``average_precision`` of several labels, ``r2`` of a number.
        budget: seconds after which no further head is begun; families of heads take turns, the quickest ones first.
        max_memory: bytes to use, see :func:`heads.fit.fit_head`; features that take more than half of them stay on
            disk, and heads that take more are not judged.
        views: fit on the augmented versions of train rows too, if there are any.
        sampler: one of :data:`heads.search.samplers.SAMPLERS`, which looks for good designs within the space; by
            default all of it is judged.
        trials: number of designs the sampler may try on each tap; by default :data:`heads.search.samplers.TRIALS`.
        trackers: where else to write the trials, see :func:`heads.search.trackers.track`.
        ensemble: number of the best heads on the winner's features to take together, see
            :class:`heads.kinds.ensemble.EnsembleHead`.
        smallest: take the smallest head that is as good as the best, see :func:`heads.search.trials.select`.
        exhaustive: judge all designs on all rows; by default, of 10,000 images and more, a part judges first, see
            :mod:`heads.search.halving`.
        group_near_duplicates: rows whose features have at least this cosine are one group, see
            :func:`heads.evaluation.alike.find_alike`; they are found in the first features, for all.
        threshold: of two classes, see :func:`heads.fit.fit_head`; chosen on the rows that judged.
        novelty: whether the winner learns to say how unlike its training rows an image is, see
            :func:`heads.fit.fit_head`.
        seed: of all that is random.
        progress: see :func:`featurestore.system.progress.reporting`; a function is called with "heads", the number of
            designs that are judged, that of all designs, and how good the best is.
        note: is called at the start with a sentence for each reason for which designs are skipped, and on groups.

    Raises:
        DesignError: no such preset, or a wrong space.
        HeadError: no such metric, sampler or tracker; no train rows, or too few for the folds; no design can be
            judged, or could be fitted; or `out` holds another sweep.
        MissingDependencyError: the sampler's or a tracker's extra is not installed.
        StoreError, CorruptFileError: no readable feature file.

    Example:
        >>> found = sweep("digits.h5", "run", preset="quick", progress=False)
        >>> found.winner.mean > 0.9, found.test.accuracy > 0.9
        (True, True)
        >>> found
        SweepResult(path='run', heads=22, winner=..., accuracy=..., test=accuracy ...)
    """
    started = time.monotonic()
    _check(ensemble, smallest, trackers)
    check_target((folder := Path(out)) / WINNER)
    tables, together = _grouped(_tables(features, tap), group_near_duplicates, note)
    task, metric, parted = _checked(next(iter(tables.values())), metric, ensemble, threshold)
    search = start_search(load_space(preset, space, task.name), sampler, trials, seed)
    settings = SweepSettings(
        features=_identity(tables), space=Path(space).name if space else preset,
        cv=_folds(next(iter(tables.values()))) if cv is None else cv or None, metric=metric, views=views,
        sampler=sampler, seed=seed, ensemble=ensemble, smallest=smallest, exhaustive=exhaustive,
        group_near_duplicates=group_near_duplicates, threshold=parted, novelty=novelty,
    )  # fmt: skip
    plans = {name: SweepPlan(table, settings.cv, views, seed) for name, table in tables.items()}
    _check_classes(metric, plans)
    limits = Limits(inf if budget is None else started + budget, max_memory)
    with reporting(progress) as told:
        found = judge_space(folder, settings, plans, search, limits, told, note)
    notes = together + _notes(found, plans, sampler, time.monotonic() > limits.deadline)
    winner = select(found.trials, metric, smallest=smallest)
    table, plan = tables[winner.features], plans[winner.features]
    best = [winner] if ensemble == 1 else [t for t in contenders(found.trials, metric) if t.features == winner.features]
    held = scores_of(best[:ensemble], found.held, plan, folder, settings, limits)
    made = refit(table, plan, best[:ensemble], held, seed=seed, views=views, max_memory=max_memory)
    saved = save_head(folder / WINNER, fitted := _knowing(made.at(parted, plan.held_codes), table, novelty))
    test = answers(fitted, table).measured(saved.path) if len(table.rows("test")) else None
    result = SweepResult(
        path=folder, settings=settings,
        features=str(features) if is_remote(features) else str(Path(features).resolve()),
        trials=found.trials, winner=winner, head=folder / WINNER, ensemble=made.together, calibration=made.calibration,
        test=test, notes=notes, seconds=round(time.monotonic() - started, 3),
    )  # fmt: skip
    write_whole(folder / SUMMARY, json.dumps(result.to_dict(), indent=1).encode())
    for address in trackers:
        track(result, address)
    return result


def _knowing(fitted: FittedHead, table: FeatureTable, novelty: bool) -> FittedHead:
    """Return a head that knows what its training rows look like, if that is asked for."""
    return fitted.with_novelty(table, table.rows("train", "validation")) if novelty else fitted


def _check(ensemble: int, smallest: bool, trackers: Sequence[str]) -> None:
    """Check the options of a sweep, before anything is begun."""
    if ensemble < 1:
        raise HeadError(f"--ensemble {ensemble}: give 1 or more heads to take together")
    if ensemble > 1 and smallest:
        raise HeadError("--smallest takes one head: leave it out, or --ensemble")
    for address in trackers:
        check_tracker(address)


def _checked(
    table: FeatureTable, metric: str | None, ensemble: int, threshold: str | float | None
) -> tuple[Task, str, str | float | None]:
    """Return the task of a sweep, its metric and its threshold, once it is known that they suit each other."""
    task = TASKS[table.task]
    check_metric(metric := metric or task.metrics[0], task)
    if ensemble > 1 and task is not CLASSIFICATION:
        raise HeadError(f"--ensemble takes heads of one class an image together, not of {task.asks}: leave it out")
    return task, metric, parsed_threshold(threshold, table.class_names, task.name)


def _check_classes(metric: str, plans: Mapping[str, SweepPlan]) -> None:
    classes, task = max(len(plan.classes) for plan in plans.values()), next(iter(plans.values())).asked.task
    if metric in task.needing_all and (most := max(len(plan.held_codes) for plan in plans.values())) * classes > KEPT:
        raise HeadError(
            f"{metric} needs the probabilities of all classes, and {most:,} rows × {classes:,} classes are more than "
            f"{KEPT:,}: give another --metric"
        )
    if metric == "roc_auc" and classes > 2 and task is CLASSIFICATION:
        raise HeadError(f"roc_auc is of two classes, not {classes}: give another --metric")


def _notes(found: JudgedSpace, plans: Mapping[str, SweepPlan], sampler: str | None, spent: bool) -> list[str]:
    """Return sentences about rows and designs that were left out.

    Raises:
        HeadError: all designs were left out.
    """
    if not found.trials and found.skipped and (not spent or found.total <= 0):
        raise HeadError(f"no head of the sweep can be judged: {'; '.join(found.skipped)}")
    notes = [*dict.fromkeys(note for plan in plans.values() for note in plan.notes), *found.skipped]
    if parts := Counter(trial.rows for trial in found.trials if trial.part):
        rows = next(iter(plans.values())).rows
        seen = {some: f"{some:,}" if some < rows else "one fold" for some in parts}
        counts = ", ".join(f"{count} on {seen[some]}" for some, count in sorted(parts.items()))
        notes.append(
            f"{parts.total()} of {len(found.trials)} heads were judged on a part of the {rows:,} rows alone ({counts})"
            ": others were better there; --exhaustive judges all on all"
        )
    if (left := found.total - len(found.trials)) > 0:
        why = "the budget was spent" if spent else f"{sampler} suggested no others"
        notes.append(f"{left} of {found.total} heads were not begun: {why}")
    return notes


def _folds(table: FeatureTable) -> int | None:
    """Return the number of folds that suits the rows of a table; None to judge on its validation rows."""
    if len(table.rows("validation")) >= FEW:
        return None
    most, _ = TASKS[table.task].most_folds(table.y[table.rows("train", "validation")])
    return min(DEFAULT_FOLDS, most) if most > 1 else None


def _tables(path: str | os.PathLike[str], tap: str | None) -> dict[str, FeatureTable]:
    """Return tables of features by name, all of the same rows."""
    if tap is not None:
        return {tap: load_features(path, tap)}
    stores = [FeatureStore(file) for file in find_files(path)]
    sources = each_tap(stores)
    FeatureTable(Path(path), [each for _, some in sources for each in some])  # which refuses files of different rows
    called = dict(zip(stores, _file_names(stores), strict=True))
    return {
        f"{called[some[0][0]]}.{name}" if len(stores) > 1 else name: FeatureTable(some[0][0].path, some)
        for name, some in sources
    }


def _file_names(stores: Sequence[FeatureStore]) -> list[str]:
    """Say what files are called: by the backbone and its look where they are several looks of one, else as they are."""
    names = backbone_names([store.spec for store in stores])
    looks = [name != store.spec.backbone and names.count(name) == 1 for name, store in zip(names, stores, strict=True)]
    return [name if look else store.path.stem for name, look, store in zip(names, looks, stores, strict=True)]


def _grouped(
    tables: dict[str, FeatureTable], similarity: float | None, note: Callable[[str], None] | None
) -> tuple[dict[str, FeatureTable], list[str]]:
    """Return the tables with the near-duplicates of the first one as groups, and notes, which are told at once."""
    if similarity is None:
        return tables, []
    found = find_alike(next(iter(tables.values())), similarity, note)
    return {name: table.grouped_by(found.names) for name, table in tables.items()}, found.notes


def _identity(tables: dict[str, FeatureTable]) -> str:
    """Return a digest of all that features, labels and splits depend on."""
    first = next(iter(tables.values()))
    parts = [[name, [item.to_dict() for item in table.inputs]] for name, table in tables.items()]
    digest = hashlib.sha256(f"[{json.dumps(parts)}, [".encode())
    for table in [table for table in tables.values() if table.numeric][:1]:
        digest.update(repr(table.numeric).encode() + table.numbers(np.arange(len(table.y))).tobytes())
    for column in (first.digest_bytes, first.y, first.splits):
        for i, block in enumerate(np.array_split(column, -(-len(column) // _BLOCK) or 1)):
            texts = block.astype(str).tolist() if block.dtype.kind == "S" else block.tolist()
            digest.update(("[" if i == 0 else ", ").encode() + json.dumps(texts)[1:-1].encode())
        digest.update(b"], ")
    digest.update(f"{json.dumps(first.class_names)}]]".encode())
    digest.update(b"" if first.task == CLASSIFICATION.name else first.task.encode())
    return digest.hexdigest()[:16]
