"""What the registry knows of a network before it is built, and how its input is prepared."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import keras

Weights = Path | Literal["imagenet", "random"]


@dataclass(frozen=True)
class Preprocessing:
    """From RGB pixels 0..255 to what the network was trained on: ``(pixels - mean) / std``, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False
    """Reverse the channels first; `mean` and `std` are then in that order."""

    def __call__(self, pixels: Any) -> Any:
        """Apply to a Keras tensor uint8 (B, H, W, 3); float32 of the same shape."""
        from keras import ops

        values = ops.cast(pixels, "float32")
        values = values[..., ::-1] if self.bgr else values
        return (values - ops.array(self.mean, "float32")) / ops.array(self.std, "float32")


PREPROCESSINGS = {
    "caffe": Preprocessing((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), bgr=True),
    "tf": Preprocessing((127.5,) * 3, (127.5,) * 3),
    "lite": Preprocessing((127.0,) * 3, (128.0,) * 3),
}
"""By the name that stands in a spec: ``caffe`` and ``tf`` are Keras' own names for its modes."""


@dataclass(frozen=True)
class Architecture:
    """One line of the registry."""

    name: str
    build: Callable[[int, Weights], "keras.Model"]
    """From (input size, weights) to a model of preprocessed images, without its classifier."""
    size: int
    min_size: int
    preprocessing: str
    channels: int
    """Width of the last feature map, so of its average."""
