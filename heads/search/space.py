"""Search spaces: sets of head designs that have a name, or stand in a TOML file.

    [[heads]]
    kind = "logreg"
    C = { log = [1e-5, 10.0], num = 13 }
    class_weight = ["none", "balanced"]

    [[heads]]
    kind = "dense"
    samples = 24                                  # are drawn at random; without it, every combination is taken
    hidden = { choice = [[], [256], [256, 64]] }
    learning_rate = { log = [3e-4, 3e-3] }
    dropout = { uniform = [0.0, 0.6] }

Give one value, a list of values, or a table as above; hyperparameters that are not named keep their default.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np

from featurestore.errors import DesignError, suggest
from featurestore.system.files import read_regular, why
from heads.choices import Preset
from heads.kinds.design import KINDS, HeadDesign, head_class, parameters

_MOST = 100_000
"""Greatest number of designs in a space."""
_LIMIT = 2**20
"""Greatest number of bytes of a file."""
_DOTTED = re.compile(r"""(?:(?:[\w-]{1,99}|"[^"\n]{0,99}"|'[^'\n]{0,99}')[ \t]*\.[ \t]*){20}""")
"""A key such as ``a.b.c`` of many parts, for which the parser takes time that grows with the square of their number."""
_NUM = 5
"""Number of values of a range that does not say how many."""
_LARGEST = 1e300
"""Greatest bound of a range: the difference of two bounds is still a number."""

Space = list[dict[str, Any]]

PRESETS: tuple[str, ...] = get_args(Preset)
"""Names of the spaces that need no file; what each tries of a kind of head stands on the class of the kind."""


def preset_space(preset: str, task: str = "classification") -> Space:
    """Return the tables of a preset: one for each kind of head that learns a task and has a part in it."""
    learning = [kind for kind in KINDS if task in head_class(kind).tasks & head_class(kind).swept_for]
    parts = {kind: head_class(kind).spaces.get(preset) for kind in learning}
    return [{"kind": kind, **part} for kind, part in parts.items() if part is not None]


class Range:
    """The values of one hyperparameter: those of its grid, and random ones from :meth:`draw`.

    Attributes:
        grid: the values of a list, or values at equal steps of a range.
        bounds: the bounds of a range; None for a list.
        log: whether the steps of the range are equal in its logarithm.
    """

    def __init__(self, value: Any, whole: bool) -> None:
        self.bounds: tuple[float, float] | None = None
        self.log, self._whole = False, whole
        if isinstance(value, dict):
            self._read(dict(value))
        else:
            self.grid = value if isinstance(value, list) else [value]
        if not self.grid:
            raise ValueError("an empty list: give at least one value")

    def _read(self, value: dict[str, Any]) -> None:
        forms = [name for name in ("log", "uniform", "choice") if name in value]
        wrong = value.keys() - {"log", "uniform", "choice", "num"}
        if wrong or len(forms) != 1:
            key = min(wrong) if wrong else ""
            hint = suggest(key, ["log", "uniform", "choice", "num"]) if wrong else "write one of them"
            raise ValueError(
                f"a range is {{ log = [a, b], num = n }}, {{ uniform = [a, b] }} or {{ choice = [...] }}: {hint}"
            )
        bounds = value[forms[0]]
        if forms[0] == "choice":
            self.grid = bounds if isinstance(bounds, list) else [bounds]
            return
        self.log, num = forms[0] == "log", value.get("num", _NUM)
        numbers = isinstance(bounds, list) and len(bounds) == 2 and all(type(b) in (int, float) for b in bounds)
        if (
            not numbers
            or not (0 if self.log else -_LARGEST) < bounds[0] <= bounds[1] < _LARGEST
            or type(num) is not int
            or not 1 <= num <= _MOST
        ):
            raise ValueError(
                f"{forms[0]} = {bounds}, num = {num}: give two numbers, the smaller first{', above 0' * self.log}, "
                f"and for num a whole number from 1 to {_MOST}"
            )
        self.bounds = float(bounds[0]), float(bounds[1])
        steps = (np.geomspace if self.log else np.linspace)(*self.bounds, num)
        self.grid = list(dict.fromkeys(self.typed(step) for step in steps))

    def typed(self, number: float) -> float | int:
        """Return a number within the bounds as a hyperparameter has it: whole, or rounded to seven digits."""
        # Seven digits, so that 10 ** -2.5 reads well in tables and is the same on every machine.
        return round(number) if self._whole else float(f"{number:.7g}")

    def draw(self, rng: np.random.Generator) -> Any:
        """Return one value at random."""
        if self.bounds is None:
            return self.grid[int(rng.integers(len(self.grid)))]
        low, high = np.log(self.bounds) if self.log else self.bounds
        number = rng.uniform(low, high)
        return self.typed(float(np.exp(number)) if self.log else number)


