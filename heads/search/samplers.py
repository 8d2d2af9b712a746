"""Samplers choose the designs of a space that are judged next, by how good those before were."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from math import isnan
from typing import Any, get_args

from featurestore.errors import HeadError, missing, suggest
from heads.choices import Sampler
from heads.kinds.design import HeadDesign
from heads.search.space import Entry, Range, expand

SAMPLERS: tuple[str, ...] = get_args(Sampler)
"""The samplers; each needs the extra of its name."""

ROUND = 16
"""Number of designs that a sampler suggests at once, so that they can share their work."""

TRIALS = 100
"""Number of designs that a sampler suggests by default."""

Goodness = Callable[[HeadDesign], float | None]
"""Returns how good a design is, the greater the better; NaN if it could not be fitted, None if it was not judged."""


@dataclass(frozen=True)
class Search:
    """The order in which the designs of a space are judged.

    Attributes:
        most: greatest number of designs that it asks for.
        rounds: yields designs in rounds, all different; between two rounds it asks how good those of the last are.
    """

    most: int
    rounds: Callable[[Goodness], Iterable[list[HeadDesign]]]


def start_search(space: Sequence[Entry], sampler: str | None, trials: int | None, seed: int) -> Search:
    """Return a search that asks for all designs of a space in one round, or for those that a sampler suggests.

    A sampler draws from the whole of a range, whatever its ``num``, and does not read ``samples``. With the same seed
    it suggests the same designs if they are as good as before, so that a sweep that was stopped can go on.

    Args:
        space: the entries of the space.
        sampler: one of :data:`SAMPLERS`, or None.
        trials: greatest number of designs that the sampler suggests; by default :data:`TRIALS`.
        seed: seed of all that is random.

    Raises:
        DesignError: the space holds too many designs.
        HeadError: no such sampler, or no such number of trials.
        MissingDependencyError: the sampler's extra is not installed.
    """
    if trials is not None and (sampler is None or trials < 1):
        raise HeadError(f"--trials {trials}: {'give 1 or more' if sampler else 'add  --sampler optuna'}")
    if sampler is None:
        designs = expand(space, seed)
        return Search(len(designs), lambda _: [designs])
    if sampler not in SAMPLERS:
        raise HeadError(f"unknown sampler {sampler!r}: {suggest(sampler, SAMPLERS)}")
    if find_spec("optuna") is None:
        raise missing("--sampler optuna", "Optuna", "optuna")
    most = trials or TRIALS
    return Search(most, partial(_suggest, space, most, seed))


def _suggest(space: Sequence[Entry], most: int, seed: int, goodness: Goodness) -> Iterator[list[HeadDesign]]:
    """Yield designs by Optuna's tree-structured Parzen estimator; those of the first round are drawn at random.

    Within a round, designs that are not judged yet count as bad ones, so that the next ones differ from them. A round
    without a new design is the last. (Bergstra et al., "Algorithms for hyper-parameter optimization", NeurIPS 2011.)
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it reports each study on stderr
    tpe = optuna.samplers.TPESampler(seed=seed, n_startup_trials=ROUND, constant_liar=True)
    study = optuna.create_study(direction="maximize", sampler=tpe)
    found: set[HeadDesign] = set()
    while len(found) < most:
        asked: list[tuple[Any, HeadDesign]] = []
        new: list[HeadDesign] = []
        while len(asked) < ROUND and len(found) < most:
            trial = study.ask()
            asked.append((trial, _design(trial, space)))
            if asked[-1][1] not in found:
                new.append(asked[-1][1])
                found.add(new[-1])
        if not new:
            return
        yield new
        for trial, design in asked:
            value = goodness(design)
            if value is None:  # the budget is spent
                return
            if isnan(value):
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, value)


def _design(trial: Any, space: Sequence[Entry]) -> HeadDesign:
    # Names differ from entry to entry, because the same name may stand for another range there.
    number = trial.suggest_categorical("entry", list(range(len(space))))
    entry = space[number]
    return HeadDesign(entry.kind, {name: _value(trial, f"{number}.{name}", r) for name, r in entry.ranges.items()})


def _value(trial: Any, name: str, values: Range) -> Any:
    if values.bounds is None:
        return values.grid[trial.suggest_categorical(name, list(range(len(values.grid))))]  # it takes no lists
    return values.typed(trial.suggest_float(name, *values.bounds, log=values.log))
