"""Saved heads: a folder with ``head.json``, the file of the head's arrays, and the record of the rows that it has seen.

A folder may come from anybody: nothing in it is unpickled, sizes are checked against each other before use, and
everything that is wrong becomes a HeadError. Format versions 1 and 2 are what :meth:`FittedHead.to_dict` returns. Data that an
older reader may ignore is added to version 1, as ``fitted_on``, ``chosen_by`` and the file of
:mod:`heads.storage.record` were. Data that it must not ignore needs a new version, which only those heads state that
have such data: version 2 those of numeric columns.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import HeadError, InputError, SpecMismatchError
from featurestore.spec import ExtractionSpec
from featurestore.store.file_format import Column
from featurestore.system.documents import LIMIT, parse
from featurestore.system.files import read_regular, sync, why, write_error
from featurestore.system.results import Result
from heads.documents import HeadDocument, HeadVersion
from heads.feature_table import FeatureTable, Input
from heads.kinds.base import MODEL, WEIGHTS, Head
from heads.kinds.design import HeadDesign
from heads.metrics.outcomes import Outcomes
from heads.metrics.shift import Reference
from heads.rows import StreamedRows
from heads.solvers.arrays import finite
from heads.storage.numeric_input import NumericInput, scaling_of
from heads.storage.record import MEASURED, ROWS, Record
from heads.storage.state_file import pack_state, read_state

FORMAT = "featurestore-head"
FORMAT_VERSION, NUMERIC = 2, 2
"""The newest version, and that from which on heads take numeric columns."""
HEAD = "head.json"

_PLAIN = ("dataset", "rows", "views", "metrics", "seconds", "seed", "versions")
"""Fields of a FittedHead that are plain JSON types."""

_NAMED, _SHOWN_NAMES = 8, 70
"""The short text of a head shows so many classes, and so many characters of their names, at most."""
_SHOWN = 400
"""A message repeats so many characters of a reason at most."""


@dataclass(frozen=True, eq=False, repr=False)
class FittedHead(Result):
    """A fitted head with all that is needed to use it on other features of the same extraction.

    It predicts as scikit-learn's classifiers do; its labels are the names of the classes.

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
        reference = Reference.of(scores, codes, temperature, classes, len(self.class_names))
        return replace(self, record=self.record and replace(self.record, reference=reference))

    def check_features(self, features: FeatureTable) -> None:
        """Check that features were extracted as those that the head was fitted to.

        Raises:
            SpecMismatchError: they were not; the message names the file and the fields that differ.
        """
        if [item.tap for item in features.inputs] != [item.tap for item in self.inputs]:
            taps = " and ".join("+".join(item.tap for item in one.inputs) for one in (features, self))
            raise SpecMismatchError(f"{features.path}: its features do not fit {self.path or 'the head'}: taps {taps}")
        self.check_columns(features.path, features.numeric)
        for wanted, there, path in zip(self.inputs, features.inputs, features.files, strict=False):
            self.check_input(wanted, path, there.spec)

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

    def predict(self, X: ArrayLike) -> NDArray[np.str_]:
        """Return the names of the most probable classes, str (N,); see :meth:`scores` for the errors."""
        return np.asarray(self.classes_[self.scores(X).argmax(axis=1)])

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy on feature rows X (N, D) whose classes have the names y (N,), see :attr:`classes_`.

        Raises:
            HeadError: y holds numbers, or see :meth:`scores`.
        """
        names = np.reshape(y, -1)
        if names.dtype.kind not in "UO":
            raise InputError(f"classes are {names.dtype} here: give their names, such as {self.class_names[0]!r}")
        weights = None if sample_weight is None else np.asarray(sample_weight)
        return float(np.average(self.predict(X) == names, weights=weights))

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return probabilities (N, C) of feature rows X (N, D); see :meth:`scores` for the errors."""
        with self._named():
            known = finite(self.head.predict_proba(self._scaled(X)))
        proba = np.zeros((len(known), len(self.class_names)))
        proba[:, self.head.classes_] = known
        return proba

    def outcomes(self, X: ArrayLike | StreamedRows, y: ArrayLike) -> Outcomes:
        """Compare the probabilities of feature rows X (N, D) with their classes y (N,), in bounded memory."""
        with self._named():
            return self.head.outcomes(self._scaled(X), y, len(self.class_names))

    def _scaled(self, X: Any) -> Any:
        """Return feature rows with their numeric columns scaled, and missing values filled, as those of the fit were."""
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
        yield "classes", f"{len(self.class_names)} ({shorten(names, _SHOWN_NAMES)})"
        taps = (f"{item.spec.backbone} {item.tap}" for item in self.inputs)
        names = [f"{len(self.numeric)} numeric: {', '.join(n.column.name for n in self.numeric)}"] if self.numeric else []
        yield "features", f"{self.n_features_in_} ({' + '.join([*taps, *(shorten(n, _SHOWN_NAMES) for n in names)])})"
        yield "dataset", f"{self.dataset} ({', '.join(f'{count} {split}' for split, count in self.rows.items())})"
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
            "format_version": NUMERIC if self.numeric else 1,
            "kind": self.design.kind,
            "params": dict(self.design.params),
            "class_names": list(self.class_names),
            "classes": self.head.classes_.tolist(),
            "width": self.head.n_features_in_,
            "temperature": self.head.temperature_,
            "inputs": [item.to_dict() for item in self.inputs],
            **({"numeric": [each.to_dict() for each in self.numeric]} if self.numeric else {}),
            **({"history": self.head.history_} if self.head.history_ else {}),
            **{name: getattr(self, name) for name in _PLAIN},
            **(self.record.to_dict() if self.record else {}),
            **({"path": str(self.path)} if self.path else {}),
        }