@dataclass(frozen=True)
class Entry:
    """A table of a space: a kind of head, the values of its hyperparameters, and how many designs to draw of them.

    Attributes:
        kind: kind of head.
        ranges: the values of each hyperparameter that is named.
        samples: number of designs that are drawn at random; None for every combination.
        place: where the table stands, for messages, such as ``space.toml: heads[2]``.
    """

    kind: str
    ranges: Mapping[str, Range]
    samples: int | None
    place: str

    def designs(self, rng: np.random.Generator) -> list[HeadDesign]:
        """Return every combination of values, or so many random ones."""
        if self.samples is not None:
            return [self._design(values.draw(rng) for values in self.ranges.values()) for _ in range(self.samples)]
        grids = [values.grid for values in self.ranges.values()]
        if np.prod([len(grid) for grid in grids], dtype=float) > _MOST:
            raise _too_many(self.place, f"more than {_MOST} combinations: give fewer")
        return [self._design(some) for some in product(*grids)]

    def _design(self, values: Iterable[Any]) -> HeadDesign:
        return HeadDesign(self.kind, dict(zip(self.ranges, values, strict=True)))


def _too_many(place: str, why: str) -> DesignError:
    return DesignError(f"{place}: {why}, or draw some with  samples = N")


def load_space(preset: str, path: str | os.PathLike[str] | None = None, task: str = "classification") -> list[Entry]:
    """Return the entries of a preset, or of a TOML file.

    Args:
        preset: one of :data:`PRESETS`, unless there is a file.
        path: the file.
        task: what heads of a preset must learn, see :data:`heads.tasks.registry.TASKS`.

    Raises:
        DesignError: no such preset; or the file cannot be read, or has a wrong key or value: the message names its
            place, such as ``heads[2].C``, where the first table is ``heads[0]``.
    """
    if path is None:
        if preset not in PRESETS:
            raise DesignError(f"unknown preset {preset!r}: {suggest(preset, PRESETS)}")
        return read_space(preset_space(preset, task), preset)
    path = Path(path)
    try:
        text = read_regular(path, _LIMIT).decode()
        if _DOTTED.search(text):
            raise ValueError("a key of more than 20 parts")
        content = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = why(error) if isinstance(error, OSError) else error
        raise DesignError(
            f"{path}: no readable search space ({reason}): see the text of heads/search/space.py"
        ) from error
    if wrong := content.keys() - {"heads"}:
        key = min(wrong)
        raise DesignError(f"{path}: a space has no {key!r}: {suggest(key, ['heads'])}")
    tables = content.get("heads")
    if not tables or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise DesignError(f"{path}: holds no heads: write tables [[heads]], each with a kind")
    return read_space(tables, str(path))


def read_space(space: Space, name: str = "space") -> list[Entry]:
    """Return the entries of a space; messages about it begin with `name`.

    Raises:
        DesignError: a table has a wrong key or value.
    """
    return [_entry(table, f"{name}: heads[{number}]") for number, table in enumerate(space)]


def expand(space: Iterable[Entry], seed: int) -> list[HeadDesign]:
    """Return all different designs of a space, in its order.

    Args:
        space: the entries of the space.
        seed: seed of the designs that are drawn at random.

    Raises:
        DesignError: there are too many.
    """
    found: dict[HeadDesign, None] = {}
    for number, entry in enumerate(space):
        found |= dict.fromkeys(entry.designs(np.random.default_rng([seed, number])))
        if len(found) > _MOST:
            raise _too_many(entry.place, f"more than {_MOST} designs: give fewer values")
    return list(found)


def _entry(table: Mapping[str, Any], place: str) -> Entry:
    kind, samples = table.get("kind"), table.get("samples")
    if not isinstance(kind, str):
        raise DesignError(f'{place}: a table [[heads]] needs a kind, such as  kind = "logreg"')
    try:
        known, several = parameters(kind), head_class(kind).of_several
    except DesignError as error:
        raise DesignError(f"{place}.kind: {error}") from error
    if several:
        raise DesignError(
            f"{place}.kind: a space has no heads of several: a sweep takes its best ones together with  --ensemble K"
        )
    if samples is not None and (type(samples) is not int or not 0 < samples <= _MOST):
        raise DesignError(f"{place}.samples = {samples}: give a whole number from 1 to {_MOST}")
    ranges = {}
    for name, value in table.items():
        if name in ("kind", "samples"):
            continue
        if name not in known:
            key = name if name.isidentifier() else repr(name)
            hint = suggest(name, [*known, "samples"])
            raise DesignError(f"{place}.{key}: head {kind!r} has no hyperparameter {name!r}: {hint}")
        whole = isinstance(known[name].default, int) and not isinstance(known[name].default, bool)
        try:
            ranges[name] = Range(value, whole)
            for one in [*ranges[name].grid, *map(ranges[name].typed, ranges[name].bounds or ())]:
                HeadDesign(kind, {name: one})
        except (ValueError, DesignError) as error:
            raise DesignError(f"{place}.{name}: {error}") from error
    return Entry(kind, ranges, samples, place)
