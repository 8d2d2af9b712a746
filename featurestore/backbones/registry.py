"""From a name to a frozen network that takes pixels and gives features."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featurestore.backbones import applications, efficientnet_lite
from featurestore.backbones.architecture import PREPROCESSINGS, Architecture, Weights
from featurestore.errors import BackboneError, WeightsError, suggest
from featurestore.runtime import import_keras
from featurestore.spec import LAST, POOLS, Dtype, ExtractionSpec, Pool, Resize, Tap

if TYPE_CHECKING:
    import keras

DEFAULT = "efficientnet_lite0"
RANDOM_SEED = 0

ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture for architecture in (*efficientnet_lite.ARCHITECTURES, *applications.ARCHITECTURES)
}


@dataclass(frozen=True)
class Backbone:
    """A frozen network from pixels to features.

    Attributes:
        model: Keras model, uint8 (B, size, size, 3) -> ``{tap: float32 (B, ...)}``.
        shapes: per tap, the shape of one row.
        weights: as the user named them: ``imagenet``, ``random`` or a path.
        weights_digest: SHA-256 over the weights' values.
    """

    name: str
    size: int
    preprocessing: str
    taps: tuple[Tap, ...]
    weights: str
    weights_digest: str
    model: "keras.Model"
    shapes: dict[str, tuple[int, ...]]

    def spec(self, resize: Resize = "squash", dtype: Dtype = "float32") -> ExtractionSpec:
        """The spec of features that this backbone makes of images resized by `resize`, stored as `dtype`."""
        return ExtractionSpec(self.name, self.weights_digest, self.taps, self.size, resize, self.preprocessing, dtype)


def find(name: str) -> Architecture:
    """The architecture called `name`, as Keras writes it (``MobileNetV2``) or in snake case.

    Raises:
        BackboneError: there is none; the message names the nearest.
    """

    def plain(text: str) -> str:
        return text.lower().replace("_", "").replace("-", "")

    for architecture in ARCHITECTURES.values():
        if plain(architecture.name) == plain(name):
            return architecture
    raise BackboneError(f"unknown backbone {name!r}: {suggest(name, ARCHITECTURES)}")


def table() -> list[dict[str, str | int]]:
    """What ``featurestore backbones`` lists: name, input size, smallest size, width, where the weights come from."""
    return [
        {
            "backbone": a.name + (" (default)" if a.name == DEFAULT else ""),
            "size": a.size,
            "min_size": a.min_size,
            "width": a.channels,
            "weights": "come with featurestore[extract]" if a in efficientnet_lite.ARCHITECTURES else "Keras downloads",
        }
        for a in ARCHITECTURES.values()
    ]


def check(name: str, size: int | None, pool: str, weights: str) -> None:
    """Find, without building anything, what :func:`load_backbone` would refuse.

    Raises:
        BackboneError, WeightsError: as there.
    """
    architecture = find(name)
    if size is not None and size < architecture.min_size:
        raise BackboneError(
            f"size {size} is too small for {architecture.name}: it takes {architecture.min_size} and more, "
            f"{architecture.size} by default"
        )
    if pool not in POOLS:
        raise BackboneError(f"unknown pooling {pool!r}: {suggest(pool, POOLS)}")
    _parse_weights(weights)


def load_backbone(name: str, *, weights: str = "imagenet", size: int | None = None, pool: Pool = "avg") -> Backbone:
    """Build a backbone, load its weights, and put its preprocessing in front and the pooling behind.

    Args:
        name: see :func:`find`.
        weights: ``imagenet`` (found offline where they are; else Keras downloads them), ``random`` (the same on
            every call), or the path of a weights file.
        size: side of the square input in pixels; the network's own by default.
        pool: what becomes of a feature map (H, W, C): ``avg`` or ``max`` over its places (C,), ``flatten`` to
            (H*W*C,), or ``none``.

    Raises:
        BackboneError: unknown name or pooling, size too small.
        WeightsError: the weights cannot be had, or do not fit.
        MissingDependencyError: TensorFlow (or another Keras backend) is not installed.
    """
    check(name, size, pool, weights)
    architecture = find(name)
    keras = import_keras(f"the backbone {architecture.name}")
    size = size or architecture.size
    with _seeded():
        trunk = architecture.build(size, _parse_weights(weights))
    trunk.trainable = False
    pixels = keras.Input((size, size, 3), dtype="uint8", name="pixels")
    features = trunk(PREPROCESSINGS[architecture.preprocessing](pixels))
    model = keras.Model(pixels, {LAST: _pooled(features, pool)}, name=architecture.name)
    return Backbone(
        name=architecture.name,
        size=size,
        preprocessing=architecture.preprocessing,
        taps=(Tap(LAST, pool),),
        weights=weights,
        weights_digest=_digest(trunk),
        model=model,
        shapes={tap: tuple(output.shape[1:]) for tap, output in model.output.items()},
    )


def _parse_weights(weights: str) -> Weights:
    if weights == "imagenet":
        return "imagenet"
    if weights == "random":
        return "random"
    path = Path(weights)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file: pass --weights imagenet, random, or the path of a file")
    return path


def _pooled(features: "keras.KerasTensor", pool: Pool) -> "keras.KerasTensor":
    from keras import layers

    if pool == "flatten":
        return layers.Flatten()(features)
    if pool == "none" or len(features.shape) != 4:
        return features
    return (layers.GlobalAveragePooling2D if pool == "avg" else layers.GlobalMaxPooling2D)()(features)


def _digest(model: "keras.Model") -> str:
    """SHA-256 over type, shape and values of all weights in the model's order (names depend on the session)."""
    digest = hashlib.sha256()
    for variable in model.weights:
        value = np.ascontiguousarray(variable.numpy())
        digest.update(f"{value.dtype.str}{value.shape}".encode())
        digest.update(value.data)
    return digest.hexdigest()


@contextmanager
def _seeded() -> Iterator[None]:
    """Make random weights the same on every call, and leave the caller's own random state alone."""
    import keras

    python_state, numpy_state = random.getstate(), np.random.get_state()
    keras.utils.set_random_seed(RANDOM_SEED)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
