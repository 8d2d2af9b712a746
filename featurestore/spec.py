"""What a feature's value depends on, and nothing else: the spec and its fingerprint.

Two rows may stand for each other only if their images have the same digest and their specs the same
fingerprint. Engine and library *versions* are provenance: they are recorded, and checked by recomputing a few
rows, but a new version alone does not make the old features useless.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from featurestore.system.documents import parse

Pool = Literal["avg", "max", "avg+max", "flatten", "none", "cls", "patches", "cls+patches"]
Resize = Literal["squash", "crop", "pad", "shortest", "shortest-floor"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]
Dtype = Literal["float16", "float32"]
Precision = Literal["float32", "bfloat16", "float16"]
Decoder = Literal["pillow", "draft", "turbo"]

POOLS: tuple[str, ...] = get_args(Pool)
RESIZES: tuple[str, ...] = get_args(Resize)
CUTTING = ("shortest", "shortest-floor")
"""Resize rules that have a crop share, also for one crop."""
CROPS = (1, 5, 10)
"""Numbers of crops: the whole square; its corners and its centre; these and their mirror images."""
CROP_SHARE = 0.875
"""Of the side of the square, that a crop of several has by default: 224 pixels of 256 (Krizhevsky et al., 2012)."""
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)
DTYPES: tuple[str, ...] = get_args(Dtype)
PRECISIONS: tuple[str, ...] = get_args(Precision)
DECODERS: tuple[str, ...] = get_args(Decoder)

# Choices that stand in no spec of features: their names are here too, where they can be read without heavy libraries.
Engine = Literal["auto", "keras", "openvino", "onnxruntime", "reference"]
Augment = Literal["flip", "mild", "cats-dogs", "dog-breeds", "xray", "strong"]

LARGEST_SIZE, MOST_TAPS = 4096, 4096
"""Most pixels of a side, and most taps: what is beyond has no honest use, and would fill the memory."""
_LONGEST_LAYER = 255

LAST = "last"
"""Name of the tap at a backbone's output, whatever its layer is called."""


@dataclass(frozen=True)
class Tap:
    """One place where features leave the network: a layer's output, pooled.

    Attributes:
        layer: name of the layer; :data:`LAST` for the backbone's output.
        pool: how its map (H, W, C) becomes a row: the mean or the maximum of each channel (C,), both (2C,), the map
            flattened (H * W * C,), or the map as it is. Of tokens (T, C): the class token, the mean of the patches'
            tokens (C,), or both (2C,).

    Example:
        >>> Tap("block4_pool", "max")
        Tap(layer='block4_pool', pool='max')
    """

    layer: str = LAST
    pool: Pool = "avg"


def tap_names(taps: Sequence[Tap]) -> tuple[str, ...]:
    """What taps are called: see :attr:`ExtractionSpec.tap_names`."""
    times = Counter(tap.layer for tap in taps)
    return tuple(t.layer if times[t.layer] == 1 else f"{t.layer}.{t.pool}" for t in taps)


@dataclass(frozen=True)
class Framing:
    """What is done to an image before a network sees it: all between its file and a square of pixels.

    Attributes:
        size: side of the square.
        resize: how an image becomes a square. ``squash`` ignores the aspect ratio, ``crop`` cuts the central square out
            and resizes that, ``pad`` keeps everything, centred on black; ``shortest`` resizes the image until its
            shortest side is size / crop_share, and cuts the central square out then, as torchvision and timm do;
            ``shortest-floor`` does so as transformers does, which rounds the place of the square down.
        interpolation: of the resizing, antialiased: Pillow's filter of that name.
        crop_share: in (0, 1]; for these two, and for several crops.
        decoder: of the image files.
        crops: squares of `size` that the network sees of an image, whose features are averaged: 1, 5 or 10. More than
            one are cut out of a larger square, of side size / crop_share, which the image becomes by the same rule
            (``shortest``: the central square that is as long as the shortest side); see
            :mod:`featurestore.images.crops`.

    Example:
        >>> framing = Framing(224, "crop", crop_share=0.875, crops=5)
        >>> framing.side, framing.whole
        (256, Framing(size=256, resize='crop', ..., crop_share=1.0, decoder='pillow', crops=1))
        >>> framing.look, Framing(224).look
        ('crop-crops5', 'squash')
    """

    size: int
    resize: Resize = "squash"
    interpolation: Interpolation = "bilinear"
    crop_share: float = 1.0
    decoder: Decoder = "pillow"
    crops: int = 1

    @property
    def cuts(self) -> bool:
        """Whether the square is cut out of the image when that has been resized."""
        return self.resize in CUTTING

    @property
    def shortest(self) -> int:
        """The length of the image's shortest side, in pixels, when it has been resized."""
        return int(self.size / self.crop_share + 1e-9) if self.cuts or self.crops > 1 else self.size

    @property
    def side(self) -> int:
        """The side of the square of pixels that the image becomes: larger than `size` where crops are cut out of it."""
        return self.shortest if self.crops > 1 else self.size

    @property
    def whole(self) -> "Framing":
        """What gives the square of that side, all of it."""
        return self if self.crops == 1 else replace(self, size=self.side, crop_share=1.0, crops=1)

    @property
    def look(self) -> str:
        """What people call it: the resize rule; and the number of crops, where there are several."""
        return self.resize if self.crops == 1 else f"{self.resize}-crops{self.crops}"


