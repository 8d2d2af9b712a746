"""The Keras model of a network, compiled by Keras' backend, on every device that the backend has."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones import FrozenNetwork
from featurestore.backbones.base import Outputs
from featurestore.backbones.keras_network import forward, on_host
from featurestore.engines.base import Compute
from featurestore.errors import BackboneError
from featurestore.spec import Precision

if TYPE_CHECKING:
    import keras

Forward = Callable[[NDArray[np.uint8]], Sequence[dict[str, Any]]]
"""Starts the forward pass of a batch: per device that takes a part of it, arrays of that device by tap."""


def why_not(network: FrozenNetwork) -> Exception | None:
    """Return the error that it is no network of Keras, if so."""
    if network.keras_model() is None:
        return BackboneError(f"{network.name} is no network of Keras: pass another --engine, or none")
    return None


def adapted(network: FrozenNetwork) -> FrozenNetwork:
    """Return the network as it is."""
    return network


def compile_backbone(network: FrozenNetwork) -> Compute:
    """Compile the model's forward pass in the way that is the fastest of the backend."""
    import keras

    compilers = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    return InParts(compilers[keras.backend.backend()](network.keras_model(), network.precision))


def accelerators() -> int:
    """Count the GPUs that the backend of Keras sees; 0 where no network of Keras has been built yet."""
    if sys.modules.get("keras") is None:
        return 0
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return len(tf.config.list_logical_devices("GPU"))
    if keras.backend.backend() == "jax":
        import jax

        return jax.device_count("gpu") if jax.default_backend() == "gpu" else 0
    import torch

    return int(torch.cuda.device_count())


class InParts:
    """Runs a batch in as few parts as fit into the device's memory: parts are halved whenever they do not."""

    def __init__(self, forward: Forward) -> None:
        self._forward, self._parts = forward, 1

    def __call__(self, pixels: NDArray[np.uint8]) -> Callable[[], Outputs]:
        """Start a batch, see :data:`featurestore.engines.base.Compute`."""
        running, parts = None, self._parts
        try:
            running = self._start(pixels, parts)
        except Exception as error:
            self._halve(error, len(pixels), parts)

        def finish() -> Outputs:
            nonlocal running, parts
            while True:  # devices run behind: that memory is short may come out only here
                try:
                    if running is None:
                        parts = self._parts
                        running = self._start(pixels, parts)
                    return on_host(running)
                except Exception as error:
                    running = None
                    self._halve(error, len(pixels), parts)

        return finish

    def _start(self, pixels: NDArray[np.uint8], parts: int) -> list[dict[str, Any]]:
        return [part for some in np.array_split(pixels, parts) for part in self._forward(some)]

    def _halve(self, error: Exception, batch_size: int, parts: int) -> None:
        text = f"{type(error).__name__} {error}".lower().replace("_", "").replace(" ", "")
        if "outofmemory" not in text and "resourceexhausted" not in text:
            raise error
        if parts >= batch_size:
            raise BackboneError(
                "the device's memory does not hold the forward pass of one image: lower --size"
            ) from error
        self._parts = max(self._parts, 2 * parts)  # another batch may have halved it meanwhile


def graph(model: "keras.Model", precision: Precision = "float32") -> Any:
    """The forward pass of a model, see :func:`featurestore.backbones.keras_network.forward`, as a TensorFlow graph.

    It takes batches of any size, of each of its inputs. Its weights are constants: only then does TensorFlow fold batch
    normalization into convolutions.
    """
    import tensorflow as tf

    weights = [variable.numpy() for variable in model.variables]

    def run(pixels: Any) -> dict[str, Any]:
        with tf.name_scope("backbone"):  # a graph's outermost name must not begin with an underscore; a layer's may
            return forward(model, precision, pixels, [tf.constant(array) for array in weights])

    if isinstance(model.input, dict):
        pixels = {name: tf.TensorSpec(given.shape, tf.uint8, name) for name, given in model.input.items()}
    else:
        pixels = tf.TensorSpec(model.input.shape, tf.uint8)
    return tf.function(run, input_signature=[pixels], autograph=False).get_concrete_function()


def _tensorflow(model: "keras.Model", precision: Precision) -> Forward:
    import tensorflow as tf

    run = graph(model, precision)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")

    def start(pixels: NDArray[np.uint8]) -> list[dict[str, Any]]:
        running = []
        for device, part in zip(devices, np.array_split(pixels, len(devices)), strict=True):
            with tf.device(device.name):
                running.append(run(tf.constant(part)))
        return running

    return start


def _jax(model: "keras.Model", precision: Precision) -> Forward:
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    devices = jax.local_devices()
    mesh = Mesh(np.array(devices), ("batch",))
    everywhere, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("batch",)))
    weights = jax.device_put([variable.value for variable in model.variables], everywhere)
    run = jax.jit(lambda weights, pixels: forward(model, precision, pixels, weights))

    def start(pixels: NDArray[np.uint8]) -> list[dict[str, Any]]:
        whole = len(pixels) % len(devices) == 0
        return [run(weights, jax.device_put(pixels, split if whole else everywhere))]

    return start


def _torch(model: "keras.Model", precision: Precision) -> Forward:
    import torch

    def start(pixels: NDArray[np.uint8]) -> list[dict[str, Any]]:
        with torch.no_grad():
            return [forward(model, precision, pixels)]

    return start
