"""Stage 2: fit light heads on cached features, judge them, save them.

Importing this package needs NumPy and h5py only; scikit-learn and Keras are imported by the fits that need them.
"""

from heads.data import load_features
from heads.designs import HeadDesign
from heads.evaluation import evaluate
from heads.fit import fit_head
from heads.persist import load_head
from heads.probe import probe
from heads.sweep import sweep

__all__ = ["HeadDesign", "evaluate", "fit_head", "load_features", "load_head", "probe", "sweep"]
