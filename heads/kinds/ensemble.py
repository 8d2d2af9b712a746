"""Several heads as one: the mean of their probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Floats, Labels, Rows
from heads.kinds.base import MODEL, WEIGHTS, Head, HeldOut, State
from heads.kinds.design import DesignsParameter, HeadDesign, parameter
from heads.solvers.arrays import Scaling, check_array
from heads.solvers.training import Training

_FLOOR = 1e-30
"""Probability below which the logarithm of a mean stays finite."""


def mean_scores(probabilities: Sequence[NDArray[np.floating[Any]]]) -> NDArray[np.float64]:
    """Scores (N, C) whose softmax is the mean of probabilities (N, C): its logarithm."""
    return np.log(np.maximum(np.mean(probabilities, axis=0, dtype=np.float64), _FLOOR))


@dataclass(kw_only=True, eq=False)
class EnsembleHead(Head):
    """The mean of the probabilities of several heads, all fitted on the same rows.

    (Hansen & Salamon, "Neural network ensembles", IEEE PAMI 1990; Caruana et al., "Ensemble selection from libraries of
    models", ICML 2004.)

    Fitted attributes: ``heads_``, each with a temperature of its own.
    """

    standardize: ClassVar[bool] = False  # type: ignore[misc]  # each head scales its rows itself

    members: tuple[str, ...] = parameter((), "designs of the heads, each as JSON", of=DesignsParameter)

    @property
    def designs(self) -> list[HeadDesign]:
        """The designs of the heads."""
        return [HeadDesign.from_json(text) for text in self.members]

    @property
    def weights_file(self) -> str:
        """See :attr:`Head.weights_file`."""
        files = {design.build().weights_file for design in self.designs}
        return MODEL if MODEL in files else WEIGHTS

    @classmethod
    def of(cls, designs: Sequence[HeadDesign], heads: Sequence[Head], temperature: float, seed: int) -> Self:
        """From heads that were fitted on the same rows."""
        joined = cls(members=tuple(design.to_json() for design in designs), random_state=seed)
        first = heads[0]
        joined.classes_, joined.n_features_in_, joined.history_ = first.classes_, first.n_features_in_, {}
        joined.heads_, joined.temperature_, joined.held_out_ = list(heads), temperature, None
        return joined

    def _fit(
        self, training: Training, scaling: Scaling, validation: Rows | None, folds: Labels | None
    ) -> HeldOut | None:
        X, codes = training.plain
        owners = training.image[len(codes) :]
        views = (training.Z[len(codes) :], owners) if len(owners) else None
        self.heads_ = [
            design.build(self.random_state).fit(X, codes, validation, views=views, groups=training.groups)
            for design in self.designs
        ]
        return None

    def _scores(self, X: Floats) -> NDArray[np.float64]:
        return mean_scores([head.predict_proba(X) for head in self.heads_])

    def state(self) -> State:
        """See :meth:`Head.state`."""
        temperatures = np.array([head.temperature_ for head in self.heads_], np.float32)
        states = {f"{i}.{name}": value for i, head in enumerate(self.heads_) for name, value in head.state().items()}
        return {"temperatures": temperatures, **states}

    def _bare(self) -> list[Head]:
        """The heads, without what was fitted."""
        heads = [design.build(self.random_state) for design in self.designs]
        for head in heads:
            head.classes_, head.n_features_in_, head.history_ = np.arange(len(self.classes_)), self.n_features_in_, {}
        return heads

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
