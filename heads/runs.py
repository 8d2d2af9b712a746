"""What a folder holds: a sweep, a fine-tuned model, or a saved head alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurestore.errors import FeatureStoreError, HeadError
from featurestore.remote import Recorded
from heads.base import History
from heads.evaluation import Evaluation
from heads.persist import HEAD, FittedHead, load_head
from heads.sweep import SUMMARY, WINNER
from heads.trials import FILE, Trial

TUNING, TUNED = "finetune.json", "head"
"""In the folder of a fine-tuned model: how it compares, and the head that was fitted to it."""


@dataclass(frozen=True, eq=False)
class Run:
    """A head, and what is known of how it was found.

    Attributes:
        path: the folder.
        fitted: the head.
        measured: on the test rows, if that was done.
        history: see :class:`heads.base.Head`.
        sweep: what the sweep returned, or None.
        trials: of the sweep, the best first.
        winner: the trial that the head was refitted for.
        tuning: what ``finetune.json`` says, or None.
    """

    path: Path
    fitted: FittedHead
    measured: Evaluation | None = None
    history: History = field(default_factory=dict)
    sweep: dict[str, Any] | None = None
    trials: list[Trial] = field(default_factory=list)
    winner: Trial | None = None
    tuning: dict[str, Any] | None = None

    @property
    def features(self) -> Recorded | None:
        """Where a sweep had its features, as its file says."""
        where = (self.sweep or {}).get("features")
        return Recorded(where) if isinstance(where, str) else None


def open_run(path: Path) -> Run:
    """Read a folder.

    Raises:
        HeadError: it holds none of these, one that is not finished, or one that cannot be read.
    """
    if (path / HEAD).exists():
        fitted = load_head(path)
        return Run(path, fitted, history=fitted.head.history_)
    for name, inner, read in ((SUMMARY, WINNER, _sweep), (TUNING, TUNED, _tuning)):
        if (path / name).exists():
            fitted = load_head(path / inner)
            try:
                return read(path, fitted, dict(json.loads((path / name).read_bytes())))
            except (OSError, ValueError, TypeError, KeyError, AttributeError, FeatureStoreError) as error:
                reason = " ".join(str(error).split())
                raise HeadError(
                    f"{path / name}: not readable ({reason}): run it again, or give {path / inner}"
                ) from error
    if (path / FILE).exists():
        raise HeadError(f"{path}: its sweep is not finished: run the same  featurestore sweep  again")
    raise HeadError(f"{path}: no sweep and no saved head: give the --out of  featurestore sweep  or  fit-head")


def _sweep(path: Path, fitted: FittedHead, values: dict[str, Any]) -> Run:
    trials = [Trial.from_dict(each) for each in values["trials"]]
    key = Trial.from_dict({name: value for name, value in values["winner"].items() if name != "path"}).key
    (winner,) = (trial for trial in trials if trial.key == key)
    measured = _evaluation(values["test"]) if values["test"] else None
    return Run(path, fitted, measured, fitted.head.history_, values, trials, winner)


def _tuning(path: Path, fitted: FittedHead, values: dict[str, Any]) -> Run:
    epochs = values["history"][1:]  # the first is that of the head before
    history = {"train": [float(e["loss"]) for e in epochs], "validation": [float(e["log_loss"]) for e in epochs]}
    _evaluation(values["frozen"])
    return Run(path, fitted, _evaluation(values["finetuned"]), history, tuning=values)


def _evaluation(values: Mapping[str, Any]) -> Evaluation:
    return Evaluation(**{"roc_auc": None, "confusion_matrix": None} | dict(values))
