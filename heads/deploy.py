"""Classify new images: the backbone and the head together."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.backbones import Backbone, load_backbone
from featurestore.engines import Compute, compile_backbone
from featurestore.errors import ImageError, SourceError, SpecMismatchError
from featurestore.forward import Lane, Pixels, ahead, batched
from featurestore.images import decode_sizes, read_file
from featurestore.spec import Decoder, ExtractionSpec, Resize
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
    """A saved head with its backbones in front, ready for images.

    Args:
        head_dir: folder of a saved head.
        weights: of the backbone (``imagenet``, ``random`` or a file); by default what the features were made with. For
            a backbone that is a ``.keras`` file: that file. For several backbones: their names and weights.

    Attributes:
        class_names: in the order of each prediction's probabilities.

    Raises:
        HeadError: no readable head there.
        WeightsError, MissingDependencyError: the backbone cannot be built here.
        SpecMismatchError: the backbone does not make the features that the head was fitted on.
    """

    def __init__(self, head_dir: str | os.PathLike[str], *, weights: str | Mapping[str, str] | None = None) -> None:
        self._head = load_head(head_dir)
        self.class_names = self._head.class_names
        self._networks: dict[ExtractionSpec, Compute] = {}
        self._sizes: dict[tuple[Resize, Decoder], set[int]] = {}
        for spec, default in {item.spec: item.weights for item in self._head.inputs}.items():
            given = weights.get(spec.backbone) if isinstance(weights, Mapping) else weights
            self._sizes.setdefault((spec.resize, spec.decoder), set()).add(spec.size)
            self._networks[spec] = compile_backbone(backbone_of(head_dir, spec, given or default))

    def predict(self, inputs: Iterable[str | os.PathLike[str]]) -> Iterator[Prediction]:
        """Classify images, and all images below folders, as they are read. One that cannot be read stops nothing.

        Raises:
            SourceError: a folder without any image.
        """
        items = list(enumerate(find_images(inputs)))
        batches = list(batched(items, BATCH_SIZE))
        lanes = [
            Lane(network, spec.size, batches, dtype=spec.dtype, batch_size=BATCH_SIZE)
            for spec, network in self._networks.items()
        ]
        outcomes = (
            [batch() for batch in started]
            for item, pixels in ahead(items, lambda item: self._pixels(item[1]), window=2 * BATCH_SIZE)
            # All lanes have the same batches: each gives its outcome at the same item.
            for started in zip(*(lane.offer({item: p}) for lane, p in zip(lanes, pixels, strict=True)), strict=True)
        )
        for batch, parts in zip(batches, outcomes, strict=True):
            found = {item: Prediction(str(item[1]), None, {}, reason) for item, reason in parts[0].failures}
            if parts[0].items:
                made = dict(zip(self._networks, parts, strict=True))
                features = [made[wanted.spec].features[wanted.tap] for wanted in self._head.inputs]
                flat = [values.reshape(len(values), -1) for values in features]
                probabilities = self._head.predict_proba(np.concatenate(flat, axis=1))
                for item, row in zip(parts[0].items, probabilities.tolist(), strict=True):
                    named = dict(zip(self.class_names, row, strict=True))
                    found[item] = Prediction(str(item[1]), max(named, key=named.__getitem__), named)
            yield from (found[item] for item in batch)

    def _pixels(self, path: Path) -> list[Pixels]:
        """One image for each backbone, decoded once (for each resize rule)."""
        try:
            data = read_file(path)
            found = {rule: decode_sizes(data, sizes, *rule) for rule, sizes in self._sizes.items()}
        except ImageError as error:
            return [error for _ in self._networks]
        return [found[spec.resize, spec.decoder][spec.size] for spec in self._networks]


def backbone_of(head_dir: str | os.PathLike[str], spec: ExtractionSpec, weights: str) -> Backbone:
    """The backbone that a saved head was fitted on.

    Raises:
        WeightsError, MissingDependencyError: it cannot be built here.
        SpecMismatchError: with these weights it does not make those features.
    """
    name, weights = named(spec, weights)
    backbone = load_backbone(
        name,
        weights=weights,
        size=spec.size,
        taps=spec.taps,
        preprocessing=spec.preprocessing,
        precision=spec.precision,
    )
    if differences := spec.differences(backbone.spec(spec.resize, spec.dtype, spec.decoder)):
        raise SpecMismatchError(
            f"{head_dir}: fitted on features of another backbone than can be built here "
            f"({'; '.join(differences)}): pass the weights it was extracted with as --weights"
        )
    return backbone


def named(spec: ExtractionSpec, weights: str) -> tuple[str, str]:
    """Name and weights of a spec's backbone, as stage 1 takes them: a ``.keras`` file is both."""
    return (weights, "imagenet") if weights.endswith(".keras") else (spec.backbone, weights)


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
