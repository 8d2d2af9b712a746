"""A frozen backbone as a step of a scikit-learn pipeline. Importing this module imports scikit-learn."""

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from featurestore.backbones import DEFAULT
from featurestore.engines import AUTO
from featurestore.errors import ImageError, SourceError, StoreLockedError
from featurestore.extraction.extract import extract
from featurestore.extraction.publishing import Extraction
from featurestore.images.decode import read_file
from featurestore.sources.arrays import checked_images, to_uint8
from featurestore.sources.base import ImageData, Source
from featurestore.sources.samples import Dataset, Sample
from featurestore.spec import LAST, Pool, Precision, Resize
from featurestore.store.reader import FeatureStore

Images = ArrayLike | Iterable[str | os.PathLike[str]]
NAME = "images"
"""What the file of a store is called that holds the rows of transformers."""


class FrozenBackbone(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Images in, features out: float32 (N, D). An image runs through the backbone once, whatever fold it stands in.

    What was computed stays in a feature file of the store, by the content of the images, and is found there by all
    transformers of the same settings, also in other processes: one computes, the others wait for it. ``fit`` learns
    nothing; it only computes the features. Images are paths (N,), or pixels (N, H, W) or (N, H, W, C) as
    :class:`featurestore.ArraySource` takes them.

    Args:
        backbone, weights, size, pool, preprocessing, resize, precision, engine, batch_size: see
            :func:`featurestore.extract_all`.
        tap: layer whose output the features are; maps are flattened.
        store: folder for the feature file.

    Raises:
        ImageError: an image cannot be read; ``transform`` names it. The features of the others are kept.
        FeatureStoreError: see :func:`featurestore.extract_all`.
    """

    def __init__(
        self,
        backbone: str = DEFAULT,
        *,
        weights: str = "imagenet",
        store: str | os.PathLike[str] = "frozen-features",
        size: int | None = None,
        tap: str = LAST,
        pool: Pool = "avg",
        preprocessing: str | None = None,
        resize: Resize = "squash",
        precision: Precision = "float32",
        engine: str = AUTO,
        batch_size: int | None = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.store = store
        self.size = size
        self.tap = tap
        self.pool = pool
        self.preprocessing = preprocessing
        self.resize = resize
        self.precision = precision
        self.engine = engine
        self.batch_size = batch_size

    def fit(self, X: Images, y: object = None) -> "FrozenBackbone":
        """Compute the features of these images, and their number for each."""
        self._n_features_out = self._features(X).shape[1]
        return self

    def transform(self, X: Images) -> NDArray[np.float32]:
        """Features of images, float32 (N, D)."""
        return self._features(X)

    def _features(self, X: Images) -> NDArray[np.float32]:
        source = _Given(X)
        file = FeatureStore(self._extract(source).path)
        row = {digest: i for i, digest in enumerate(file.digests.tolist())}
        for digest, where in zip(source.digests, source.places, strict=True):
            if digest not in row:
                raise ImageError(f"{where}: {dict(file.failures).get(digest)}: leave it out")
        features = file.features()
        flat = features.reshape(len(features), -1)
        return np.asarray(flat[[row[digest] for digest in source.digests]], np.float32)

    def _extract(self, source: Source) -> Extraction:
        options = self.get_params()
        store, taps = options.pop("store"), [options.pop("tap")]
        while True:
            try:
                return extract(source, store, taps=taps, progress=False, **options)
            except StoreLockedError:  # another fold's process computes; this comes after two seconds of waiting
                continue

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = tags.input_tags.string = True
        return tags


class _Given(Source):
    """The images of one call. In the file each is called by its digest, so that it has one row whoever brings it."""

    def __init__(self, X: Images) -> None:
        given = np.asarray(X)
        if not given.size:
            raise SourceError("X: no images: give paths, or an array of pixels")
        pixels = given.dtype.kind not in "OU"
        self._items = list(checked_images(given, "X")) if pixels else [os.fspath(path) for path in given.ravel()]
        self.places = [f"image {i}" for i in range(len(given))] if pixels else self._items
        self._index = {str(i): i for i in range(len(self._items))}
        samples = [
            Sample(id=key, path=place, label=0, split="train")
            for key, place in zip(self._index, self.places, strict=True)
        ]
        super().__init__(Dataset(name=NAME, class_names=("image",), samples=samples, partial=True))

    def dataset(self, *args: Any, **options: Any) -> Dataset:
        found = super().dataset(*args, **options)
        for failure in found.failures:
            raise ImageError(f"{failure.path}: {failure.reason}: leave it out")
        self.digests = [sample.digest for sample in found.samples]
        self._index = {digest: i for i, digest in enumerate(self.digests)}
        return replace(
            found, samples=[Sample(id=key, path="", digest=key, label=0, split="train") for key in sorted(self._index)]
        )

    def _load(self, sample: Sample) -> ImageData:
        item = self._items[self._index[sample.id]]
        return read_file(item) if isinstance(item, str) else to_uint8(item)

    def _file(self, sample: Sample) -> str:
        item = self._items[self._index[sample.id]]
        return item if isinstance(item, str) else ""