def check_target(folder: str | os.PathLike[str]) -> None:
    """Check that a head can be saved in a folder, which may be missing, empty, or a saved head.

    Raises:
        HeadError: the path is a file, or a folder with other things.
    """
    folder = Path(folder)
    if not folder.is_dir():
        if folder.exists():
            raise HeadError(f"{folder}: is a file: name another folder for the head")
        return
    names = {item.name for item in folder.iterdir()}
    if names and not (HEAD in names and names <= {HEAD, WEIGHTS, MODEL, ROWS, MEASURED}):
        raise HeadError(f"{folder}: holds other things than a saved head: name another folder, it would be replaced")


def save_head(folder: str | os.PathLike[str], fitted: FittedHead) -> FittedHead:
    """Save a head. At every moment either the old head or the new one can be loaded from the folder.

    Args:
        folder: a folder that is made, or replaced if it is a saved head.
        fitted: the head.

    Returns:
        The head, with its path.

    Raises:
        HeadError: the path is a file, or a folder with other things.
        WriteError: the folder cannot be written.
    """
    folder = Path(folder)
    check_target(folder)
    folder = folder.resolve()
    new, old = folder.with_name(f".{folder.name}.new-{secrets.token_hex(4)}"), _previous(folder)
    check_target(old)
    try:
        new.mkdir(parents=True)
        (new / fitted.head.weights_file).write_bytes(pack_state(fitted.head))
        if fitted.record:
            (new / ROWS).write_bytes(fitted.record.packed())
        if (folder / MEASURED).exists():  # so that fitting again does not hide how often the test rows were used
            (new / MEASURED).write_bytes(read_regular(folder / MEASURED, LIMIT))
        (new / HEAD).write_text(json.dumps(replace(fitted, path=None).to_dict(), indent=1) + "\n")
        for path in (*new.iterdir(), new):
            sync(path)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        new.rename(folder)
        sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return replace(fitted, path=folder)


def load_head(folder: str | os.PathLike[str]) -> FittedHead:
    """Load a saved head. Linear and dense heads need NumPy alone, others scikit-learn.

    Args:
        folder: the folder that :func:`heads.fit_head` or a sweep saved the head in.

    Raises:
        HeadError: there is no saved head, or it is damaged, altered, or written by a newer version.

    Example:
        >>> from heads import load_features, load_head
        >>> head = load_head("head")
        >>> X, y = load_features("digits.h5").select("test")
        >>> head.predict_proba(X).sum(axis=1).round(6).min()
        np.float64(1.0)
    """
    path = Path(folder)
    if not path.exists() and _previous(path).is_dir():  # killed just before the new head took its name
        path = _previous(path)
    file = path / HEAD
    try:
        values = _read_document(file)
        design = HeadDesign(values["kind"], values["params"])
        head = design.build(values["seed"])
        class_names = tuple(values["class_names"])
        head.classes_, head.n_features_in_ = np.array(values["classes"], np.intp), values["width"]
        head.temperature_, head.history_ = values["temperature"], values.get("history", {})
        _check_classes(head, class_names)
        inputs = tuple(map(Input.from_dict, values["inputs"]))
        file = path / head.weights_file
        head.restore(read_state(file, head))
        record = None
        if "fitted_on" in values:
            file = path / ROWS
            record = Record.read(file, values)
        file = path / HEAD
        return FittedHead(
            head=head,
            design=design,
            class_names=class_names,
            inputs=inputs,
            numeric=tuple(map(NumericInput.from_dict, values.get("numeric", []))),
            record=record,
            path=path,
            **{name: values[name] for name in _PLAIN},  # type: ignore[literal-required]
        )
    except FileNotFoundError as error:
        raise HeadError(f"{file}: no such file: give the folder of a saved head, see  featurestore fit-head") from error
    except Exception as error:  # skops may raise anything on a model file that somebody else made
        raise HeadError(
            f"{file}: not a readable saved head ({reason(error)}): copy it anew, or fit it again"
        ) from error


def _previous(folder: Path) -> Path:
    """Return the folder that keeps the old head until the new one is in place."""
    return folder.with_name(f".{folder.name}.previous")


def reason(error: Exception) -> str:
    """Return why a file cannot be read, as a part of a line."""
    if isinstance(error, KeyError):
        return f"no {shorten(str(error), _SHOWN)}"
    return shorten(why(error) if isinstance(error, OSError) else str(error), _SHOWN)


def _read_document(path: Path) -> HeadDocument:
    text = read_regular(path, LIMIT)
    version = parse(text, HeadVersion)
    if version["format"] != FORMAT or not 1 <= version["format_version"] <= FORMAT_VERSION:
        raise ValueError(f"format {version['format']!r} version {version['format_version']}: upgrade featurestore")
    values = parse(text, HeadDocument)
    if ("fitted_on" in values) != ("chosen_by" in values):
        raise ValueError("fitted_on stands there without chosen_by, or the other way round")
    numeric = len(values.get("numeric", []))
    if bool(numeric) != (version["format_version"] >= NUMERIC) or not (values["inputs"] or numeric):
        raise ValueError("its numeric columns do not fit its version")
    if numeric > values["width"] or len({each["name"] for each in values.get("numeric", [])}) < numeric:
        raise ValueError("it has more numeric columns than features, or two of one name")
    return values


def _coded(column: Column) -> str:
    return f" ({', '.join(f'{text} = {i}' for i, text in enumerate(column.codes))})" if column.codes else ""


def _check_classes(head: Head, class_names: tuple[str, ...]) -> None:
    classes = head.classes_
    if (np.diff(classes) <= 0).any():
        raise ValueError("its classes are no ascending list")
    if classes[-1] >= len(class_names) or len(set(class_names)) < len(class_names):
        raise ValueError("its classes do not fit its class names")
