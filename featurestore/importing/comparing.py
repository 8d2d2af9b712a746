"""Compare a written file with the network that it was made from, and our pixels with the original's, on real images."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import missing
from featurestore.importing.pretrained import Pretrained
from featurestore.spec import LAST

_BATCH = 4
"""Images at a time. The batch that a network is exported with is another, so a file that takes only that fails here."""

Outputs = dict[str, NDArray[np.float32]]


@dataclass
class Difference:
    """How far numbers are from others, over all batches that were added.

    Attributes:
        cosine: the least of a row.
    """

    cosine: float = 1.0
    _largest: float = 0.0
    _scale: float = 0.0

    @property
    def relative(self) -> float:
        """The largest difference, relative to the largest number; NaN where there is one."""
        return self._largest / self._scale if self._scale else self._largest

    def add(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
        """Compare a batch, (B, ...)."""
        a, b = (values.reshape(len(values), -1).astype(np.float64) for values in (found, expected))
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines = np.divide((a * b).sum(axis=1), norms, out=np.ones(len(a)), where=norms > 0)
        self.cosine = float(np.minimum(self.cosine, cosines.min()))
        self._largest = float(np.maximum(self._largest, np.abs(a - b).max()))
        self._scale = max(self._scale, float(np.abs(b).max()))


def compare_file(file: Path, pretrained: Pretrained, pixels: NDArray[np.uint8]) -> dict[str, Difference]:
    """Compare what ONNX Runtime computes with what PyTorch does.

    Args:
        file: that was written.
        pretrained: what it was made from.
        pixels: (N, side, side, 3), of real images.

    Returns:
        For each output, how far the file's is from the network's.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise missing("comparing the ONNX file", "ONNX Runtime", "torch") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    differences = {name: Difference() for name in pretrained.outputs}
    for values in _batches(pretrained, pixels):
        expected, found = pretrained.run(values), session.run(pretrained.outputs, {given.name: values})
        for name, output in zip(pretrained.outputs, found, strict=True):
            differences[name].add(output, expected[name])
    return differences


@dataclass(frozen=True)
class Parity:
    """How far our pixels are from those that the original makes of the same images.

    Attributes:
        pixels: the largest difference, in steps of 0 to 255.
        share: the share of values that differ by half a step and more.
        cosine: the least, over images, of the network's last output and what it is pooled to.
    """

    pixels: float
    share: float
    cosine: float


def compare_pixels(
    pretrained: Pretrained, pixels: NDArray[np.uint8], theirs: NDArray[np.float32], *, least: float = 0.5
) -> Parity:
    """Compare our decoder with the original's own preparation, pixel by pixel and by what the network makes of both.

    Args:
        pretrained: a network.
        pixels: what we make of images, (N, side, side, 3).
        theirs: what the original makes of the same ones, float32 (N, 3, side, side).
        least: a smaller difference of a pixel is none.
    """
    what = pretrained.contract.preprocessing
    mean, std = (np.array(numbers, np.float32)[:, None, None] for numbers in (what.mean, what.std))
    apart = np.abs(theirs * std + mean - pixels.transpose(0, 3, 1, 2))
    compared = Difference()
    for start, ours in enumerate(_batches(pretrained, pixels)):
        found = pretrained.run(ours)
        expected = pretrained.run(theirs[start * _BATCH :][: len(ours)])
        for name in {LAST, pretrained.outputs[-1]}:
            compared.add(found[name], expected[name])
    return Parity(float(apart.max()), float((apart > least).mean()), compared.cosine)


def _batches(pretrained: Pretrained, pixels: NDArray[np.uint8]) -> Iterator[Any]:
    """Give what the network takes, float32 (B, 3, side, side)."""
    for start in range(0, len(pixels), _BATCH):
        values = pretrained.contract.preprocessing(pixels[start : start + _BATCH])
        yield np.ascontiguousarray(values.transpose(0, 3, 1, 2))
