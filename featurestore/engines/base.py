"""What an engine does: it turns a frozen network into a function that runs batches of pixels fast."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones import FrozenNetwork
from featurestore.backbones.base import Outputs
from featurestore.images.crops import cut
from featurestore.spec import Framing

Compute = Callable[[NDArray[np.uint8]], Callable[[], Outputs]]
"""Starts a batch of pixels, uint8 (B, size, size, 3). What it returns waits for the features, in any thread, so that
the next batch can be started meanwhile."""


class Engine(Protocol):
    """The functions that the module of an engine has.

    An engine takes of a network what that offers: its Keras model, its OpenVINO model, or its own ``run``.
    """

    def why_not(self, network: FrozenNetwork) -> Exception | None:
        """The error that says why the engine cannot run this network here, or None. Nothing is built to find out."""

    def adapted(self, network: FrozenNetwork) -> FrozenNetwork:
        """The network in the form that the engine begins with, or as it is; only called where it can run."""

    def compile_backbone(self, network: FrozenNetwork) -> Compute:
        """The network, ready to run; only called where :meth:`why_not` gives None."""


def averaged(compute: Compute, framing: Framing) -> Compute:
    """Return a function from the pixels of a framing to the mean of the features of its crops.

    The mean is taken of float32 numbers in float64, and is float32. A batch has two crops in memory at most. What sees
    one crop is the function as it is.

    Args:
        compute: takes one crop of each image, uint8 (B, size, size, 3).
        framing: of the pixels (B, side, side, 3) that the result takes.
    """
    if framing.crops == 1:
        return compute

    def start(pixels: NDArray[np.uint8]) -> Callable[[], Outputs]:
        crops = cut(pixels, framing)
        first = compute(next(crops))

        def finish() -> Outputs:
            running, total = first, dict[str, NDArray[np.float64]]()
            for crop in crops:
                following = compute(crop)
                _add(running(), total)
                running = following
            _add(running(), total)
            return {tap: (values / framing.crops).astype(np.float32) for tap, values in total.items()}

        return finish

    return start


def _add(found: Outputs, total: dict[str, NDArray[np.float64]]) -> None:
    for tap, values in found.items():
        total[tap] = total.get(tap, 0) + values.astype(np.float64)


def one_by_one(run: Callable[[NDArray[np.uint8]], Outputs], threads: int) -> Compute:
    """Return an engine that runs each image as a batch of its own, which fits a core's caches, several at a time.

    Args:
        run: computes pixels (1, size, size, 3) in one thread; called by several.
        threads: how many.
    """
    pool = ThreadPoolExecutor(threads, "engine")

    def start(pixels: NDArray[np.uint8]) -> Callable[[], Outputs]:
        running = [pool.submit(run, pixels[i : i + 1]) for i in range(len(pixels))]

        def finish() -> Outputs:
            rows = [future.result() for future in running]
            return {tap: np.concatenate([row[tap] for row in rows]) for tap in rows[0]}

        return finish

    return start
