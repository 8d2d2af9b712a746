"""Stage 1: run each frozen backbone once over a set of images and keep its features in one HDF5 file.

Importing this package needs numpy and h5py only; TensorFlow is imported when a backbone is built.
"""

from featurestore.errors import FeatureStoreError
from featurestore.spec import ExtractionSpec, Tap
from featurestore.store import FeatureStore

__all__ = ["ExtractionSpec", "FeatureStore", "FeatureStoreError", "Tap"]
