"""What a network does with pixels first, as data."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from featurestore.errors import BackboneError, suggest


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

    @classmethod
    def of(cls, name: str) -> "Preprocessing":
        """Return the preprocessing that has this name, see :attr:`name`.

        Raises:
            BackboneError: there is none.

        Example:
            >>> Preprocessing.of("mean=0,0,0 std=255,255,255").std
            (255.0, 255.0, 255.0)
        """
        if name in PREPROCESSINGS:
            return PREPROCESSINGS[name]
        with suppress(ValueError):
            texts = dict(part.split("=") for part in name.split())
            bgr = bool(["RGB", "BGR"].index(texts.pop("channels", "RGB")))
            numbers = {key: tuple(map(float, text.split(","))) for key, text in texts.items()}
            mean, std = (numbers.pop(key, ()) for key in ("mean", "std"))
            if not numbers and len(mean) == len(std) == 3 and np.isfinite(mean + std).all() and min(std) > 0:
                return cls(mean, std, bgr)
        known = suggest(name, PREPROCESSINGS)
        raise BackboneError(f"unknown preprocessing {name!r}: {known}; or numbers of 0 to 255, mean=R,G,B std=R,G,B")

    @property
    def name(self) -> str:
        """What it is called in a spec: a key of :data:`PREPROCESSINGS`; else ``mean=R,G,B std=R,G,B``.

        ``channels=BGR`` follows where they are reversed: then the numbers are those of blue, green and red.
        """
        for name, known in PREPROCESSINGS.items():
            if known == self:
                return name
        mean, std = (",".join(repr(value).removesuffix(".0") for value in values) for values in (self.mean, self.std))
        return f"mean={mean} std={std}{' channels=BGR' if self.bgr else ''}"

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
    "clip": Preprocessing((122.7709383, 116.7460125, 104.09373615), (68.5005327, 66.6321579, 70.32316305)),
    "none": Preprocessing((0.0,) * 3, (1.0,) * 3),
}
"""Preprocessings by the name that stands in a spec: ``caffe``, ``tf`` and ``torch`` are Keras' own names for its modes;
``none`` is for networks that rescale the pixels themselves."""
