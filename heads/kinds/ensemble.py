"""Several heads as one: the mean of their probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from featurestore.system.documents import parse
from heads.feature_table import Floats, LabelledRows, Labels
from heads.kinds.base import Head, HeldOut, State
from heads.kinds.design import HeadDesign, head_class
from heads.kinds.parameters import Parameter, parameter
from heads.rows import taken
from heads.solvers.arrays import Extent, Scaling, check_array
from heads.solvers.training import Training

_FLOOR = 1e-30
"""Mean probabilities are raised to it, so that their logarithm is finite."""


_MOST_MEMBERS = 1000
"""The most designs of one head."""


class DesignsParameter(Parameter):
    """A hyperparameter that holds designs: a list of texts as :meth:`HeadDesign.to_json` returns them."""

    def read(self, value: Any) -> tuple[str, ...]:
        """See :meth:`Parameter.read`; the designs are checked, and become their canonical JSON."""
        texts = parse(value, list[str]) if isinstance(value, str) else value
        if not 1 < len(texts) <= _MOST_MEMBERS:
            raise ValueError
        designs = [HeadDesign.from_json(text) for text in texts]
        if any(head_class(design.kind).of_several for design in designs):
            raise ValueError
        return tuple(design.to_json() for design in designs)

    @property
    def allowed(self) -> str:
        """See :attr:`Parameter.allowed`."""
        return f"a JSON list of 2 to {_MOST_MEMBERS:,} designs, none of which is of several"


def mean_scores(probabilities: Sequence[NDArray[np.floating[Any]]]) -> NDArray[np.float64]:
    """Return scores (N, C) whose softmax is the mean of probabilities (N, C): the logarithm of that mean."""
    return np.log(np.maximum(np.mean(probabilities, axis=0, dtype=np.float64), _FLOOR))


@dataclass(kw_only=True, eq=False, repr=False)
class EnsembleHead(Head):
    """A head whose probabilities are the mean of those of several heads, all fitted to the same rows.

    (Hansen & Salamon, "Neural network ensembles", IEEE PAMI 1990; Caruana et al., "Ensemble selection from libraries of
    models", ICML 2004.)

    Fitted attributes: ``heads_``, the heads, each with its own temperature.
    """

    of_several = streams = True
    standardize: ClassVar[bool] = False  # type: ignore[misc]  # each head scales its rows itself

    members: tuple[str, ...] = parameter((), "designs of the heads, each as JSON", of=DesignsParameter)

    @property
    def designs(self) -> list[HeadDesign]:
        """The designs of the heads."""
        return [HeadDesign.from_json(text) for text in self.members]

    @property
    def evens_classes(self) -> bool:
        """See :attr:`Head.evens_classes`."""
        return all(design.build().evens_classes for design in self.designs)

    @property
    def trusted_types(self) -> frozenset[str]:
        """See :attr:`Head.trusted_types`."""
        return frozenset().union(*(design.build().trusted_types for design in self.designs))

    @classmethod
    def of(cls, designs: Sequence[HeadDesign], heads: Sequence[Head], temperature: float, seed: int) -> Self:
        """Make a fitted ensemble of heads that were fitted to the same rows."""
        joined = cls(members=tuple(design.to_json() for design in designs), random_state=seed)
        first = heads[0]
        joined.classes_, joined.n_features_in_, joined.history_ = first.classes_, first.n_features_in_, {}
        joined.heads_, joined.temperature_, joined.held_out_ = list(heads), temperature, None
        return joined

    def _fit(
        self, training: Training, scaling: Scaling, validation: LabelledRows | None, folds: Labels | None
    ) -> HeldOut | None:
        X, codes = training.plain
        owners = training.image[len(codes) :]
        views = (taken(training.Z, slice(len(codes), None)), owners) if len(owners) else None
        self.heads_ = [
            design.build(self._seed).fit(X, codes, validation, views=views, groups=training.groups)
            for design in self.designs
        ]
        return None

    def obstacle_alone(self, extent: Extent, max_memory: int | None) -> str | None:
        """See :meth:`Head.obstacle_alone`: that of any of the heads, which are fitted one after the other."""
        return next(filter(None, (design.build().obstacle_alone(extent, max_memory) for design in self.designs)), None)

    def _scores(self, X: Floats) -> NDArray[np.float64]:
        return mean_scores([head.predict_proba(X) for head in self.heads_])

    def state(self) -> State:
        """See :meth:`Head.state`."""
        temperatures = np.array([head.temperature_ for head in self.heads_], np.float32)
        states = {f"{i}.{name}": value for i, head in enumerate(self.heads_) for name, value in head.state().items()}
        return {"temperatures": temperatures, **states}

    def _bare(self) -> list[Head]:
        """Make the heads, which are not fitted, for as many columns and classes as this one has."""
        size = self.n_features_in_, len(self.classes_)
        return [design.build().with_width(*size) for design in self.designs]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See :meth:`Head.shapes`."""
        heads = self._bare()
        parts = {f"{i}.{name}": shape for i, head in enumerate(heads) for name, shape in head.shapes().items()}
        return {"temperatures": (len(heads),), **parts}

    def restore(self, state: State) -> None:
        """See :meth:`Head.restore`."""
        heads, temperatures = self._bare(), state["temperatures"]
        check_array("temperatures", temperatures, np.float32, (len(heads),))
        if not (temperatures > 0).all():
            raise ValueError("its temperatures are not above 0")
        parts: dict[str, State] = {}
        for name, value in state.items():
            number, _, rest = name.partition(".")
            parts.setdefault(number, {})[rest] = value
        for i, head in enumerate(heads):
            head.temperature_ = float(temperatures[i])
            head.restore(parts.get(str(i), {}))
        self.heads_ = heads
