"""The arithmetic of dense nets: one step of AdamW for many nets, with NumPy or with Keras.

A net is a list of layers: weights (in, out) and bias (1, out), after them scale and shift (1, out) of a hidden layer's
batch normalisation. Both kinds of nets here take the same steps. NumPy's go one by one, each while its numbers are in
the cache, which on a CPU is faster than any compiled program tried (and Keras need not be imported); Keras's are
stacked along a first axis, and one program moves them all, which is what a GPU wants.

Everything equals what Keras does with ``AdamW``, ``Dropout`` and ``BatchNormalization`` at their defaults.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.runtime import import_keras
from heads.data import Floats, Labels

Layer = list[Any]

_FLUSHED, _TINY = 100, 1e-30
"""Steps after which moments below that become 0, as units that no longer learn would make them subnormal: slow."""

Masks = list[NDArray[np.bool_] | None]
"""Of the features, then of each hidden layer's units: what is left in; None for all."""

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7
_MOMENTUM, _VARIANCE = 0.99, 1e-3
_PIECE = 65_536
"""Weights updated at a time: with both their moments and their gradient they fit into a core's cache (L2)."""


@dataclass(frozen=True)
class Shape:
    """What stacked nets have in common: widths from features to classes, and batch normalisation."""

    widths: tuple[int, ...]
    batch_norm: bool

    @property
    def sizes(self) -> list[list[tuple[int, int]]]:
        """Shapes of the arrays of each layer."""
        hidden = len(self.widths) - 2
        return [
            [(n, m)] + [(1, m)] * (3 if self.batch_norm and layer < hidden else 1)
            for layer, (n, m) in enumerate(zip(self.widths, self.widths[1:], strict=False))
        ]

    @property
    def numbers(self) -> int:
        """How many weights."""
        return sum(n * m for layer in self.sizes for n, m in layer)


