"""Least squares in the space of a kernel: to numbers, or to targets of 1 and -1."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from heads.feature_table import Floats, LabelledRows, Labels
from heads.kinds.base import HeldOut, Spaces, too_large
from heads.kinds.estimator import EstimatorHead
from heads.kinds.parameters import parameter
from heads.solvers.arrays import Extent, Scaling
from heads.solvers.goals import is_classes
from heads.solvers.training import Training

_MATRICES = 3
"""The kernel, its factors, and what LAPACK works in."""


@dataclass(kw_only=True, eq=False, repr=False)
class KernelRidgeHead(EstimatorHead):
    """Kernel ridge regression with the kernel exp(-gamma |x - y|²).

    Classes and labels are learnt as targets of 1 and -1, one against the rest. (Saunders, Gammerman & Vovk, "Ridge
    regression learning algorithm in dual variables", ICML 1998; Rifkin, Yeo & Poggio, "Regularized least-squares
    classification", 2003.)

    Example:
        >>> import numpy as np
        >>> from heads.kinds.kernel_ridge import KernelRidgeHead
        >>> X = np.linspace(0, 6, 60, dtype=np.float32)[:, None]
        >>> head = KernelRidgeHead(alpha=0.1, gamma=1.0).fit(X, np.sin(X[:, 0]), task="regression")
        >>> round(head.score(X, np.sin(X[:, 0])), 2)
        1.0
    """

    spaces: ClassVar[Spaces] = {
        "standard": {"alpha": {"log": [0.01, 10.0], "num": 4}},
        "thorough": {"alpha": {"log": [0.001, 100.0], "num": 6}, "gamma": ["scale", 1e-4, 1e-3]},
    }
    tasks, swept_for = frozenset({"classification", "multilabel", "regression"}), frozenset({"regression"})

    alpha: float = parameter(0.1, "strength of the L2 penalty", low=1e-10, high=1e10)
    gamma: float | str = parameter(
        "scale", "width of the kernel; scale: 1 / features (standardised)", low=1e-12, high=1e12, choices=("scale",)
    )

    @property
    def trusted_types(self) -> frozenset[str]:
        """See :attr:`Head.trusted_types`."""
        return frozenset({"sklearn.kernel_ridge.KernelRidge"})

    def estimator(self) -> Any:
        """See :meth:`EstimatorHead.estimator`."""
        from sklearn.kernel_ridge import KernelRidge

        width = 1 / self.n_features_in_ if self.gamma == "scale" else self.gamma
        return KernelRidge(alpha=self.alpha, kernel="rbf", gamma=width)

    def obstacle(self, extent: Extent, max_memory: int | None) -> str | None:
        """See :meth:`Head.obstacle`: the kernel of all pairs of rows."""
        needed = 8 * _MATRICES * extent.rows**2
        return too_large(
            needed, max_memory, f"the kernel of {extent.rows:,} rows takes", "ridge, which takes any number"
        )

    def obstacle_alone(self, extent: Extent, max_memory: int | None) -> str | None:
        """See :meth:`Head.obstacle_alone`."""
        return self.obstacle(extent, max_memory) or super().obstacle_alone(extent, max_memory)

    def _fit(
        self, training: Training, scaling: Scaling, validation: LabelledRows | None, folds: Labels | None
    ) -> HeldOut | None:
        codes = training.codes
        goals = np.where(codes[:, None] == np.arange(len(self.classes_)), 1, -1) if is_classes(codes) else codes
        return super()._fit(training._replace(codes=goals.astype(np.float64)), scaling, validation, folds)

    def _scores(self, X: Floats) -> NDArray[np.float64]:
        return np.asarray(self.model_.predict(self.scaling_.apply(X)), np.float64)

    def _layout(self, given: Mapping[str, Any]) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
        rows, real = len(given["X_fit_"]), np.asarray(given["X_fit_"]).dtype
        kind = np.float64 if real == np.float64 else np.float32
        dual = np.float64 if np.asarray(given["dual_coef_"]).dtype == np.float64 else np.float32
        return {"X_fit_": (kind, (rows, self.n_features_in_)), "dual_coef_": (dual, (rows, len(self.classes_)))}

    def _complete(self, model: Any, given: Mapping[str, Any]) -> None:
        if not (np.isfinite(model.X_fit_).all() and np.isfinite(model.dual_coef_).all()):
            raise ValueError("its rows are not finite")
        model.n_features_in_ = self.n_features_in_
