"""Heads with an L2 penalty judged together: one path of solutions serves all strengths of the penalty."""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast

from heads.kinds.design import HeadDesign
from heads.kinds.linear import PathHead, held_scores, room_for, solve_heads
from heads.search.judging import Judged, Judging, Left


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
    room, folds = room_for(judging.max_memory), range(judging.division.folds)
    for count, members in zip(range(len(groups), 0, -1), groups.values(), strict=True):
        heads = [cast("PathHead", designs[i].build(judging.seed)) for i in members]
        division = judging.division.narrowed(heads[0].standardize, judging.max_memory)
        names = sorted({str(head.class_weight) for head in heads})
        paths: dict[str, list[int]] = {name: [] for name in names}
        left, before = set(members), time.perf_counter()
        deadline, standardize = judging.share(count), heads[0].standardize
        for C, solution in solve_heads(heads, division, folds, standardize, deadline=deadline, room=room):
            done = [(i, head) for i, head in zip(members, heads, strict=True) if head.inverse_penalty == C]
            elapsed, before = time.perf_counter() - before, time.perf_counter()
            for i, head in done:
                mine = solution.part(names.index(str(head.class_weight)), len(names))
                scores = held_scores(division, folds, *mine.by_fold(len(folds)))
                stopped = "converged" if mine.iterations.max() < head.max_iter else "max_iter"
                judging.report(i, Judged(scores, elapsed / len(done), stopped))
                paths[str(head.class_weight)].append(i)
            left -= {i for i, _ in done}
            if all(map(judging.falling, paths.values())):
                for i in sorted(left):
                    judging.report(i, Left())
                break
