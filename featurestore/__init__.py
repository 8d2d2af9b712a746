"""Stage 1: run each frozen backbone once over a set of images and keep its features in one HDF5 file.

Reading a feature file needs numpy and h5py only; TensorFlow is imported when a backbone is built.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurestore.adapters.keras_dataset import FeatureDataset
    from featurestore.adapters.sklearn_transformer import FrozenBackbone
    from featurestore.errors import FeatureStoreError
    from featurestore.extraction.extract import extract, extract_all
    from featurestore.extraction.publishing import Extraction
    from featurestore.sources.arrays import ArraySource
    from featurestore.sources.opener import open_source
    from featurestore.spec import ExtractionSpec, Tap
    from featurestore.store.reader import FeatureStore

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
    "ArraySource": "featurestore.sources.arrays",
    "Extraction": "featurestore.extraction.publishing",
    "ExtractionSpec": "featurestore.spec",
    "FeatureDataset": "featurestore.adapters.keras_dataset",
    "FeatureStore": "featurestore.store.reader",
    "FeatureStoreError": "featurestore.errors",
    "FrozenBackbone": "featurestore.adapters.sklearn_transformer",
    "Tap": "featurestore.spec",
    "extract": "featurestore.extraction.extract",
    "extract_all": "featurestore.extraction.extract",
    "open_source": "featurestore.sources.opener",
}
"""The module of each name, which is imported when the name is first used: so nobody waits for what is not needed."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)
