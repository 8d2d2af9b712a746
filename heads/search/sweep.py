"""A hundred heads for the price of one: judge many designs on the same cached features, take the best, refit it."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.errors import HeadError
from featurestore.store.reader import FeatureStore, find_files
from featurestore.store.remote import is_remote
from featurestore.system.files import write_whole
from heads.evaluation.evaluate import answers
from heads.feature_table import FeatureTable, Floats, load_features
from heads.kinds.design import HeadDesign
from heads.kinds.discriminant import judge_discriminant
from heads.kinds.linear import judge_paths
from heads.search.judge_kernel import judge_kernel
from heads.search.plan import SweepPlan
from heads.search.refit import HeldScores, Refit
from heads.search.samplers import Search, start_search
from heads.search.skipped import Skipped
from heads.search.space import load_space
from heads.search.trackers import check_tracker, track
from heads.search.trials import Trial, TrialLog, check_metric, contenders, goodness, judge_trial, ranked, select
from heads.solvers.dense_population import Rungs, judge_dense
from heads.solvers.folds import Division, Judged, Report
from heads.solvers.neighbours import judge_neighbours
from heads.storage.saved_head import check_target, save_head

WINNER, SUMMARY = "winner", "sweep.json"
"""In the folder of a sweep: the refitted head, and what :func:`sweep` returned."""

DEFAULT_FOLDS, FEW = 5, 1000
"""Folds where there are fewer validation rows than that: so few rank heads by luck."""

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
    ensemble: int = 1,
    smallest: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Judge every design of a space on every tap, take one, refit it, and measure that once on the test rows.

    With folds, designs are judged on train and validation rows together, each row held out once. Without, they are
    fitted on the train rows and judged on the validation rows. The winner is the best by the metric's mean (of equally
    good ones, that of the least log loss, then the smallest), and is refitted on train and validation rows.

    A sweep that was killed goes on where it was, when it is called again.

    Args:
        features: feature file, or folder of files of the same rows.
        out: folder of the sweep; see :data:`WINNER`, :data:`SUMMARY` and :data:`heads.search.trials.FILE`.
        preset: one of :data:`heads.search.space.PRESETS`.
        space: TOML file to use instead, see :mod:`heads.search.space`.
        tap: which features, see :func:`heads.load_features`; by default each tap by itself.
        cv: how many folds; 0 for none; by default 5 where there are fewer than :data:`FEW` validation rows, else none.
        metric: what to select by, one of :data:`heads.search.trials.METRICS`.
        budget: seconds after which no further head is begun.
        max_memory: bytes; larger features stay on disk, and are streamed.
        views: fit on the augmented versions of train rows too, if there are any.
        sampler: one of :data:`heads.search.samplers.SAMPLERS`, which looks for good designs within the space; by
            default all of it is judged.
        trials: how many designs the sampler may try on each tap; by default :data:`heads.search.samplers.TRIALS`.
        trackers: where else to write the trials, see :func:`heads.search.trackers.track`.
        ensemble: how many of the best heads on the winner's features to take together, see
            :class:`heads.kinds.ensemble.EnsembleHead`.
        smallest: take the smallest head that is as good as the best, see :func:`heads.search.trials.select`.
        seed: of all that is random.
        progress: called as progress(stage, done, total, note): the note says how good the best head so far is.
        note: told at the start which designs are skipped because they cannot be judged on such rows, and why.

    Returns:
        Plain JSON types: ``settings``, ``features`` (where they were), ``trials`` (the best first, see
        :class:`heads.search.trials.Trial`), ``winner`` (a trial and its ``path``), ``ensemble`` (None, or the
        ``members``, and their ``accuracy`` and ``log_loss`` together on held-out rows), ``calibration``
        (``temperature``, ``log_loss_before`` and ``log_loss_after`` on held-out rows), ``test`` (an evaluation, or None
        without test rows), ``notes``, ``seconds``.

    Raises:
        DesignError: no such preset, or a wrong space.
        HeadError: no such metric, sampler or tracker; no train rows, or too few for the folds; no design can be
            judged, or could be fitted; or `out` holds another sweep.
        MissingDependencyError: the sampler's or a tracker's extra is not installed.
        StoreError, CorruptFileError: no readable feature file.
    """
    started = time.monotonic()
    deadline = None if budget is None else started + budget
    check_metric(metric)
    if ensemble < 1:
        raise HeadError(f"--ensemble {ensemble}: give 1 or more heads to take together")
    if ensemble > 1 and smallest:
        raise HeadError("--smallest takes one head: leave it out, or --ensemble")
    out, search = Path(out), start_search(load_space(preset, space), sampler, trials, seed)
    for address in trackers:
        check_tracker(address)
    check_target(out / WINNER)
    tables = _tables(features, tap)
    first = next(iter(tables.values()))
    folds = _folds(first) if cv is None else cv or None
    settings = {
        "features": _identity(tables),
        "space": Path(space).name if space else preset,
        "cv": folds,
        "metric": metric,
        "views": views,
        "sampler": sampler,
        "seed": seed,
    }
    plans = {name: SweepPlan(table, folds, views, seed) for name, table in tables.items()}
    wanted: set[tuple[str, HeadDesign]] = set()
    held = HeldScores(ensemble, metric)

    def total() -> int:
        return search.most * len(tables) - len(skipped)

    with closing(TrialLog(out, settings)) as log:
        for left in out.glob("rows-*"):  # by a sweep that was killed
            shutil.rmtree(left, ignore_errors=True)
        skipped = Skipped({name: plan.extent for name, plan in plans.items()}, search, log.trials, max_memory, note)
        for name, plan in plans.items():
            wanted |= _judge_rounds(
                name, plan, search, log, held, seed, deadline, max_memory, skipped,
                lambda: _tell(progress, log, total(), metric),
            )  # fmt: skip
        judged = ranked((trial for trial in log.trials if trial.key in wanted), metric)
    spent = deadline is not None and time.monotonic() > deadline
    if not judged and skipped and (not spent or total() <= 0):
        raise HeadError(f"no head of the sweep can be judged: {'; '.join(skipped.notes)}")
    winner = select(judged, metric, smallest=smallest)
    table, plan = tables[winner.features], plans[winner.features]
    best = [winner] if ensemble == 1 else [t for t in contenders(judged, metric) if t.features == winner.features]

    def again(trial: Trial) -> Floats:
        found: list[Judged] = []
        with plan.division(max_memory, out) as division:
            judge([trial.design], division, seed=seed, report=lambda _, one: found.append(one), max_memory=max_memory)
        return found[0].scores

    refit = Refit(table, plan, best[:ensemble], {"seed": seed, "views": views})
    fitted, adjusted, together = refit.run(held.of(refit.trials, again))
    saved = save_head(out / WINNER, fitted)
    has_test = len(table.rows("test")) > 0
    test = answers(fitted, table).measured(saved.path).to_dict() if has_test else None
    notes = [*dict.fromkeys(note for plan in plans.values() for note in plan.notes), *skipped.notes]
    if len(judged) < total():
        why = "the budget was spent" if spent else f"{sampler} suggested no others"
        notes.append(f"{total() - len(judged)} of {total()} heads were not begun: {why}")
    result = {
        "settings": settings | {"ensemble": ensemble, "smallest": smallest},
        "features": str(features) if is_remote(features) else str(Path(features).resolve()),
        "trials": [trial.to_dict() for trial in judged],
        "winner": winner.to_dict() | {"path": str(saved.path)},
        "ensemble": together,
        "calibration": adjusted,
        "test": test,
        "notes": notes,
        "seconds": round(time.monotonic() - started, 3),
    }
    write_whole(out / SUMMARY, json.dumps(result, indent=1).encode())
    for address in trackers:
        track(out / SUMMARY, address)
    return result


