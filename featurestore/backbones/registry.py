"""From a name to a frozen network that takes pixels and gives features."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from featurestore.backbones import applications, efficientnet_lite, graph, keras_file, small_cnn
from featurestore.backbones.architecture import PREPROCESSINGS, Architecture, Weights
from featurestore.errors import BackboneError, WeightsError, suggest
from featurestore.spec import (
    LARGEST_SIZE,
    LAST,
    POOLS,
    PRECISIONS,
    Decoder,
    Dtype,
    ExtractionSpec,
    Pool,
    Precision,
    Resize,
    Tap,
    tap_names,
)
from featurestore.system.keras import import_keras, same_random_state

if TYPE_CHECKING:
    import keras

DEFAULT = "efficientnet_lite0"
RANDOM_SEED = 0

ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for family in (efficientnet_lite, applications, small_cnn)
    for architecture in family.ARCHITECTURES
}


@dataclass(frozen=True)
class Outline:
    """A frozen network without its model: what is to be known of it while nothing is computed.

    Attributes:
        shapes: per tap, the shape of one row.
        flops: per tap, of one image's way to it; None where that is not known.
        weights: as the user named them: ``imagenet``, ``random`` or a path; that of a ``.keras`` file for its own.
        weights_digest: SHA-256 over the weights' values.
        precision: that an engine is to compute in.
    """

    name: str
    size: int
    preprocessing: str
    taps: tuple[Tap, ...]
    weights: str
    weights_digest: str
    shapes: dict[str, tuple[int, ...]]
    flops: dict[str, int | None]
    precision: Precision

    def spec(self, resize: Resize = "squash", dtype: Dtype = "float32", decoder: Decoder = "pillow") -> ExtractionSpec:
        """The spec of features that this backbone makes of images resized by `resize`, stored as `dtype`."""
        return ExtractionSpec(
            self.name, self.weights_digest, self.taps, self.size, resize, self.preprocessing, dtype,
            precision=self.precision, decoder=decoder,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        plain = {f.name: getattr(self, f.name) for f in fields(Outline)}
        return {**plain, "taps": [asdict(tap) for tap in self.taps]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Outline":
        """Inverse of :meth:`to_dict`; other keys are left aside.

        Raises:
            KeyError, TypeError: it is not what that wrote.
        """
        plain = {f.name: values[f.name] for f in fields(Outline)}
        plain["taps"] = tuple(Tap(**tap) for tap in values["taps"])
        plain["shapes"] = {tap: tuple(shape) for tap, shape in values["shapes"].items()}
        return Outline(**plain)


@dataclass(frozen=True)
class Backbone(Outline):
    """A frozen network from pixels to features.

    Attributes:
        model: Keras model in float32, uint8 (B, size, size, 3) -> ``{tap: float32 (B, ...)}``.
    """

    model: "keras.Model"


def find(name: str, preprocessing: str | None = None) -> Architecture:
    """The architecture called `name`, as Keras writes it (``MobileNetV2``) or in snake case, or in a ``.keras`` file.

    Args:
        name: options may follow, as in ``mobilenet:alpha=0.25``. Or the path of a file.
        preprocessing: one of PREPROCESSINGS, for a file; all others have their own.

    Raises:
        BackboneError: there is none, and the message names the nearest; an option or the file cannot be used.
    """

    def plain(text: str) -> str:
        return text.lower().replace("_", "").replace("-", "")

    if name.endswith(keras_file.SUFFIX):
        return keras_file.architecture(Path(name), preprocessing)
    base, _, options = name.partition(":")
    for architecture in ARCHITECTURES.values():
        if plain(architecture.name) == plain(base):
            if preprocessing not in (None, architecture.preprocessing):
                raise BackboneError(f"{base} has its own preprocessing, {architecture.preprocessing!r}: leave it out")
            return architecture.variant(options) if options else architecture
    raise BackboneError(f"unknown backbone {base!r}: {suggest(base, ARCHITECTURES)}")


def table(name: str | None = None) -> list[dict[str, str | int | None]]:
    """What ``featurestore backbones`` lists: name, input size, smallest size, width, where the weights come from."""
    return [
        {
            "backbone": a.name + (" (default)" if a.name == DEFAULT else ""),
            "size": a.size,
            "min_size": a.min_size,
            "width": a.channels,
            "weights": a.origin,
        }
        for a in ([find(name)] if name else ARCHITECTURES.values())
    ]


def check(
    name: str,
    size: int | None = None,
    pool: str = "avg",
    weights: str = "imagenet",
    taps: Sequence[str | Tap] = (LAST,),
    preprocessing: str | None = None,
    precision: str = "float32",
) -> Architecture:
    """Find, without building anything, what :func:`load_backbone` would refuse (but for the names of layers).

    Returns:
        The architecture.

    Raises:
        BackboneError, WeightsError: as there.
    """
    architecture = find(name, preprocessing)
    if size is not None and size < architecture.min_size:
        raise BackboneError(
            f"size {size} is too small for {architecture.name}: it takes {architecture.min_size} and more, "
            f"{architecture.size} by default"
        )
    if (size or architecture.size) > LARGEST_SIZE:
        raise BackboneError(f"size {size or architecture.size} is too large: pass --size {LARGEST_SIZE} or less")
    for tap in _parse_taps(taps, pool):
        if tap.pool not in POOLS:
            raise BackboneError(f"unknown pooling {tap.pool!r}: {suggest(tap.pool, POOLS)}")
    if precision not in PRECISIONS:
        raise BackboneError(f"unknown precision {precision!r}: {suggest(precision, PRECISIONS)}")
    _parse_weights(weights)
    return architecture


def load_backbone(
    name: str,
    *,
    weights: str = "imagenet",
    size: int | None = None,
    pool: Pool = "avg",
    taps: Sequence[str | Tap] = (LAST,),
    preprocessing: str | None = None,
    precision: Precision = "float32",
) -> Backbone:
    """Build a backbone, load its weights, put its preprocessing in front, and cut it off behind its last tap.

    Args:
        name: see :func:`find`.
        weights: ``imagenet`` (found offline where they are; else Keras downloads them), ``random`` (the same on
            every call), or the path of a weights file.
        size: side of the square input in pixels; the network's own by default.
        pool: what becomes of a feature map (H, W, C): ``avg`` or ``max`` over its places (C,), ``avg+max`` (2C,),
            ``flatten`` to (H*W*C,), or ``none``.
        taps: layers whose outputs are the features: names, globs, or ``last``; ``NAME=POOL`` pools one otherwise.
        preprocessing: for a ``.keras`` file, see :func:`find`.
        precision: see :class:`Backbone`.

    Raises:
        BackboneError: unknown name, layer or pooling, size too small.
        WeightsError: the weights cannot be had, or do not fit.
        MissingDependencyError: TensorFlow (or another Keras backend) is not installed.
    """
    architecture = check(name, size, pool, weights, taps, preprocessing, precision)
    keras = import_keras(f"the backbone {architecture.name}")
    size = size or architecture.size
    with _seeded():
        trunk = architecture.build(size, _parse_weights(weights))
    found = _resolve(trunk, _parse_taps(taps, pool))
    flops = {row["layer"]: row["flops"] for row in graph.tap_table(trunk)}
    flops[LAST] = max((count for count in flops.values() if count is not None), default=None)
    part = graph.cut(trunk, list(dict.fromkeys(tap.layer for tap in found)))
    part.trainable = False
    pixels = keras.Input((size, size, 3), dtype="uint8", name="pixels")
    maps = part(PREPROCESSINGS[architecture.preprocessing](pixels))
    names = tap_names(found)
    outputs = {key: pooled(maps[tap.layer], tap.pool) for key, tap in zip(names, found, strict=True)}
    return Backbone(
        name=architecture.name,
        size=size,
        preprocessing=architecture.preprocessing,
        taps=found,
        weights=name if weights == "imagenet" and name.endswith(keras_file.SUFFIX) else weights,
        # Of all weights, also of those behind the last tap: it names the network, not the cut.
        weights_digest=_digest(trunk, architecture.config),
        model=keras.Model(pixels, outputs, name=architecture.name.partition(":")[0]),
        shapes={key: tuple(output.shape[1:]) for key, output in outputs.items()},
        flops={key: flops[tap.layer] for key, tap in zip(names, found, strict=True)},
        precision=precision,
    )


def taps_of(name: str, *, size: int | None = None, preprocessing: str | None = None) -> list[dict[str, Any]]:
    """The layers of a backbone that can be tapped, see :func:`featurestore.backbones.graph.tap_table`.

    Raises:
        BackboneError, MissingDependencyError: see :func:`load_backbone`.
    """
    architecture = check(name, size, preprocessing=preprocessing)
    import_keras(f"the backbone {architecture.name}")
    return graph.tap_table(architecture.build(size or architecture.size, "random"))


def _parse_taps(taps: Sequence[str | Tap], pool: str) -> list[Tap]:
    parsed = []
    for tap in taps:
        if isinstance(tap, Tap):
            parsed.append(tap)
        else:
            layer, _, own = tap.partition("=")
            parsed.append(Tap(layer, cast(Pool, own or pool)))
    return parsed


def _resolve(trunk: "keras.Model", taps: Sequence[Tap]) -> tuple[Tap, ...]:
    """Taps of layers by name, each once, in the model's order; the layer that gives the output is called ``last``."""
    order = graph.resolve_taps(trunk, ["*", LAST])
    output = trunk.outputs[0]._keras_history.operation.name
    found = {
        Tap(LAST if layer == output else layer, tap.pool)
        for tap in taps
        for layer in graph.resolve_taps(trunk, [tap.layer])
    }
    return tuple(sorted(found, key=lambda tap: (order.index(tap.layer), POOLS.index(tap.pool))))


