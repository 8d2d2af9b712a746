"""What a fine-tuning found, as it stands in ``finetune.json``."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurestore.errors import HeadError
from featurestore.system.results import Result
from heads.documents import TuningDocument
from heads.evaluation.evaluate import PairedDifference
from heads.metrics.evaluation import Evaluated
from heads.reporting.run_folder import TUNING, evaluated_of, read_tuning
from heads.storage.saved_head import reason

_CHANCE = 0.05
"""P-value from which on a difference may be chance."""


@dataclass(frozen=True, repr=False)
class Epoch(Result):
    """One pass over the training rows. Epoch 0 is the warm start: the head before any training.

    Attributes:
        loss: on the training rows as they came; None at 0.
        log_loss, accuracy: of the rows that tell which epoch was best.
        seconds: with all of that.
    """

    epoch: int
    loss: float | None
    log_loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True, repr=False)
class FineTuning(Result):
    """How a backbone whose top was trained together with a head compares with the head alone.

    Attributes:
        frozen, finetuned: metrics of the head alone, and of the trained model, on the same rows.
        difference: of the two, row by row.
        recommendation: which of the two to take, and why, in a sentence.
        history: of each epoch, the warm start first.
        best_epoch: the one whose weights were kept.
        boundary: the layer whose output was cached; None if the network ran on pixels.
        memory: about the bytes that training took.
        seconds: ``material``, to have the rows; ``training``, all epochs; ``epoch``, the median of one.
        notes: what the comparison may suffer from.
        failures: path and reason of each image that gave no row.
        settings: the options, and digests of the head and the images.
        path: folder of the new head.
        backbone: file of the trained backbone.
    """

    frozen: Evaluated
    finetuned: Evaluated
    difference: PairedDifference
    recommendation: str
    history: list[Epoch]
    best_epoch: int
    boundary: str | None
    memory: int | None
    seconds: dict[str, float]
    notes: list[str]
    failures: list[list[str]]
    settings: dict[str, Any]
    path: Path
    backbone: Path | None = field(default=None)

    @classmethod
    def of(cls, values: TuningDocument) -> "FineTuning":
        """Make it of what a file says; files of older versions say less."""
        return cls(
            **{"memory": None, "notes": []}  # type: ignore[arg-type]
            | values
            | {
                "frozen": evaluated_of(values["frozen"]),
                "finetuned": evaluated_of(values["finetuned"]),
                "difference": PairedDifference(**{"p_value": None} | values["difference"]),  # type: ignore[arg-type]
                "history": [Epoch(**epoch) for epoch in values["history"]],
                "path": Path(values["path"]),
                "backbone": Path(values["backbone"]) if "backbone" in values else None,
            }
        )


def finished(out: Path, settings: dict[str, Any]) -> FineTuning | None:
    """Read what the same run found before, if it has come to its end: its test rows are not read again.

    Raises:
        HeadError: the file cannot be read, or is of another run.
    """
    path = out / TUNING
    if not os.path.lexists(path):
        return None
    try:
        values = read_tuning(out)
        found = FineTuning.of(values)
    except (OSError, ValueError) as error:
        raise HeadError(f"{path}: not readable ({reason(error)}): delete it, or choose another --out") from error
    check_settings(path, found.settings, settings)
    return found


def check_settings(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Check that a file in a run's folder is of this run.

    Raises:
        HeadError: it is of another; the message names what differs.
    """
    if differing := [name for name in now if before.get(name) != now[name]]:
        raise HeadError(
            f"{path}: of another run, which differs in {', '.join(differing)}: delete the folder, or choose another "
            "--out"
        )


def recommendation(difference: PairedDifference, rows: int, split: str) -> str:
    """Say what a difference on so many rows amounts to."""
    low, high = difference.interval
    # Of four rows that differ, all four right is an interval above 0, but one such run in eight is chance.
    beyond_chance = difference.p_value < _CHANCE
    if low > 0 and beyond_chance:
        return "take the fine-tuned model: it is more accurate, beyond what chance explains"
    if high < 0 and beyond_chance:
        return "keep the frozen head: fine-tuning has made it worse"
    return f"keep the frozen head: on {rows} {split} rows the difference may be chance, and it costs nothing more"
