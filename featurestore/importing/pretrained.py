"""A network of PyTorch without its classifier, with its outputs by name, and with all that is known of it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones.preprocessing import Preprocessing
from featurestore.backbones.taps import Tokens
from featurestore.errors import missing
from featurestore.spec import LAST, Framing

if TYPE_CHECKING:
    import torch

POOLED = "pooled"
"""Name of the output that the network itself makes of its tokens or its map."""

Forward = Callable[["torch.Tensor"], "tuple[torch.Tensor, torch.Tensor | None]"]
"""From pixels (B, 3, side, side) to the network's sequence of tokens (B, T, C) or map (B, C, H, W); and to what the
network pools it to, (B, C), if it does."""

Prepare = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From an image, uint8 (H, W, 3), to what a network takes, float32 (3, side, side)."""


@dataclass(frozen=True)
class Contract:
    """What a network wants its pixels to be.

    Attributes:
        framing: what is done to an image before.
        preprocessing: what happens to its pixels then.
        notes: where the network's own way differs, in words.
    """

    framing: Framing
    preprocessing: Preprocessing
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pretrained:
    """A frozen network that can be written.

    Attributes:
        name: that a spec calls it by.
        origin: where it comes from, such as ``timm:resnet50``.
        network: a module from float32 (B, 3, side, side), which are pixels after the preprocessing, to a tuple of
            tensors float32: tokens (B, T, C), maps (B, C, H, W) or vectors (B, C).
        shapes: for the name of each, its shape for one image.
        contract: what it wants its pixels to be.
        tokens: how its sequences of tokens begin; None for a network of maps.
        licence, revision: of its weights; empty where they are not known.
        prepare: the original's own way from an image to what `network` takes; None where it is made for another size.
    """

    name: str
    origin: str
    network: "torch.nn.Module"
    shapes: dict[str, tuple[int, ...]]
    contract: Contract
    tokens: Tokens | None
    licence: str
    revision: str
    prepare: Prepare | None

    @property
    def outputs(self) -> list[str]:
        """The names of its outputs, in their order."""
        return list(self.shapes)

    def run(self, values: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Compute its outputs for (B, 3, side, side)."""
        import torch

        with torch.no_grad():
            found = self.network(torch.from_numpy(values))
        return {name: tensor.numpy() for name, tensor in zip(self.outputs, found, strict=True)}


def scaled(value: float, scale: float = 255) -> float:
    """Return a number for pixels of 0 to 255; rounded, so that known preprocessings are recognised.

    Example:
        >>> scaled(0.485)
        123.675
    """
    return round(value * scale, 8)


def import_torch(task: str) -> Any:
    """Return the module ``torch``.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise missing(task, "PyTorch", "torch") from error
    return torch


def with_outputs(
    network: "torch.nn.Module", forward: Forward, inner: Iterable["torch.nn.Module"], side: int, *, nhwc: bool = False
) -> "tuple[torch.nn.Module, dict[str, tuple[int, ...]]]":
    """Give the outputs of a network names.

    Args:
        network: in evaluation mode.
        forward: runs it.
        inner: modules of it whose outputs become outputs of their own, where they are of the kind of the last:
            ``block0``, ``block1`` and so on where all have its shape; else ``stage0`` and so on.
        side: of its input in pixels.
        nhwc: whether its maps have their channels last.

    Returns:
        A module from (B, 3, side, side) to a tuple of tensors; and for the name of each, its shape for one image.
    """
    import torch

    caught: dict[int, Any] = {}

    def keeper(place: int) -> Callable[..., None]:
        def keep(_module: Any, _given: Any, result: Any) -> None:
            caught[place] = result[0] if isinstance(result, tuple) else result

        return keep

    for place, module in enumerate(inner):
        module.register_forward_hook(keeper(place))

    def everything(pixels: "torch.Tensor") -> "tuple[dict[int, torch.Tensor], torch.Tensor, torch.Tensor | None]":
        caught.clear()
        last, pooled = forward(pixels)
        return dict(caught), last, pooled

    torch.manual_seed(0)
    with torch.no_grad():
        places, last, pooled = everything(torch.rand(1, 3, side, side))
    kept = [place for place in sorted(places) if _is_alike(places[place], last)]
    stem = "block" if all(places[place].shape == last.shape for place in kept) else "stage"
    names = [f"{stem}{i}" for i in range(len(kept))] + [LAST] + ([POOLED] if pooled is not None else [])

    class Outputs(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: "torch.Tensor") -> "tuple[torch.Tensor, ...]":
            places, last, pooled = everything(pixels)
            found = [*(places[place] for place in kept), last, *([] if pooled is None else [pooled])]
            return tuple(each.permute(0, 3, 1, 2) if nhwc and each.ndim == 4 else each for each in found)

    module = Outputs().eval()
    with torch.no_grad():
        found = module(torch.rand(1, 3, side, side))
    return module, {name: tuple(each.shape[1:]) for name, each in zip(names, found, strict=True)}


def _is_alike(tensor: Any, last: "torch.Tensor") -> bool:
    """Tell whether an inner output is a sequence of as many tokens as the last, or a map, and not the last itself."""
    import torch

    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point() or tensor.ndim != last.ndim:
        return False
    return (last.ndim == 4 or tensor.shape[1] == last.shape[1]) and not torch.equal(tensor, last)
