"""The network's own way to compute, with which all other engines are compared. Every network has it."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones import FrozenNetwork
from featurestore.backbones.base import Outputs
from featurestore.engines.base import Compute


def why_not(network: FrozenNetwork) -> None:
    """Return None: every network can run so."""


def adapted(network: FrozenNetwork) -> FrozenNetwork:
    """Return the network as it is."""
    return network


def compile_backbone(network: FrozenNetwork) -> Compute:
    """Return the network's own function; features are computed when they are asked for."""

    def start(pixels: NDArray[np.uint8]) -> Callable[[], Outputs]:
        return lambda: network.run(pixels)

    return start
