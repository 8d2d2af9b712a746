"""Stage 1: run each frozen backbone once over a set of images and keep its features in one HDF5 file.

Reading a feature file needs numpy and h5py only; TensorFlow is imported when a backbone is built.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurestore.batches import FeatureDataset
    from featurestore.dataset import ArraySource, open_source
    from featurestore.errors import FeatureStoreError
    from featurestore.extraction import Extraction, extract, extract_all
    from featurestore.spec import ExtractionSpec, Tap
    from featurestore.store import FeatureStore
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
    "ExtractionSpec": "featurestore.spec",
    "FeatureDataset": "featurestore.batches",
    "FeatureStore": "featurestore.store",
    "FeatureStoreError": "featurestore.errors",
    "FrozenBackbone": "featurestore.transformer",
    "Tap": "featurestore.spec",
    "extract": "featurestore.extraction",
    "extract_all": "featurestore.extraction",
    "open_source": "featurestore.dataset",
}
"""The module of each name, which is imported when the name is first used: so nobody waits for what is not needed."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)
