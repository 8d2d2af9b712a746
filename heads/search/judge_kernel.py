"""Support vector machines judged together: one Gram matrix gives the kernels of all of them.

scikit-learn's SVC multiplies features anew for each kernel value that a fit or a prediction asks for; its solver alone
takes a twentieth of that time. The values here are float64, as there, and the solver is the same.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from featurestore.system.machine import machine_memory
from heads.feature_table import Floats
from heads.kinds.design import HeadDesign
from heads.kinds.svm import decisions
from heads.solvers.folds import Division, Judged, Report
from heads.solvers.gram_matrix import EACH, SHARED, Doubles, Gram

_TASKS = 4
"""Tasks per core, at least: they differ in length, and no core shall wait for the last one."""


class _Answer(NamedTuple):
    """What a design, by its index, gave on the held-out rows of a fold."""

    design: int
    scores: Doubles
    seconds: float
    stopped: str


Group = Sequence[tuple[int, Any]]
"""Heads that share a kernel, with the indices of their designs."""


def judge_kernel(
    designs: Sequence[HeadDesign],
    division: Division,
    *,
    seed: int,
    report: Report,
    deadline: float | None = None,
    max_memory: int | None = None,
) -> None:
    """Fit designs of kind ``svm`` on each fold, and judge them on the rows held out.

    Args:
        designs: their answers are those of the heads that they build.
        division: the rows.
        seed: of the heads.
        report: is told each design's scores: float32 (J, C).
        deadline: value of ``time.monotonic()`` from which on nothing new is begun; the rest is not reported.
        max_memory: bytes to work in beside the features; None: half of the machine's.

    Raises:
        HeadError: too many rows for this memory.
    """
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits

    heads: list[Any] = [design.build(seed) for design in designs]
    division.check(heads, max_memory)
    workers = _workers(len(division.codes), max_memory)
    tally = _Tally(division, report)
    late = np.inf if deadline is None else deadline
    for standardize, folds in [(False, [*range(division.folds)]), *((True, [f]) for f in range(division.folds))]:
        sharing = [(i, head) for i, head in enumerate(heads) if head.standardize is standardize]
        if not sharing or time.monotonic() >= late:
            continue
        start = time.perf_counter()
        gram = Gram.of(division, division.scaling(folds[0], standardize))
        share = (time.perf_counter() - start) / len(sharing) / len(folds)
        tasks = list(_tasks(sharing, folds, workers))
        # Threads: the solver and NumPy let go of the interpreter. Their own threads would only be in each other's way.
        with threadpool_limits(1):
            run = Parallel(n_jobs=workers, prefer="threads", return_as="generator_unordered")
            for fold, answers in run(delayed(_judge)(gram, division, *task, late) for task in tasks):
                for answer in answers:
                    tally.add(fold, answer, share + answer.seconds / workers)


def _workers(rows: int, max_memory: int | None) -> int:
    """How many tasks can run at once."""
    import joblib

    limit = machine_memory() // 2 if max_memory is None else max_memory
    return min(int(joblib.cpu_count()), int((limit - SHARED * rows**2) // (EACH * rows**2)))


def _tasks(heads: Group, folds: Sequence[int], workers: int) -> Iterator[tuple[int, Group]]:
    """What can run side by side: the heads of each kernel on each fold, all folds of one kernel in a row."""
    groups: dict[tuple[Any, ...], list[tuple[int, Any]]] = {}
    for i, head in heads:
        groups.setdefault((head.gamma, head.tol), []).append((i, head))
    parts = -(-_TASKS * workers // (len(groups) * len(folds)))
    for group in groups.values():
        for start in range(min(parts, len(group))):
            for fold in folds:
                yield fold, group[start::parts]


def _judge(gram: Gram, division: Division, fold: int, group: Group, deadline: float) -> tuple[int, list[_Answer]]:
    """What heads that differ in C alone give on a fold."""
    from sklearn import config_context

    if time.monotonic() >= deadline:
        return fold, []
    start = time.perf_counter()
    train, held = division.training_rows(fold), division.held(fold)
    codes = division.codes[train]
    weights = np.ones(len(train)) if division.weights is None else division.weights[train]
    gamma = gram.gamma(group[0][1].gamma, train)
    kernel, seen = gram.gaussian(train, train, gamma), gram.gaussian(held, train, gamma)
    # The solver works on two classes at a time, and computes nothing twice if they fit.
    cache = 4 * np.sort(np.bincount(codes))[-2:].sum() ** 2 / 2**20 + 1
    share = (time.perf_counter() - start) / len(group)
    answers: list[_Answer] = []
    free = False
    for i, head in sorted(group, key=lambda item: item[1].C):
        if time.monotonic() >= deadline:
            break
        start = time.perf_counter()
        if not free:
            with config_context(assume_finite=True):
                model = head.estimator().set_params(kernel="precomputed", cache_size=cache)
                scores = decisions(model.fit(kernel, codes, weights), seen, division.classes)
            # C bounds the coefficients. If it holds none of them back, a greater C has the same optimum.
            bound = head.C * weights[model.support_]
            free = bool((np.abs(model.dual_coef_).max(axis=0) < bound * (1 - 1e-9)).all())
        answers.append(_Answer(i, scores, share + time.perf_counter() - start, "converged"))
    return fold, answers


class _Tally:
    """Scores of the designs as they come in; reports those that are complete."""

    def __init__(self, division: Division, report: Report) -> None:
        self._division, self._report = division, report
        self._scores: dict[int, Floats] = {}
        self._seconds: dict[int, list[float]] = {}

    def add(self, fold: int, answer: _Answer, seconds: float) -> None:
        """Take in what a design gave on the held-out rows of a fold."""
        i, judged = answer.design, self._division.judged
        scores = self._scores.setdefault(i, np.empty((len(judged), self._division.classes), np.float32))
        scores[self._division.places(fold)] = answer.scores
        taken = self._seconds.setdefault(i, [])
        taken.append(seconds)
        if len(taken) == self._division.folds:
            self._report(i, Judged(self._scores.pop(i), sum(taken), answer.stopped))
