"""The keys and values of the JSON files of heads, sweeps and fine-tuned models, which are checked when they are read.

:mod:`featurestore.system.documents` checks them. Each document is described here and nowhere else. Keys that a later
version added are ``NotRequired``, so that files of earlier versions can be read.
"""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from featurestore.sources.numeric import MOST_CHARACTERS, MOST_COLUMNS
from heads.choices import Split

Number = Annotated[float, Meta(ge=-1e100, le=1e100)]
"""A finite number, small enough that charts can calculate with it."""
Count = Annotated[int, Meta(ge=0, le=2**53)]
"""A whole number, small enough that a float holds it exactly."""
Name = Annotated[str, Meta(max_length=200)]
"""The name of a kind of head or of a hyperparameter."""
Interval = Annotated[list[Number], Meta(min_length=2, max_length=2)]

MOST_CLASSES, MOST_TRIALS = 2**20, 50_000
"""The most classes and trials; so many trials fill the largest document that is read."""


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


class NumericDocument(TypedDict):
    """See :class:`heads.storage.numeric_input.NumericInput`."""

    name: Annotated[str, Meta(min_length=1, max_length=MOST_CHARACTERS)]
    codes: Annotated[list[Annotated[str, Meta(max_length=MOST_CHARACTERS)]], Meta(max_length=2)]
    mean: Annotated[float, Meta(ge=-1e30, le=1e30)]
    scale: Annotated[float, Meta(ge=1e-30, le=1e30)]


class HeadVersion(TypedDict):
    """The keys of a ``head.json`` that all versions have."""

    format: Name
    format_version: int


class TaskDocument(TypedDict):
    """What a head of another task than classes predicts, and how: see :class:`heads.tasks.base.Link`."""

    name: Literal["multilabel", "regression"]
    slope: Annotated[list[Number], Meta(min_length=1, max_length=MOST_CLASSES)]
    shift: Annotated[list[Number], Meta(min_length=1, max_length=MOST_CLASSES)]
    thresholds: NotRequired[Annotated[list[Number], Meta(max_length=MOST_CLASSES)]]
    residuals: NotRequired[Annotated[list[Annotated[float, Meta(ge=0)]], Meta(max_length=2**16)]]


class HeadDocument(DesignDocument):
    """``head.json``, see :class:`heads.storage.saved_head.FittedHead`."""

    class_names: Annotated[list[str], Meta(min_length=1, max_length=MOST_CLASSES)]
    classes: Annotated[list[Count], Meta(min_length=1, max_length=MOST_CLASSES)]
    width: Annotated[int, Meta(ge=1, le=2**40)]
    temperature: Annotated[float, Meta(ge=1e-30, le=1e30)]
    inputs: list[InputDocument]
    numeric: NotRequired[Annotated[list[NumericDocument], Meta(min_length=1, max_length=MOST_COLUMNS)]]
    task: NotRequired[TaskDocument]
    threshold: NotRequired[Annotated[float, Meta(gt=0, lt=1)]]
    offset: NotRequired[Annotated[list[Annotated[float, Meta(ge=-1e3, le=1e3)]], Meta(max_length=MOST_CLASSES)]]
    conformity: NotRequired[Annotated[list[Annotated[float, Meta(ge=0, le=1)]], Meta(min_length=1, max_length=2**16)]]
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
    rows: NotRequired[Count]
    part: NotRequired[bool]


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
    threshold: NotRequired[str | Number | None]
    novelty: NotRequired[bool]
    exhaustive: NotRequired[bool]
    group_near_duplicates: NotRequired[Number | None]


class CalibrationDocument(TypedDict):
    """The temperature of a sweep's winner, and the log loss on held-out rows without and with it."""

    temperature: Number
    log_loss_before: Number
    log_loss_after: Number


class TogetherDocument(TypedDict):
    """The best heads of a sweep taken together, and their metrics on held-out rows."""

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
    """The threshold between two classes that is best by one metric, see :func:`heads.metrics.shift.best_threshold`."""

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
"""A class, another that was predicted for some of its rows, and the number of these rows."""


