"""Classify new images: the backbone and the head together."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from featurestore.backbones import load_backbone
from featurestore.errors import ImageError, SourceError, SpecMismatchError
from featurestore.forward import Lane, Pixels, ahead, batched
from featurestore.images import decode, read_file
from featurestore.walk import Tree
from heads.persist import load_head

BATCH_SIZE = 32


@dataclass(frozen=True)
class Prediction:
    """What a head says of one image.

    Attributes:
        path: as given, or below the folder that was given.
        label: name of the likeliest class; None if the image cannot be read.
        probabilities: per class name; empty if the image cannot be read.
        error: why the image cannot be read, or None.
    """

    path: str
    label: str | None
    probabilities: dict[str, float]
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


class Predictor:
    """A saved head with its backbone in front, ready for images.

    Args:
        head_dir: folder of a saved head.
        weights: of the backbone (``imagenet``, ``random`` or a file); by default what the features were made with.

    Attributes:
        class_names: in the order of each prediction's probabilities.

    Raises:
        HeadError: no readable head there.
        WeightsError, MissingDependencyError: the backbone cannot be built here.
        SpecMismatchError: the backbone does not make the features that the head was fitted on.
    """

    def __init__(self, head_dir: str | os.PathLike[str], *, weights: str | None = None) -> None:
        self._head = load_head(head_dir)
        self.class_names = self._head.class_names
        spec = self._head.spec
        (tap,) = spec.taps
        backbone = load_backbone(spec.backbone, weights=weights or self._head.weights, size=spec.size, pool=tap.pool)
        differences = spec.differences(backbone.spec(spec.resize, spec.dtype))
        if differences:
            raise SpecMismatchError(
                f"{head_dir}: fitted on features of another backbone than can be built here "
                f"({'; '.join(differences)}): pass the weights it was extracted with as --weights"
            )
        self._backbone, self._tap = backbone, tap.layer

    def predict(self, inputs: Iterable[str | os.PathLike[str]]) -> Iterator[Prediction]:
        """Classify images, and all images below folders, as they are read. One that cannot be read stops nothing.

        Raises:
            SourceError: a folder without any image.
        """
        items = list(enumerate(find_images(inputs)))
        batches = list(batched(items, BATCH_SIZE))
        lane = Lane(self._backbone, batches, dtype=self._head.spec.dtype, batch_size=BATCH_SIZE)
        outcomes = (
            outcome
            for item, pixels in ahead(items, lambda item: self._pixels(item[1]), window=2 * BATCH_SIZE)
            for outcome in lane.offer({item: pixels})
        )
        for batch, outcome in zip(batches, outcomes, strict=True):
            found = {item: Prediction(str(item[1]), None, {}, reason) for item, reason in outcome.failures}
            if outcome.items:
                features = outcome.features[self._tap]
                probabilities = self._head.predict_proba(features.reshape(len(features), -1))
                for item, row in zip(outcome.items, probabilities.tolist(), strict=True):
                    named = dict(zip(self.class_names, row, strict=True))
                    found[item] = Prediction(str(item[1]), max(named, key=named.__getitem__), named)
            yield from (found[item] for item in batch)

    def _pixels(self, path: Path) -> Pixels:
        try:
            return decode(read_file(path), self._backbone.size, self._head.spec.resize)
        except ImageError as error:
            return error


def find_images(inputs: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Each input that is no folder, and all images below each that is one, sorted.

    Raises:
        SourceError: a folder without any image.
    """
    for given in map(Path, inputs):
        if not given.is_dir():
            yield given
            continue
        images = sorted(Tree(given).images)
        if not images:
            raise SourceError(f"{given}: no images in this folder: name images, or a folder of images")
        yield from (given / image for image in images)