@dataclass(frozen=True)
class Settings:
    """Hyperparameters of one net's steps; `masks` draws from `rng`, which its first weights came from."""

    shape: Shape
    learning_rate: float
    weight_decay: float
    input_dropout: float
    dropout: float
    label_smoothing: float
    rng: np.random.Generator

    def weights(self) -> list[list[Floats]]:
        """First weights: Glorot's uniform distribution, biases 0, scales 1."""
        layers = []
        for (n, m), *vectors in self.shape.sizes:
            limit = np.sqrt(6 / (n + m))
            first = [self.rng.uniform(-limit, limit, (n, m)).astype(np.float32)]
            layers.append(first + [np.full(size, float(i == 1), np.float32) for i, size in enumerate(vectors)])
        return layers

    @property
    def shares(self) -> list[float]:
        """Share left out of the features and of each hidden layer."""
        return [self.input_dropout] + [self.dropout] * (len(self.shape.widths) - 2)

    def masks(self, rows: int) -> Masks:
        """Drawn anew for each step."""
        return [self._mask(rows, *pair) for pair in zip(self.shares, self.shape.widths[:-1], strict=True)]

    def _mask(self, rows: int, share: float, width: int) -> NDArray[np.bool_] | None:
        if share == 0:
            return None
        # 16 random bits each, because drawing them costs more than the rest of a small layer.
        bits = self.rng.bit_generator.random_raw(-(-rows * width // 4)).view(np.uint16)
        return np.asarray(bits[: rows * width].reshape(rows, width) >= round(share * 65_536))

    def smooth(self, target: Floats) -> Floats:
        """Targets (N, C) with label smoothing."""
        return target * np.float32(1 - self.label_smoothing) + np.float32(self.label_smoothing / target.shape[1])

    def rates(self, step: int) -> tuple[np.float32, np.float32]:
        """Step size with Adam's correction for the start, and what weight decay leaves."""
        correction = np.sqrt(1 - _BETA_2**step) / (1 - _BETA_1**step)
        return np.float32(self.learning_rate * correction), np.float32(1 - self.learning_rate * self.weight_decay)


def gradients(
    ops: Any, layers: list[Layer], x: Any, target: Any, share: Any, masks: Sequence[Any], scales: Sequence[Any]
) -> tuple[list[tuple[Any, Any]], list[list[Any]], list[tuple[Any, Any]]]:
    """Backpropagation of the cross-entropy through nets, stacked or single.

    Args:
        ops: ``numpy`` or ``keras.ops``.
        layers: the nets.
        x: rows (..., N, D).
        target: probabilities (..., N, C).
        share: weight of each row, 1 in total: (N, 1) or a number.
        masks: see :data:`Masks`.
        scales: what the values that a mask leaves in are multiplied by.

    Returns:
        For each layer its input and the residual at its output (their product is the gradient of its weights), the
        gradients of its vectors, and for each batch normalisation the batch's mean and variance.
    """

    def drop(gate: Any, values: Any, scale: Any) -> Any:
        return values if gate is None else ops.where(gate, values * scale, 0.0)

    def total(values: Any) -> Any:
        return ops.sum(values, axis=-2, keepdims=True)

    x = drop(masks[0], x, scales[0])
    inputs, gates, normed, moments = [x], [], [], []
    for (weights, bias, *norm), mask, scale in zip(layers[:-1], masks[1:], scales[1:], strict=True):
        z = ops.matmul(x, weights) + bias
        if norm:
            mean = total(z * share)
            z = z - mean
            variance = total(z * z * share)
            inverse = 1 / ops.sqrt(variance + _VARIANCE)
            z = z * inverse
            moments.append((mean, variance))
            normed.append((z, inverse))
            z = z * norm[0] + norm[1]
        gates.append(z > 0 if mask is None else ops.logical_and(z > 0, mask))
        x = drop(gates[-1], z, 1.0 if mask is None else scale)
        inputs.append(x)
    logits = ops.matmul(x, layers[-1][0]) + layers[-1][1]
    powers = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))
    residual = (powers / ops.sum(powers, axis=-1, keepdims=True) - target) * share
    residuals, vectors = [residual], [[total(residual)]]
    for layer in reversed(range(len(layers) - 1)):
        back = ops.matmul(residual, ops.swapaxes(layers[layer + 1][0], -1, -2))
        residual = drop(gates[layer], back, 1.0 if masks[layer + 1] is None else scales[layer + 1])
        found = []
        if normed:
            z, inverse = normed[layer]
            found = [total(residual * z), total(residual)]
            residual = (residual - share * (found[1] + z * found[0])) * (inverse * layers[layer][2])
        residuals.insert(0, residual)
        vectors.insert(0, [total(residual), *found])
    return list(zip(inputs, residuals, strict=True)), vectors, moments


def logits(ops: Any, layers: list[Layer], moments: list[list[Any]], x: Any) -> Any:
    """Scores (..., N, C) of rows; batch normalisation by its moving moments."""
    for layer, (weights, bias, *norm) in enumerate(layers):
        x = ops.matmul(x, weights) + bias
        if norm:
            mean, variance = moments[layer]
            x = (x - mean) * (norm[0] / ops.sqrt(variance + _VARIANCE)) + norm[1]
        if layer < len(layers) - 1:
            x = ops.maximum(x, 0.0)
    return x


class Nets(Protocol):
    """Nets that are trained on the same batches."""

    def __init__(self, settings: Sequence[Settings], batch_size: int) -> None: ...

    def step(self, x: Floats, codes: Labels) -> None:
        """One step of AdamW on a batch of at most `batch_size` rows."""

    def scores(self, x: Floats) -> list[Floats]:
        """Of each net: float32 (N, C)."""

    def keep(self, nets: list[int]) -> None:
        """Forget all others."""


class NumpyNets:
    """Nets of any shapes, one after the other."""

    def __init__(self, settings: Sequence[Settings], batch_size: int) -> None:
        self._nets = [_NumpyNet(each) for each in settings]

    def step(self, x: Floats, codes: Labels) -> None:
        """See :class:`Nets`."""
        for net in self._nets:
            net.step(x, codes)

    def scores(self, x: Floats) -> list[Floats]:
        """See :class:`Nets`."""
        return [logits(np, net.layers, net.moments, x) for net in self._nets]

    def keep(self, nets: list[int]) -> None:
        """See :class:`Nets`."""
        self._nets = [self._nets[net] for net in nets]


