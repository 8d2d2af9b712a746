"""Base class of the heads that keep a fitted scikit-learn estimator."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from heads.feature_table import LabelledRows, Labels
from heads.kinds.base import Head, HeldOut, State
from heads.solvers.arrays import Extent, Scaling, check_array, check_arrays
from heads.solvers.training import Training


@dataclass(kw_only=True, eq=False, repr=False)
class EstimatorHead(Head):
    """The base class of heads that keep a scikit-learn estimator.

    Fitted attributes: ``model_``, the estimator, and ``scaling_``, by which rows are scaled before it sees them.
    """

    def _fit(
        self, training: Training, scaling: Scaling, validation: LabelledRows | None, folds: Labels | None
    ) -> HeldOut | None:
        self.model_, self.scaling_ = training.fit(self.estimator()), scaling
        return None

    def estimator(self) -> Any:
        """Make the scikit-learn estimator, which is not fitted."""
        raise NotImplementedError

    def size(self, extent: Extent) -> int:
        """See :meth:`Head.size`: the estimator keeps all training rows at most."""
        return extent.rows * extent.columns

    def state(self) -> State:
        """See :meth:`Head.state`."""
        return {"model": self.model_, **self.scaling_._asdict()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See :meth:`Head.shapes`."""
        return dict.fromkeys(Scaling._fields, (self.n_features_in_,))

    def restore(self, state: State) -> None:
        """See :meth:`Head.restore`."""
        found, scaling = state["model"], {name: state[name] for name in state if name != "model"}
        check_arrays(scaling, self.shapes())
        if not (scaling["scale"] > 0).all():
            raise ValueError("its scale is not above 0")
        model = self.estimator()
        if type(found) is not type(model) or found.get_params() != model.get_params():
            raise ValueError(f"its model is not the {type(model).__name__} of its design")
        # Arrays from the file are checked and put into an estimator of our own; other attributes are not taken over.
        # Compiled code reads memory by the sizes of these arrays, and does not check whether they agree.
        given = vars(found)
        layout = self._layout(given)
        for name, (kind, shape) in layout.items():
            check_array(name, given[name], kind, shape)
            setattr(model, name, np.ascontiguousarray(given[name]))
        if "classes_" in layout and not np.array_equal(model.classes_, np.arange(len(self.classes_))):
            raise ValueError("its model has other classes")
        self._complete(model, given)
        self.model_, self.scaling_ = model, Scaling(**scaling)

    def _layout(self, given: Mapping[str, Any]) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
        """Return the type and shape of each array among the attributes that the estimator needs to predict.

        Raises:
            ValueError: the sizes of the given arrays do not fit each other.
        """
        raise NotImplementedError

    def _complete(self, model: Any, given: Mapping[str, Any]) -> None:
        """Set the attributes of the estimator that are no arrays.

        Raises:
            ValueError: an attribute, or a number in an array, does not fit the others.
        """
        raise NotImplementedError
