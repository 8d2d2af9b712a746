"""Heads in closed form judged together: the moments of all folds come from one pass over the rows."""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import cast

import numpy as np

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
    division = judging.division
    folds = range(division.folds)
    for (covariance, standardize), members in groups.items():
        start = time.perf_counter()
        moments = moments_of(division, folds, standardize, covariance)
        shared = (time.perf_counter() - start) / len(members)
        for i in members:
            if judging.over:
                return
            start = time.perf_counter()
            raw = []
            for fold, each in zip(folds, moments, strict=True):
                coef, intercept = heads[i].solve(each)
                weights, bias = division.scaling(fold, standardize).fold(
                    coef.T.astype(np.float32), intercept.astype(np.float32)
                )
                raw.append((weights.T, bias))
            scores = held_scores(division, folds, *(np.stack(part) for part in zip(*raw, strict=True)))
            judging.report(i, Judged(scores, shared + time.perf_counter() - start, "closed form"))
