"""Successive halving over rows: all designs are judged on a part of the rows, and the best go on to more of them.

(Jamieson & Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016, with rows
as the resource, as in scikit-learn's ``HalvingGridSearchCV(resource="n_samples")``.) No fixed share of the designs goes
on. Few rows favour strong penalties and small heads, so that a design stays in the race as long as it may still win:

- if the error that it will have, when its learning curve goes on as it did from the level before, may be that of the
  design which is the best now, whose curve is expected to become flatter (curves of error over the logarithm of the
  rows do: Hestness et al., "Deep learning scaling is predictable, empirically", 2017);
- if it is the next, towards a weaker penalty, of such a design that is the best of its path.

In a cross-validation, the level before the last has all rows, and one of the folds: nothing is left to be gained there
by more rows, and only those go on to all folds that chance may have put behind the best.

A steep curve alone does not raise what others must reach: that of a discriminant or a least-squares head is steepest
where there are hardly more rows than columns, and flattens at once.

What is lost by chance is known from parts of the held-out rows, which are the same for all designs.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise

import numpy as np

from heads.kinds.design import HeadDesign, head_class
from heads.search.trials import Key, Trial, goodness, ranked
from heads.tasks.registry import SMALLER_IS_BETTER

LEAST, EACH = 2500, 25
"""Least number of images of a part, and least number for each class."""
FACTOR = 4
"""Each level has so many times the rows of the one before."""
_CHANCE = 2.0
"""Standard errors of a difference that chance may make."""
_UNKNOWN = 0.15
"""Share of its error that a design may gain on the others at the next level, where no earlier level tells."""
_FLATTER = 0.5
"""What a learning curve gains from one level to the next, as a share of the gain before, at least."""
_STEPS = 2
"""Steps of a path that are worse than the best before them, until it is left."""


def shares(rows: int, classes: int) -> list[float]:
    """Return the share of the rows that each level has, ascending; the last one has all of them.

    Example:
        >>> shares(50_000, 10), shares(9_999, 10)
        ([0.0625, 0.25, 1.0], [1.0])
    """
    least, found = max(LEAST, EACH * classes), [1.0]
    while rows * found[0] >= FACTOR * least:
        found.insert(0, found[0] / FACTOR)
    return found


def promoted(now: Mapping[Key, Trial], before: Mapping[Key, Trial], metric: str, levels: int = 1) -> set[Key]:
    """Return the designs that go on to the next level.

    Args:
        now: trials of a level.
        before: trials of the level before it, if there is one.
        metric: the sweep's.
        levels: number of times that the rows become more from here on.
    """
    usable = {trial.key: trial for trial in ranked(now.values(), metric) if np.isfinite(trial.mean) and not trial.cut}
    if not usable:
        return set()
    gain = {key: _gain(trial, before.get(key), metric) for key, trial in usable.items()}
    best = next(iter(usable))
    flatter = sum(_FLATTER**level for level in range(1, levels + 1))
    goal = goodness(usable[best], metric) + flatter * gain[best]
    kept = {
        key
        for key, trial in usable.items()
        if goodness(trial, metric) + levels * gain[key] + _CHANCE * _chance(trial, usable[best]) >= goal
    }
    for path in paths(usable) if levels else ():
        best_of_path = max(path, key=lambda key: goodness(usable[key], metric))
        kept |= {weak for strong, weak in pairwise(path) if strong == best_of_path and strong in kept}
    return kept


def _gain(trial: Trial, before: Trial | None, metric: str) -> float:
    """Return how much better a design may become at the next level, at most."""
    if before is None or not np.isfinite(before.mean):
        return _UNKNOWN * (trial.mean if metric in SMALLER_IS_BETTER else 1 - trial.mean)
    return max(0.0, goodness(trial, metric) - goodness(before, metric))


def _chance(trial: Trial, other: Trial) -> float:
    """Return the standard error of the difference between two trials, on the same parts of the held-out rows."""
    if len(trial.parts) != len(other.parts):
        return max(trial.error, other.error)
    paired = np.subtract(trial.parts, other.parts)
    paired = paired[np.isfinite(paired)]
    return float(paired.std(ddof=1) / np.sqrt(len(paired))) if len(paired) > 1 else max(trial.error, other.error)


def paths(keys: Iterable[Key]) -> list[list[Key]]:
    """Return designs that differ only in the strength of their penalty, of one table, the strongest first."""
    placed = [(*_place(key[1]), key) for key in keys]
    placed = sorted((each for each in placed if each[0]), key=lambda each: (each[0], each[2][0], each[1]))
    return [[key for *_, key in path] for _, path in groupby(placed, key=lambda each: (each[0], each[2][0]))]


def _place(design: HeadDesign) -> tuple[str, float]:
    """Return the name of a design's path, and how weak its penalty is; no name if it has none."""
    if (weaker := head_class(design.kind).weaker) is None:
        return "", 0.0
    name, sign = weaker
    others = {key: value for key, value in design.params.items() if key != name}
    return HeadDesign(design.kind, {**others}).to_json(), sign * design.params[name]


def falls(path: Sequence[Trial], metric: str) -> bool:
    """Return whether the last steps of a path are each worse than the best before them, by more than chance makes.

    Args:
        path: trials of designs with weaker and weaker penalties, as far as they are judged.
        metric: the sweep's.
    """
    if not path or not all(np.isfinite(trial.mean) for trial in path):
        return False
    values = [goodness(trial, metric) for trial in path]
    best = int(np.argmax(values))
    last = path[best + 1 :][-_STEPS:]
    return len(last) == _STEPS and all(
        values[best] - goodness(trial, metric) > _CHANCE * _chance(trial, path[best]) for trial in last
    )
