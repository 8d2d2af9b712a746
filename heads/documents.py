"""What the JSON files of heads, sweeps and fine-tuned models hold; checked by :mod:`featurestore.system.documents`.

Each document is described here and nowhere else. What a later version added to it is ``NotRequired``, so that files
of earlier ones stay good.
"""

from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

from heads.choices import Split

Number = Annotated[float, Meta(ge=-1e100, le=1e100)]
"""Finite, and so that a chart can calculate with it."""
Count = Annotated[int, Meta(ge=0, le=2**53)]
"""So that sums and quotients are exact."""
Name = Annotated[str, Meta(max_length=200)]
"""Of a kind or hyperparameter."""
Interval = Annotated[list[Number], Meta(min_length=2, max_length=2)]

MOST_CLASSES, MOST_TRIALS = 2**20, 50_000
"""Of trials as a sweep writes them, so many fill the largest document."""


class DesignDocument(TypedDict):
    """See :class:`heads.kinds.design.HeadDesign`, which checks the values."""

    kind: Name
    params: dict[Name, Any]


class InputDocument(TypedDict):
    """See :class:`heads.feature_table.Input`, which checks the spec."""

    spec: dict[str, Any]
    fingerprint: str
    tap: str
    weights: str


class HeadVersion(TypedDict):
    """The part of a ``head.json`` that is the same in all versions."""

    format: Name
    format_version: int


class HeadDocument(DesignDocument):
    """``head.json``, see :class:`heads.storage.saved_head.FittedHead`."""

    class_names: Annotated[list[str], Meta(min_length=2, max_length=MOST_CLASSES)]
    classes: Annotated[list[Count], Meta(min_length=2, max_length=MOST_CLASSES)]
    width: Annotated[int, Meta(ge=1, le=2**40)]
    temperature: Annotated[float, Meta(ge=1e-30, le=1e30)]
    inputs: Annotated[list[InputDocument], Meta(min_length=1)]
    history: NotRequired[dict[str, list[Number]]]
    dataset: str
    rows: dict[str, Count]
    views: Count
    metrics: dict[str, dict[str, float]]
    seconds: Number
    seed: Annotated[int, Meta(ge=0)]
    versions: dict[str, str]
    fitted_on: NotRequired[list[Split]]
    chosen_by: NotRequired[list[Split]]


class MeasureDocument(TypedDict):
    """A line of ``measured.jsonl``, see :func:`heads.storage.record.note_measured`."""

    split: str
    rows: Count
    images: str


class TrialDocument(TypedDict):
    """A line of ``trials.jsonl``, or of the trials in a ``sweep.json``, see :class:`heads.search.trials.Trial`."""

    features: str
    design: DesignDocument
    scores: dict[str, Annotated[list[Number | None], Meta(min_length=1)]]
    mean: Number | None
    error: Number | None
    seconds: Number
    size: Count
    stopped: str
    losses: NotRequired[list[Number | None]]
    parts: NotRequired[list[Number | None]]
    cut: NotRequired[bool]


class LogDocument(TypedDict):
    """The first line of ``trials.jsonl``."""

    sweep: dict[str, Any]


class SettingsDocument(TypedDict):
    """The settings of a sweep."""

    features: NotRequired[str]
    space: str
    cv: Count | None
    metric: Name
    views: bool
    sampler: NotRequired[str | None]
    seed: int
    ensemble: NotRequired[Count]
    smallest: NotRequired[bool]


class CalibrationDocument(TypedDict):
    """What a sweep found of its winner's temperature."""

    temperature: Number
    log_loss_before: Number
    log_loss_after: Number


class TogetherDocument(TypedDict):
    """What a sweep found of its best heads together."""

    members: list[DesignDocument]
    accuracy: Number
    log_loss: Number


ClassDocument = TypedDict(
    "ClassDocument",
    {
        "class": str, "precision": Number, "recall": Number, "f1": Number, "support": Count,
        "recall_interval": NotRequired[Interval],
    },
)  # fmt: skip
"""One class of an evaluation."""


class CutDocument(TypedDict):
    """Where two classes would best be parted by one metric, see :func:`heads.metrics.shift.best_threshold`."""

    threshold: Number
    log_odds: Annotated[float, Meta(ge=-700, le=700)]
    value: Number
    at_half: Number


class ThresholdDocument(TypedDict):
    """See :func:`heads.metrics.shift.best_threshold`."""

    accuracy: CutDocument
    balanced_accuracy: CutDocument
    optimistic: bool


ConfusedDocument = TypedDict("ConfusedDocument", {"class": str, "predicted": str, "rows": Count})
"""Two classes of which the second was predicted for so many rows of the first."""


class EvaluationDocument(TypedDict):
    """What :meth:`heads.evaluation.evaluate.Evaluation.to_dict` gives."""

    split: str
    rows: Count
    accuracy: Number
    balanced_accuracy: Number
    macro_f1: Number
    log_loss: Number
    roc_auc: NotRequired[Number]
    intervals: dict[str, Interval]
    confusion_matrix: NotRequired[list[list[Count]]]
    per_class: Annotated[list[ClassDocument], Meta(min_length=2)]
    without_interval: NotRequired[dict[str, str]]
    shift: NotRequired[list[str]]
    threshold: NotRequired[ThresholdDocument]
    seen: NotRequired[str]
    left_out: NotRequired[Count]
    measured: NotRequired[Count]
    confused: NotRequired[list[ConfusedDocument]]


class SweepDocument(TypedDict):
    """``sweep.json``, see :func:`heads.search.sweep.sweep`."""

    settings: SettingsDocument
    features: NotRequired[str]
    trials: Annotated[list[TrialDocument], Meta(max_length=MOST_TRIALS)]
    winner: TrialDocument
    ensemble: NotRequired[TogetherDocument | None]
    calibration: CalibrationDocument | None
    test: EvaluationDocument | None
    notes: list[str]
    seconds: Number


class EpochDocument(TypedDict):
    """An epoch of fine-tuning, see :data:`heads.finetuning.epochs.History`."""

    epoch: Count
    loss: Number | None
    log_loss: Number
    accuracy: Number
    seconds: Number


class DifferenceDocument(TypedDict):
    """What :func:`heads.evaluation.evaluate.paired_difference` gives."""

    accuracy: Number
    interval: Interval
    right: Count
    wrong: Count
    p_value: NotRequired[Number]


class SecondsDocument(TypedDict):
    """Where the time of a fine-tuning went."""

    material: float
    training: float
    epoch: float


class TuningDocument(TypedDict):
    """``finetune.json``, see :func:`heads.finetuning.finetune.finetune`."""

    frozen: EvaluationDocument
    finetuned: EvaluationDocument
    difference: DifferenceDocument
    recommendation: str
    history: Annotated[list[EpochDocument], Meta(min_length=1)]
    best_epoch: Count
    boundary: str | None
    memory: NotRequired[Count]
    seconds: SecondsDocument
    notes: NotRequired[list[str]]
    failures: list[Annotated[list[str], Meta(min_length=2, max_length=2)]]
    settings: dict[Name, Any]
    path: str
    backbone: NotRequired[str]


class CheckpointDocument(TypedDict):
    """The state in the header of a checkpoint, see :class:`heads.finetuning.epochs.Checkpoint`."""

    settings: dict[Name, Any]
    history: Annotated[list[EpochDocument], Meta(min_length=1)]
