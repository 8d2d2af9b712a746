"""A frozen backbone as a step of a scikit-learn pipeline. Importing this module imports scikit-learn."""

import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from featurestore.backbones import DEFAULT, Request
from featurestore.backbones.network_cache import NetworkCache
from featurestore.engines import AUTO
from featurestore.errors import ImageError, NoImagesError, SourceError, StoreError, StoreLockedError
from featurestore.extraction.extract import extract
from featurestore.extraction.publishing import Extraction
from featurestore.extraction.runner import digested
from featurestore.images.decode import read_file
from featurestore.sources.arrays import checked_images, to_uint8
from featurestore.sources.base import ImageData, Source
from featurestore.sources.samples import Dataset, Sample
from featurestore.spec import LAST, Interpolation, Pool, Precision, Resize
from featurestore.store import file_format
from featurestore.store.reader import FeatureStore

Images = ArrayLike | Iterable[str | os.PathLike[str]]
NAME = "images"
"""What the file of a store is called that holds the rows of transformers."""


class FrozenBackbone(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A transformer from images to features, float32 (N, D). In a cross-validation each image is computed once.

    The features stay in a feature file of the store, by the content of the images. All transformers of the same
    settings find them there, also in other processes: one computes, the others wait for it. ``fit`` learns nothing; it
    only computes the features. Images are paths (N,), or pixels (N, H, W) or (N, H, W, C) as
    :class:`featurestore.ArraySource` takes them. (scikit-learn's ``check_estimator`` tests no transformers of images,
    but their names, parameters and tags.)

    Args:
        backbone, weights, size, pool, preprocessing, resize, interpolation, crop_share, crops, precision, engine,
            batch_size: see :func:`featurestore.extract_all`.
        tap: layer whose output the features are; maps are flattened.
        store: folder for the feature file.

    Raises:
        ImageError: an image cannot be read; ``transform`` names it. The features of the others are kept.
        NoImagesError: X is neither paths nor pixels; a ``ValueError``.
        FeatureStoreError: see :func:`featurestore.extract_all`.

    Example:
        >>> import numpy as np
        >>> from featurestore import FrozenBackbone
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
        >>> backbone = FrozenBackbone("small_cnn", weights="random", size=32)
        >>> backbone.fit_transform(pixels).shape
        (8, 256)
        >>> make_pipeline(backbone, LogisticRegression()).fit(pixels, [0, 1] * 4).predict(pixels).shape
        (8,)
    """

    def __init__(
        self,
        backbone: str = DEFAULT,
        *,
        weights: str = "imagenet",
        store: str | os.PathLike[str] = "frozen-features",
        size: int | None = None,
        tap: str = LAST,
        pool: Pool | None = None,
        preprocessing: str | None = None,
        resize: Resize | None = None,
        interpolation: Interpolation | None = None,
        crop_share: float | None = None,
        crops: int = 1,
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
        self.interpolation = interpolation
        self.crop_share = crop_share
        self.crops = crops
        self.precision = precision
        self.engine = engine
        self.batch_size = batch_size

    def fit(self, X: Images, y: object = None) -> "FrozenBackbone":
        """Compute the features of these images, and take note of D."""
        self.fit_transform(X)
        return self

    def fit_transform(self, X: Images, y: object = None) -> NDArray[np.float32]:
        """As ``fit`` and ``transform``, with one look at the images."""
        features = self._features(X)
        self._n_features_out = features.shape[1]
        return features

    def transform(self, X: Images) -> NDArray[np.float32]:
        """Features of images, float32 (N, D)."""
        return self._features(X)

    def _features(self, X: Images) -> NDArray[np.float32]:
        source = _Given(X)
        file = self._kept()
        if file is not None:
            digested(source, Path(self.store))
            rows = _rows(file, source.digests)
        if file is None or len(rows) < len(set(source.digests)):
            file = FeatureStore(self._extract(source).path)
            rows = _rows(file, source.digests)
        for digest, where in zip(source.digests, source.places, strict=True):
            if digest not in rows:
                raise ImageError(f"{where}: {dict(file.failures).get(digest)}: leave it out")
        features = file.features()
        flat = features.reshape(len(features), -1)
        return np.asarray(flat[[rows[digest] for digest in source.digests]], np.float32)

    def _kept(self) -> FeatureStore | None:
        """Return the file in which the features may be already; None where an extraction has to find out."""
        request = Request(
            self.backbone, self.weights, self.size, self.pool, (self.tap,), self.preprocessing, self.precision,
            self.resize, self.interpolation, self.crop_share, self.crops,
        )  # fmt: skip
        outline = NetworkCache([request]).recall(request)
        if outline is None:
            return None
        spec = outline.spec()
        with suppress(StoreError):  # there is none; or the extraction says what is wrong with it
            file = FeatureStore(file_format.file_in(Path(self.store), NAME, spec))
            if file.spec == spec and {tap: file.features(tap).shape[1:] for tap in file.taps} == outline.shapes:
                return file
        return None

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


def _rows(file: FeatureStore, digests: Collection[str]) -> dict[str, int]:
    """Return where some images stand in a file, by their digests; those that are not there are left out."""
    wanted = set(digests)
    return {digest: row for row, digest in enumerate(file.texts(file_format.DIGEST)) if digest in wanted}


class _Given(Source):
    """The images of one call. In the file an image has its digest for an id, so that it has one row in all calls."""

    def __init__(self, X: Images) -> None:
        given = np.asarray(X)
        if not given.size:
            raise NoImagesError("X: no images: give paths, or an array of pixels")
        pixels = given.dtype.kind not in "OU"
        try:
            self._items = list(checked_images(given, "X")) if pixels else [os.fspath(path) for path in given.ravel()]
        except SourceError as error:
            raise NoImagesError(str(error)) from error
        except TypeError as error:  # a sparse matrix, say, or None
            raise NoImagesError(f"X: neither paths nor an array of pixels ({error}): give one of these") from error
        self.places = [f"image {i}" for i in range(len(given))] if pixels else self._items
        self._index = {str(i): i for i in range(len(self._items))}
        samples = [
            Sample(id=key, path=place, label=0, split="train")
            for key, place in zip(self._index, self.places, strict=True)
        ]
        self._found: Dataset | None = None
        super().__init__(Dataset(name=NAME, class_names=("image",), samples=samples, partial=True))

    def dataset(self, *args: Any, **options: Any) -> Dataset:
        if self._found is None:
            self._found = self._read_all(*args, **options)
        return self._found

    def _read_all(self, *args: Any, **options: Any) -> Dataset:
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
