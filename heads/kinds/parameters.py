"""Hyperparameters of heads: the fields of a class that :func:`parameter` makes, each with a default, range and help."""

from dataclasses import dataclass, field
from typing import Any, TypeVar

_LONGEST = 100
"""A hyperparameter may hold so many numbers at most."""

T = TypeVar("T")
N = TypeVar("N", int, float)


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter: what it does, and which values it takes.

    Attributes:
        default: the value if none is given. All values have its type: bool, int, float, a tuple of ints, or a word of
            `choices`.
        help: a line that says what the hyperparameter does.
        low, high: the smallest and the largest number allowed; no number is allowed if `low` is not below `high`.
        choices: the words that are allowed.
    """

    default: Any
    help: str
    low: float = 0.0
    high: float = -1.0  # an empty range
    choices: tuple[str, ...] = ()

    def read(self, value: Any) -> Any:
        """Return a value, which may be text from a command line or come from JSON, in the type of the default.

        Raises:
            ValueError, LookupError, TypeError: the value has another type, or is out of range.
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
        """The values that the hyperparameter takes, in words."""
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
    """Make a field of a head's class that is one of its hyperparameters; see :class:`Parameter` for the arguments.

    Example:
        >>> from dataclasses import dataclass
        >>> from heads.kinds.base import Head
        >>> @dataclass(kw_only=True, eq=False, repr=False)
        ... class SmoothHead(Head):
        ...     width: float = parameter(1.0, "width of the kernel", low=1e-6, high=1e6)
        >>> SmoothHead(width=2.0)
        SmoothHead(width=2.0)
    """
    return field(default=default, metadata={"parameter": of(default, help, low, high, choices)})
