"""Heads with an L2 penalty judged together: one path of solutions serves all strengths of the penalty."""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast

from heads.kinds.design import HeadDesign
from heads.kinds.linear import PathHead, held_scores, solve_heads
from heads.search.judging import Judged, Judging


def judge_linear(designs: Sequence[HeadDesign], judging: Judging) -> None:
    """Fit heads of :class:`heads.kinds.linear.PathHead` on all folds, sharing all that can be shared.

    Args:
        designs: of any such kinds.
        judging: the rows, and what else is needed.
    """
    groups: dict[Any, list[int]] = defaultdict(list)
    for i, design in enumerate(designs):
        groups[design.kind, *(design.params[name] for name in ("standardize", "tol", "max_iter"))].append(i)
    division = judging.division
    folds = range(division.folds)
    for members in groups.values():
        heads = [cast("PathHead", designs[i].build(judging.seed)) for i in members]
        names = sorted({str(head.class_weight) for head in heads})
        before = time.perf_counter()
        for C, solution in solve_heads(heads, division, folds, heads[0].standardize, deadline=judging.deadline):
            done = [(i, head) for i, head in zip(members, heads, strict=True) if head.inverse_penalty == C]
            elapsed, before = time.perf_counter() - before, time.perf_counter()
            for i, head in done:
                mine = solution.part(names.index(str(head.class_weight)), len(names))
                scores = held_scores(division, folds, *mine.by_fold(len(folds)))
                stopped = "converged" if mine.iterations.max() < head.max_iter else "max_iter"
                judging.report(i, Judged(scores, elapsed / len(done), stopped))
