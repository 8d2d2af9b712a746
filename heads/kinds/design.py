"""The registry of kinds of heads, and designs: a kind with a value for each of its hyperparameters.

The hyperparameters of a kind are the fields of its class that were made by :func:`heads.kinds.parameters.parameter`:
name, default, range and help stand there and nowhere else. A class is imported when its kind is first used, so that the
libraries of one kind are not imported for another.
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
    "kernel-ridge": "heads.kinds.kernel_ridge:KernelRidgeHead",
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
"""Name of a recipe -> the kind and hyperparameters of the head of a tutorial; the name may stand for a kind.

Where the tutorial normalises the features by batches, the head standardises them.
"""

_SHOWN = 200
"""A message repeats so many characters of a wrong value at most."""


def head_class(kind: str) -> type["Head"]:
    """Return the class of a kind of head, or of the kind of a recipe.

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
    """Return the kinds of heads that are nets, see :meth:`heads.kinds.base.Head.as_layers`."""
    from heads.kinds.base import Head

    return [kind for kind in KINDS if head_class(kind).as_layers is not Head.as_layers]


def parameters(kind: str) -> dict[str, Parameter]:
    """Return the hyperparameters of a kind of head by name.

    Raises:
        DesignError: there is no such kind.
    """
    found = {f.name: f.metadata.get("parameter") for f in fields(head_class(kind))}
    return {name: item for name, item in found.items() if item}


@dataclass(frozen=True)
class HeadDesign:
    """A kind of head with a value for every hyperparameter of that kind.

    Hyperparameters that are left out get their default. The name of a recipe stands for its kind; values that are given
    go before those of the recipe. Values may be given as text. Two designs are equal if they build equal heads, however
    they were written.

    Attributes:
        kind: one of :data:`KINDS`.
        params: the value of each hyperparameter by name.

    Raises:
        DesignError: there is no such kind or hyperparameter, or the hyperparameter does not take the value.

    Example:
        >>> from heads import HeadDesign
        >>> HeadDesign("logreg", {"C": "0.5"}).params
        {'standardize': True, 'class_weight': 'none', 'max_iter': 300, 'tol': 1e-06, 'C': 0.5}
        >>> HeadDesign("xray").settings()
        ['hidden=0']
        >>> HeadDesign("logreg", {"C": 0.5}).build(seed=1)
        LogisticHead(random_state=1, ...C=0.5)
        >>> HeadDesign("logrek")
        Traceback (most recent call last):
        featurestore.errors.DesignError: unknown head 'logrek': did you mean 'logreg'?
    """

    kind: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = parameters(self.kind)
        for name in self.params:
            if name not in known:
                raise DesignError(f"head {self.kind!r} has no hyperparameter {name!r}: {suggest(str(name), known)}")
        kind, recipe = RECIPES.get(self.kind, (self.kind, {}))
        object.__setattr__(self, "kind", kind)
        given = {name: item.default for name, item in known.items()} | recipe | dict(self.params)
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
        """Make a design from values by name, or from texts ``name=value``, such as ``["C=0.01", "max_iter=50"]``.

        Raises:
            DesignError: a text has another form, or see :class:`HeadDesign`.
        """
        if isinstance(settings, Mapping):
            return cls(kind, settings)
        params = {}
        for text in settings:
            name, equals, params[name] = text.partition("=")
            if not equals:
                raise DesignError(f"{text!r} sets no hyperparameter of head {kind!r}: write NAME=VALUE")
        return cls(kind, params)

    def settings(self) -> list[str]:
        """Return texts ``name=value``, as :meth:`parse` takes them, of the values that are not the default."""
        known = parameters(self.kind)
        differing = {name: value for name, value in self.params.items() if value != known[name].default}
        return [f"{name}={','.join(map(str, v)) or 0 if isinstance(v, tuple) else v}" for name, v in differing.items()]

    def to_json(self) -> str:
        """Return the design as JSON, which is the same text for equal designs."""
        return json.dumps({"kind": self.kind, "params": self.params}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "HeadDesign":
        """Read what :meth:`to_json` wrote.

        Raises:
            DesignError: the text describes no design.
        """
        try:
            values = parse(text, DesignDocument)
            return cls(values["kind"], values["params"])
        except (ValueError, AttributeError) as error:  # AttributeError if it is no text
            raise DesignError(f"unreadable head design ({error}): give the JSON of a kind and its params") from error

    def build(self, seed: int = 0) -> "Head":
        """Make the head, which is not fitted; `seed` becomes its ``random_state``."""
        return head_class(self.kind)(**self.params, random_state=seed)
