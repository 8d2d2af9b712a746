"""Linear heads: scores are ``X @ coef_ + intercept_``. Fitted with scikit-learn, used with NumPy alone."""

from dataclasses import dataclass

import numpy as np

from heads.base import Head, Scaling, State, check_arrays, fit_temperature
from heads.data import Floats, Rows, Training
from heads.designs import parameter


@dataclass(kw_only=True, eq=False)
class LinearHead(Head):
    """Base class of linear heads.

    Fitted attributes: ``coef_`` float32 (D, C) and ``intercept_`` float32 (C,), for raw features: standardisation is
    folded into them.
    """

    def _scores(self, X: Floats) -> Floats:
        return np.asarray(X @ self.coef_ + self.intercept_)

    def _take(self, coef: Floats, intercept: Floats, scaling: Scaling) -> None:
        """Take over what scikit-learn fitted to standardised rows: (C, D) and (C,); two classes share one row."""
        if len(coef) == 1:  # as in base.two_columns
            sides = np.array([-0.5, 0.5], np.float32)
            coef, intercept = np.outer(sides, coef), sides * intercept
        self.coef_, self.intercept_ = scaling.fold(coef.T, intercept)

    def state(self) -> State:
        """See :meth:`Head.state`."""
        return {"coef": self.coef_, "intercept": self.intercept_}

    def restore(self, state: State) -> None:
        """See :meth:`Head.restore`."""
        classes = len(self.classes_)
        check_arrays(state, {"coef": (self.n_features_in_, classes), "intercept": (classes,)})
        self.coef_, self.intercept_ = state["coef"], state["intercept"]


@dataclass(kw_only=True, eq=False)
class LogisticHead(LinearHead):
    """Multinomial logistic regression with an L2 penalty, solved by L-BFGS."""

    C: float = parameter(0.01, "inverse strength of the L2 penalty", low=1e-10, high=1e10)
    max_iter: int = parameter(300, "most iterations of the solver", low=1, high=1_000_000)
    tol: float = parameter(1e-4, "gradient at which the solver stops", low=1e-12, high=1.0)

    def _fit(self, training: Training, scaling: Scaling, validation: Rows | None) -> None:
        from sklearn.linear_model import LogisticRegression

        model = training.fit(LogisticRegression(C=self.C, max_iter=self.max_iter, tol=self.tol))
        self._take(model.coef_, model.intercept_, scaling)


@dataclass(kw_only=True, eq=False)
class LinearSVMHead(LinearHead):
    """Linear support vector machines with squared hinge loss, one class against the rest."""

    C: float = parameter(1e-4, "inverse strength of the L2 penalty", low=1e-10, high=1e10)
    max_iter: int = parameter(1000, "most iterations of the solver", low=1, high=1_000_000)
    tol: float = parameter(1e-4, "precision at which the solver stops", low=1e-12, high=1.0)

    def _fit(self, training: Training, scaling: Scaling, validation: Rows | None) -> None:
        from sklearn.svm import LinearSVC

        def make() -> LinearSVC:
            return LinearSVC(C=self.C, max_iter=self.max_iter, tol=self.tol, random_state=self.random_state)

        model = training.fit(make())
        self._take(model.coef_, model.intercept_, scaling)
        self.temperature_ = fit_temperature(make, training, self.random_state)