def _folds(table: FeatureTable) -> int | None:
    """How many folds suit the rows of a table; None to judge on its validation rows."""
    if len(table.rows("validation")) >= FEW:
        return None
    most = int(np.bincount(table.y[table.rows("train", "validation")]).max(initial=0))
    return min(DEFAULT_FOLDS, most) if most > 1 else None


def _judge_rounds(
    name: str,
    plan: SweepPlan,
    search: Search,
    log: TrialLog,
    held: HeldScores,
    seed: int,
    deadline: float | None,
    max_memory: int | None,
    skipped: Skipped,
    tell: Callable[[], None],
) -> set[tuple[str, HeadDesign]]:
    """Judge what a search asks for on one table, as far as the log lacks it; returns the keys of all it asked for."""
    metric = held.metric
    known = {trial.design: goodness(trial, metric) for trial in log.trials if trial.features == name}
    asked: set[HeadDesign] = set()

    def keep(trial: Trial, judged: Judged | None) -> None:
        known[trial.design] = goodness(trial, metric)
        if judged:
            held.add(trial, judged)
        log.add(trial)
        tell()

    with ExitStack() as opened:
        division: Division | None = None
        for some in search.rounds(known.get):
            passed = skipped.sift(name, some)
            known |= dict.fromkeys(passed, float("nan"))
            designs = [design for design in some if design not in passed]
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


_FAMILIES: dict[str, str] = {
    "centroid": "discriminant", "lda": "discriminant",
    "logreg": "paths", "linear-svm": "paths", "ridge": "paths",
    "knn": "neighbours", "svm": "kernel",
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
    """Judge designs of one family, which may be compared by the metric; see :data:`heads.solvers.folds.Report`."""
    options: dict[str, Any] = {"seed": seed, "report": report, "deadline": deadline}
    match _FAMILIES[designs[0].kind]:
        case "discriminant":
            judge_discriminant(designs, division, **options)
        case "paths":
            judge_paths(designs, division, **options)
        case "neighbours":
            judge_neighbours(designs, division, **options, max_memory=max_memory)
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
    keep: Callable[[Trial, Judged | None], None],
) -> None:
    """Judge all designs that are not `known`, the cheapest family first; `keep` takes each trial at once."""

    def judge_some(some: Sequence[HeadDesign]) -> None:
        left = set(some) - known

        def report(i: int, judged: Judged) -> None:
            if some[i] in left:
                left.discard(some[i])
                keep(judge_trial(name, some[i], division, judged, metric), judged)

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
                keep(Trial(name, some[0], {}, float("nan"), float("nan"), 0.0, 0, f"error: {error}"), None)

    for family in dict.fromkeys(_FAMILIES.values()):
        some = [design for design in designs if _FAMILIES[design.kind] == family]
        # Where answers depend on who is beside them, a sweep that goes on judges all anew, lest its table differs.
        judge_some(some if family in _TOGETHER else [design for design in some if design not in known])
