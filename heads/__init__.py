"""Stage 2: fit light heads on cached features, judge them, save them, use them.

A name is imported when it is first used, so that nobody waits for what is not needed. Each kind of head is a
scikit-learn classifier: its class works in anybody's pipeline, stacking or search.

Example:
    >>> import heads
    >>> head = heads.load_head("head")
    >>> table = heads.load_features("digits.h5")
    >>> head.predict(table.X[:2])
    array(['digit 0', 'digit 1'], dtype='<U7')
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heads.adapting.adapt import adapt
    from heads.curating.look_at import look_at
    from heads.evaluation.evaluate import evaluate
    from heads.explaining.explain import explain
    from heads.exporting.export import export
    from heads.feature_table import load_features
    from heads.finetuning.finetune import finetune
    from heads.fit import fit_head
    from heads.forecasting.curve import curve
    from heads.kinds.dense import DenseHead
    from heads.kinds.design import HeadDesign
    from heads.kinds.discriminant import CentroidHead, LDAHead
    from heads.kinds.kernel_ridge import KernelRidgeHead
    from heads.kinds.knn import KNNHead
    from heads.kinds.linear import LinearSVMHead, LogisticHead, RidgeHead
    from heads.kinds.svm import SVMHead
    from heads.prediction.predictor import predict
    from heads.reporting.report import report
    from heads.search.probe import probe
    from heads.search.sweep import sweep
    from heads.storage.saved_head import load_head

__all__ = [
    "CentroidHead",
    "DenseHead",
    "HeadDesign",
    "KNNHead",
    "KernelRidgeHead",
    "LDAHead",
    "LinearSVMHead",
    "LogisticHead",
    "RidgeHead",
    "SVMHead",
    "adapt",
    "curve",
    "evaluate",
    "explain",
    "export",
    "finetune",
    "fit_head",
    "load_features",
    "load_head",
    "look_at",
    "predict",
    "probe",
    "report",
    "sweep",
]

_LATE = {
    "CentroidHead": "heads.kinds.discriminant",
    "DenseHead": "heads.kinds.dense",
    "HeadDesign": "heads.kinds.design",
    "KNNHead": "heads.kinds.knn",
    "KernelRidgeHead": "heads.kinds.kernel_ridge",
    "LDAHead": "heads.kinds.discriminant",
    "LinearSVMHead": "heads.kinds.linear",
    "LogisticHead": "heads.kinds.linear",
    "RidgeHead": "heads.kinds.linear",
    "SVMHead": "heads.kinds.svm",
    "adapt": "heads.adapting.adapt",
    "curve": "heads.forecasting.curve",
    "evaluate": "heads.evaluation.evaluate",
    "explain": "heads.explaining.explain",
    "export": "heads.exporting.export",
    "finetune": "heads.finetuning.finetune",
    "fit_head": "heads.fit",
    "load_features": "heads.feature_table",
    "load_head": "heads.storage.saved_head",
    "look_at": "heads.curating.look_at",
    "predict": "heads.prediction.predictor",
    "probe": "heads.search.probe",
    "report": "heads.reporting.report",
    "sweep": "heads.search.sweep",
}
"""The module of each name."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
