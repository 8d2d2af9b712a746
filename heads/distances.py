"""Kernel heads judged together: one Gram matrix gives the distances, kernels and neighbours of all of them.

scikit-learn's SVC multiplies features anew for each kernel value that a fit or a prediction asks for; its solver alone
takes a twentieth of that time. The values here are float64, as there, and the solver is the same.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from featurestore.errors import HeadError
from featurestore.runtime import machine_memory
from heads.base import two_columns
from heads.data import Floats, Labels
from heads.designs import HeadDesign
from heads.division import Division, Judged, Report
from heads.gram import Doubles, Gram, strips
from heads.kernel import KNNHead, SVMHead

_TASKS = 4
"""Tasks per core, at least: they differ in length, and no core shall wait for the last one."""


class _Answer(NamedTuple):
    """What a design, by its index, gave on the held-out rows of a fold."""

    design: int
    scores: Doubles
    seconds: float
    stopped: str


Group = Sequence[tuple[int, Any]]
"""Heads of one kind that share a kernel or neighbours, with the indices of their designs."""

Task = Callable[[Gram, Division, int, Group, float], list[_Answer]]


def judge_kernel(
    designs: Sequence[HeadDesign],
    division: Division,
    *,
    seed: int,
    report: Report,
    deadline: float | None = None,
    max_memory: int | None = None,
) -> None:
    """Fit designs of kinds ``svm`` and ``knn`` on each fold, and judge them on the rows held out.

    Args:
        designs: their answers are those of the heads that they build.
        division: the rows.
        seed: of the heads.
        report: is told each design's scores: float32 (J, C).
        deadline: value of ``time.monotonic()`` from which on nothing new is begun; the rest is not reported.
        max_memory: bytes to work in beside the features; None: half of the machine's.

    Raises:
        HeadError: too many rows for this memory, or fewer training rows than neighbours to vote.
    """
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits

    heads: list[Any] = [design.build(seed) for design in designs]
    _check_neighbours(heads, division)
    workers = _workers(heads, len(division.codes), max_memory)
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
            for fold, answers in run(delayed(_run)(task, gram, division, *rest, late) for task, *rest in tasks):
                for answer in answers:
                    tally.add(fold, answer, share + answer.seconds / workers)


def _check_neighbours(heads: Sequence[Any], division: Division) -> None:
    fewest = min(len(division.training_rows(fold)) for fold in range(division.folds))
    for head in heads:
        if isinstance(head, KNNHead):
            head.check_rows(fewest)


def _workers(heads: Sequence[Any], rows: int, max_memory: int | None) -> int:
    """How many tasks can run at once.

    Raises:
        HeadError: not one.
    """
    import joblib

    limit = machine_memory() // 2 if max_memory is None else max_memory
    # The Gram matrix in float64; per task a kernel that may be as large, and the solver's copy in float32.
    shared, each = 8 * rows**2, (12 if any(isinstance(head, SVMHead) for head in heads) else 1) * rows**2
    if shared + each > limit:
        raise HeadError(
            f"{rows:,} rows: the distances between all of them take {(shared + each) / 1e9:.2g} GB, "
            f"but {limit / 1e9:.2g} GB may be used: allow more memory, leave out svm and knn, or give fewer rows"
        )
    return min(int(joblib.cpu_count()), int((limit - shared) // each))


def _tasks(heads: Group, folds: Sequence[int], workers: int) -> Iterator[tuple[Task, int, Group]]:
    """What can run side by side: the heads of each group on each fold, all folds of one group in a row."""
    groups: dict[tuple[Any, ...], list[tuple[int, Any]]] = {}
    for i, head in heads:
        key = ("svm", head.gamma, head.tol) if isinstance(head, SVMHead) else ("knn", head.metric)
        groups.setdefault(key, []).append((i, head))
    parts = -(-_TASKS * workers // (len(groups) * len(folds)))
    for (kind, *_), group in groups.items():
        task, splits = (_judge_svm, parts) if kind == "svm" else (_judge_knn, 1)
        for start in range(min(splits, len(group))):
            for fold in folds:
                yield task, fold, group[start::splits]


def _run(
    task: Task, gram: Gram, division: Division, fold: int, group: Group, deadline: float
) -> tuple[int, list[_Answer]]:
    return fold, task(gram, division, fold, group, deadline) if time.monotonic() < deadline else []


def _judge_svm(gram: Gram, division: Division, fold: int, group: Group, deadline: float) -> list[_Answer]:
    """Heads that differ in C only."""
    from sklearn import config_context

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
                scores = two_columns(model.fit(kernel, codes, weights).decision_function(seen))
            # C bounds the coefficients. If it holds none of them back, a greater C has the same optimum.
            bound = head.C * weights[model.support_]
            free = bool((np.abs(model.dual_coef_).max(axis=0) < bound * (1 - 1e-9)).all())
        answers.append(_Answer(i, scores, share + time.perf_counter() - start, "converged"))
    return answers


def _judge_knn(gram: Gram, division: Division, fold: int, group: Group, deadline: float) -> list[_Answer]:
    """Heads of one metric: the neighbours of the one with the most serve all."""
    start = time.perf_counter()
    train, held = division.training_rows(fold), division.held(fold)
    measure = gram.cosine if group[0][1].metric == "cosine" else gram.euclidean
    most = max(head.n_neighbors for _, head in group)
    distances, codes = np.empty((len(held), most)), np.empty((len(held), most), np.intp)
    for strip in strips(len(held)):
        far = measure(held[strip], train)
        nearest = np.argpartition(far, most - 1, axis=1)[:, :most]
        near = np.take_along_axis(far, nearest, axis=1)
        order = near.argsort(axis=1, kind="stable")
        distances[strip] = np.take_along_axis(near, order, axis=1)
        codes[strip] = division.codes[train[np.take_along_axis(nearest, order, axis=1)]]
    share = (time.perf_counter() - start) / len(group)
    answers = []
    for i, head in group:
        start = time.perf_counter()
        k = head.n_neighbors
        votes = _votes(codes[:, :k], distances[:, :k], head.weights, division.classes)
        answers.append(_Answer(i, votes, share + time.perf_counter() - start, "exact"))
    return answers


def _votes(codes: Labels, distances: Doubles, weights: str, classes: int) -> Doubles:
    """Share of each class in the votes (R, C) of neighbours (R, k); if any are at distance 0, they alone vote."""
    vote = np.ones_like(distances)
    if weights == "distance":
        same = distances == 0
        vote = np.where(same.any(axis=1, keepdims=True), same, 1 / np.where(same, 1, distances))
    cells = codes + classes * np.arange(len(codes))[:, None]
    votes = np.bincount(cells.ravel(), vote.ravel(), len(codes) * classes).reshape(-1, classes)
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))


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
