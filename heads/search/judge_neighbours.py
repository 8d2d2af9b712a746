"""Heads that vote by the nearest rows, judged together: one search for neighbours serves all numbers of them."""

import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from heads.feature_table import Floats, Labels
from heads.kinds.design import HeadDesign
from heads.metrics.outcomes import blocks
from heads.search.judging import Judged, Judging
from heads.solvers.arrays import Scaling
from heads.solvers.folds import Division
from heads.solvers.neighbours import Side, nearest, votes

_SCORES = 2**28
"""Scores of designs that are judged together, at most: a gigabyte."""


def judge_neighbours(designs: Sequence[HeadDesign], judging: Judging) -> None:
    """Judge heads that vote by their nearest rows: those of one metric and scaling by the same neighbours.

    Args:
        designs: their answers are those of the heads that they build.
        judging: the rows, in memory or not, and what else is needed.

    Raises:
        HeadError: fewer training rows than neighbours to vote.
    """
    division = judging.division
    heads: list[Any] = [design.build(judging.seed) for design in designs]
    judging.check(heads)
    groups: dict[tuple[bool, str], list[int]] = defaultdict(list)
    for i, head in enumerate(heads):
        groups[head.standardize, head.metric].append(i)
    size = max(1, _SCORES // max(1, len(division.judged) * division.classes))
    for (standardize, _), members in groups.items():
        for start in range(0, len(members), size):
            _judge({i: heads[i] for i in members[start : start + size]}, standardize, judging)


def _judge(heads: dict[int, Any], standardize: bool, judging: Judging) -> None:
    """Judge heads of one metric and scaling, by the index of their design."""
    start, division = time.perf_counter(), judging.division
    pairs, trained, places = [], [], []
    for space, folds in division.spaces(standardize, judging.max_memory):
        for fold in folds:
            scaling, train = space.scaling(fold, standardize), division.training_rows(fold)
            pairs.append((_side(space, scaling, division.held(fold)), _side(space, scaling, train)))
            trained.append(train)
            places.append(division.places(fold))
    left = len(division.judged)
    scores = {i: np.empty((left, division.classes), np.float32) for i in heads}
    most, metric = max(head.n_neighbors for head in heads.values()), next(iter(heads.values())).metric
    near_rows = nearest(pairs, most, metric, max_memory=judging.max_memory, deadline=judging.deadline)
    for fold, rows, near in near_rows:
        codes, place = division.codes[trained[fold][near.place]], places[fold][rows]
        for i, head in heads.items():
            k = head.n_neighbors
            for part in blocks(len(place), division.classes):
                scores[i][place[part]] = votes(codes[part, :k], near.distance[part, :k], head.weights, division.classes)
        left -= len(place)
        judging.alive()
    if left:  # the time is over
        return
    seconds = (time.perf_counter() - start) / len(heads)
    for i, found in scores.items():
        judging.report(i, Judged(found, seconds, "exact"))


def _side(division: Division, scaling: Scaling, rows: Labels) -> Side:
    def take(scaling: Scaling, rows: Labels, places: Labels) -> Floats:
        return scaling.apply(np.asarray(division.X[rows[places]], np.float32))

    return Side(len(rows), partial(take, scaling, rows))
