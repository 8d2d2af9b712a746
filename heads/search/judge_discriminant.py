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
        scores: dict[int, Floats | None] = dict.fromkeys(members)
        seconds, start = dict.fromkeys(members, 0.0), time.perf_counter()
        for division, folds in judging.division.spaces(standardize, judging.max_memory):
            for fold, moments in zip(folds, moments_of(division, folds, standardize, covariance), strict=True):
                shared = (time.perf_counter() - start) / len(members)
                for i in members:
                    if judging.over:
                        return
                    start = time.perf_counter()
                    coef, intercept = (part.astype(np.float32) for part in heads[i].solve(moments))
                    weights, bias = division.scaling(fold, standardize).fold(coef.T, intercept)
                    scores[i] = held_scores(division, [fold], weights.T[None], bias[None], scores[i])
                    seconds[i] += shared + time.perf_counter() - start
                start = time.perf_counter()
                judging.alive()
        for i, found in scores.items():
            assert found is not None
            judging.report(i, Judged(found, seconds[i], "closed form"))
