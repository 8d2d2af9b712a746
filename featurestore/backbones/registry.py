"""Find a backbone by its name, check what is asked of it, and build it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from featurestore.backbones import applications, efficientnet_lite, hub, keras_file, onnx_file, small_cnn
from featurestore.backbones.base import Architecture, FrozenNetwork, Request
from featurestore.errors import BackboneError, suggest
from featurestore.spec import (
    CROPS,
    CUTTING,
    INTERPOLATIONS,
    LARGEST_SIZE,
    LAST,
    PRECISIONS,
    RESIZES,
    Interpolation,
    Pool,
    Precision,
    Resize,
    Tap,
)

DEFAULT = "efficientnet_lite0"

ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for family in (efficientnet_lite, applications, small_cnn)
    for architecture in family.ARCHITECTURES
}


class NetworkFile(Protocol):
    """The functions that the module of a kind of files has that hold a whole network."""

    def architecture(self, name: str, preprocessing: str | None) -> Architecture:
        """Read the file called `name`; `preprocessing` is what the user says of its pixels."""

    def files(self, name: str) -> list[Path]:
        """List all files on this machine that the network depends on, without an error where they are damaged.

        No heavy library is imported.
        """


class Place(NetworkFile, Protocol):
    """The functions that the module of a place has that backbones come from, beside those of a kind of files."""

    def absolute(self, name: str) -> str:
        """Return the same name for a process in another folder."""

    def table(self) -> list[dict[str, str | int | None]]:
        """List the place's backbones, see :func:`table`."""


FILES: dict[str, NetworkFile] = {module.SUFFIX: module for module in (keras_file, onnx_file)}
"""Kinds of files that hold a whole network, by their suffix."""

PREFIXES: dict[str, Place] = {hub.PREFIX: hub}
"""Places that backbones come from, by what their names begin with."""


def is_file(name: str) -> bool:
    """Return whether `name` is the path of a file that holds a whole network, and not a name of the registry."""
    return _elsewhere(name) is None and name.endswith(tuple(FILES))


def is_outside(name: str) -> bool:
    """Return whether `name` is not one of the registry's own."""
    return _kind(name) is not None


def _elsewhere(name: str) -> Place | None:
    return next((place for prefix, place in PREFIXES.items() if name.startswith(prefix)), None)


def _kind(name: str) -> NetworkFile | None:
    return _elsewhere(name) or next((kind for suffix, kind in FILES.items() if name.endswith(suffix)), None)


def files_of(name: str) -> list[Path]:
    """List every file that the own weights of the backbone called `name` may come from; its code is left out."""
    return kind.files(name) if (kind := _kind(name)) else find(name).weight_files()


def named(backbone: str, weights: str) -> tuple[str, str]:
    """Return name and weights as :func:`load_backbone` takes them.

    Args:
        backbone: as a spec calls it: of a file, the stem.
        weights: as the user named them: of a file with its own weights, its path; of a folder, the prefix and its path.
    """
    return (weights, "imagenet") if _elsewhere(weights) or is_file(weights) else (backbone, weights)


def anywhere(request: Request) -> Request:
    """Return the same request for a process that runs in another folder: its paths are absolute."""
    name = str(Path(request.name).absolute()) if is_file(request.name) else request.name
    name = place.absolute(name) if (place := _elsewhere(name)) else name
    own = request.weights in ("imagenet", "random")
    return replace(request, name=name, weights=request.weights if own else str(Path(request.weights).absolute()))


def find(name: str, preprocessing: str | None = None) -> Architecture:
    """Find the architecture called `name`, as Keras writes it (``MobileNetV2``) or in snake case, or in a file.

    Args:
        name: options may follow, as in ``mobilenet:alpha=0.25``. Or the path of a file, see :data:`FILES`, or a name of
            another place, see :data:`PREFIXES`.
        preprocessing: the name of one, for a file or another place's; all others have their own.

    Raises:
        BackboneError: there is none, and the message names the nearest; an option or the file cannot be used.
    """

    def plain(text: str) -> str:
        return text.lower().replace("_", "").replace("-", "")

    if kind := _kind(name):
        return kind.architecture(name, preprocessing)
    base, _, options = name.partition(":")
    for architecture in ARCHITECTURES.values():
        if plain(architecture.name) == plain(base):
            if preprocessing not in (None, architecture.preprocessing):
                raise BackboneError(f"{base} has its own preprocessing, {architecture.preprocessing!r}: leave it out")
            return architecture.variant(options) if options else architecture
    raise BackboneError(f"unknown backbone {base!r}: {suggest(base, ARCHITECTURES)}")


def table(name: str | None = None) -> list[dict[str, str | int | None]]:
    """List name, input size, smallest size, width, origin and licence of the weights, for ``featurestore backbones``.

    Args:
        name: of one backbone, or of a place in :data:`PREFIXES` (with or without the colon) for all of its own.
    """
    if name and (place := PREFIXES.get(f"{name.removesuffix(':')}:")):
        return place.table()
    return [
        {
            "backbone": a.name + (" (default)" if a.name == DEFAULT else ""),
            "size": a.size,
            "min_size": a.min_size,
            "width": a.channels,
            "weights": a.origin,
            "licence": a.licence,
        }
        for a in ([find(name)] if name else ARCHITECTURES.values())
    ]


