"""The three classes that every backbone has to do with.

The user asks for it by a :class:`Request`, the registry holds it as an :class:`Architecture`, and that builds a
:class:`FrozenNetwork`, which engines run. None of the three needs Keras; their classes for networks of Keras are in
:mod:`featurestore.backbones.keras_network`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones.taps import Tokens, Wanted, wanted
from featurestore.errors import BackboneError, WeightsError
from featurestore.spec import (
    CROP_SHARE,
    CUTTING,
    LAST,
    Decoder,
    Dtype,
    ExtractionSpec,
    Framing,
    Interpolation,
    Pool,
    Precision,
    Resize,
    Tap,
)

if TYPE_CHECKING:
    import keras

Weights = Path | Literal["imagenet", "random"]

Outputs = Mapping[str, NDArray[np.float32]]
"""The output of a network for a batch of B images: per tap, float32 (B, ...)."""


_FREE = ("apache", "mit", "bsd", "cc0", "isc")
"""How licences begin under which anybody may do anything."""


def licence_notes(name: str, licence: str) -> list[str]:
    """Say what a user must know of the licence of a backbone's weights; nothing where it allows all that one may do.

    Example:
        >>> licence_notes("vgg16", "mit"), licence_notes("vgg16", "")
        ([], [])
        >>> licence_notes("hub:dinov3_vit_small_lvd1689m", "dinov3-license")
        ["the weights of hub:dinov3_vit_small_lvd1689m have a licence of their own, 'dinov3-license': read its terms"]
    """
    if not licence or licence.lower().startswith(_FREE):
        return []
    return [f"the weights of {name} have a licence of their own, {licence!r}: read its terms"]


@dataclass(frozen=True)
class Request:
    """Says which network the user asks for: the arguments of :func:`featurestore.backbones.load_backbone`.

    What is None is as the network wants it.
    """

    name: str
    weights: str = "imagenet"
    size: int | None = None
    pool: Pool | None = None
    taps: tuple[str | Tap, ...] = (LAST,)
    preprocessing: str | None = None
    precision: Precision = "float32"
    resize: Resize | None = None
    interpolation: Interpolation | None = None
    crop_share: float | None = None
    crops: int = 1

    @property
    def network(self) -> "Request":
        """The same without what is done to an image before: requests that agree in it ask for one network."""
        return replace(self, resize=None, interpolation=None, crop_share=None, crops=1)

    @property
    def text(self) -> str:
        """The request as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    def parsed_taps(self) -> list[Wanted]:
        """Return its taps, see :func:`featurestore.backbones.taps.wanted`."""
        return wanted(self.taps, self.pool)

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
        preprocessing: what it does with these pixels first: the name of a
            :class:`featurestore.backbones.preprocessing.Preprocessing`.
        taps: where its features leave it.
        weights: as the user named them: ``imagenet``, ``random`` or a path; that of a file which holds the whole
            network, for the weights in it.
        weights_digest: SHA-256 over the weights' values.
        shapes: per tap, the shape of one row.
        flops: per tap, of one image's way to it; None where that is not known.
        precision: that an engine is to compute in.
        resize, interpolation, crop_share, crops: how an image becomes such a square, or several, see
            :class:`featurestore.spec.Framing`.
        licence: of its weights, such as ``apache-2.0``; empty where it is not known.
        revision: of its weights, as the place names it from which they come.
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
    _: KW_ONLY
    resize: Resize = "squash"
    interpolation: Interpolation = "bilinear"
    crop_share: float = 1.0
    crops: int = 1
    licence: str = ""
    revision: str = ""

    def spec(self, dtype: Dtype = "float32", decoder: Decoder = "pillow") -> ExtractionSpec:
        """Return the spec of the features that it makes of images which a decoder reads, stored as `dtype`."""
        return ExtractionSpec(
            self.name, self.weights_digest, self.taps, self.size, self.resize, self.preprocessing, dtype,
            precision=self.precision, decoder=decoder, interpolation=self.interpolation, crop_share=self.crop_share,
            crops=self.crops,
        )  # fmt: skip

    def framed(self, framing: Framing) -> Self:
        """Return the same network for images that are framed otherwise; its `size` stays."""
        return replace(
            self, resize=framing.resize, interpolation=framing.interpolation, crop_share=framing.crop_share,
            crops=framing.crops,
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

    Attributes:
        tokens: see :class:`Architecture`.
    """

    tokens: Tokens | None = field(default=None, kw_only=True)

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

    def onnx_model(self) -> bytes | None:
        """Return the network as an ONNX model from the same pixels, ``pixels``, to such outputs, or None."""
        return None


@dataclass(frozen=True)
class Architecture(ABC):
    """A line of the registry: the facts about a backbone that are known before it is built, and how it is built.

    Attributes:
        size: side of its input in pixels, by default.
        min_size: the smallest side that it takes.
        preprocessing: the name of a :class:`featurestore.backbones.preprocessing.Preprocessing`.
        channels: width of the last feature map, so of its average. None: it is known once the network is built.
        origin: where its own weights come from; for people.
        resize, interpolation, crop_share: how an image becomes a square by default, see
            :class:`featurestore.spec.Framing`.
        tokens: how its sequences of tokens begin; None for a network of maps.
        licence, revision: see :class:`Outline`.
    """

    name: str
    size: int
    min_size: int
    preprocessing: str
    channels: int | None
    origin: str = "Keras downloads"
    resize: Resize = "squash"
    interpolation: Interpolation = "bilinear"
    crop_share: float = 1.0
    tokens: Tokens | None = None
    licence: str = ""
    revision: str = ""

    def common(self, request: Request) -> dict[str, Any]:
        """Return the facts about the network for a request that are known before it is built, see :class:`Outline`."""
        framing = self.framing(request)
        return {
            "name": self.name,
            "size": framing.size,
            "preprocessing": self.preprocessing,
            "weights": request.weights,
            "precision": request.precision,
            "resize": framing.resize,
            "interpolation": framing.interpolation,
            "crop_share": framing.crop_share,
            "crops": framing.crops,
            "licence": self.licence,
            "revision": self.revision,
        }

    def framing(self, request: Request) -> Framing:
        """Return how an image is framed for a request: as it says, and else by the network's own way.

        Several crops have the network's own share, or :data:`featurestore.spec.CROP_SHARE` where it has none.
        """
        resize, several = request.resize or self.resize, request.crops > 1
        share = (request.crop_share or self.crop_share) if resize in CUTTING or several else 1.0
        if several and request.crop_share is None and share == 1.0:
            share = CROP_SHARE
        how = request.interpolation or self.interpolation
        return Framing(request.size or self.size, resize, how, share, crops=request.crops)

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