@dataclass(frozen=True)
class ExtractionSpec:
    """Everything that changes a feature's value.

    A field added in a later version must have a default that means "as before": a field at its default is left
    out of the canonical JSON, so that old fingerprints stay valid. (The fields below without one are always in.)

    Attributes:
        backbone: name of the network.
        weights_digest: SHA-256 of its weights, 64 hex digits.
        taps: where features leave it.
        size: side of its input in pixels.
        resize: how an image becomes a square.
        preprocessing: name of what happens to the pixels before the first layer.
        dtype: of the stored features.
        precision: that the network computes in.
        decoder: of the image files.
        interpolation, crop_share, crops: see :class:`Framing`. The features of crops are averaged behind the pooling,
            and rounded to `dtype` then.

    Raises:
        ValueError: a size, weights' digest or tap that no network has.

    Example:
        >>> spec = ExtractionSpec(
        ...     backbone="vgg16", weights_digest="0" * 64, taps=(Tap(),), size=224, resize="squash",
        ...     preprocessing="caffe", dtype="float32",
        ... )
        >>> spec.fingerprint
        '772042021f1e37864aae99b432829e75fc621f95fd341db20d1a96d76b4386c0'
    """

    backbone: str
    weights_digest: str
    taps: tuple[Tap, ...]
    size: int
    resize: Resize
    preprocessing: str
    dtype: Dtype
    precision: Precision = "float32"
    decoder: Decoder = "pillow"
    interpolation: Interpolation = "bilinear"
    crop_share: float = 1.0
    crops: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.size <= LARGEST_SIZE:
            raise ValueError(f"size {self.size}: it is 1 to {LARGEST_SIZE:,} pixels")
        if not 0 < self.crop_share <= 1 or self.framing.shortest > LARGEST_SIZE:
            raise ValueError(f"crop_share {self.crop_share}: it is 0 to 1, and leaves {LARGEST_SIZE:,} pixels a side")
        if self.crops not in CROPS or (self.crops > 1 and self.framing.side == self.size):
            raise ValueError(f"crops {self.crops}: it is 1, or 5 or 10 of a crop share that leaves something to cut")
        if not re.fullmatch("[0-9a-f]{64}", self.weights_digest):
            raise ValueError("weights_digest is no SHA-256")
        if not 1 <= len(self.taps) <= MOST_TAPS:
            raise ValueError(f"{len(self.taps):,} taps: there are 1 to {MOST_TAPS:,}")
        for tap in self.taps:
            # In a file it is a path.
            if len(tap.layer) > _LONGEST_LAYER or {"", ".", ".."} & set(tap.layer.split("/")) or "\0" in tap.layer:
                raise ValueError(f"no layer is called {tap.layer[:_LONGEST_LAYER]!r}")
        if len(set(self.tap_names)) < len(self.taps):
            raise ValueError("two taps of one name")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, without the fields that stand at their default."""
        plain = asdict(self)
        return {f.name: plain[f.name] for f in fields(self) if plain[f.name] != f.default}

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, ASCII. The fingerprint is the SHA-256 of these bytes."""
        return _canonical(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> "ExtractionSpec":
        """Inverse of :meth:`to_json`.

        Raises:
            ValueError: the text is no spec of this version; the message is a reason of one line.
        """
        try:
            spec = parse(text, cls)
            # What is passed over in reading may have changed the features.
            if spec.to_json() != _canonical(parse(text, dict[str, Any])):
                raise ValueError("it says more than this version knows")
        except ValueError as error:
            raise ValueError(
                f"unreadable extraction spec, damaged, or a newer featurestore wrote it: {error}"
            ) from error
        return spec

    @property
    def framing(self) -> Framing:
        """What is done to an image before the network sees it."""
        return Framing(self.size, self.resize, self.interpolation, self.crop_share, self.decoder, self.crops)

    @property
    def network(self) -> "ExtractionSpec":
        """The same without what is done before and behind the network: two specs that agree in it need one network."""
        return replace(
            self, resize="squash", dtype="float32", decoder="pillow", interpolation="bilinear", crop_share=1.0, crops=1
        )

    @property
    def tap_names(self) -> tuple[str, ...]:
        """What the taps are called in files: their layers; with the pooling where a layer is tapped twice."""
        return tap_names(self.taps)

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def differences(self, other: "ExtractionSpec") -> list[str]:
        """One text per field that differs, such as ``size: 224 here, 160 there``; empty when none does."""
        mine, theirs = asdict(self), asdict(other)
        return [f"{name}: {mine[name]} here, {theirs[name]} there" for name in mine if mine[name] != theirs[name]]


def backbone_names(specs: Sequence[ExtractionSpec]) -> list[str]:
    """Say what the backbones of some specs are called: with its :attr:`Framing.look` where one has several.

    Example:
        >>> crop = ExtractionSpec("vgg16", "0" * 64, (Tap(),), 224, "crop", "caffe", "float32")
        >>> backbone_names([crop, replace(crop, resize="squash", crops=5, crop_share=0.875)])
        ['vgg16@crop', 'vgg16@squash-crops5']
        >>> backbone_names([crop, replace(crop, backbone="vgg19")])
        ['vgg16', 'vgg19']
    """
    looks: dict[str, set[str]] = {}
    for spec in specs:
        looks.setdefault(spec.backbone, set()).add(spec.framing.look)
    return [s.backbone + (f"@{s.framing.look}" if len(looks[s.backbone]) > 1 else "") for s in specs]


def _canonical(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"))
