"""What every engine is."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Features = Mapping[str, NDArray[np.float32]]
"""Per tap, float32 (B, ...)."""

Compute = Callable[[NDArray[np.uint8]], Callable[[], Features]]
"""Starts a batch of pixels, uint8 (B, size, size, 3). What it returns waits for the features, in any thread, so that
the next batch can be started meanwhile."""