def _parse_weights(weights: str) -> Weights:
    if weights == "imagenet":
        return "imagenet"
    if weights == "random":
        return "random"
    path = Path(weights)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file: pass --weights imagenet, random, or the path of a file")
    return path


def pooled(features: "keras.KerasTensor", pool: Pool) -> "keras.KerasTensor":
    """Features as `pool` says, see :func:`load_backbone`; those that are no map stay as they are."""
    from keras import layers

    if pool == "flatten":
        return layers.Flatten()(features)
    if pool == "none" or len(features.shape) != 4:
        return features
    kinds = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}
    pooled = [kinds[part]()(features) for part in pool.split("+")]
    return layers.Concatenate()(pooled) if len(pooled) > 1 else pooled[0]


def _digest(model: "keras.Model", config: str) -> str:
    """SHA-256 over type, shape and values of all weights in the model's order (names depend on the session)."""
    digest = hashlib.sha256(config.encode())
    for variable in model.weights:
        value = np.ascontiguousarray(variable.numpy())
        digest.update(f"{value.dtype.str}{value.shape}".encode())
        digest.update(value.data)
    return digest.hexdigest()


@contextmanager
def _seeded() -> Iterator[None]:
    """Make random weights the same on every call, and leave the caller's own random state alone."""
    import keras

    with same_random_state():
        keras.utils.set_random_seed(RANDOM_SEED)
        yield
