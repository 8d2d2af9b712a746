"""Heads judged one by one: the judge of every kind for which nobody has written one that shares work."""

import time
from collections.abc import Sequence

import numpy as np

from featurestore.errors import HeadError
from heads.feature_table import Floats
from heads.kinds.design import HeadDesign
from heads.search.judging import Judged, Judging
from heads.tasks.base import Link


def judge_alone(designs: Sequence[HeadDesign], judging: Judging) -> None:
    """Fit each design on each fold as :meth:`heads.kinds.base.Head.fit` does, and judge it on the rows held out.

    A design that cannot be fitted is reported with its error, and the next one is begun.

    Args:
        designs: of any kinds.
        judging: the rows, and what else is needed.
    """
    division = judging.division
    for i, design in enumerate(designs):
        start = time.perf_counter()
        scores = np.empty((len(division.judged), division.classes), np.float32)
        try:
            for fold in range(division.folds):
                if judging.over:
                    return
                scores[division.places(fold)] = _scores(design, judging, fold)
                judging.alive()
        except HeadError as error:
            judging.report(i, error)
            continue
        judging.report(i, Judged(scores, time.perf_counter() - start, "fitted"))


def _scores(design: HeadDesign, judging: Judging, fold: int) -> Floats:
    """Scores of the rows that a fold holds out, by a head that was fitted on the others."""
    division, (task, link) = judging.division, judging.asked
    training = division.training(fold, standardize=False)
    X, codes = training.plain
    rows = len(codes)
    y = codes if link is None else task.answers(codes, Link.none(codes.shape[1]))
    views = (training.Z[rows:], training.image[rows:]) if len(training.Z) > rows else None
    # Each class has training rows in every fold, so that the columns of the scores are the classes of the division.
    head = design.build(judging.seed)
    head.fit(X, y, views=views, groups=training.groups, temperature=1.0, task=task.name)
    scores = head.scores(np.asarray(division.X[division.held(fold)], np.float32))
    return np.asarray(scores if head.link_ is None else head.link_.of(scores), np.float32)
