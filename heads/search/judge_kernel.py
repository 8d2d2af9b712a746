"""Support vector machines judged together: one Gram matrix gives the kernels of all of them.

scikit-learn's SVC multiplies features anew for each kernel value that a fit or a prediction asks for; its solver alone
takes a twentieth of that time. The values here are float32, as those that its solver keeps, and the solver is the same.

Of many rows the kernel is approximated from landmarks, see :func:`heads.solvers.nystroem.approximated`: a fold's are
among its training rows. Folds share the kernel with all landmarks, its width and the scaling, which no label enters.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from featurestore.system.machine import memory_limit
from heads.feature_table import Floats
from heads.kinds.design import HeadDesign
from heads.kinds.svm import decisions, separated
from heads.search.judging import Judged, Judging
from heads.solvers.gram_matrix import EACH, SHARED, Doubles, Gram
from heads.solvers.nystroem import approximated

_TASKS = 4
"""Least number of tasks for each core: they differ in length, and no core should wait for the last one."""


class _Answer(NamedTuple):
    """The scores that a design, by its index, gave the held-out rows of a fold."""

    design: int
    scores: Doubles | Floats
    seconds: float
    stopped: str


Group = Sequence[tuple[int, Any]]
"""Heads that share a kernel, with the indices of their designs."""


def judge_kernel(designs: Sequence[HeadDesign], judging: Judging) -> None:
    """Fit support vector machines on each fold, and judge them on the rows held out.

    Args:
        designs: their answers are those of the heads that they build.
        judging: the rows, and what else is needed.

    Raises:
        HeadError: too many rows for this memory.
    """
    heads: list[Any] = [design.build(judging.seed) for design in designs]
    judging.check(heads)
    exact: list[tuple[int, Any]] = []
    groups: dict[tuple[Any, ...], list[tuple[int, Any]]] = {}
    for i, head in enumerate(heads):
        if head.approximates(len(judging.division.codes)):
            groups.setdefault((head.standardize, head.gamma, head.landmarks, head.tol), []).append((i, head))
        else:
            exact.append((i, head))
    for group in groups.values():
        _judge_landmarks(group, judging)
    if exact:
        _judge_exact(exact, judging)


def _judge_landmarks(group: Group, judging: Judging) -> None:
    """Judge heads that differ in C alone on the features of one approximated kernel."""
    division, head, tally = judging.division, group[0][1], _Tally(judging)
    linear = [head.linear() for _, head in group]
    before, folds = time.perf_counter(), range(division.folds if not judging.over else 0)
    scaling = division.scaling(division.folds, head.standardize)
    for fold, landmarks, features in approximated(division, scaling, head.gamma, head.landmarks, folds, judging.seed):
        seen = features[division.held(fold)]
        for C, coef, intercept in separated(linear, replace(division, X=features), fold, deadline=judging.deadline):
            done = [i for i, head in group if head.C == C]
            seconds, before = (time.perf_counter() - before) / len(done), time.perf_counter()
            for i in done:
                answer = _Answer(i, seen @ coef + intercept, seconds, f"converged, {len(landmarks.rows):,} landmarks")
                tally.add(fold, answer, seconds)
        judging.alive()
        if judging.over:
            return


def _judge_exact(heads: Group, judging: Judging) -> None:
    """Judge heads by their kernels of all rows."""
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits

    division, workers = judging.division, _workers(len(judging.division.codes), judging.max_memory)
    tally = _Tally(judging)
    # Rows as they are serve all folds with one Gram matrix; rows that are standardised differ from fold to fold.
    for standardize, folds in [(False, [*range(division.folds)]), *((True, [f]) for f in range(division.folds))]:
        sharing = [(i, head) for i, head in heads if head.standardize is standardize]
        if not sharing or judging.over:
            continue
        start = time.perf_counter()
        space = division.space(folds[0], standardize, judging.max_memory)
        gram = Gram.of(division, division.scaling(folds[0], standardize), space)
        share = (time.perf_counter() - start) / len(sharing) / len(folds)
        tasks = list(_tasks(sharing, folds, workers))
        # Threads: the solver and NumPy let go of the interpreter. Their own threads would only be in each other's way.
        with threadpool_limits(1):
            run = Parallel(n_jobs=workers, prefer="threads", return_as="generator_unordered")
            for fold, answers in run(delayed(_judge)(gram, judging, *task) for task in tasks):
                for answer in answers:
                    tally.add(fold, answer, share + answer.seconds / workers)
                judging.alive()


def _workers(rows: int, max_memory: int | None) -> int:
    """Return how many tasks can run at once."""
    import joblib

    limit = memory_limit(max_memory)
    return min(int(joblib.cpu_count()), int((limit - SHARED * rows**2) // (EACH * rows**2)))


def _tasks(heads: Group, folds: Sequence[int], workers: int) -> Iterator[tuple[int, Group]]:
    """Yield what can run side by side: the heads of each kernel on each fold, all folds of one kernel in a row."""
    groups: dict[tuple[Any, ...], list[tuple[int, Any]]] = {}
    for i, head in heads:
        groups.setdefault((head.gamma, head.tol), []).append((i, head))
    parts = -(-_TASKS * workers // (len(groups) * len(folds)))
    for group in groups.values():
        for start in range(min(parts, len(group))):
            for fold in folds:
                yield fold, group[start::parts]


def _judge(gram: Gram, judging: Judging, fold: int, group: Group) -> tuple[int, list[_Answer]]:
    """Fit heads that differ in C alone on a fold, and give their answers."""
    from sklearn import config_context

    division = judging.division
    if judging.over:
        return fold, []
    start = time.perf_counter()
    train, held = division.training_rows(fold), division.held(fold)
    # The solver takes two classes at a time: the kernel of each pair lies together.
    train = train[np.argsort(division.codes[train], kind="stable")]
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
        if judging.over:
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
    """Collects the scores of the designs from fold to fold, and reports the designs that are complete."""

    def __init__(self, judging: Judging) -> None:
        self._division, self._report = judging.division, judging.report
        self._scores: dict[int, Floats] = {}
        self._seconds: dict[int, list[float]] = {}

    def add(self, fold: int, answer: _Answer, seconds: float) -> None:
        """Add the scores that a design gave the held-out rows of a fold."""
        i, judged = answer.design, self._division.judged
        scores = self._scores.setdefault(i, np.empty((len(judged), self._division.classes), np.float32))
        scores[self._division.places(fold)] = answer.scores
        taken = self._seconds.setdefault(i, [])
        taken.append(seconds)
        if len(taken) == self._division.folds:
            self._report(i, Judged(self._scores.pop(i), sum(taken), answer.stopped))
