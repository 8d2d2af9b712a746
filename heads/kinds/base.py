"""What all heads share: checks, standardisation, and the way from scores to labels and probabilities.

A head is a scikit-learn estimator, which pipelines, searches, stacking and calibration take. But this module does not
import scikit-learn: a fitted linear or dense head works with NumPy alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import InputError
from featurestore.system.machine import machine_memory
from heads.feature_table import Floats, LabelledRows, Labels
from heads.kinds.inputs import known_rows, not_fitted, training_rows
from heads.kinds.parameters import parameter
from heads.metrics.outcomes import Outcomes, blocks
from heads.solvers.arrays import Extent, Layers, Scaling, as_features, finite, standardise
from heads.solvers.calibration import calibrate, temperature_folds
from heads.solvers.scores import softmax
from heads.solvers.training import Training

Views = tuple[ArrayLike, ArrayLike]
LossHistory = dict[str, list[float]]
Spaces = Mapping[str, Mapping[str, Any]]
"""Name of a preset -> hyperparameter -> what a sweep tries, as in :mod:`heads.search.space`."""
HeldOut = tuple[NDArray[np.floating[Any]], Labels]
"""Scores (J, C) of rows that were not fitted on, and their labels 0..C-1 (J,)."""
State = dict[str, Any]
"""What a fitted head consists of, by name: float32 arrays, and in a kernel head a scikit-learn estimator."""

WEIGHTS, MODEL = "weights.safetensors", "model.skops"
"""Files of a saved head: arrays alone, or a scikit-learn estimator with them."""

SWEPT = 5000
"""Classes up to which a sweep judges heads that learn in steps."""
STANDARDIZE = "scale each feature to mean 0, deviation 1 over the training rows"
"""Help of that hyperparameter."""


def too_many_classes(extent: Extent) -> str | None:
    """Why a sweep leaves out a kind of head that learns in steps, each of which takes all scores of all rows."""
    if extent.classes <= SWEPT:
        return None
    return (
        f"each of its hundreds of steps takes {extent.rows:,} rows × {extent.classes:,} classes, and of more than "
        f"{SWEPT:,} classes a sweep would take hours: fit it alone with  fit-head,  or sweep lda, centroid or knn"
    )


@dataclass(kw_only=True, eq=False, repr=False)
class Head:
    """A classifier of feature rows; the base class.

    Labels are whole numbers or texts. Columns of scores and probabilities follow ``classes_``, the labels that occur in
    the training rows: two columns for two classes. ``predict`` is always the label of the greatest score.

    Fitted attributes: ``classes_`` (C,), ``n_features_in_``, ``feature_names_in_`` (D,) where a data frame was fitted
    to, ``temperature_``, ``history_`` (log loss after each epoch on ``train`` and ``validation`` rows, of kinds that
    have epochs), ``held_out_`` (what the temperature was fitted on, if it was), and those of the family.

    Example:
        >>> from heads.kinds.linear import LogisticHead
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> head = LogisticHead(C=0.1).fit(X[::2], y[::2])
        >>> head
        LogisticHead(C=0.1)
        >>> head.predict_proba(X[1::2]).shape
        (75, 3)
        >>> head.score(X[1::2], y[1::2]) > 0.9
        True
    """

    family: ClassVar[str] = "alone"
    """Which designs a sweep judges together, because they share work; ``alone``: each is fitted fold by fold."""
    spaces: ClassVar[Spaces] = {}
    """What each preset of a sweep tries of this kind; a preset that is not named here tries nothing of it."""
    stops_early: ClassVar[bool] = False
    """Whether validation rows tell when to stop."""
    scores_are_probabilities: ClassVar[bool] = False
    """Whether the scores are probabilities already, which no temperature changes."""
    of_several: ClassVar[bool] = False
    """Whether the head is made of other heads; such a kind is in no search space."""

    standardize: bool = parameter(True, STANDARDIZE)
    random_state: int = 0

    @property
    def trusted_types(self) -> frozenset[str]:
        """The scikit-learn types that :meth:`state` may hold, such as ``sklearn.svm._classes.SVC``."""
        return frozenset()

    @property
    def weights_file(self) -> str:
        """The file in which a saved head keeps :meth:`state`."""
        return MODEL if self.trusted_types else WEIGHTS

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        validation: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        views: Views | None = None,
        groups: ArrayLike | None = None,
        temperature: float | None = None,
    ) -> Self:
        """Fit to rows X (N, D), any float type, and labels y (N,).

        Args:
            X: training rows.
            y: their labels; at least two different ones.
            validation: rows and labels that tell when to stop; kinds that do not stop early pass over them.
            views: augmented versions of training rows (M, D), and the index in X of the row that each shows (M,). A
                row and its views weigh as much as a row without any; a dense head draws one of them per epoch.
            groups: number of each training row's group (N,), such as its image where an image stands there twice. Rows
                of one group are never on two sides of what is held out inside a fit.
            temperature: of the probabilities; by default one that suits rows held out, see :func:`calibrate`.

        Raises:
            InputError: one class only, NaN or infinity, or lengths that differ.
        """
        features, labels = training_rows(self, X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"the training rows show {len(self.classes_)} class: a head needs at least two")
        self.n_features_in_ = features.shape[1]
        self.temperature_ = 1.0
        self.history_: LossHistory = {}
        training = Training(
            features, codes, np.arange(len(codes)), None, None if groups is None else np.asarray(groups)
        )
        if views is not None:
            training = self._with_views(training, views)
        scaling = Scaling.none(self.n_features_in_)
        if self.standardize:
            Z, scaling = standardise(training.Z, training.weights)
            training = training._replace(Z=Z)
        folds = None
        if temperature is None:
            folds = temperature_folds(training.plain[1], self.random_state, training.groups)
        self.held_out_ = self._fit(training, scaling, self._known(validation, scaling), folds)
        if temperature is not None:
            self.temperature_ = temperature
        elif self.held_out_ is not None:
            self.temperature_ = calibrate(*self.held_out_).temperature
        return self

    def _with_views(self, plain: Training, views: Views) -> Training:
        """Plain rows with their views."""
        features, owners = known_rows(self, views[0]), np.asarray(views[1], np.intp)
        rows = len(plain.codes)
        if len(features) != len(owners) or not ((owners >= 0) & (owners < rows)).all():
            raise InputError(f"{len(features)} views: name for each of them one of the {rows} rows that it shows")
        image = np.concatenate([plain.image, owners])
        weights = 1 / np.bincount(image)[image]
        return Training(np.concatenate([plain.Z, features]), plain.codes[image], image, weights, plain.groups)

    def _known(self, rows: tuple[ArrayLike, ArrayLike] | None, scaling: Scaling) -> LabelledRows | None:
        """The validation rows as :meth:`_fit` takes them, without those of classes that training rows lack."""
        if rows is None:
            return None
        labels = np.asarray(rows[1])
        keep = np.isin(labels, self.classes_)
        if not keep.any():
            return None
        return scaling.apply(known_rows(self, rows[0])[keep]), np.searchsorted(self.classes_, labels[keep])

    def scores(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Scores (N, C) of rows X (N, D), one column for each of ``classes_``, also of two classes.

        Raises:
            HeadError: not fitted.
            InputError: rows of another width, NaN or infinity.
        """
        if not hasattr(self, "classes_"):
            raise not_fitted(self)
        return self._scores(known_rows(self, X))

    def decision_function(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Scores as scikit-learn has them: as :meth:`scores`, but (N,) of two classes, above 0 for the second."""
        scores = self.scores(X)
        return scores if scores.shape[1] > 2 else scores[:, 1] - scores[:, 0]

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Labels (N,) of rows X (N, D), see :meth:`scores` for what is raised."""
        best = self.scores(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities (N, C) of rows X (N, D), each row with sum 1; see :meth:`scores` for what is raised."""
        scores = self.scores(X)
        if self.scores_are_probabilities:
            return np.asarray(scores, np.float64)
        return softmax(scores / self.temperature_)

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Natural logarithms of the probabilities (N, C)."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def outcomes(self, X: ArrayLike, y: ArrayLike, classes: int) -> Outcomes:
        """What the probabilities say of rows X (N, D) of classes y (N,), of which there are `classes` in all.

        Classes that the training rows lack have probability 0. The probabilities are made block by block, and dropped.
        """
        features, y = as_features(X), np.asarray(y, np.intp)
        return Outcomes.joined([
            Outcomes.of(y[part], finite(self.predict_proba(features[part])), self.classes_, classes)
            for part in blocks(len(features), len(self.classes_))
        ])  # fmt: skip

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy on rows X (N, D) of labels y (N,), each of which may have a weight (N,)."""
        right = self.predict(X) == np.reshape(y, -1)
        return float(np.average(right, weights=None if sample_weight is None else np.asarray(sample_weight)))

    def _fit(
        self, training: Training, scaling: Scaling, validation: LabelledRows | None, folds: Labels | None
    ) -> HeldOut | None:
        """Fit to standardised rows and labels 0..C-1; gives scores of rows held out, where `folds` ask for them.

        Args:
            training: the rows.
            scaling: how they were scaled.
            validation: rows that tell when to stop.
            folds: the fold in which each plain row is held out; None if no temperature is to be fitted.
        """
        raise NotImplementedError

    def _scores(self, X: Floats) -> NDArray[np.floating[Any]]:
        raise NotImplementedError

    def obstacle(self, extent: Extent, max_memory: int | None) -> str | None:
        """Why a sweep cannot judge such a head on rows like these, in words that follow a colon; None if it can.

        Args:
            extent: of the rows.
            max_memory: bytes that may be used; None: half of the machine's.
        """
        return None

    def with_width(self, columns: int, classes: int) -> Self:
        """The head itself, told how many columns and classes it is for, as if it were fitted to labels 0..C-1."""
        self.classes_, self.n_features_in_ = np.arange(classes), columns
        self.temperature_, self.history_ = 1.0, {}
        return self

    def size(self, extent: Extent) -> int:
        """How many numbers such a head consists of once it is fitted on rows like these, at most."""
        bare = type(self)(**self.get_params()).with_width(extent.columns, extent.classes)
        return sum(prod(shape) for shape in bare.shapes().values())

    def as_layers(self) -> Layers | None:
        """The fitted head as a net from raw features to its scores, with ReLU between layers; None if it is no net."""
        return None

    def state(self) -> State:
        """What the fitted head consists of, beside ``classes_``, ``n_features_in_`` and ``temperature_``."""
        raise NotImplementedError

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the float32 arrays of :meth:`state`, by the parameters, ``classes_`` and ``n_features_in_`` alone."""
        raise NotImplementedError

    def restore(self, state: State) -> None:
        """Inverse of :meth:`state`, on a head of the same parameters whose other fitted attributes are set.

        Raises:
            ValueError: the state does not fit them.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        changed = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default)
        return f"{type(self).__name__}({', '.join(changed)})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor's parameters, as scikit-learn asks for them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def set_params(self, **params: Any) -> Self:
        """Set constructor's parameters.

        Raises:
            ValueError: there is no such parameter.
        """
        if unknown := params.keys() - self.get_params():
            raise ValueError(f"{type(self).__name__} has no parameter {', '.join(sorted(unknown))}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, Tags, TargetTags

        target = TargetTags(required=True)
        return Tags("classifier", target, transformer_tags=None, classifier_tags=ClassifierTags(), regressor_tags=None)


def too_large(needed: int, max_memory: int | None, what: str, less: str) -> str | None:
    """Why something that takes so many bytes cannot be had; None if it can.

    Args:
        needed: bytes.
        max_memory: that may be used; None: half of the machine's.
        what: takes them, as the beginning of a sentence.
        less: what to give, so that it takes less.
    """
    machine = machine_memory()
    limit = machine // 2 if max_memory is None else max_memory
    if needed <= limit:
        return None
    unit, name = (10**9, "GB") if needed >= 10**9 else (10**6, "MB")
    more = f"--max-memory {-(-needed // unit)}{name}, or " if needed <= machine else ""
    return f"{what} {needed / unit:,.3g} {name}, but {limit / unit:.3g} {name} may be used: give {more}{less}"
