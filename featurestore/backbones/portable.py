"""A network that OpenVINO runs without what it was built with: its layers are there once more when they are needed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones.base import FrozenNetwork, Outputs
from featurestore.errors import BackboneError

if TYPE_CHECKING:
    import keras

_PICTURES, _COARSE = 2, 7


@dataclass(frozen=True, eq=False)
class PortableNetwork(FrozenNetwork):
    """A network in the form that OpenVINO reads, with what the network's own layers gave for two pictures.

    Attributes:
        xml, numbers: the OpenVINO model, from pixels uint8 (1, size, size, 3) to outputs called like the taps; its
            weights are uint8 (bytes,).
        expected: the features of :func:`sample_pixels` by the layers that it was made from.
        made_by: see :meth:`libraries`.
        build: gives the network itself, which may take seconds.
    """

    xml: bytes
    numbers: NDArray[np.uint8]
    expected: Outputs
    made_by: tuple[str, ...]
    build: Callable[[], FrozenNetwork]

    @cached_property
    def itself(self) -> FrozenNetwork:
        """The network that this one was made from, built.

        Raises:
            BackboneError: its weights are others now.
        """
        found = self.build()
        if found.weights_digest != self.weights_digest:
            raise BackboneError(f"{self.name}: its weights have changed during the run: run the same command again")
        return found

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        """See :meth:`FrozenNetwork.run`."""
        return self.itself.run(pixels)

    def libraries(self) -> tuple[str, ...]:
        """See :meth:`FrozenNetwork.libraries`; the OpenVINO model holds their arithmetic."""
        return self.made_by

    def keras_model(self) -> "keras.Model | None":
        """See :meth:`FrozenNetwork.keras_model`."""
        return self.itself.keras_model()

    def sample(self) -> tuple[NDArray[np.uint8], Outputs] | None:
        """Return :func:`sample_pixels` and their features; None if these would tell nothing."""
        if not all(np.any(values) for values in self.expected.values()):
            return None
        return sample_pixels(self.size), self.expected

    def openvino_model(self) -> Any:
        """See :meth:`FrozenNetwork.openvino_model`."""
        return self._model

    @cached_property
    def _model(self) -> Any:
        import openvino

        return openvino.Core().read_model(self.xml, openvino.Tensor(self.numbers))


def portable(network: FrozenNetwork, xml: bytes, numbers: NDArray[np.uint8]) -> PortableNetwork:
    """Return a network together with its OpenVINO model, see :class:`PortableNetwork`."""
    expected = network.run(sample_pixels(network.size))
    return PortableNetwork(
        **network.facts(),
        xml=xml,
        numbers=numbers,
        expected=expected,
        made_by=network.libraries(),
        build=lambda: network,
    )


def sample_pixels(size: int) -> NDArray[np.uint8]:
    """Two pictures, uint8 (2, size, size, 3), always the same: patches of colours, and such patches under noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (_PICTURES, _COARSE, _COARSE, 3))
    near = np.arange(size) * _COARSE // size
    pixels = coarse[:, near[:, None], near[None, :]]
    pixels[1] = pixels[1] // 2 + rng.integers(0, 128, pixels[1].shape)
    return pixels.astype(np.uint8)