class _NumpyNet:
    """One net. All its weights stand in one array, matrices before vectors, so that vectors are updated in one go."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._steps = settings, 0
        numbers = settings.shape.numbers
        self._flat, self._first, self._second = (np.zeros(numbers, np.float32) for _ in range(3))
        self.layers: list[Layer] = [[] for _ in settings.shape.sizes]
        given, start = settings.weights(), 0
        for arrays in (slice(1), slice(1, None)):
            for layer, values in zip(self.layers, given, strict=True):
                for value in values[arrays]:
                    view = self._flat[start : start + value.size].reshape(value.shape)
                    view[:] = value
                    layer.append(view)
                    start += value.size
        norms = [layer[1].shape for layer in self.layers if len(layer) > 2]
        self.moments = [[np.zeros(size, np.float32), np.ones(size, np.float32)] for size in norms]

    def step(self, x: Floats, codes: Labels) -> None:
        settings, share = self._settings, np.float32(1 / len(x))
        target = settings.smooth(np.eye(settings.shape.widths[-1], dtype=np.float32)[codes])
        scales = [np.float32(1 / (1 - left_out)) for left_out in settings.shares]
        pairs, vectors, moments = gradients(np, self.layers, x, target, share, settings.masks(len(x)), scales)
        for moving, found in zip(self.moments, moments, strict=True):
            for old, new in zip(moving, found, strict=True):
                np.add(old, (new - old) * np.float32(1 - _MOMENTUM), out=old)
        self._steps += 1
        rate, decay = settings.rates(self._steps)
        start = 0
        for inputs, residual in pairs:
            rows = max(1, _PIECE // residual.shape[1])
            for row in range(0, inputs.shape[1], rows):
                # Used up while it is in the cache: the whole gradient is nowhere.
                start = self._adam(start, (inputs.T[row : row + rows] @ residual).ravel(), rate, decay)
        self._adam(start, np.concatenate([v.ravel() for layer in vectors for v in layer]), rate, decay)
        if self._steps % _FLUSHED == 0:
            self._first[np.abs(self._first) < _TINY] = 0

    def _adam(self, start: int, gradient: Floats, rate: np.float32, decay: np.float32) -> int:
        """Update the weights from `start` on; gives the place after them. The gradient is overwritten.

        The moments are stored divided by 1 - beta, which saves a pass over each.
        """
        stop = start + gradient.size
        weights, first, second = (each[start:stop] for each in (self._flat, self._first, self._second))
        first *= np.float32(_BETA_1)
        first += gradient
        np.square(gradient, out=gradient)
        second *= np.float32(_BETA_2)
        second += gradient
        np.sqrt(second, out=gradient)
        spread = np.sqrt(1 - _BETA_2)
        gradient += np.float32(_EPSILON / spread)
        np.divide(first, gradient, out=gradient)
        gradient *= np.float32(rate * (1 - _BETA_1) / spread)
        weights *= decay
        weights -= gradient
        return stop


class KerasNets:
    """Nets of one shape, stacked, on Keras's backend: one compiled program takes a step of them all."""

    def __init__(self, settings: Sequence[Settings], batch_size: int) -> None:
        self._keras = import_keras("a population of dense nets")
        self._settings, self._batch_size, self._steps = list(settings), batch_size, 0
        self._stack = list(range(len(settings)))
        tensor = self._keras.ops.convert_to_tensor
        given = [each.weights() for each in settings]
        stacks = [[np.stack(same) for same in zip(*layer, strict=True)] for layer in zip(*given, strict=True)]
        self._layers = [[tensor(stack) for stack in layer] for layer in stacks]
        zeros = self._keras.ops.zeros_like
        self._first, self._second = ([[zeros(a) for a in layer] for layer in self._layers] for _ in range(2))
        norms = [layer[1] for layer in self._layers if len(layer) > 2]
        self._moments = [[zeros(bias), self._keras.ops.ones_like(bias)] for bias in norms]
        self._take_step, self._take_scores = (_compiled(self._keras, f) for f in (self._program, self._forward))

    def _program(self, state: Any, batch: Any, rates: Any, scales: Any) -> Any:
        ops = self._keras.ops
        layers, first, second, moments = state
        pairs, vectors, found = gradients(ops, layers, batch[0], batch[1], batch[2], batch[3], scales)
        moments = [
            [old + (new - old) * (1 - _MOMENTUM) for old, new in zip(*both, strict=True)]
            for both in zip(moments, found, strict=True)
        ]
        new: Any = ([], [], [])
        for (inputs, residual), more, *old in zip(pairs, vectors, layers, first, second, strict=True):
            given = [ops.matmul(ops.swapaxes(inputs, -1, -2), residual), *more]
            updated = [self._adam(*each, *rates) for each in zip(given, *old, strict=True)]
            for kind, values in zip(new, zip(*updated, strict=True), strict=True):
                kind.append(list(values))
        return [*new, moments]

    def _adam(self, gradient: Any, weights: Any, first: Any, second: Any, rate: Any, decay: Any) -> Any:
        first = first + (gradient - first) * (1 - _BETA_1)
        second = second + (gradient * gradient - second) * (1 - _BETA_2)
        return weights * decay - rate * first / (self._keras.ops.sqrt(second) + _EPSILON), first, second

    def _forward(self, layers: Any, moments: Any, x: Any) -> Any:
        return logits(self._keras.ops, layers, moments, x)

    def step(self, x: Floats, codes: Labels) -> None:
        """See :class:`Nets`. The batch is filled up with rows of no weight: the program is compiled for one size."""
        rows, size = len(x), self._batch_size
        share = np.zeros((size, 1), np.float32)
        share[:rows] = 1 / rows
        target = np.zeros((size, self._settings[0].shape.widths[-1]), np.float32)
        target[np.arange(rows), codes] = 1
        x = np.concatenate([x, np.zeros((size - rows, x.shape[1]), np.float32)])
        masks = [_together(same, size) for same in zip(*(each.masks(rows) for each in self._settings), strict=True)]
        self._steps += 1

        def column(values: Any) -> Any:
            return self._tensor(np.asarray(list(values), np.float32)[:, None, None])

        rates = [column(same) for same in zip(*(each.rates(self._steps) for each in self._settings), strict=True)]
        scales = [
            column(1 / (1 - s) for s in same) for same in zip(*(each.shares for each in self._settings), strict=True)
        ]
        targets = np.stack([each.smooth(target) for each in self._settings])
        batch = [*map(self._tensor, (x, targets, share)), [None if m is None else self._tensor(m) for m in masks]]
        state = (self._layers, self._first, self._second, self._moments)
        self._layers, self._first, self._second, self._moments = self._take_step(state, batch, rates, scales)

    def _tensor(self, values: Any) -> Any:
        return self._keras.ops.convert_to_tensor(values)

    def scores(self, x: Floats) -> list[Floats]:
        """See :class:`Nets`."""
        found = self._take_scores(self._layers, self._moments, self._tensor(x))
        return [*self._keras.ops.convert_to_numpy(found)[self._stack]]

    def keep(self, nets: list[int]) -> None:
        """See :class:`Nets`. Others leave the stack when they are half of it: each size is compiled anew."""
        self._stack = [self._stack[net] for net in nets]
        if 0 < 2 * len(self._stack) <= len(self._settings):
            rows, take = np.asarray(self._stack), self._keras.ops.take
            state = (self._layers, self._first, self._second, self._moments)
            self._layers, self._first, self._second, self._moments = (
                [[take(array, rows, axis=0) for array in layer] for layer in part] for part in state
            )
            self._settings = [self._settings[row] for row in self._stack]
            self._stack = list(range(len(rows)))


def _together(masks: Sequence[NDArray[np.bool_] | None], rows: int) -> NDArray[np.bool_] | None:
    """Masks of several nets, stacked and filled up to so many rows; None if no net has one."""
    width = next((mask.shape[1] for mask in masks if mask is not None), None)
    if width is None:
        return None
    stacked = np.ones((len(masks), rows, width), bool)
    for place, mask in zip(stacked, masks, strict=True):
        if mask is not None:
            place[: len(mask)] = mask
    return stacked


def _compiled(keras: Any, function: Any) -> Any:
    """The function as the backend runs it fastest."""
    match keras.backend.backend():
        case "jax":
            import jax

            return jax.jit(function)
        case "tensorflow":
            import tensorflow as tf

            return tf.function(function)  # XLA would be twice as slow on a CPU
    return function
