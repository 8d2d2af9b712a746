"""The names that users choose by in stage 2, on the command line and in calls; those of stage 1 stand in the spec.

They stand apart from what they name, so that the command line can list them without importing it.
"""

from typing import Literal

Split = Literal["train", "validation", "test"]
Metric = Literal[
    "accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "log_loss", "average_precision", "micro_f1",
    "r2", "mae", "rmse", "spearman",
]  # fmt: skip
HeldOut = Literal["folds", "validation", "test"]
LookAt = Literal["neighbours", "near-duplicates", "doubtful-labels", "outliers", "label-next"]
Preset = Literal["quick", "standard", "thorough"]
Sampler = Literal["optuna"]
ModelFormat = Literal["keras", "saved_model", "onnx", "litert", "openvino"]
FeatureFormat = Literal["npz", "parquet", "h5ad"]
Format = Literal[ModelFormat, FeatureFormat]
DemoData = Literal["digits", "textiles", "flowers"]
