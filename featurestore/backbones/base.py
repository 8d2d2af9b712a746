"""The three classes that every backbone has to do with.

The user asks for it by a :class:`Request`, the registry holds it as an :class:`Architecture`, and that builds a
:class:`FrozenNetwork`, which engines run. None of the three needs Keras; their classes for networks of Keras are in
:mod:`featurestore.backbones.keras_network`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import BackboneError, WeightsError, nearest
from featurestore.spec import LAST, POOLS, Decoder, Dtype, ExtractionSpec, Pool, Precision, Resize, Tap

if TYPE_CHECKING:
    import keras

Weights = Path | Literal["imagenet", "random"]

Outputs = Mapping[str, NDArray[np.float32]]
"""The output of a network for a batch of B images: per tap, float32 (B, ...)."""


@dataclass(frozen=True)
class Preprocessing:
    """Turns RGB pixels 0..255 into what the network was trained on: ``(pixels - mean) / std``, per channel.

    Attributes:
        mean, std: one number for each channel.
        bgr: the channels are reversed first; `mean` and `std` are then in that order.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False

    def __call__(self, pixels: Any) -> Any:
        """Apply it to pixels uint8 (B, H, W, 3), a NumPy array or a tensor of Keras; float32 of the same shape."""
        if isinstance(pixels, np.ndarray):
            values = pixels[..., ::-1] if self.bgr else pixels
            return (values.astype(np.float32) - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        from keras import ops

        values = ops.cast(pixels, "float32")
        values = values[..., ::-1] if self.bgr else values
        return (values - ops.array(self.mean, "float32")) / ops.array(self.std, "float32")


PREPROCESSINGS = {
    "caffe": Preprocessing((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), bgr=True),
    "tf": Preprocessing((127.5,) * 3, (127.5,) * 3),
    "torch": Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "lite": Preprocessing((127.0,) * 3, (128.0,) * 3),
    "none": Preprocessing((0.0,) * 3, (1.0,) * 3),
}
"""Preprocessings by the name that stands in a spec: ``caffe``, ``tf`` and ``torch`` are Keras' own names for its modes;
``none`` is for networks that rescale the pixels themselves."""


@dataclass(frozen=True)
class Request:
    """Says which network the user asks for: the arguments of :func:`featurestore.backbones.load_backbone`."""

    name: str
    weights: str = "imagenet"
    size: int | None = None
    pool: Pool = "avg"
    taps: tuple[str | Tap, ...] = (LAST,)
    preprocessing: str | None = None
    precision: Precision = "float32"

    @property
    def text(self) -> str:
        """The request as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    def parsed_taps(self) -> list[Tap]:
        """Return its taps; one that is written ``NAME=POOL`` has a pooling of its own."""
        found = []
        for tap in self.taps:
            if isinstance(tap, Tap):
                found.append(tap)
            else:
                layer, _, own = tap.partition("=")
                found.append(Tap(layer, cast(Pool, own or self.pool)))
        return found

    def parsed_weights(self) -> Weights:
        """Return its weights, after a look whether their file exists.

        Raises:
            WeightsError: there is no such file.
        """
        if self.weights in ("imagenet", "random"):
            return cast(Weights, self.weights)
        path = Path(self.weights)
        if not path.is_file():
            raise WeightsError(f"{path}: no such weights file: pass --weights imagenet, random, or the path of a file")
        return path


@dataclass(frozen=True)
class Outline:
    """All facts about a frozen network that are needed while nothing is computed.

    Attributes:
        size: side of the square of RGB pixels that it takes.
        preprocessing: what it does with these pixels first, a key of :data:`PREPROCESSINGS`.
        taps: where its features leave it.
        weights: as the user named them: ``imagenet``, ``random`` or a path; that of a file which holds the whole
            network, for the weights in it.
        weights_digest: SHA-256 over the weights' values.
        shapes: per tap, the shape of one row.
        flops: per tap, of one image's way to it; None where that is not known.
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
        """Return the spec of the features of images that are resized by `resize`, stored as `dtype`."""
        return ExtractionSpec(
            self.name, self.weights_digest, self.taps, self.size, resize, self.preprocessing, dtype,
            precision=self.precision, decoder=decoder,
        )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """Return these facts by name, and nothing that a network has beside them."""
        return {f.name: getattr(self, f.name) for f in fields(Outline)}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {**self.facts(), "taps": [asdict(tap) for tap in self.taps]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Outline":
        """Undo :meth:`to_dict`; other keys are left aside.

        Raises:
            KeyError, TypeError: it is not what that wrote.
        """
        plain = {f.name: values[f.name] for f in fields(Outline)}
        plain["taps"] = tuple(Tap(**tap) for tap in values["taps"])
        plain["shapes"] = {tap: tuple(shape) for tap, shape in values["shapes"].items()}
        return Outline(**plain)


@dataclass(frozen=True)
class FrozenNetwork(Outline, ABC):
    """A network that is ready to turn pixels into features.

    A class for another kind of network than Keras' has :meth:`run`, and that is enough. What it offers beyond, in the
    methods that give None here, lets more engines run it.
    """

    @abstractmethod
    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Compute the features of pixels (B, size, size, 3) in the plainest way: every engine is compared with it."""

    def libraries(self) -> tuple[str, ...]:
        """Name the packages that compute it; their versions are recorded with the features."""
        return ()

    def keras_model(self) -> "keras.Model | None":
        """Return the network as a Keras model from uint8 (B, size, size, 3) to ``{tap: float32 (B, ...)}``, or None."""
        return None

    def sample(self) -> "tuple[NDArray[np.uint8], Outputs] | None":
        """Return pixels with the features that :meth:`run` gave for them, where these are kept, or None."""
        return None

    def openvino_model(self) -> Any:
        """Return the network as an ``openvino.Model`` from the same pixels to outputs called like the taps, or None."""
        return None


@dataclass(frozen=True)
class Architecture(ABC):
    """A line of the registry: the facts about a backbone that are known before it is built, and how it is built.

    Attributes:
        size: side of its input in pixels, by default.
        min_size: the smallest side that it takes.
        preprocessing: a key of :data:`PREPROCESSINGS`.
        channels: width of the last feature map, so of its average. None: it is known once the network is built.
        origin: where its own weights come from; for people.
    """

    name: str
    size: int
    min_size: int
    preprocessing: str
    channels: int | None
    origin: str = "Keras downloads"

    @abstractmethod
    def load(self, request: Request) -> FrozenNetwork:
        """Build the network; the registry has checked the request.

        Raises:
            BackboneError: it has no such layer.
            WeightsError: the weights cannot be had, or do not fit.
            MissingDependencyError: a library is not installed.
        """

    @abstractmethod
    def layers(self, size: int) -> list[dict[str, Any]]:
        """List its layers that can be tapped, with ``layer``, ``type``, ``shape`` and ``flops`` of each."""

    def why_not(self) -> Exception | None:
        """Return the error that a library is missing which builds it, or None. Nothing is imported to find out."""
        return None

    def variant(self, options: str) -> "Architecture":
        """Return the same network with `options`, such as ``alpha=0.25,minimalistic=true``.

        Raises:
            BackboneError: an unknown option, or a value that it does not take.
        """
        raise BackboneError(f"{self.name} has no option {options.partition('=')[0]!r}: it takes none")

    def weight_files(self) -> list[Path]:
        """List every file that its own weights may come from: when one changes, the network may be another."""
        return []


def matching(backbone: str, known: Sequence[str], patterns: Iterable[str]) -> list[str]:
    """Return the layers that `patterns` stand for, each once, in the order of `known`.

    Args:
        backbone: its name, for the message.
        known: the layers that can be tapped; ``last`` comes after them.
        patterns: names of layers, ``last`` for the network's output, or globs such as ``block*_pool``.

    Raises:
        BackboneError: a pattern that no layer matches; the message names the nearest.
    """
    names = [*known, LAST]
    wanted: set[str] = set()
    for pattern in patterns:
        # A name may hold characters that mean something in a glob.
        matched = [pattern] if pattern in names else [name for name in known if fnmatchcase(name, pattern)]
        if not matched:
            raise BackboneError(f"{backbone} has no layer {pattern!r} to tap: {nearest(pattern, names)}")
        wanted.update(matched)
    return [name for name in names if name in wanted]


def resolve(backbone: str, layers: Sequence[str], output: str, taps: Iterable[Tap]) -> tuple[Tap, ...]:
    """Return taps with the names of layers in place of patterns, each once, in the network's order.

    Args:
        backbone: its name, for the message.
        layers: those that can be tapped.
        output: the layer that gives the network's output; it is called ``last``.
        taps: whose layers may be patterns, see :func:`matching`.

    Raises:
        BackboneError: see :func:`matching`.
    """
    order = [*layers, LAST]
    found = {
        Tap(LAST if layer == output else layer, tap.pool)
        for tap in taps
        for layer in matching(backbone, layers, [tap.layer])
    }
    return tuple(sorted(found, key=lambda tap: (order.index(tap.layer), POOLS.index(tap.pool))))
