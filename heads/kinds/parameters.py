"""Hyperparameters: the fields of a head that were made by :func:`parameter`, with their default, range and help."""

from dataclasses import dataclass, field
from typing import Any, TypeVar

_LONGEST = 100
"""Numbers that a hyperparameter may have."""

T = TypeVar("T")
N = TypeVar("N", int, float)


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter: what it does and which values it takes.

    Attributes:
        default: its type is the type of all values: bool, int, float, a tuple of ints, or a word of `choices`.
        help: one line.
        low, high: smallest and largest number allowed.
        choices: words allowed, beside numbers if there is a range.
    """

    default: Any
    help: str
    low: float = 0.0
    high: float = -1.0  # an empty range
    choices: tuple[str, ...] = ()

    def read(self, value: Any) -> Any:
        """The typed form of `value`, which may be text from a command line or a value from JSON.

        Raises:
            ValueError, LookupError, TypeError: of another type, or out of range.
        """
        # Through text, so that True is no number, and 1 may stand for 1.0.
        text = str(value).strip()
        if text in self.choices:
            return text
        if isinstance(self.default, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(self.default, tuple):
            items = text.split(",") if isinstance(value, str | int) else [str(item) for item in value]
            if len(items) > _LONGEST:
                raise ValueError
            return () if items == ["0"] else tuple(self._in_range(int(item)) for item in items)
        return self._in_range(int(text) if isinstance(self.default, int) else float(text))

    def _in_range(self, number: N) -> N:
        if not self.low <= number <= self.high:
            raise ValueError
        return number

    @property
    def allowed(self) -> str:
        """The values it takes, in words."""
        words = ["true", "false"] if isinstance(self.default, bool) else list(self.choices)
        if self.low < self.high:
            several = f"0 or whole numbers, separated by commas, {_LONGEST} at most, each"
            kinds = {int: "a whole number", tuple: several}
            words.append(f"{kinds.get(type(self.default), 'a number')} from {self.low:g} to {self.high:g}")
        return " or ".join(words)


def parameter(
    default: T,
    help: str,
    *,
    low: float = 0.0,
    high: float = -1.0,
    choices: tuple[str, ...] = (),
    of: type[Parameter] = Parameter,
) -> T:
    """Declare a dataclass field of a head to be one of its hyperparameters, see :class:`Parameter`."""
    return field(default=default, metadata={"parameter": of(default, help, low, high, choices)})
