"""A fitted head with all that is needed to use it on other features of the same extraction."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import HeadError, InputError, SpecMismatchError
from featurestore.spec import ExtractionSpec, backbone_names
from featurestore.store.file_format import Column
from featurestore.system.results import Result
from heads.feature_table import FeatureTable, Input
from heads.kinds.base import Head
from heads.kinds.design import HeadDesign
from heads.metrics.conformal import conformity_of
from heads.metrics.shift import Reference
from heads.rows import StreamedRows
from heads.solvers.arrays import check_streamed, finite
from heads.storage.novelty import Novelty
from heads.storage.numeric_input import NumericInput, names_of, scaling_of
from heads.storage.record import Record
from heads.tasks.base import Bound
from heads.tasks.registry import TASKS

FORMAT = "featurestore-head"
FORMAT_VERSION, NUMERIC, ASKED, PARTED, SHIFTED = 5, 2, 3, 4, 5
"""The newest version, that from which on heads take numeric columns, that of heads of other tasks than classes, that of
heads with a threshold, and that of heads with an offset."""

PLAIN = ("dataset", "rows", "views", "metrics", "seconds", "seed", "versions")
"""Fields of a FittedHead that are plain JSON types."""

_NAMED, _SHOWN_NAMES = 8, 70
"""The short text of a head shows so many classes, and so many characters of their names, at most."""


@dataclass(frozen=True, eq=False, repr=False)
class FittedHead(Result):
    """A fitted head with all that is needed to use it on other features of the same extraction.

    It predicts as scikit-learn's classifiers do; its labels are the names of the classes. A head of several labels, or
    of a number, predicts as they do too: 0 or 1 for each label (N, L), or numbers (N,).

    Example:
        >>> import numpy as np
        >>> from heads import load_features, load_head
        >>> head = load_head("head")
        >>> head
        FittedHead
          kind       logreg
          classes    10 (digit 0, digit 1, digit 2, ...)
          features   64 (... last)
          dataset    ... (120 test, 360 train, 120 validation)
          ...
        >>> X, y = load_features("digits.h5").select("validation")
        >>> head.predict(X[:2])
        array(['digit ...', 'digit ...'], dtype='<U7')
        >>> head.predict_proba(X).shape
        (120, 10)
        >>> head.score(X, head.classes_[y]) > 0.9
        True

    Attributes:
        head: the classifier, whose labels are indices into `class_names`.
        design: its kind and hyperparameters.
        class_names: class `i` is ``class_names[i]``. A class without training rows has probability 0.
        inputs: the origin of the features that it was fitted to, from left to right.
        numeric: the numeric columns, such as age, that stand behind them; rows hold NaN for missing values.
        dataset: the name of their data set.
        rows: the number of rows of each split of the file.
        views: the number of augmented versions of train rows that it was fitted to.
        metrics: metrics by split, measured when it was fitted, or on rows held out in a sweep; never of the test split.
        seconds: the time of the fit.
        seed: of all that is random in the fit.
        versions: of the libraries that were used.
        record: the images that it has seen; None if it was saved before such records were kept.
        path: the folder that it is saved in; None if it is not.
        threshold: of two classes, the probability of the second from which on a row is said to be of it; None where the
            more probable one is taken.
        conformity: of classes, the probability of the true class of rows that were held out, ascending (R,), by which
            sets of classes reach a level; None if none were, or if the head was saved before they were kept.
        novelty: what it knows of its training rows, to say how unlike these an image is; None where it is left out.
    """

    head: Head
    design: HeadDesign
    class_names: tuple[str, ...]
    inputs: tuple[Input, ...]
    dataset: str
    rows: dict[str, int]
    views: int
    metrics: dict[str, dict[str, float]]
    seconds: float
    seed: int
    versions: dict[str, str]
    record: Record | None = None
    path: Path | None = None
    numeric: tuple[NumericInput, ...] = ()
    threshold: float | None = None
    conformity: tuple[float, ...] | None = None
    novelty: Novelty | None = None

    def with_reference(
        self,
        scores: NDArray[np.floating[Any]],
        temperature: float,
        codes: NDArray[np.intp],
        classes: NDArray[np.intp],
    ) -> "FittedHead":
        """Return the head with a record of how it scores rows that it was not fitted on.

        Args:
            scores: scores of these rows (J, C).
            temperature: the number that scores are divided by before they become probabilities.
            codes: the column of the true class of each row (J,).
            classes: the class of each column (C,).
        """
        if self.head.link_ is not None:  # the comparison is one of classes
            return self
        reference = Reference.of(scores, codes, temperature, classes, len(self.class_names))
        record = self.record and replace(self.record, reference=reference)
        return replace(self, record=record, conformity=conformity_of(scores, codes, temperature))

    def with_novelty(self, table: FeatureTable, rows: NDArray[np.intp]) -> "FittedHead":
        """Return the head with what it needs to say how unlike its training rows an image is.

        Args:
            table: the features that it was fitted to; numeric columns have no part.
            rows: indices of the training rows.

        Raises:
            HeadError: it looks at no image; the rows hold NaN or infinity, or are one group.
        """
        if not self.inputs:
            raise HeadError("--novelty is of images, and the head is of numeric columns alone: leave it out")
        images = table.images.stream(rows)
        with table.named():
            check_streamed(images)
            return replace(self, novelty=Novelty.of(images, table.groups(rows), self.seed))

    def check_features(self, features: FeatureTable) -> None:
        """Check that features were extracted as those that the head was fitted to.

        Raises:
            SpecMismatchError: they were not; the message names the file and the fields that differ.
            HeadError: see :meth:`check_task`.
        """
        self.check_task(features.task, features.path)
        if [item.tap for item in features.inputs] != [item.tap for item in self.inputs]:
            taps = " and ".join("+".join(item.tap for item in one.inputs) for one in (features, self))
            raise SpecMismatchError(f"{features.path}: its features do not fit {self.path or 'the head'}: taps {taps}")
        self.check_columns(features.path, features.numeric)
        for wanted, there, path in zip(self.inputs, features.inputs, features.files, strict=False):
            self.check_input(wanted, path, there.spec)

    def check_task(self, task: str, where: Path | str) -> None:
        """Check that a data set, which messages call `where`, asks for what the head predicts.

        Raises:
            HeadError: it asks for something else; the message names both.
        """
        mine = self.head.task_
        if task != mine.name:
            raise HeadError(
                f"{where}: asks for {TASKS[task].asks} ({task}), and {self.path or 'the head'} was fitted to "
                f"{mine.asks} ({mine.name}): fit a head on this data set"
            )

    def check_input(self, wanted: Input, path: Path, spec: ExtractionSpec) -> None:
        """Check a file of this spec as :meth:`check_features` does, against one input of the head."""
        if spec.fingerprint != wanted.fingerprint:
            raise SpecMismatchError(
                f"{path}: its features do not fit {self.path or 'the head'} (there), fitted on others: "
                f"{'; '.join(spec.differences(wanted.spec))}: fit a head on this file, "
                "or extract again with the other settings"
            )

    def check_columns(self, path: Path, columns: Sequence[Column]) -> None:
        """Check that a file has the numeric columns that the head was fitted to, in the same order.

        Raises:
            SpecMismatchError: it has others; the message names the file and the columns.
        """
        if [each.column for each in self.numeric] != list(columns):
            there = ", ".join(f"{each.name!r}{_coded(each)}" for each in columns) or "none"
            wanted = ", ".join(f"{each.column.name!r}{_coded(each.column)}" for each in self.numeric) or "none"
            options = " ".join(f"--column {each.column.name}" for each in self.numeric)
            raise SpecMismatchError(
                f"{path}: its numeric columns do not fit {self.path or 'the head'}, which takes {wanted}, not {there}: "
                + (f"extract with {options}" if options else "leave them out of the features")
            )

    @property
    def classes_(self) -> NDArray[np.str_]:
        """The names of the classes (C,), in the order of the columns of scores and probabilities."""
        return np.array(self.class_names)

    @property
    def n_features_in_(self) -> int:
        """The columns D of the feature rows that it takes."""
        return int(self.head.n_features_in_)

    def scores(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Return scores (N, C) of feature rows X (N, D); minus infinity for classes without training rows.

        Raises:
            HeadError: the rows have another width, hold NaN or infinity, or are so large that the scores do.
        """
        with self._named():
            known = finite(self.head.scores(self._scaled(X)))
        scores = np.full((len(known), len(self.class_names)), -np.inf, known.dtype)
        scores[:, self.head.classes_] = known
        return scores

    def decision_function(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Return scores as scikit-learn defines them: (N, C), but for two classes (N,), above 0 for the second.

        See :meth:`scores` for the errors.
        """
        scores = self.scores(X)
        return scores if scores.shape[1] > 2 else scores[:, 1] - scores[:, 0]

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the names of the most probable classes, str (N,); see :meth:`scores` for the errors.

        Of two classes with a :attr:`threshold` it is the second from that probability on.
        Of several labels it is 0 or 1 for each (N, L), of a regression the numbers (N,).
        """
        if self.head.link_ is not None:
            return self.head.task_.decided(self.outputs(X), self.classes_, self.head.link_)
        if self.threshold is not None:
            return self.parted(self.outputs(X))
        return np.asarray(self.classes_[self.scores(X).argmax(axis=1)])

    def parted(self, proba: NDArray[np.float64]) -> NDArray[np.str_]:
        """Return the names of two classes (N,) by their probabilities (N, 2) and the :attr:`threshold`."""
        assert self.threshold is not None
        return np.asarray(self.classes_[(proba[:, 1] >= self.threshold).astype(np.intp)])

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy on feature rows X (N, D) whose classes have the names y (N,), see :attr:`classes_`.

        Of several labels it is the share of rows all of whose labels are right, of a regression R².

        Raises:
            HeadError: y holds numbers, or see :meth:`scores`.
        """
        weights = None if sample_weight is None else np.asarray(sample_weight)
        if self.head.link_ is not None:
            return self.head.task_.score(y, self.predict(X), weights)
        names = np.reshape(y, -1)
        if names.dtype.kind not in "UO":
            raise InputError(f"classes are {names.dtype} here: give their names, such as {self.class_names[0]!r}")
        return self.head.task_.score(names, self.predict(X), weights)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return probabilities (N, C) of feature rows X (N, D); see :meth:`scores` for the errors."""
        with self._named():
            return self._placed(finite(self.head.predict_proba(self._scaled(X))))

    def outputs(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return what the head says of feature rows X (N, D): probabilities (N, C), or numbers (N, 1).

        See :meth:`scores` for the errors.
        """
        with self._named():
            return self._placed(finite(self.head.outputs(self._scaled(X))))

    def novelties(self, X: ArrayLike) -> NDArray[np.float64] | None:
        """Return how unlike the training rows each of the feature rows X (N, D) is, 0 to 1 (N,); None if not known.

        It is the share of held-out training rows that are as far from the others, or less: see
        :class:`heads.storage.novelty.Novelty`.
        """
        images = self.n_features_in_ - len(self.numeric)
        return None if self.novelty is None else self.novelty.quantiles(np.asarray(X)[:, :images])

    def bound(self, level: float | None) -> Bound | None:
        """Return what makes answers hold at a level, see :meth:`heads.tasks.base.Task.bound`.

        Raises:
            HeadError: it cannot be had; the message names the head.
        """
        with self._named():
            return self.head.task_.bound(level, self.head.link_, self.conformity)

    def _placed(self, known: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the outputs of the head's own classes in the columns of all classes."""
        found = np.zeros((len(known), len(self.class_names)))
        found[:, self.head.classes_] = known
        return found

    def outcomes(self, X: ArrayLike | StreamedRows, y: ArrayLike) -> Any:
        """Compare what the head says of feature rows X (N, D) with their answers y, in bounded memory."""
        with self._named():
            found = self.head.outcomes(self._scaled(X), y, len(self.class_names))
        return found if self.threshold is None else found.at(self.threshold)

    def _scaled(self, X: Any) -> Any:
        """Return feature rows with their numeric columns scaled, and missing values filled, as in the fit."""
        scaling = scaling_of(self.numeric)
        if scaling is None:
            return X
        if isinstance(X, StreamedRows):
            return replace(X, numeric=scaling)
        if np.ndim(X) != 2 or np.shape(X)[1] != self.n_features_in_:
            return X  # the head says what is wrong
        return scaling.apply(X)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Put the folder of the head before the message of a HeadError, and let numbers become infinite silently."""
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                yield
        except HeadError as error:
            raise type(error)(f"{self.path or 'the head'}: {error}") from error

    def _shown(self) -> Iterator[tuple[str, str]]:
        yield "kind", " ".join([self.design.kind, *self.design.settings()])
        if self.head.approximation:
            yield "approx.", self.head.approximation
        names = ", ".join(self.class_names[:_NAMED]) + (" …" if len(self.class_names) > _NAMED else "")
        counted = f"{len(self.class_names)} ({shorten(names, _SHOWN_NAMES)})"
        yield self.head.task_.noun, counted if len(self.class_names) > 1 else names
        called = backbone_names([item.spec for item in self.inputs])
        taps = (f"{name} {item.tap}" for name, item in zip(called, self.inputs, strict=True))
        numeric = [shorten(names_of(self.numeric), _SHOWN_NAMES)] if self.numeric else []
        yield "features", f"{self.n_features_in_} ({' + '.join([*taps, *numeric])})"
        yield "dataset", f"{self.dataset} ({', '.join(f'{count} {split}' for split, count in self.rows.items())})"
        if self.threshold is not None:
            yield "threshold", f"{self.class_names[1]} from a probability of {self.threshold:.3g} on"
        if self.novelty is not None:
            yield "novelty", self.novelty.size
        for rows, metrics in self.metrics.items():
            yield rows, ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        if self.path:
            yield "path", str(self.path)

    def __repr__(self) -> str:
        return "\n".join(["FittedHead", *(f"  {name:<10} {text}" for name, text in self._shown())])

    def to_dict(self) -> dict[str, Any]:
        """Return all but the arrays of the head as plain JSON types: the content of ``head.json``."""
        return {
            "format": FORMAT,
            "format_version": version_of(
                self.head.offset_ is not None,
                self.threshold is not None,
                self.head.link_ is not None,
                bool(self.numeric),
            ),
            "kind": self.design.kind,
            "params": dict(self.design.params),
            "class_names": list(self.class_names),
            "classes": self.head.classes_.tolist(),
            "width": self.head.n_features_in_,
            "temperature": self.head.temperature_,
            "inputs": [item.to_dict() for item in self.inputs],
            **({"numeric": [each.to_dict() for each in self.numeric]} if self.numeric else {}),
            **({"task": {"name": self.head.task_.name, **self.head.link_.to_dict()}} if self.head.link_ else {}),
            **({} if self.head.offset_ is None else {"offset": self.head.offset_.tolist()}),
            **({} if self.threshold is None else {"threshold": self.threshold}),
            **({} if self.conformity is None else {"conformity": list(self.conformity)}),
            **({"history": self.head.history_} if self.head.history_ else {}),
            **{name: getattr(self, name) for name in PLAIN},
            **(self.record.to_dict() if self.record else {}),
            **({"path": str(self.path)} if self.path else {}),
        }


def version_of(shifted: bool, parted: bool, asked: bool, numeric: bool) -> int:
    """Return the version that says all that a reader must not ignore: an offset, a threshold, a task, columns."""
    return SHIFTED if shifted else PARTED if parted else ASKED if asked else NUMERIC if numeric else 1


def _coded(column: Column) -> str:
    return f" ({', '.join(f'{text} = {i}' for i, text in enumerate(column.codes))})" if column.codes else ""
