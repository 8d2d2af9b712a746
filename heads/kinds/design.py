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
from typing import TYPE_CHECKING, Any, cast

from featurestore.errors import DesignError, suggest
from featurestore.system.documents import parse
from heads.documents import DesignDocument
from heads.kinds.parameters import Parameter

if TYPE_CHECKING:
    from heads.kinds.base import Head

KINDS = {
    "logreg": "heads.kinds.linear:LogisticHead",
    "linear-svm": "heads.kinds.linear:LinearSVMHead",
    "ridge": "heads.kinds.linear:RidgeHead",
    "lda": "heads.kinds.discriminant:LDAHead",
    "centroid": "heads.kinds.discriminant:CentroidHead",
    "knn": "heads.kinds.knn:KNNHead",
    "svm": "heads.kinds.svm:SVMHead",
    "dense": "heads.kinds.dense:DenseHead",
}
"""Kind of head -> its class. A new kind needs a line here, and nothing else outside its own file."""

ENSEMBLE = "ensemble"
"""The kind that is made of several others; a sweep makes it of its best heads."""

RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
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

_SHOWN = 200
"""Characters of a wrong value that its message repeats."""


def head_class(kind: str) -> type["Head"]:
    """The class of a kind of head, or of a preset's.

    Raises:
        DesignError: there is no such kind.
    """
    if kind in RECIPES:
        kind = RECIPES[kind][0]
    known = KINDS | {ENSEMBLE: "heads.kinds.ensemble:EnsembleHead"}
    if kind not in known:
        raise DesignError(f"unknown head {kind!r}: {suggest(str(kind), (*KINDS, *RECIPES))}")
    module, name = known[kind].split(":")
    return cast("type[Head]", getattr(import_module(module), name))


def kinds_of_layers() -> list[str]:
    """The kinds of heads that are nets, see :meth:`heads.kinds.base.Head.as_layers`."""
    from heads.kinds.base import Head

    return [kind for kind in KINDS if head_class(kind).as_layers is not Head.as_layers]


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
        kind, preset = RECIPES.get(self.kind, (self.kind, {}))
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
