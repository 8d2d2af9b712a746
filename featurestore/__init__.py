"""Stage 1: run each frozen backbone once over a set of images and keep its features in one HDF5 file.

Importing this package needs numpy and h5py only; TensorFlow is imported when a backbone is built.
"""

from typing import TYPE_CHECKING, Any

from featurestore.errors import FeatureStoreError
from featurestore.spec import ExtractionSpec, Tap
from featurestore.store import FeatureStore

if TYPE_CHECKING:
    from featurestore.batches import FeatureDataset
    from featurestore.dataset import ArraySource, open_source
    from featurestore.extraction import Extraction, extract, extract_all
    from featurestore.transformer import FrozenBackbone

__all__ = [
    "ArraySource",
    "Extraction",
    "ExtractionSpec",
    "FeatureDataset",
    "FeatureStore",
    "FeatureStoreError",
    "FrozenBackbone",
    "Tap",
    "extract",
    "extract_all",
    "open_source",
]

_LATE = {
    "ArraySource": "featurestore.dataset",
    "Extraction": "featurestore.extraction",
    "FeatureDataset": "featurestore.batches",
    "FrozenBackbone": "featurestore.transformer",
    "extract": "featurestore.extraction",
    "extract_all": "featurestore.extraction",
    "open_source": "featurestore.dataset",
}
"""Names whose modules decode images, or import Keras or scikit-learn: a mere reader does not wait for them."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)
