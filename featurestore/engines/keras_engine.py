"""The reference engine: the Keras model itself, compiled by its backend, on every device that the backend has."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones import Backbone
from featurestore.engines.base import Compute, Features
from featurestore.errors import BackboneError

Forward = Callable[[NDArray[np.uint8]], Sequence[dict[str, Any]]]
"""Starts the forward pass of a batch: per device that takes a part of it, arrays of that device by tap."""


def compile_backbone(backbone: Backbone) -> Compute:
    """The model's forward pass as the backend runs it fastest."""
    import keras

    compilers = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    return InParts(compilers[keras.backend.backend()](backbone))


def reference(backbone: Backbone, pixels: NDArray[np.uint8]) -> Features:
    """What all engines are measured against: the layers' own calls, one after the other, nothing compiled."""
    return _on_host([_forward(backbone, pixels)])


def accelerators() -> int:
    """How many GPUs the backend sees."""
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
    """Runs a batch in as few parts as the device's memory asks for: it is halved whenever it does not fit."""

    def __init__(self, forward: Forward) -> None:
        self._forward, self._parts = forward, 1

    def __call__(self, pixels: NDArray[np.uint8]) -> Callable[[], Features]:
        """Start a batch, see :data:`featurestore.engines.base.Compute`."""
        running, parts = None, self._parts
        try:
            running = self._start(pixels, parts)
        except Exception as error:
            self._halve(error, len(pixels), parts)

        def finish() -> Features:
            nonlocal running, parts
            while True:  # devices run behind: that memory is short may come out only here
                try:
                    if running is None:
                        parts = self._parts
                        running = self._start(pixels, parts)
                    return _on_host(running)
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


def _forward(backbone: Backbone, pixels: Any, weights: Sequence[Any] = ()) -> dict[str, Any]:
    """The layers' calls; while a backend traces them, with `weights` for the variables' values."""
    import keras

    mapping = list(zip(backbone.model.variables, weights, strict=True)) if weights else []
    with _computing(backbone), keras.StatelessScope(state_mapping=mapping):
        outputs = backbone.model(pixels, training=False)
    return {tap: keras.ops.cast(output, "float32") for tap, output in outputs.items()}


@contextmanager
def _computing(backbone: Backbone) -> Iterator[None]:
    """Layers compute in the backbone's precision, from weights in float32 (mixed precision)."""
    import keras

    trunks = [layer for layer in backbone.model.layers if isinstance(layer, keras.Model)]
    layers = [layer for trunk in trunks for layer in trunk._flatten_layers()]
    policies = [layer.dtype_policy for layer in layers]
    try:
        if backbone.precision != "float32":
            for layer in layers:
                layer.dtype_policy = f"mixed_{backbone.precision}"
        yield
    finally:
        for layer, policy in zip(layers, policies, strict=True):
            layer.dtype_policy = policy


def _on_host(parts: Sequence[dict[str, Any]]) -> Features:
    from keras import ops

    return {tap: np.concatenate([ops.convert_to_numpy(part[tap]) for part in parts]) for tap in parts[0]}


def graph(backbone: Backbone) -> Any:
    """The forward pass as a TensorFlow graph of batches of any size.

    Its weights are constants: only then does TensorFlow fold batch normalization into convolutions.
    """
    import tensorflow as tf

    weights = [variable.numpy() for variable in backbone.model.variables]

    def forward(pixels: Any) -> dict[str, Any]:
        with tf.name_scope("backbone"):  # a graph's outermost name must not begin with an underscore; a layer's may
            return _forward(backbone, pixels, [tf.constant(array) for array in weights])

    pixels = tf.TensorSpec((None, backbone.size, backbone.size, 3), tf.uint8)
    return tf.function(forward, input_signature=[pixels], autograph=False).get_concrete_function()


def _tensorflow(backbone: Backbone) -> Forward:
    import tensorflow as tf

    run = graph(backbone)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")

    def start(pixels: NDArray[np.uint8]) -> list[dict[str, Any]]:
        running = []
        for device, part in zip(devices, np.array_split(pixels, len(devices)), strict=True):
            with tf.device(device.name):
                running.append(run(tf.constant(part)))
        return running

    return start


def _jax(backbone: Backbone) -> Forward:
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    devices = jax.local_devices()
    mesh = Mesh(np.array(devices), ("batch",))
    everywhere, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("batch",)))
    weights = jax.device_put([variable.value for variable in backbone.model.variables], everywhere)
    run = jax.jit(lambda weights, pixels: _forward(backbone, pixels, weights))

    def start(pixels: NDArray[np.uint8]) -> list[dict[str, Any]]:
        whole = len(pixels) % len(devices) == 0
        return [run(weights, jax.device_put(pixels, split if whole else everywhere))]

    return start


def _torch(backbone: Backbone) -> Forward:
    import torch

    def start(pixels: NDArray[np.uint8]) -> list[dict[str, Any]]:
        with torch.no_grad():
            return [_forward(backbone, pixels)]

    return start