class EvaluationDocument(TypedDict):
    """An evaluation, see :meth:`heads.evaluation.evaluate.Evaluation.to_dict`."""

    split: str
    rows: Count
    accuracy: Number
    balanced_accuracy: Number
    macro_f1: Number
    log_loss: Number
    average_precision: NotRequired[Number]
    roc_auc: NotRequired[Number]
    unmeasured: NotRequired[dict[str, str]]
    level: NotRequired[Number]
    coverage: NotRequired[Number]
    set_size: NotRequired[Number]
    intervals: dict[str, Interval]
    confusion_matrix: NotRequired[list[list[Count]]]
    per_class: Annotated[list[ClassDocument], Meta(min_length=2)]
    without_interval: NotRequired[dict[str, str]]
    shift: NotRequired[list[str]]
    threshold: NotRequired[ThresholdDocument]
    parted_at: NotRequired[Annotated[float, Meta(gt=0, lt=1)]]
    seen: NotRequired[str]
    left_out: NotRequired[Count]
    measured: NotRequired[Count]
    groups: NotRequired[Count]
    confused: NotRequired[list[ConfusedDocument]]


class LabelDocument(TypedDict):
    """One label of an evaluation."""

    label: str
    support: Count
    precision: Number
    recall: Number
    f1: Number
    threshold: Number
    average_precision: NotRequired[Number]
    average_precision_interval: NotRequired[Interval]
    roc_auc: NotRequired[Number]
    roc_auc_interval: NotRequired[Interval]  # fmt: skip


class LabelEvaluationDocument(TypedDict):
    """See :class:`heads.metrics.evaluation.LabelEvaluation`."""

    split: str
    rows: Count
    intervals: dict[str, Interval]
    average_precision: NotRequired[Number]
    roc_auc: NotRequired[Number]
    micro_f1: Number
    macro_f1: Number
    log_loss: Number
    per_label: Annotated[list[LabelDocument], Meta(min_length=2)]
    unlabelled: NotRequired[Count]
    without_interval: NotRequired[dict[str, str]]
    seen: NotRequired[str]
    left_out: NotRequired[Count]
    measured: NotRequired[Count]
    groups: NotRequired[Count]


class NumberEvaluationDocument(TypedDict):
    """See :class:`heads.metrics.evaluation.NumberEvaluation`."""

    split: str
    rows: Count
    intervals: dict[str, Interval]
    target: str
    mae: Number
    rmse: Number
    r2: NotRequired[Number]
    spearman: NotRequired[Number]
    half_width: NotRequired[Number]
    covered: NotRequired[Number]
    level: NotRequired[Number]
    without_interval: NotRequired[dict[str, str]]
    seen: NotRequired[str]
    left_out: NotRequired[Count]
    measured: NotRequired[Count]
    groups: NotRequired[Count]


class SweepDocument(TypedDict):
    """``sweep.json``, see :func:`heads.search.sweep.sweep`."""

    settings: SettingsDocument
    features: NotRequired[str]
    trials: Annotated[list[TrialDocument], Meta(max_length=MOST_TRIALS)]
    winner: TrialDocument
    ensemble: NotRequired[TogetherDocument | None]
    calibration: CalibrationDocument | None
    test: dict[str, Any] | None
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
    """The difference of two models on the same rows, see :func:`heads.evaluation.evaluate.paired_difference`."""

    accuracy: Number
    interval: Interval
    right: Count
    wrong: Count
    p_value: NotRequired[Number]
    groups: NotRequired[Count]


class SecondsDocument(TypedDict):
    """The seconds that the steps of a fine-tuning took."""

    material: float
    training: float
    epoch: float


class TuningDocument(TypedDict):
    """``finetune.json``, see :func:`heads.finetuning.finetune.finetune`."""

    frozen: dict[str, Any]
    finetuned: dict[str, Any]
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
