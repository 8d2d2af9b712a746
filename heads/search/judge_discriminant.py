"""Heads in closed form judged together: the moments of all folds come from one pass over the rows."""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import cast

import numpy as np

from heads.feature_table import Floats
from heads.kinds.design import HeadDesign
from heads.kinds.discriminant import DiscriminantHead, moments_of
from heads.kinds.linear import held_scores
from heads.search.judging import Judged, Judging


def judge_discriminant(designs: Sequence[HeadDesign], judging: Judging) -> None:
    """Fit heads of :class:`heads.kinds.discriminant.DiscriminantHead` on all folds from shared moments.

    Args:
        designs: of any such kinds.
        judging: the rows, and what else is needed.
    """
    heads = [cast("DiscriminantHead", design.build(judging.seed)) for design in designs]
    groups: dict[tuple[bool, bool], list[int]] = defaultdict(list)
    for i, head in enumerate(heads):
        groups[head.needs_covariance, head.standardize].append(i)
    for (covariance, standardize), members in groups.items():
        division = judging.division.narrowed(standardize, judging.max_memory)
        seconds, start = dict.fromkeys(members, 0.0), time.perf_counter()
        raw: dict[int, list[tuple[Floats, Floats]]] = {i: [] for i in members}
        folds = range(division.folds)
        for fold, moments in zip(folds, moments_of(division, folds, standardize, covariance), strict=True):
            shared = (time.perf_counter() - start) / len(members)
            for i in members:
                if judging.over:
                    return
                start = time.perf_counter()
                coef, intercept = heads[i].solve(moments)
                weights, bias = division.scaling(fold, standardize).fold(
                    coef.T.astype(np.float32), intercept.astype(np.float32)
                )
                raw[i].append((weights.T, bias))
                seconds[i] += shared + time.perf_counter() - start
            start = time.perf_counter()
            judging.alive()
        for i in members:
            start = time.perf_counter()
            scores = held_scores(division, folds, *(np.stack(part) for part in zip(*raw[i], strict=True)))
            judging.report(i, Judged(scores, seconds[i] + time.perf_counter() - start, "closed form"))