def check(request: Request) -> Architecture:
    """Check, without building anything, that :func:`load` will take a request (but for the names of layers).

    Returns:
        The architecture.

    Raises:
        BackboneError, WeightsError, MissingDependencyError: as there.
    """
    architecture = find(request.name, request.preprocessing)
    size = request.size or architecture.size
    if size < architecture.min_size:
        raise BackboneError(
            f"size {size} is too small for {architecture.name}: it takes {architecture.min_size} and more, "
            f"{architecture.size} by default"
        )
    if size > LARGEST_SIZE:
        raise BackboneError(f"size {size} is too large: pass --size {LARGEST_SIZE} or less")
    _check_framing(architecture, request)
    request.parsed_taps()
    if request.precision not in PRECISIONS:
        raise BackboneError(f"unknown precision {request.precision!r}: {suggest(request.precision, PRECISIONS)}")
    request.parsed_weights()
    if error := architecture.why_not():
        raise error
    return architecture


def _check_framing(architecture: Architecture, request: Request) -> None:
    for what, value, known in (
        ("resize rule", request.resize, RESIZES),
        ("interpolation", request.interpolation, INTERPOLATIONS),
    ):
        if value is not None and value not in known:
            raise BackboneError(f"unknown {what} {value!r}: {suggest(value, known)}")
    if (crops := request.crops) not in CROPS:
        raise BackboneError(f"{crops} crops: pass --crops 1, 5 or 10")
    share, framing = request.crop_share, architecture.framing(request)
    if share is not None and not 0 < share <= 1:
        raise BackboneError(f"crop share {share:g}: it must be more than 0, and at most 1")
    if share not in (None, 1.0) and crops == 1 and framing.resize not in CUTTING:
        raise BackboneError(
            f"a crop share of {share:g} goes with --resize shortest, or --crops 5: pass both, or neither"
        )
    if framing.shortest > LARGEST_SIZE:
        raise BackboneError(
            f"a crop share of {framing.crop_share:g} makes {framing.shortest:,} pixels of {framing.size}: pass a "
            f"larger --crop-share, or a smaller --size, so that they are {LARGEST_SIZE:,} at most"
        )
    if crops > 1 and framing.side == framing.size:
        raise BackboneError(
            f"a crop share of {framing.crop_share:g} leaves nothing of {framing.size} pixels to cut {crops} crops "
            "from: pass a smaller --crop-share, such as 0.875"
        )


def load(request: Request) -> FrozenNetwork:
    """Build the network that is asked for, see :func:`load_backbone`."""
    return check(request).load(request)


def framed(network: FrozenNetwork, request: Request) -> FrozenNetwork:
    """Return a network as :func:`load` would build it for a request, of which it knows all but the framing already."""
    return network.framed(check(request).framing(request))


def load_backbone(
    name: str,
    *,
    weights: str = "imagenet",
    size: int | None = None,
    pool: Pool | None = None,
    taps: Sequence[str | Tap] = (LAST,),
    preprocessing: str | None = None,
    precision: Precision = "float32",
    resize: Resize | None = None,
    interpolation: Interpolation | None = None,
    crop_share: float | None = None,
    crops: int = 1,
) -> FrozenNetwork:
    """Build a backbone, load its weights, put its preprocessing in front, and cut it off behind its last tap.

    Args:
        name: see :func:`find`.
        weights: ``imagenet`` (found offline where they are; else Keras downloads them), ``random`` (the same on
            every call), or the path of a weights file. A file that holds a whole network is named with ``imagenet``.
        size: side of the square input in pixels; the network's own by default.
        pool: what becomes of a feature map (H, W, C): ``avg`` or ``max`` over its places (C,), ``avg+max`` (2C,),
            ``flatten`` to (H*W*C,), or ``none``. Of tokens (T, C), ``cls`` is the class token, ``patches`` the mean of
            the patches' tokens (C,), and ``cls+patches`` both (2C,). By default ``avg`` of maps, and of tokens
            ``cls+patches``, or ``patches`` where there is no class token.
        taps: layers whose outputs are the features: names, globs, slices such as ``block[-4:]``, or ``last``;
            ``NAME=POOL`` pools one otherwise.
        preprocessing: for a file, see :func:`find`.
        precision: that an engine is to compute in: ``float32``, ``bfloat16`` or ``float16``.
        resize, interpolation, crop_share, crops: how an image becomes a square, or several, see
            :class:`featurestore.spec.Framing`; the network's own way by default. They change nothing in the network
            but its :meth:`~featurestore.backbones.base.Outline.spec`.

    Raises:
        BackboneError: unknown name, layer or pooling, size too small.
        WeightsError: the weights cannot be had, or do not fit.
        MissingDependencyError: TensorFlow (or another Keras backend) is not installed.

    Example:
        >>> from featurestore.backbones import load_backbone
        >>> network = load_backbone("small_cnn", weights="random", size=64, taps=["block2_pool", "last"])
        >>> network.shapes
        {'block2_pool': (64,), 'last': (256,)}
    """
    how = resize, interpolation, crop_share, crops
    return load(Request(name, weights, size, pool, tuple(taps), preprocessing, precision, *how))


def taps_of(name: str, *, size: int | None = None, preprocessing: str | None = None) -> list[dict[str, Any]]:
    """List the layers of a backbone that can be tapped, see :func:`featurestore.backbones.graph.tap_table`.

    Raises:
        BackboneError, MissingDependencyError: see :func:`load_backbone`.
    """
    architecture = check(Request(name, size=size, preprocessing=preprocessing))
    return architecture.layers(size or architecture.size)
