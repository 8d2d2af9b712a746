"""Several heads as one: the mean of their probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from heads.base import MODEL, WEIGHTS, Head, HeldOut, Scaling, State
from heads.data import Floats, Labels, Rows, Training
from heads.designs import DesignsParameter, HeadDesign, parameter

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

    def restore(self, state: State) -> None:
        """See :meth:`Head.restore`."""
        designs = self.designs
        temperatures = state["temperatures"]
        if temperatures.shape != (len(designs),) or not ((temperatures > 0) & np.isfinite(temperatures)).all():
            raise ValueError("its temperatures are not those of its heads")
        self.heads_ = []
        for i, design in enumerate(designs):
            head = design.build(self.random_state)
            head.classes_, head.n_features_in_ = np.arange(len(self.classes_)), self.n_features_in_
            head.temperature_, head.history_ = float(temperatures[i]), {}
            prefix = f"{i}."
            head.restore({name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)})
            self.heads_.append(head)
