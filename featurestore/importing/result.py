"""The result of an import."""

from dataclasses import dataclass
from pathlib import Path

from featurestore.system.results import Result


@dataclass(frozen=True, repr=False)
class Imported(Result):
    """A pretrained network that was written to an ONNX file.

    Attributes:
        path: the file; its pixel contract stands in a file of the same name with ``.json``.
        name: that specs call the network by.
        origin: where it comes from.
        bytes: of the file, and of the weights beside it where it is a large one.
        size: side of its input in pixels.
        resize: how an image becomes such a square.
        outputs: what can be tapped: for each name, the shape for one image.
        licence, revision: of the weights; empty where they are not known.
        images: how many real images the file was compared on.
        difference: the largest between the file and PyTorch, relative to the largest value of an output.
        cosine: the least between what both give for an image.
        pixel_difference, pixels_differing: the largest difference of a pixel, in steps of 0 to 255, and the share of
            values that differ, between what is decoded here and the original's own preparation of the same images; None
            where the original has none for this size.
        pixel_cosine: the least of the features of both.
        notes: what to know of it.
    """

    path: Path
    name: str
    origin: str
    bytes: int
    size: int
    resize: str
    outputs: dict[str, tuple[int, ...]]
    licence: str
    revision: str
    images: int
    difference: float
    cosine: float
    pixel_difference: float | None
    pixels_differing: float | None
    pixel_cosine: float | None
    notes: list[str]
