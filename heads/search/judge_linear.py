"""Heads with an L2 penalty judged together: one path of solutions serves all strengths of the penalty."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from heads.kinds.design import HeadDesign
from heads.kinds.linear import PathHead, held_scores, room_for, solve_heads
from heads.search.judging import Judged, Judging, Left, shared
from heads.solvers.folds import Division
from heads.solvers.linear_path import Solution


def judge_linear(designs: Sequence[HeadDesign], judging: Judging) -> None:
    """Fit heads of :class:`heads.kinds.linear.PathHead` on all folds, sharing all that can be shared.

    A path, with C from small to great, is left where all its class weights only fall.

    Args:
        designs: of any such kinds.
        judging: the rows, and what else is needed.
    """
    groups: dict[Any, list[int]] = defaultdict(list)
    for i, design in enumerate(designs):
        groups[design.kind, *(design.params[name] for name in ("standardize", "tol", "max_iter"))].append(i)
    for count, members in zip(range(len(groups), 0, -1), groups.values(), strict=True):
        heads = [cast("PathHead", designs[i].build(judging.seed)) for i in members]
        spaces = [*judging.division.spaces(heads[0].standardize, judging.max_memory)]
        names = sorted({str(head.class_weight) for head in heads})
        paths: dict[str, list[int]] = {name: [] for name in names}
        left, before = set(members), time.perf_counter()
        for C, solutions in _solved(heads, spaces, judging, judging.share(count)):
            done = [(i, head) for i, head in zip(members, heads, strict=True) if head.inverse_penalty == C]
            elapsed, before = time.perf_counter() - before, time.perf_counter()
            for i, head in done:
                place, scores, steps = names.index(str(head.class_weight)), None, 0
                for (division, folds), solution in zip(spaces, solutions, strict=True):
                    mine = solution.part(place, len(names))
                    scores = held_scores(division, folds, *mine.by_fold(len(folds)), scores)
                    steps = max(steps, int(mine.iterations.max()))
                assert scores is not None
                judging.report(i, Judged(scores, elapsed / len(done), _stopped(steps, head)))
                paths[str(head.class_weight)].append(i)
            left -= {i for i, _ in done}
            if all(map(judging.falling, paths.values())):
                for i in sorted(left):
                    judging.report(i, Left())
                break


def _solved(
    heads: Sequence[PathHead], spaces: Sequence[tuple[Division, Sequence[int]]], judging: Judging, deadline: float
) -> Iterator[tuple[float, list[Solution]]]:
    """Yield each C with the solution in each space. Where folds have their own, each is solved to its end in turn."""
    standardize, room = heads[0].standardize, room_for(judging.max_memory)
    paths: list[Iterable[tuple[float, Solution]]] = []
    for left, (division, folds) in zip(range(len(spaces), 0, -1), spaces, strict=True):
        path = solve_heads(heads, division, folds, standardize, deadline=shared(deadline, left), room=room)
        # A solver that is at work has the threads of BLAS: two of them cannot take turns.
        paths.append(path if len(spaces) == 1 else [*path])
        judging.alive()
    for each in zip(*paths, strict=False):  # at the deadline, some are shorter
        yield each[0][0], [solution for _, solution in each]


def _stopped(steps: int, head: PathHead) -> str:
    return "converged" if steps < head.max_iter else "max_iter"
