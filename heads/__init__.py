"""Stage 2: fit light heads on cached features, judge them, save them.

A name is imported when it is first used, so nobody waits for what is not needed.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heads.evaluation.evaluate import evaluate
    from heads.feature_table import load_features
    from heads.fit import fit_head
    from heads.kinds.design import HeadDesign
    from heads.search.probe import probe
    from heads.search.sweep import sweep
    from heads.storage.saved_head import load_head

__all__ = ["HeadDesign", "evaluate", "fit_head", "load_features", "load_head", "probe", "sweep"]

_LATE = {
    "HeadDesign": "heads.kinds.design",
    "evaluate": "heads.evaluation.evaluate",
    "fit_head": "heads.fit",
    "load_features": "heads.feature_table",
    "load_head": "heads.storage.saved_head",
    "probe": "heads.search.probe",
    "sweep": "heads.search.sweep",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)
