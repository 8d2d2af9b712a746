"""Judge the designs of one head on rows that they are not fitted to, and take the best, as a sweep does.

Learning curves and out-of-fold probabilities need no folder of trials: a few designs of one kind, which share their
work, on rows that are divided anew again and again.
"""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from featurestore.errors import HeadError
from heads.feature_table import FeatureTable, Floats, Labels
from heads.kinds.design import HeadDesign, head_class
from heads.search.judge_by_fold import judge
from heads.search.judges import batches
from heads.search.judging import Judged, Judging, Left
from heads.search.plan import SweepPlan
from heads.search.space import expand, read_space
from heads.search.trials import Trial, contenders, judge_trial

PRESET = "quick"
"""The preset whose values of a kind's hyperparameters are tried."""


class Held(NamedTuple):
    """What the best of some designs gave on rows that it was not fitted to.

    Attributes:
        trial: its trial.
        scores: scores of these rows, float32 (J, C).
        codes: their classes, 0..C-1 (J,).
        rows: their indices in the table (J,).
        classes: the labels that the classes stand for (C,).
    """

    trial: Trial
    scores: Floats
    codes: Labels
    rows: Labels
    classes: Labels


def designs_of(head: str, params: Mapping[str, Any] | Iterable[str] = ()) -> list[HeadDesign]:
    """Return the designs of a head that are tried: those of the preset ``quick``, with the given values.

    A kind of which that preset tries nothing, such as a dense net, has one design, and so has a recipe.

    Args:
        head: a kind of head, or the name of a recipe.
        params: see :meth:`heads.kinds.design.HeadDesign.parse`; a hyperparameter that is given is not varied.

    Raises:
        DesignError: there is no such head or hyperparameter.

    Example:
        >>> [design.params["C"] for design in designs_of("linear-svm")]
        [1e-05, 0.0001, 0.001, 0.01]
        >>> [design.params["C"] for design in designs_of("linear-svm", ["C=0.5"])]
        [0.5]
    """
    params = params if isinstance(params, Mapping) else list(params)
    given = HeadDesign.parse(head, params)
    named = {each.partition("=")[0] for each in params}
    varied = {} if head != given.kind else dict(head_class(head).spaces.get(PRESET, {}))
    free = {name: values for name, values in varied.items() if name not in named}
    found = expand(read_space([{"kind": given.kind, **free}]), 0)
    return [HeadDesign(given.kind, {**given.params, **{name: each.params[name] for name in free}}) for each in found]


def divided(table: FeatureTable, splits: NDArray[Any]) -> FeatureTable:
    """Return the table with other splits of its rows, str (N,)."""
    made = copy(table)
    made.splits = splits
    return made


def best_held(
    table: FeatureTable,
    designs: Sequence[HeadDesign],
    folds: int | None,
    metric: str,
    *,
    views: bool = False,
    seed: int = 0,
    max_memory: int | None = None,
) -> Held:
    """Judge designs of one kind on rows that they are not fitted to, and return what the best of them gave there.

    Args:
        table: the features.
        designs: those to judge.
        folds: number of folds of the train and validation rows; None to judge heads of the train rows on the validation
            rows.
        metric: one of :data:`heads.search.trials.METRICS`; the least log loss breaks ties.
        views: whether to fit to the augmented views of train rows too.
        seed: of the folds and the heads.
        max_memory: bytes that may be used; None for half of the machine's.

    Raises:
        HeadError: rows of a single class, or that hold NaN; no row can be held out; or no design can be fitted.
    """
    plan = SweepPlan(table, folds, views, seed)
    able = [design for design in designs if not design.build().obstacle(plan.extent, max_memory)]
    if not able:
        raise HeadError(f"{table.path}: {designs[0].build().obstacle(plan.extent, max_memory)}")
    trials: list[Trial] = []
    best: list[tuple[Trial, Floats]] = []
    with plan.division(max_memory, Path(tempfile.gettempdir())) as division:
        for family, batch in batches(able):

            def report(i: int, one: Judged | HeadError | Left, batch: Sequence[HeadDesign] = batch) -> None:
                if isinstance(one, HeadError):
                    raise one
                trials.append(judge_trial("", batch[i], division, one, metric))
                if isinstance(one, Judged) and contenders(trials, metric)[:1] == trials[-1:]:
                    best[:] = [(trials[-1], one.scores)]  # the others' scores need not stay in memory

            with table.named():
                judge(family, batch, Judging(division, seed, report, metric, max_memory=max_memory))
    if not best:
        raise HeadError(f"{table.path}: {metric} cannot be measured on these rows: give another metric")
    trial, scores = best[0]
    return Held(trial, scores, plan.held_codes, plan.held_rows, plan.classes)
