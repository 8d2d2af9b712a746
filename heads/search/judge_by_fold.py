"""Judge designs fold by fold where folds have other rows: numeric columns are scaled by each fold's training rows."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean

import numpy as np

from featurestore.errors import HeadError
from heads.kinds.design import HeadDesign
from heads.search.judges import JudgeOfFamily
from heads.search.judging import Judged, Judging, Left, shared
from heads.solvers.folds import Division


def judge(family: JudgeOfFamily, designs: Sequence[HeadDesign], judging: Judging) -> None:
    """Judge designs of a family as it does; where there are numeric columns, on each fold by itself.

    No row that is held out has a part in the mean, the deviation and the filled values of a numeric column then. What
    folds would share is computed for each of them. A design is reported when the last fold is done; paths are not left
    early, since no design is known before.

    Args:
        family: the judge of the family.
        designs: of that family.
        judging: the rows, and what else is needed.
    """
    division = judging.division
    if division.numeric is None:
        family(designs, judging)
        return
    found: dict[int, list[Judged]] = defaultdict(list)

    def told(some: Sequence[int], place: int, one: Judged | HeadError | Left) -> None:
        i = some[place]
        if isinstance(one, Judged):
            found[i].append(one)
            if len(found[i]) == division.folds:
                judging.report(i, _together(found.pop(i), division))
        elif i not in failed:
            failed.add(i)
            judging.report(i, one)

    failed: set[int] = set()
    for fold in range(division.folds):
        some = [i for i in range(len(designs)) if i not in failed and len(found[i]) == fold]
        if some and not judging.over:
            turn = replace(
                judging, division=division.alone(fold), deadline=shared(judging.deadline, division.folds - fold),
                report=partial(told, some), falling=lambda path: False,
            )  # fmt: skip
            family([designs[i] for i in some], turn)


def _together(parts: Sequence[Judged], division: Division) -> Judged:
    """Join what a design gave on each fold."""
    scores = np.empty((len(division.judged), parts[0].scores.shape[1]), np.float32)
    for fold, part in enumerate(parts):
        scores[division.places(fold)] = part.scores
    losses = [fmean(epoch) for epoch in zip(*(part.losses for part in parts if part.losses), strict=False)]
    stopped = "; ".join(dict.fromkeys(part.stopped for part in parts))
    return Judged(scores, sum(part.seconds for part in parts), stopped, losses, any(part.cut for part in parts))
