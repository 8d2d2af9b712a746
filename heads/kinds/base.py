"""The base class of all heads: it checks and standardises rows, and turns scores into answers, as its task says.

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
from featurestore.system.machine import machine_memory, memory_limit
from heads.feature_table import LabelledRows, Labels, Rows
from heads.kinds.answering import Answering
from heads.kinds.inputs import known_rows, seed_of, training_rows
from heads.kinds.parameters import parameter
from heads.rows import Codes, StreamedRows, followed, taken
from heads.solvers.arrays import Extent, Layers, Scaling, check_arrays, standardise
from heads.solvers.calibration import temperature_folds
from heads.solvers.training import Training
from heads.tasks.registry import TASKS, Task, task_of

Views = tuple[ArrayLike | StreamedRows, ArrayLike]
"""Augmented versions of rows (M, D), and the index of the row that each of them shows (M,)."""
LossHistory = dict[str, list[float]]
"""``train`` and ``validation`` -> the log loss after each epoch."""
Spaces = Mapping[str, Mapping[str, Any]]
"""Name of a preset -> hyperparameter -> the values that a sweep tries, as in :mod:`heads.search.space`."""
HeldOut = tuple[NDArray[np.floating[Any]], Codes]
"""Scores (J, C) of rows that were not fitted on, and what they were to be, see :mod:`heads.solvers.goals`."""
State = dict[str, Any]
"""The parts of a fitted head by name: float32 arrays, and in an :class:`EstimatorHead` a scikit-learn estimator."""

WEIGHTS, MODEL = "weights.safetensors", "model.skops"
"""Files that a saved head keeps its parts in: arrays alone, or a scikit-learn estimator with them."""

_COPIES = 3
"""A kind that does not stream has rows as they are, standardised, and as it saves them."""
STREAMING = "another kind: logreg, linear-svm, ridge, lda, centroid and dense read rows as they need them"
"""The way out for kinds that do not stream."""
SWEPT = 5000
"""A sweep judges heads that learn in steps on so many classes at most."""
STANDARDIZE = "scale each feature to mean 0, deviation 1 over the training rows"
"""The help text of the hyperparameter ``standardize``."""


def too_many_classes(extent: Extent) -> str | None:
    """Return why a sweep cannot judge a head that learns in steps on so many classes; None if it can.

    Each step computes the scores of all rows for all classes.
    """
    if extent.classes <= SWEPT:
        return None
    return (
        f"each of its hundreds of steps takes {extent.rows:,} rows × {extent.classes:,} classes, and of more than "
        f"{SWEPT:,} classes a sweep would take hours: fit it alone with  fit-head,  or sweep lda, ridge or knn"
    )


@dataclass(kw_only=True, eq=False, repr=False)
class Head(Answering):
    """The base class of heads on feature rows.

    A head learns one class of each row, or several labels (y of shape (N, L), each 0 or 1), or with
    ``fit(…, task="regression")`` a number. What follows is of classes; :mod:`heads.tasks` has the others.

    Labels are whole numbers or texts. Columns of scores and probabilities follow ``classes_``, the labels that occur in
    the training rows: two columns for two classes. ``predict`` always gives the label of the greatest score.

    A new kind of head is a subclass with :meth:`_fit`, :meth:`_scores` and :meth:`shapes`, whose hyperparameters are
    fields made by :func:`heads.kinds.parameters.parameter`, and a line in :data:`heads.kinds.design.KINDS`. The class
    attributes below tell all other modules what they need to know about it.

    Fitted attributes: ``classes_`` (C,), ``n_features_in_``, ``feature_names_in_`` (D,) where a data frame was fitted
    to, ``temperature_``, ``history_`` (the loss after each epoch on ``train`` and ``validation`` rows, of kinds that
    have epochs), ``task_`` and ``link_`` (of other tasks, how scores become answers), ``offset_`` (of classes, what is
    added to log-probabilities, where a head was adapted that has no bias to add it to; else None), ``held_out_``
    (what the temperature was fitted on, if it was), and those of the family.

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
    """A sweep judges the designs of one family together, because they share work; those of ``alone`` fold by fold."""
    spaces: ClassVar[Spaces] = {}
    """The designs of this kind that each preset of a sweep tries; a preset that is not named here tries none."""
    stops_early: ClassVar[bool] = False
    """Whether the fit stops when the log loss on the validation rows no longer improves."""
    weaker: ClassVar[tuple[str, int] | None] = None
    """The hyperparameter of the penalty, and 1 or -1 if greater or smaller values of it penalise less."""
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    """Names of the tasks that the head can learn, see :data:`heads.tasks.registry.TASKS`."""
    swept_for: ClassVar[frozenset[str]] = frozenset({"classification", "multilabel", "regression"})
    """Of these, the tasks for which the presets of a sweep try it."""
    of_several: ClassVar[bool] = False
    """Whether the head consists of other heads; a search space cannot hold such a kind."""

    standardize: bool = parameter(True, STANDARDIZE)
    random_state: Any = 0
    """A whole number, or as in scikit-learn None or a ``numpy.random.RandomState``, from which a number is drawn."""

    @property
    def trusted_types(self) -> frozenset[str]:
        """The names of the scikit-learn types that :meth:`state` holds, such as ``sklearn.svm._classes.SVC``."""
        return frozenset()

    @property
    def weights_file(self) -> str:
        """The name of the file in which a saved head keeps :meth:`state`."""
        return MODEL if self.trusted_types else WEIGHTS

    def fit(
        self,
        X: ArrayLike | StreamedRows,
        y: ArrayLike,
        validation: tuple[ArrayLike | StreamedRows, ArrayLike] | None = None,
        *,
        views: Views | None = None,
        groups: ArrayLike | None = None,
        temperature: float | None = None,
        task: str | None = None,
    ) -> Self:
        """Fit the head to rows X (N, D), of any float type, and labels y (N,), and return it.

        Args:
            X: the training rows; such as :meth:`heads.feature_table.FeatureTable.stream` returns stay on disk.
            y: their labels; at least two different ones.
            validation: rows and labels by which a kind that stops early decides when to stop; others ignore them.
            views: augmented versions of training rows (M, D), and the index in X of the row that each shows (M,). A
                row and its views weigh as much as a row without any; a dense head draws one of them per epoch.
            groups: the number of each training row's group (N,), such as its image if an image occurs twice. Rows of
                one group are held out together wherever the fit holds rows out.
            temperature: scores are divided by it before they become probabilities; by default it is fitted to scores
                of rows that are held out, see :func:`heads.solvers.calibration.calibrate`. (Of other tasks: 1.0 leaves
                scores as the training rows tell, until :meth:`calibrate`.)
            task: name of what is asked of a row; by default ``classification``, or ``multilabel`` if y has columns.

        Raises:
            InputError: there is one class only, X holds NaN or infinity, or the lengths differ; or such a head does not
                learn that task.
        """
        self.task_ = task_of(y) if task is None else TASKS[task]
        if why := self.unfit_for(self.task_):
            raise InputError(f"{type(self).__name__}: {why}")
        features, labels = training_rows(self, X, y)
        self.classes_, codes, self.link_ = self.task_.encode(labels)
        self.n_features_in_ = features.shape[1]
        self.temperature_ = 1.0
        self.history_: LossHistory = {}
        self._seed = seed_of(self.random_state)
        together = None if groups is None else np.asarray(groups)
        training = Training(features, codes, np.arange(len(codes)), None, together)
        if views is not None:
            training = self._with_views(training, views)
        if not self.streams:
            training = training._replace(Z=np.asarray(training.Z))
        scaling = Scaling.none(self.n_features_in_)
        if self.standardize:
            Z, scaling = standardise(training.Z, training.weights)
            training = training._replace(Z=Z)
        folds = None if temperature is not None else temperature_folds(training.plain[1], self._seed, training.groups)
        self.held_out_ = self._fit(training, scaling, self._known(validation, scaling), folds)
        if self.held_out_ is None and self.link_ is not None and folds is not None:
            self.held_out_ = self._held_out(training, folds)
        if temperature is not None:
            self.temperature_ = temperature
        elif self.held_out_ is not None:
            self.calibrate(*self.held_out_)
        return self

    def _held_out(self, training: Training, folds: Labels) -> HeldOut:
        """Return scores of the rows that each fold holds out, by heads that are fitted to the others.

        Thresholds of labels, and intervals of numbers, are chosen by them where the fit itself gives none.
        """
        places, found = [], []
        for fold in range(int(folds.max()) + 1):
            held = np.flatnonzero(folds == fold)
            other = type(self)(**self.get_params()).with_width(self.n_features_in_, len(self.classes_))
            other.task_, other.link_, other._seed = self.task_, self.link_, self._seed
            other._fit(training.of(folds != fold), Scaling.none(self.n_features_in_), None, None)
            places.append(held)
            found.append(other._scores(np.asarray(taken(training.Z, held), np.float32)))
        return np.concatenate(found), training.codes[np.concatenate(places)]

    def unfit_for(self, task: Task) -> str | None:
        """Return why such a head cannot learn a task, in words that follow a colon; None if it can."""
        return None if task.name in self.tasks else f"it does not learn {task.asks}: take another kind of head"

    def _with_views(self, plain: Training, views: Views) -> Training:
        """Return the plain rows followed by their views."""
        features, owners = known_rows(self, views[0]), np.asarray(views[1], np.intp)
        rows = len(plain.codes)
        if len(features) != len(owners) or not ((owners >= 0) & (owners < rows)).all():
            raise InputError(f"{len(features)} views: name for each of them one of the {rows} rows that it shows")
        image = np.concatenate([plain.image, owners])
        weights = 1 / np.bincount(image)[image]
        return Training(followed(plain.Z, features), plain.codes[image], image, weights, plain.groups)

    def _known(
        self, rows: tuple[ArrayLike | StreamedRows, ArrayLike] | None, scaling: Scaling
    ) -> tuple[Rows, Labels] | None:
        """Return the validation rows scaled, without those of classes that no training row has."""
        if rows is None:
            return None
        labels = np.asarray(rows[1])
        keep = self.task_.known(labels, self.classes_)
        if not keep.any():
            return None
        codes = self.task_.codes(labels[keep], self.classes_, self.link_)
        return scaling.of(taken(known_rows(self, rows[0]), keep)), codes

    def _fit(
        self, training: Training, scaling: Scaling, validation: LabelledRows | None, folds: Labels | None
    ) -> HeldOut | None:
        """Fit the head to standardised rows and their goals, and set the arrays that :meth:`shapes` names.

        Args:
            training: the rows.
            scaling: how they were standardised; :meth:`_scores` gets rows that are not.
            validation: standardised rows by which to decide when to stop.
            folds: the fold in which each plain row is held out (N,); None if nothing is to be calibrated.

        Returns:
            Scores of the rows that `folds` hold out, from which the temperature is fitted; None leaves it at 1.
        """
        raise NotImplementedError

    def obstacle_alone(self, extent: Extent, max_memory: int | None) -> str | None:
        """Return why such a head cannot be fitted alone in some memory, in words that follow a colon; None if it can.

        Args:
            extent: the rows, columns and classes of the fit.
            max_memory: bytes that may be used; None for half of the machine's.
        """
        if self.streams:
            return None
        needed = _COPIES * 4 * extent.rows * extent.columns
        return too_large(needed, max_memory, f"{extent.rows:,} rows, which it needs in memory, take", STREAMING)

    def obstacle(self, extent: Extent, max_memory: int | None) -> str | None:
        """Return why a sweep cannot judge such a head on some rows, in words that follow a colon; None if it can.

        Args:
            extent: how many rows, columns and classes there are.
            max_memory: bytes that may be used; None for half of the machine's.
        """
        return None

    def with_width(self, columns: int, classes: int) -> Self:
        """Set the attributes of a fitted head that do not depend on the rows, for labels 0..C-1, and return it."""
        self.classes_, self.n_features_in_ = np.arange(classes), columns
        self.temperature_, self.history_ = 1.0, {}
        return self

    def size(self, extent: Extent) -> int:
        """Return how many numbers the head consists of when it is fitted to so many rows, columns and classes."""
        bare = type(self)(**self.get_params()).with_width(extent.columns, extent.classes)
        return sum(prod(shape) for shape in bare.shapes().values())

    @property
    def approximation(self) -> str | None:
        """What a fitted head approximates, and by what, in words; None if it is what its kind says."""
        return None

    def as_layers(self) -> Layers | None:
        """Return the layers of a net that computes the same scores, with ReLU between them; None if no net does."""
        return None

    def state(self) -> State:
        """Return the fitted arrays by name: for each name of :meth:`shapes` the attribute of that name and ``_``."""
        return {name: getattr(self, f"{name}_") for name in self.shapes()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the float32 arrays of :meth:`state` by name.

        They follow from the parameters, ``classes_`` and ``n_features_in_``.
        """
        raise NotImplementedError

    def restore(self, state: State) -> None:
        """Set the fitted arrays of a head whose parameters, ``classes_`` and ``n_features_in_`` are set.

        Raises:
            ValueError: the state does not fit these.
        """
        check_arrays(state, self.shapes())
        for name, array in state.items():
            setattr(self, f"{name}_", array)

    def __repr__(self) -> str:
        changed = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default)
        return f"{type(self).__name__}({', '.join(changed)})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the constructor by name, as scikit-learn asks for them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def set_params(self, **params: Any) -> Self:
        """Set some parameters of the constructor, and return the head.

        Raises:
            ValueError: the constructor has no such parameter.
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
    """Return why there is not enough memory for something, in a sentence; None if there is.

    Args:
        needed: bytes that it takes.
        max_memory: bytes that may be used; None for half of the machine's.
        what: the beginning of the sentence, which names what takes the bytes.
        less: the end of the sentence, which says what to give so that it takes less.
    """
    machine, limit = machine_memory(), memory_limit(max_memory)
    if needed <= limit:
        return None
    unit, name = (10**9, "GB") if needed >= 10**9 else (10**6, "MB")
    more = f"--max-memory {-(-needed // unit)}{name}, or " if needed <= machine else ""
    return f"{what} {needed / unit:,.3g} {name}, but {limit / unit:.3g} {name} may be used: give {more}{less}"
