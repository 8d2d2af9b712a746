"""What a head is before it is fitted: its kind, and a value for each of its hyperparameters.

The hyperparameters of a kind are the fields of its class that were made by :func:`parameter`: name, default, range
and help stand there and nowhere else. The classes are looked up by name, so that one kind's libraries are not
imported for another.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from textwrap import shorten
from typing import TYPE_CHECKING, Any, TypeVar, cast

from featurestore.errors import DesignError, suggest
from featurestore.system.documents import parse
from heads.documents import DesignDocument

if TYPE_CHECKING:
    from heads.kinds.base import Head

KINDS = {
    "logreg": "heads.kinds.linear:LogisticHead",
    "linear-svm": "heads.kinds.linear:LinearSVMHead",
    "ridge": "heads.kinds.linear:RidgeHead",
    "lda": "heads.kinds.discriminant:LDAHead",
    "centroid": "heads.kinds.discriminant:CentroidHead",
    "svm": "heads.kinds.kernel:SVMHead",
    "knn": "heads.kinds.kernel:KNNHead",
    "dense": "heads.kinds.dense:DenseHead",
}
"""Kind of head -> its class."""

ENSEMBLE = "ensemble"
"""The kind that is made of several others: it is in no search space, since a sweep makes it of the best heads."""

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "flowers": ("dense", {"hidden": (256,), "dropout": 0.5}),
    "cats-dogs": ("dense", {"hidden": (256,), "dropout": 0.5}),
    "caltech101": ("dense", {"hidden": (512,), "input_dropout": 0.5, "dropout": 0.5, "batch_norm": True}),
    "cifar10": ("dense", {"hidden": (64, 64), "dropout": 0.6}),
    "dog-breeds": ("dense", {"hidden": (512, 512), "dropout": 0.0}),
    "xray": ("dense", {"hidden": ()}),
}
"""Heads of tutorials: a name that may stand for a kind, that kind, and its hyperparameters.

Standardisation is their batch normalisation of the features.
"""

_LONGEST = 100
"""Numbers that a hyperparameter may have."""
_SHOWN = 200
"""Characters of a wrong value that its message repeats."""
_MOST_MEMBERS = 1000
"""Designs that one head may be made of."""

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


class DesignsParameter(Parameter):
    """Designs of heads: a list of texts as :meth:`HeadDesign.to_json` gives them."""

    def read(self, value: Any) -> tuple[str, ...]:
        """See :meth:`Parameter.read`; the designs are checked, and written anew."""
        texts = parse(value, list[str]) if isinstance(value, str) else value
        if not 1 < len(texts) <= _MOST_MEMBERS:
            raise ValueError
        designs = [HeadDesign.from_json(text) for text in texts]
        if any(design.kind == ENSEMBLE for design in designs):
            raise ValueError
        return tuple(design.to_json() for design in designs)

    @property
    def allowed(self) -> str:
        """See :attr:`Parameter.allowed`."""
        return f"a JSON list of 2 to {_MOST_MEMBERS:,} designs, none of which is of several"


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


def head_class(kind: str) -> type["Head"]:
    """The class of a kind of head, or of a preset's.

    Raises:
        DesignError: there is no such kind.
    """
    if kind in PRESETS:
        kind = PRESETS[kind][0]
    known = KINDS | {ENSEMBLE: "heads.kinds.ensemble:EnsembleHead"}
    if kind not in known:
        raise DesignError(f"unknown head {kind!r}: {suggest(str(kind), (*KINDS, *PRESETS))}")
    module, name = known[kind].split(":")
    return cast("type[Head]", getattr(import_module(module), name))


def parameters(kind: str) -> dict[str, Parameter]:
    """The hyperparameters of a kind of head, by name.

    Raises:
        DesignError: there is no such kind.
    """
    found = {f.name: f.metadata.get("parameter") for f in fields(head_class(kind))}
    return {name: item for name, item in found.items() if item}


@dataclass(frozen=True)
class HeadDesign:
    """A kind of head with a value for every hyperparameter of that kind; those left out get their default.

    A preset becomes its kind and hyperparameters, those given before its own.

    Values may be given as text. Two designs are equal when they build equal heads, however they were written.

    Raises:
        DesignError: no such kind, no such hyperparameter, or a value that it does not take.
    """

    kind: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = parameters(self.kind)
        for name in self.params:
            if name not in known:
                raise DesignError(f"head {self.kind!r} has no hyperparameter {name!r}: {suggest(str(name), known)}")
        kind, preset = PRESETS.get(self.kind, (self.kind, {}))
        object.__setattr__(self, "kind", kind)
        given = {name: item.default for name, item in known.items()} | preset | dict(self.params)
        object.__setattr__(self, "params", {name: self._read(name, known[name], given[name]) for name in known})

    def _read(self, name: str, known: Parameter, value: Any) -> Any:
        try:
            return known.read(value)
        except (ValueError, LookupError, TypeError, OverflowError) as error:
            given = shorten(str(value), _SHOWN)
            raise DesignError(
                f"head {self.kind!r} takes no {name}={given}: give {known.allowed} ({known.help})"
            ) from error

    def __hash__(self) -> int:
        return hash(self.to_json())

    @classmethod
    def parse(cls, kind: str, settings: Mapping[str, Any] | Iterable[str] = ()) -> "HeadDesign":
        """A design from values by name, or from texts ``name=value``, such as ``["C=0.01", "max_iter=50"]``."""
        if isinstance(settings, Mapping):
            return cls(kind, settings)
        params = {}
        for text in settings:
            name, equals, params[name] = text.partition("=")
            if not equals:
                raise DesignError(f"{text!r} sets no hyperparameter of head {kind!r}: write NAME=VALUE")
        return cls(kind, params)

    def settings(self) -> list[str]:
        """Texts ``name=value``, as :meth:`parse` takes them, of what differs from its default."""
        known = parameters(self.kind)
        differing = {name: value for name, value in self.params.items() if value != known[name].default}
        return [f"{name}={','.join(map(str, v)) or 0 if isinstance(v, tuple) else v}" for name, v in differing.items()]

    def to_json(self) -> str:
        """Canonical JSON."""
        return json.dumps({"kind": self.kind, "params": self.params}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "HeadDesign":
        """Inverse of :meth:`to_json`.

        Raises:
            DesignError: the text is no design.
        """
        try:
            values = parse(text, DesignDocument)
            return cls(values["kind"], values["params"])
        except (ValueError, AttributeError) as error:  # the latter where it is no text
            raise DesignError(f"unreadable head design ({error}): give the JSON of a kind and its params") from error

    def build(self, seed: int = 0) -> "Head":
        """An unfitted head."""
        return head_class(self.kind)(**self.params, random_state=seed)
