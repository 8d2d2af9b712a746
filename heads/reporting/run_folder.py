"""Read the folder that a report is on: a sweep, a fine-tuned model, or a saved head alone."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from featurestore.errors import DesignError, HeadError
from featurestore.store.remote import Recorded
from featurestore.system import documents
from featurestore.system.documents import typed
from heads.documents import (
    EvaluationDocument,
    LabelEvaluationDocument,
    NumberEvaluationDocument,
    SweepDocument,
    TuningDocument,
)
from heads.kinds.base import LossHistory
from heads.metrics.evaluation import Evaluated, Evaluation, LabelEvaluation, NumberEvaluation
from heads.search.results import SUMMARY, WINNER, SweepResult
from heads.search.trials import FILE, Trial
from heads.storage.saved_head import HEAD, FittedHead, load_head, reason

E = TypeVar("E", bound=Evaluated)

TUNING, TUNED = "finetune.json", "head"
"""In the folder of a fine-tuned model: how it compares, and the head that was fitted to it."""


@dataclass(frozen=True, eq=False)
class RunFolder:
    """A folder with a head, and what it says of how the head was found.

    Attributes:
        path: the folder.
        fitted: the head.
        measured: its metrics on the test rows, if they were measured.
        history: losses after each epoch, see :class:`heads.kinds.base.Head`.
        sweep: what the sweep returned, or None.
        tuning: what ``finetune.json`` says, or None.
    """

    path: Path
    fitted: FittedHead
    measured: Evaluated | None = None
    history: LossHistory = field(default_factory=dict)
    sweep: SweepResult | None = None
    tuning: TuningDocument | None = None

    @property
    def trials(self) -> list[Trial]:
        """Trials of the sweep, the best first."""
        return self.sweep.trials if self.sweep else []

    @property
    def winner(self) -> Trial | None:
        """The trial that the head was refitted for."""
        return self.sweep.winner if self.sweep else None

    @property
    def features(self) -> Recorded | None:
        """Where the features of the sweep were, as its file says."""
        where = self.sweep.features if self.sweep else None
        return None if where is None else Recorded(where)


def open_run(path: Path) -> RunFolder:
    """Read a folder.

    Raises:
        HeadError: it holds none of these, one that is not finished, or one that cannot be read.
    """
    if os.path.lexists(path / HEAD):
        fitted = load_head(path)
        return RunFolder(path, fitted, history=fitted.head.history_)
    for name, inner, read in ((SUMMARY, WINNER, _sweep), (TUNING, TUNED, _tuning)):
        if os.path.lexists(path / name):
            fitted = load_head(path / inner)
            try:
                return read(path, fitted)
            except (OSError, ValueError, DesignError) as error:
                raise HeadError(
                    f"{path / name}: not readable ({reason(error)}): run it again, or give {path / inner}"
                ) from error
    if (path / FILE).exists():
        raise HeadError(f"{path}: its sweep is not finished: run the same  featurestore sweep  again")
    raise HeadError(f"{path}: no sweep and no saved head: give the --out of  featurestore sweep  or  fit-head")


def _sweep(path: Path, fitted: FittedHead) -> RunFolder:
    values = documents.read(path / SUMMARY, SweepDocument)
    measured = evaluated_of(values["test"]) if values["test"] else None
    return RunFolder(path, fitted, measured, fitted.head.history_, SweepResult.from_document(path, values, measured))


def _tuning(path: Path, fitted: FittedHead) -> RunFolder:
    values = read_tuning(path)
    epochs = values["history"][1:]  # the first is that of the head before
    losses = [each["loss"] for each in epochs if each["loss"] is not None]
    history = {"train": losses, "validation": [each["log_loss"] for each in epochs]}
    return RunFolder(path, fitted, evaluated_of(values["finetuned"]), history, tuning=values)


def read_tuning(path: Path) -> TuningDocument:
    """Read ``finetune.json`` in the folder of a run, and check it.

    Raises:
        OSError, ValueError: it cannot be read, or its parts do not fit each other.
    """
    values = documents.read(path / TUNING, TuningDocument)
    before, after = (evaluated_of(values["frozen"]), evaluated_of(values["finetuned"]))
    needed = {"accuracy"} if isinstance(after, Evaluation) else set()
    if after.groups is None and not needed <= after.intervals.keys() <= before.intervals.keys():
        raise ValueError("its evaluations have other intervals")
    return values


def evaluation_of(values: Mapping[str, Any]) -> Evaluation:
    """Make an evaluation of classes of a document, and check that its parts fit each other.

    Raises:
        ValueError: they do not.
    """
    found = Evaluation(**_fields(values, EvaluationDocument))
    classes, matrix = len(found.per_class), found.confusion_matrix
    if matrix is not None and [len(row) for row in matrix] != [classes] * classes:
        raise ValueError("its confusion matrix is not one of its classes")
    if found.groups is None and any(each["support"] and "recall_interval" not in each for each in found.per_class):
        raise ValueError("a class that has rows has no recall_interval")
    if found.threshold and classes != 2:
        raise ValueError(f"it has a threshold between two of {classes} classes")
    return _checked(found)


def evaluated_of(values: Mapping[str, Any]) -> Evaluated:
    """Make the evaluation of any task of a document; each has a field that no other has.

    Raises:
        ValueError: its parts do not fit each other.
    """
    if "per_label" in values:
        return _checked(LabelEvaluation(**({"average_precision": None} | _fields(values, LabelEvaluationDocument))))
    if "target" in values:
        return _checked(NumberEvaluation(**_fields(values, NumberEvaluationDocument)))
    return evaluation_of(values)


def _checked(found: E) -> E:
    if not {*found.intervals, *found.without_interval} <= found.metrics().keys():
        raise ValueError("it has intervals of metrics that it does not have")
    return found


def _fields(values: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    return {**typed(values, kind)}
