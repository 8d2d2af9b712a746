"""What every engine is."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Compute = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]]
"""From a batch of pixels, uint8 (B, size, size, 3), to float32 features (B, ...) per tap."""
