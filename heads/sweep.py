"""A hundred heads for the price of one: judge many designs on the same cached features, take the best, refit it."""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.errors import HeadError
from featurestore.remote import is_remote
from featurestore.store import FeatureStore, find_files
from heads.base import stratified_folds
from heads.data import FeatureTable, load_features
from heads.designs import HeadDesign
from heads.discriminant import judge_discriminant
from heads.distances import judge_kernel
from heads.division import BLOCK, Division, Judged, Report, scratch
from heads.evaluation import measure
from heads.fit import check_train, fit_table
from heads.linear import judge_paths
from heads.persist import check_target, save_head
from heads.population import Rungs, judge_dense
from heads.samplers import Search, start_search
from heads.spaces import load_space
from heads.trackers import check_tracker, track
from heads.trials import Trial, TrialLog, calibration, check_metric, goodness, judge_trial, ranked, select

WINNER, SUMMARY = "winner", "sweep.json"
"""In the folder of a sweep: the refitted head, and what :func:`sweep` returned."""

DEFAULT_FOLDS = 5
"""Folds where there are no validation rows."""

Progress = Callable[..., None]
"""Called as progress(stage, done, total, note)."""


def sweep(
    features: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    preset: str = "standard",
    space: str | os.PathLike[str] | None = None,
    tap: str | None = None,
    cv: int | None = None,
    metric: str = "accuracy",
    budget: float | None = None,
    max_memory: int | None = None,
    views: bool = True,
    sampler: str | None = None,
    trials: int | None = None,
    trackers: Sequence[str] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge every design of a space on every tap, take one, refit it, and measure that once on the test rows.

    Without folds, designs are fitted on the train rows and judged on the validation rows; the winner is refitted on
    the train rows. With folds, they are judged on train and validation rows together, each row held out once, and the
    winner is refitted on all of these. The winner is the smallest head within one standard error of the best.

    A sweep that was killed goes on where it was, when it is called again.

    Args:
        features: feature file, or folder of files of the same rows.
        out: folder of the sweep; see :data:`WINNER`, :data:`SUMMARY` and :data:`heads.trials.FILE`.
        preset: one of :data:`heads.spaces.PRESETS`.
        space: TOML file to use instead, see :mod:`heads.spaces`.
        tap: which features, see :func:`heads.load_features`; by default each tap by itself.
        cv: how many folds; by default none, or 5 if there are no validation rows.
        metric: what to select by, one of :data:`heads.trials.METRICS`.
        budget: seconds after which no further head is begun.
        max_memory: bytes; larger features stay on disk, and are streamed.
        views: fit on the augmented versions of train rows too, if there are any.
        sampler: one of :data:`heads.samplers.SAMPLERS`, which looks for good designs within the space; by default
            all of it is judged.
        trials: how many designs the sampler may try on each tap; by default :data:`heads.samplers.TRIALS`.
        trackers: where else to write the trials, see :func:`heads.trackers.track`.
        seed: of all that is random.
        progress: called as progress(stage, done, total, note): the note says how good the best head so far is.

    Returns:
        Plain JSON types: ``settings``, ``features`` (where they were), ``trials`` (the best first, see
        :class:`heads.trials.Trial`), ``winner`` (a trial and its ``path``), ``calibration`` (``temperature``,
        ``log_loss_before`` and ``log_loss_after`` on held-out rows), ``test`` (an evaluation, or None without test
        rows), ``notes``, ``seconds``.

    Raises:
        DesignError: no such preset, or a wrong space.
        HeadError: no such metric, sampler or tracker; no train rows, or too few for the folds; no design could be
            fitted; or `out` holds another sweep.
        MissingDependencyError: the sampler's or a tracker's extra is not installed.
        StoreError, CorruptFileError: no readable feature file.
    """
    started = time.monotonic()
    deadline = None if budget is None else started + budget
    check_metric(metric)
    out, search = Path(out), start_search(load_space(preset, space), sampler, trials, seed)
    for address in trackers:
        check_tracker(address)
    check_target(out / WINNER)
    tables = _tables(features, tap)
    first = next(iter(tables.values()))
    folds = DEFAULT_FOLDS if cv is None and not len(first.rows("validation")) else cv
    settings = {
        "features": _identity(tables),
        "space": Path(space).name if space else preset,
        "cv": folds,
        "metric": metric,
        "views": views,
        "sampler": sampler,
        "seed": seed,
    }
    plans = {name: _Plan(table, folds, views, seed) for name, table in tables.items()}
    total = search.most * len(tables)
    wanted: set[tuple[str, HeadDesign]] = set()
    with closing(TrialLog(out, settings)) as log:
        for left in out.glob("rows-*"):  # by a sweep that was killed
            shutil.rmtree(left, ignore_errors=True)
        for name, plan in plans.items():
            wanted |= _judge_rounds(
                name, plan, search, log, metric, seed, deadline, max_memory, lambda: _tell(progress, log, total, metric)
            )
        judged = ranked((trial for trial in log.trials if trial.key in wanted), metric)
    spent = deadline is not None and time.monotonic() > deadline
    winner = select(judged, metric)
    table, plan = tables[winner.features], plans[winner.features]
    fitted = fit_table(table, winner.design, seed=seed, views=views, pooled=folds is not None)
    adjusted = None
    if winner.design.kind != "knn":  # whose votes are its probabilities
        adjusted = _calibrate(winner, plan, fitted.head, seed, max_memory, out)
    saved = save_head(out / WINNER, fitted)
    X, y = table.select("test")
    test = measure(y, fitted.predict_proba(X), table.class_names, seed=seed, split="test").to_dict() if len(y) else None
    notes = [*dict.fromkeys(note for plan in plans.values() for note in plan.notes)]
    if len(judged) < total:
        why = "the budget was spent" if spent else f"{sampler} suggested no others"
        notes.append(f"{total - len(judged)} of {total} heads were not begun: {why}")
    result = {
        "settings": settings,
        "features": str(features) if is_remote(features) else str(Path(features).resolve()),
        "trials": [trial.to_dict() for trial in judged],
        "winner": winner.to_dict() | {"path": str(saved.path)},
        "calibration": adjusted,
        "test": test,
        "notes": notes,
        "seconds": round(time.monotonic() - started, 3),
    }
    (out / SUMMARY).write_text(json.dumps(result, indent=1))
    for address in trackers:
        track(out / SUMMARY, address)
    return result


def _judge_rounds(
    name: str,
    plan: "_Plan",
    search: Search,
    log: TrialLog,
    metric: str,
    seed: int,
    deadline: float | None,
    max_memory: int | None,
    tell: Callable[[], None],
) -> set[tuple[str, HeadDesign]]:
    """Judge what a search asks for on one table, as far as the log lacks it; returns the keys of all it asked for."""
    known = {trial.design: goodness(trial, metric) for trial in log.trials if trial.features == name}
    asked: set[HeadDesign] = set()

    def keep(trial: Trial) -> None:
        known[trial.design] = goodness(trial, metric)
        log.add(trial)
        tell()

    with ExitStack() as opened:
        division: Division | None = None
        for designs in search.rounds(known.get):
            asked.update(designs)
            if known.keys() >= asked:
                continue
            division = division or opened.enter_context(plan.division(max_memory, log.path.parent))
            if metric == "roc_auc" and division.classes > 2:
                raise HeadError(f"roc_auc is of two classes, not {division.classes}: give another --metric")
            tell()
            judge_all(name, designs, set(known), division, metric, seed, deadline, max_memory, keep)
    return {(name, design) for design in asked}


def _tell(progress: Progress | None, log: TrialLog, total: int, metric: str) -> None:
    if progress:
        best = ranked(log.trials, metric)[:1]
        note = f"best {metric} {best[0].mean:.3f} ({best[0].design.kind})" if best and best[0].scores else ""
        progress("heads", len(log.trials), total, note)


def _tables(path: str | os.PathLike[str], tap: str | None) -> dict[str, FeatureTable]:
    """Tables of features by name, all of the same rows."""
    if tap is not None:
        return {tap: load_features(path, tap)}
    stores = [FeatureStore(file) for file in find_files(path)]
    sources = [(store, name) for store in stores for name in store.taps]
    FeatureTable(Path(path), sources)  # which refuses files of different rows
    several = len(stores) > 1
    return {
        f"{store.path.stem}.{name}" if several else name: FeatureTable(store.path, [(store, name)])
        for store, name in sources
    }


def _identity(tables: dict[str, FeatureTable]) -> str:
    """Digest of all that features, labels and splits depend on."""
    first = next(iter(tables.values()))
    parts = [[name, [item.to_dict() for item in table.inputs]] for name, table in tables.items()]
    rows = [first.digests.tolist(), first.y.tolist(), first.splits.tolist(), first.class_names]
    return hashlib.sha256(json.dumps([parts, rows]).encode()).hexdigest()[:16]


class _Plan:
    """Which rows of a table a sweep uses, and the fold of each."""

    def __init__(self, table: FeatureTable, folds: int | None, views: bool, seed: int) -> None:
        self._table, self.notes = table, []
        splits = ("train",) if folds is None else ("train", "validation")
        rows = table.rows(*splits)
        check_train(table, {"train": (None, table.y[rows])} if len(rows) else {})
        if folds is not None:
            fold = self._folds(table.y[rows], folds, seed, table.groups(*splits))
        else:
            held = table.rows("validation")
            known = np.isin(table.y[held], table.y[rows])
            if not known.any():
                raise HeadError(f"{table.path}: no validation rows of classes that train rows show: give --cv 5")
            if not known.all():
                missing = ", ".join(table.class_names[i] for i in np.unique(table.y[held][~known]))
                self.notes.append(f"{(~known).sum()} validation rows are left out: no train rows of {missing}")
            rows, fold = np.concatenate([rows, held[known]]), np.repeat([-1, 0], [len(rows), known.sum()])
        shown = np.full(len(table.y), -1)
        shown[rows] = np.arange(len(rows))
        owners = shown[table.view_rows] if views else np.empty(0, np.intp)
        used = np.flatnonzero((owners >= 0) & ((fold[owners] < 0) | (folds is not None)))
        image = np.concatenate([np.arange(len(rows)), owners[used]])
        fold = fold[image]
        # Fold by fold, so that a block of rows is held out of a fit as a whole or not at all.
        order = np.argsort(fold, kind="stable")
        self._source = np.concatenate([rows, len(table.y) + used])[order]
        self._image, self._fold, self._plain = image[order], fold[order], (np.arange(len(image)) < len(rows))[order]
        labels = np.concatenate([table.y[rows], table.y[table.view_rows[used]]])[order]
        self._codes = np.unique(labels, return_inverse=True)[1]
        self._groups = np.unique(table.digests[rows], return_inverse=True)[1]

    def _folds(self, labels: Any, folds: int, seed: int, groups: Any) -> Any:
        if not 2 <= folds <= np.bincount(labels).max():
            raise HeadError(f"--cv {folds}: give 2 to {np.bincount(labels).max()}, the rows of the largest class")
        fold = stratified_folds(labels, folds, seed, groups)
        if never := int((fold < 0).sum()):
            self.notes.append(f"{never} rows are never held out: no other images of their class would be left")
        if never == len(fold):
            raise HeadError(f"{self._table.path}: no row can be held out: extract more images of each class")
        return fold

    @contextmanager
    def division(self, max_memory: int | None, folder: Path) -> Iterator[Division]:
        """The rows, in a file in `folder` that processes can map."""
        table, rows = self._table, len(self._source)
        none = table.read(np.arange(0), np.arange(0))  # not table.X, which holds several taps in memory
        columns = none.shape[1]
        weights = None if self._plain.all() else 1 / np.bincount(self._image)[self._image]
        with tempfile.TemporaryDirectory(dir=folder, prefix="rows-") as place:
            large = max_memory is not None and rows * columns * 4 > max_memory
            X = scratch(Path(place) / "rows", none.dtype if large else np.float32, (rows, columns))
            for start in range(0, rows, BLOCK):
                block = self._source[start : start + BLOCK]
                plain = self._plain[start : start + BLOCK]
                order = np.argsort(~plain, kind="stable")
                X[start + order] = table.read(block[plain], block[~plain] - len(table.y))
            if not np.isfinite(X.sum(axis=1, dtype=np.float64)).all():
                raise HeadError(f"{table.path}: features hold NaN or infinity: leave these rows out, or extract again")
            yield Division(X, self._codes, self._fold, self._image, self._plain, weights, self._groups)


_FAMILIES: dict[str, str] = {
    "centroid": "discriminant", "lda": "discriminant",
    "logreg": "paths", "linear-svm": "paths", "ridge": "paths",
    "knn": "kernel", "svm": "kernel",
    "dense": "dense",
}  # fmt: skip
"""Kinds that share their work; the cheapest family first."""

_TOGETHER = {"paths", "dense"}
"""Families whose designs start from others' solutions, or are compared at rungs."""


def judge(
    designs: Sequence[HeadDesign],
    division: Division,
    *,
    seed: int,
    report: Report,
    metric: str = "accuracy",
    deadline: float | None = None,
    max_memory: int | None = None,
) -> None:
    """Judge designs of one family, which may be compared by the metric; see :data:`heads.division.Report`."""
    options: dict[str, Any] = {"seed": seed, "report": report, "deadline": deadline}
    match _FAMILIES[designs[0].kind]:
        case "discriminant":
            judge_discriminant(designs, division, **options)
        case "paths":
            judge_paths(designs, division, **options)
        case "kernel":
            judge_kernel(designs, division, **options, max_memory=max_memory)
        case _:
            epochs = max(design.params["epochs"] for design in designs)
            rungs = Rungs(tuple(sorted({ceil(epochs / part) for part in (27, 9, 3)}))) if len(designs) > 3 else None
            judge_dense(designs, division, **options, metric=metric, rungs=rungs, max_memory=max_memory)


def judge_all(
    name: str,
    designs: Sequence[HeadDesign],
    known: set[HeadDesign],
    division: Division,
    metric: str,
    seed: int,
    deadline: float | None,
    max_memory: int | None,
    keep: Callable[[Trial], None],
) -> None:
    """Judge all designs that are not `known`, the cheapest family first; `keep` takes each trial at once."""

    def judge_some(some: Sequence[HeadDesign]) -> None:
        left = set(some) - known

        def report(i: int, judged: Judged) -> None:
            if some[i] in left:
                left.discard(some[i])
                keep(judge_trial(name, some[i], division, judged, metric))

        if not left or (deadline is not None and time.monotonic() > deadline):
            return
        try:
            judge(some, division, seed=seed, report=report, metric=metric, deadline=deadline, max_memory=max_memory)
        except HeadError as error:
            if len(some) > 1:  # one of them is to blame
                rest = [design for design in some if design in left]
                judge_some(rest[: len(rest) // 2])
                judge_some(rest[len(rest) // 2 :])
            else:
                # The others can still win; the table says why this one cannot.
                keep(Trial(name, some[0], {}, float("nan"), float("nan"), 0.0, 0, f"error: {error}"))

    for family in dict.fromkeys(_FAMILIES.values()):
        some = [design for design in designs if _FAMILIES[design.kind] == family]
        # Where answers depend on who is beside them, a sweep that goes on judges all anew, lest its table differs.
        judge_some(some if family in _TOGETHER else [design for design in some if design not in known])


def _calibrate(
    winner: Trial, plan: _Plan, head: Any, seed: int, max_memory: int | None, folder: Path
) -> dict[str, float]:
    """Give the refitted winner the temperature that suits its scores on held-out rows."""
    held: list[Judged] = []
    with plan.division(max_memory, folder) as division:
        judge([winner.design], division, seed=seed, report=lambda _, judged: held.append(judged), max_memory=max_memory)
        found = calibration(held[0].scores, division.codes[division.judged])
    head.temperature_ = found["temperature"]
    return found
