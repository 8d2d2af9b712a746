"""Classify new images: the backbone and the head together."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones import FrozenNetwork, load_backbone, named
from featurestore.engines import Compiler, Compute
from featurestore.errors import ImageError, SpecMismatchError
from featurestore.extraction.lanes import Lane, Pixels
from featurestore.images.decode import decode_framings
from featurestore.spec import ExtractionSpec
from featurestore.system.parallel import ahead, batched
from featurestore.system.progress import Progress, reporting
from heads.prediction.abstaining import Abstaining, Asked
from heads.prediction.inputs import Needs, Wanted, find_images, here
from heads.storage.numeric_input import columns_of
from heads.storage.saved_head import FittedHead, load_head
from heads.tasks.predictions import EXTRAS, Predicted, Prediction

BATCH_SIZE = 32
_PORTION = 128 * BATCH_SIZE
"""Images that are read at a time, so that memory does not grow with their number."""


def predict(
    head: str | os.PathLike[str] | FittedHead,
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    top: int | None = None,
    level: float | None = None,
    abstain: Asked = (),
    weights: str | Mapping[str, str] | None = None,
    progress: bool | Progress = True,
) -> list[Predicted]:
    """Classify images with a head and the backbone that it was fitted on.

    All predictions are kept in memory; :class:`Predictor` gives those of many images one after the other.

    Args:
        head: a saved head, or its folder.
        images: a file or a folder of images, a tar or Parquet file or ``tfds:NAME``, a CSV that names some (and has the
            numbers of a head on numeric columns, see :mod:`heads.prediction.inputs`), an address, or several of them.
        top: name only so many classes of each image, the likeliest first.
        level: the share of images, such as 0.95, whose set of classes shall hold the true one, or whose interval the
            true number: conformal prediction, which takes new images to be like the training images.
        abstain: give no class to images of a ``novelty`` above a limit (of a head with ``novelty``), or where the class
            has a ``probability`` below one: ``{"novelty": 0.99, "probability": 0.8}``.
        weights: of the backbone, see :class:`Predictor`.
        progress: see :func:`featurestore.system.progress.reporting`.

    Returns:
        For each image its prediction; one that cannot be read has the reason in ``error``.

    Raises:
        SourceError: a folder without any image, or a CSV that does not fit.
        FeatureStoreError: see :class:`Predictor`.

    Example:
        >>> from featurestore import extract
        >>> from heads import fit_head, predict
        >>> file = extract("images", "store", backbone="small_cnn", weights="random", size=32, progress=False).path
        >>> found = predict(fit_head(file), ["images/red", "images/blue"], top=2, progress=False)
        >>> found[0]
        Prediction(path='images/red/0-000.png', label='...', probabilities={...})
        >>> len(found), len(found[0].probabilities)
        (20, 2)
    """
    given = [images] if isinstance(images, str | os.PathLike) else images
    with reporting(progress) as report:
        predictor = Predictor(head, level=level, abstain=abstain, weights=weights)
        return list(predictor.predict(given, top=top, progress=report))


class Predictor:
    """A saved head with its backbones in front, ready for images.

    Args:
        head: a saved head, or its folder.
        weights: of the backbone (``imagenet``, ``random`` or a file); by default what the features were made with. For
            a backbone that is a file, ``.keras`` or ``.onnx``: that file. For several: their names and weights.
        level, abstain: see :func:`predict`.

    Attributes:
        class_names: in the order of each prediction's probabilities.

    Raises:
        HeadError: no readable head there, or one that has no sets of such a level, or cannot abstain so.
        WeightsError, MissingDependencyError: the backbone cannot be built here.
        SpecMismatchError: the backbone does not make the features that the head was fitted on.
    """

    def __init__(
        self,
        head: str | os.PathLike[str] | FittedHead,
        *,
        level: float | None = None,
        abstain: Asked = (),
        weights: str | Mapping[str, str] | None = None,
    ) -> None:
        self._abstaining = Abstaining.of(abstain)
        self._head = head if isinstance(head, FittedHead) else load_head(head)
        self._abstaining.check(self._head)
        self._bound, self._level = self._head.bound(level), level
        self.class_names, self._task = self._head.class_names, self._head.head.task_
        self._networks: dict[ExtractionSpec, Compute] = {}
        compiler = Compiler()
        for spec, backbone in load_networks(self._head, weights).items():
            _, self._networks[spec] = compiler.compiled(backbone)

    def predict(
        self,
        inputs: Iterable[str | os.PathLike[str]],
        *,
        top: int | None = None,
        path_column: str | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Predicted]:
        """Classify images, and all images below folders, as they are read. An unreadable one does not stop the others.

        Args:
            inputs: files, folders, and whatever else holds or names images: see
                :func:`heads.prediction.inputs.find_images`. Of any number of images, only the names are kept in memory.
            top: name only so many classes of each image, the likeliest first.
            path_column: that of the CSVs; by default the usual names are looked for.
            progress: called after each image with ``predicting``, the number of those done, and of all.

        Raises:
            SourceError: see :func:`heads.prediction.inputs.find_images`.
        """
        needs = Needs(str(self._head.path or ""), columns_of(self._head.numeric), path_column)
        (total, images), done = find_images(inputs, needs), 0
        for portion in batched(images, _PORTION):
            for prediction in self._portion(list(enumerate(portion)), top):
                done += 1
                if progress:
                    progress("predicting", done, total)
                yield prediction

    def columns(self, top: int | None = None) -> list[str]:
        """Return the headings of the cells of predictions, see :class:`heads.tasks.predictions.Predicted`."""
        return self._task.columns(self.class_names, top, self._bound)

    @property
    def extras(self) -> list[str]:
        """The fields of :data:`heads.tasks.predictions.EXTRAS` that stand behind these cells."""
        asked = {
            "prediction_set": self._level is not None and self._head.head.link_ is None,
            "novelty": self._head.novelty is not None,
            "abstained": self._abstaining != Abstaining(),
        }
        return [name for name in EXTRAS if asked[name]]

    def _portion(self, items: list[tuple[int, Wanted]], top: int | None) -> Iterator[Predicted]:
        if not self._networks:  # a head on numeric columns alone looks at no image
            X = np.array([wanted.values for _, wanted in items], np.float32)
            yield from self._predictions([wanted.path for _, wanted in items], X, top)
            return
        batches = list(batched(items, BATCH_SIZE))
        lanes = [
            Lane(network, spec.framing.side, batches, dtype=spec.dtype, batch_size=BATCH_SIZE)
            for spec, network in self._networks.items()
        ]
        outcomes = (
            [batch() for batch in started]
            for item, pixels in ahead(here(items), lambda item: self._pixels(item[1]), window=2 * BATCH_SIZE)
            # All lanes have the same batches: each gives its outcome at the same item.
            for started in zip(*(lane.offer({item: p}) for lane, p in zip(lanes, pixels, strict=True)), strict=True)
        )
        for batch, parts in zip(batches, outcomes, strict=True):
            found = {item: self._task.unreadable(item[1].path, reason) for item, reason in parts[0].failures}
            if parts[0].items:
                made = {spec: part.features for spec, part in zip(self._networks, parts, strict=True)}
                numbers = np.array([item[1].values for item in parts[0].items], np.float32)
                X = rows_of(self._head, made, numbers)
                told = self._predictions([item[1].path for item in parts[0].items], X, top)
                found |= zip(parts[0].items, told, strict=True)
            yield from (found[item] for item in batch)

    def _predictions(self, paths: Sequence[str], X: NDArray[np.floating[Any]], top: int | None) -> Iterator[Predicted]:
        novelties = self._head.novelties(X)
        for i, (path, row) in enumerate(zip(paths, self._head.outputs(X), strict=True)):
            found = self._task.predicted(path, row, self.class_names, self._head.head.link_, top, self._bound)
            if self._head.threshold is not None and isinstance(found, Prediction):
                found = replace(found, label=str(self._head.parted(row[None])[0]))
            if novelties is not None:
                found = replace(found, novelty=float(novelties[i]))
            yield self._abstaining.applied(found, row, self.class_names)

    def _pixels(self, wanted: Wanted) -> list[Pixels]:
        """Decode an image once for all backbones; return its pixels for each."""
        try:
            with wanted.reading() as data:
                found = decode_framings(data, {spec.framing for spec in self._networks})
        except ImageError as error:
            return [error.alone()] * len(self._networks)
        return [found[spec.framing] for spec in self._networks]


def probabilities(
    head: FittedHead,
    features: Mapping[ExtractionSpec, Mapping[str, NDArray[np.floating[Any]]]],
    numbers: NDArray[np.float32] | None = None,
) -> NDArray[np.float64]:
    """Compute what a head says (N, classes) from features of each backbone: per tap, (N, ...); and numbers (N, C)."""
    return head.outputs(rows_of(head, features, numbers))


def rows_of(
    head: FittedHead,
    features: Mapping[ExtractionSpec, Mapping[str, NDArray[np.floating[Any]]]],
    numbers: NDArray[np.float32] | None = None,
) -> NDArray[np.floating[Any]]:
    """Return feature rows (N, D) as a head takes them, see :func:`probabilities`."""
    parts = [features[wanted.spec][wanted.tap] for wanted in head.inputs]
    parts += [] if numbers is None or not head.numeric else [numbers]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def load_networks(
    head: FittedHead, weights: str | Mapping[str, str] | None = None
) -> dict[ExtractionSpec, FrozenNetwork]:
    """Build the backbones that make the features of a head; one that sees images in several ways is built once.

    Args:
        head: a saved head.
        weights: see :class:`Predictor`.

    Raises:
        WeightsError, MissingDependencyError, SpecMismatchError: see there.
    """
    built: dict[tuple[ExtractionSpec, str], FrozenNetwork] = {}
    found = {}
    for spec, each in weights_of(head, weights).items():
        wanted = spec.network, each
        if wanted not in built:
            built[wanted] = backbone_of(str(head.path), spec, each)
        found[spec] = built[wanted].framed(spec.framing)
    return found


def weights_of(head: FittedHead, weights: str | Mapping[str, str] | None = None) -> dict[ExtractionSpec, str]:
    """Return what the weights of each backbone of a head are to be, see :class:`Predictor`."""
    found = {}
    for spec, default in {item.spec: item.weights for item in head.inputs}.items():
        given = weights.get(spec.backbone) if isinstance(weights, Mapping) else weights
        found[spec] = given or default
    return found


def backbone_of(head_dir: str | os.PathLike[str], spec: ExtractionSpec, weights: str) -> FrozenNetwork:
    """Build the backbone that a saved head was fitted on.

    Raises:
        WeightsError, MissingDependencyError: it cannot be built here.
        SpecMismatchError: with these weights it does not make those features.
    """
    name, weights = named(spec.backbone, weights)
    backbone = load_backbone(
        name,
        weights=weights,
        size=spec.size,
        taps=spec.taps,
        preprocessing=spec.preprocessing,
        precision=spec.precision,
        resize=spec.resize,
        interpolation=spec.interpolation,
        crop_share=spec.crop_share,
        crops=spec.crops,
    )
    if differences := spec.differences(backbone.spec(spec.dtype, spec.decoder)):
        raise SpecMismatchError(
            f"{head_dir}: fitted on features of another backbone than can be built here "
            f"({'; '.join(differences)}): pass the weights it was extracted with as --weights"
        )
    return backbone
