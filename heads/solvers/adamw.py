"""Dense nets and AdamW with NumPy. A step is computed in pieces that stay in the cache of the processor.

A net is a list of layers: weights (in, out) and bias (1, out), after them scale and shift (1, out) of a hidden layer's
batch normalisation. Everything equals what Keras does with ``AdamW``, ``Dropout`` and ``BatchNormalization`` at their
defaults.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.rows import Codes, Floats
from heads.solvers.goals import CLASSES, goal_of

Layer = list[Any]

_FLUSHED, _TINY = 100, 1e-30
"""After so many steps, moments below this number are set to 0: those of units that no longer learn would become
subnormal numbers, which are slow."""

Masks = list[NDArray[np.bool_] | None]
"""Masks of the features, then of the units of each hidden layer, that dropout leaves in; None for all."""

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7
_MOMENTUM, _VARIANCE = 0.99, 1e-3
_PIECE = 65_536
"""So many weights are updated at a time: with their moments and their gradient they fit in the L2 cache of a core."""
_LARGE = 4 * _PIECE
"""Several threads share a product or an update of at least so many weights."""
_PARTS = 4
"""The most threads, since more would wait for the interpreter; a product always has so many parts."""

Pool = ThreadPoolExecutor | None
"""Threads that share the work on large nets; None if the calling thread does it alone."""


def thread_pool(threads: int, numbers: int) -> Pool:
    """Make threads for nets of so many weights; None if they would not make training faster.

    They share products and updates, and BLAS has one thread in each of them: threads of BLAS wait for each other in
    every product, a hundred times a step, which takes ten times as long if another process uses a core. The parts of a
    product do not depend on the number of threads, and so the result does not either.
    """
    if threads < 2 or numbers < _LARGE:
        return None
    return ThreadPoolExecutor(min(threads, _PARTS), initializer=np.seterr, initargs=("ignore",))


def _shared(pool: Pool, work: Callable[[Any], object], tasks: Sequence[Any]) -> None:
    """Do all tasks, divided over the threads if there are any."""
    if pool is None:
        for task in tasks:
            work(task)
        return

    def run(part: Sequence[Any]) -> None:
        for task in part:
            work(task)

    size = -(-len(tasks) // _PARTS)
    for _ in pool.map(run, [tasks[start : start + size] for start in range(0, len(tasks), size)]):
        pass


def _product(a: Any, b: Any, pool: Pool) -> Any:
    """Return the product of (N, K) and (K, M)."""
    if b.size < _LARGE or b.shape[1] < _PARTS:
        return np.matmul(a, b)
    out = np.empty((len(a), b.shape[1]), a.dtype)
    edges = [b.shape[1] * part // _PARTS for part in range(_PARTS + 1)]
    columns = [slice(*pair) for pair in pairwise(edges)]
    _shared(pool, lambda part: np.matmul(a, b[:, part], out=out[:, part]), columns)
    return out


@dataclass(frozen=True)
class Shape:
    """The shape of a net: its widths from features to classes, and whether it has batch normalisation."""

    widths: tuple[int, ...]
    batch_norm: bool

    @property
    def sizes(self) -> list[list[tuple[int, int]]]:
        """The shapes of the arrays of each layer."""
        hidden = len(self.widths) - 2
        return [
            [(n, m)] + [(1, m)] * (3 if self.batch_norm and layer < hidden else 1)
            for layer, (n, m) in enumerate(zip(self.widths, self.widths[1:], strict=False))
        ]

    @property
    def numbers(self) -> int:
        """The number of weights."""
        return sum(n * m for layer in self.sizes for n, m in layer)


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of the training of a net. `rng` draws its first weights, and then its masks.

    If there are `features`, the net's inputs are coordinates of these, see :mod:`heads.solvers.components`.
    """

    shape: Shape
    learning_rate: float
    weight_decay: float
    input_dropout: float
    dropout: float
    label_smoothing: float
    rng: np.random.Generator
    features: int | None = None

    def weights(self) -> list[list[Floats]]:
        """Draw the first weights from Glorot's uniform distribution; biases are 0, scales 1.

        Units have inputs as large as with the features, of which there are more than coordinates.
        """
        layers = []
        for layer, ((n, m), *vectors) in enumerate(self.shape.sizes):
            inputs = self.features or n if layer == 0 else n
            limit = np.sqrt(6 / (inputs + m)) * np.sqrt(n / inputs)
            first = [self.rng.uniform(-limit, limit, (n, m)).astype(np.float32)]
            layers.append(first + [np.full(size, float(i == 1), np.float32) for i, size in enumerate(vectors)])
        return layers

    @property
    def shares(self) -> list[float]:
        """The shares of the features, and of the units of each hidden layer, that dropout leaves out."""
        return [self.input_dropout] + [self.dropout] * (len(self.shape.widths) - 2)

    def masks(self, rows: int) -> Masks:
        """Draw the masks of a step for so many rows."""
        return [self._mask(rows, *pair) for pair in zip(self.shares, self.shape.widths[:-1], strict=True)]

    def _mask(self, rows: int, share: float, width: int) -> NDArray[np.bool_] | None:
        if share == 0:
            return None
        # 16 random bits each, since drawing more would take longer than the rest of a small layer.
        bits = self.rng.bit_generator.random_raw(-(-rows * width // 4)).view(np.uint16)
        return np.asarray(bits[: rows * width].reshape(rows, width) >= round(share * 65_536))

    def rates(self, step: int) -> tuple[np.float32, np.float32]:
        """Return the step size with the bias correction of Adam, and the factor of weight decay."""
        correction = np.sqrt(1 - _BETA_2**step) / (1 - _BETA_1**step)
        return np.float32(self.learning_rate * correction), np.float32(1 - self.learning_rate * self.weight_decay)


def gradients(
    layers: list[Layer],
    x: Floats,
    target: Floats,
    masks: Masks,
    scales: Sequence[Any],
    pool: Pool = None,
    activation: Callable[[Any], Any] = CLASSES.activation,
) -> tuple[list[tuple[Any, Any]], list[list[Any]], list[tuple[Any, Any]], Any]:
    """Compute the gradients of the mean loss of a net by backpropagation.

    Args:
        layers: the net.
        x, target: rows (N, D), and what the activation of their logits is to be (N, C).
        masks, scales: see :data:`Masks`, and the factors of the values that each mask leaves in.
        pool: see :func:`thread_pool`.
        activation: of the logits, see :class:`heads.solvers.goals.Goal`; by default their softmax.

    Returns:
        For each layer its input and the residual at its output (their product is the gradient of its weights), the
        gradients of its vectors, for each batch normalisation the batch's mean and variance, and the logits (N, C).
    """

    def drop(gate: Any, values: Any, scale: Any) -> Any:
        return values if gate is None else np.where(gate, values * scale, np.float32(0))

    def total(values: Any) -> Any:
        return values.sum(axis=0, keepdims=True)

    share = target.dtype.type(1 / len(x))
    x = drop(masks[0], x, scales[0])
    inputs, gates, normed, moments = [x], [], [], []
    for (weights, bias, *norm), mask, scale in zip(layers[:-1], masks[1:], scales[1:], strict=True):
        z = _product(x, weights, pool) + bias
        if norm:
            mean = total(z * share)
            z = z - mean
            variance = total(z * z * share)
            inverse = 1 / np.sqrt(variance + _VARIANCE)
            z = z * inverse
            moments.append((mean, variance))
            normed.append((z, inverse))
            z = z * norm[0] + norm[1]
        gates.append(z > 0 if mask is None else np.logical_and(z > 0, mask))
        x = drop(gates[-1], z, 1.0 if mask is None else scale)
        inputs.append(x)
    logits = _product(x, layers[-1][0], pool) + layers[-1][1]
    residuals = [residual := (activation(logits) - target) * share]
    vectors = [[total(residual)]]
    for layer in reversed(range(len(layers) - 1)):
        back = _product(residual, layers[layer + 1][0].T, pool)
        residual = drop(gates[layer], back, 1.0 if masks[layer + 1] is None else scales[layer + 1])
        found = []
        if normed:
            z, inverse = normed[layer]
            found = [total(residual * z), total(residual)]
            residual = (residual - share * (found[1] + z * found[0])) * (inverse * layers[layer][2])
        residuals.insert(0, residual)
        vectors.insert(0, [total(residual), *found])
    return list(zip(inputs, residuals, strict=True)), vectors, moments, logits


def logits(layers: list[Layer], moments: list[list[Any]], x: Any, pool: Pool = None) -> Any:
    """Return the logits (N, C) of rows (N, D); batch normalisation uses its moving moments."""
    for layer, (weights, bias, *norm) in enumerate(layers):
        x = _product(x, weights, pool) + bias
        if norm:
            mean, variance = moments[layer]
            x = (x - mean) * (norm[0] / np.sqrt(variance + _VARIANCE)) + norm[1]
        if layer < len(layers) - 1:
            x = np.maximum(x, np.float32(0))
    return x


class Net:
    """A net whose weights are in one array, matrices before vectors, so that all vectors are updated at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._steps = settings, 0
        numbers = settings.shape.numbers
        self._flat, self._first, self._second = (np.zeros(numbers, np.float32) for _ in range(3))
        self.layers = self._views()
        for layer, values in zip(self.layers, settings.weights(), strict=True):
            for view, value in zip(layer, values, strict=True):
                view[:] = value
        norms = [layer[1].shape for layer in self.layers if len(layer) > 2]
        self.moments = [[np.zeros(size, np.float32), np.ones(size, np.float32)] for size in norms]

    def _views(self) -> list[Layer]:
        """Return the arrays of the layers, as views of the one array."""
        sizes, start = self._settings.shape.sizes, 0
        layers: list[Layer] = [[] for _ in sizes]
        for arrays in (slice(1), slice(1, None)):
            for layer, shapes in zip(layers, sizes, strict=True):
                for n, m in shapes[arrays]:
                    layer.append(self._flat[start : start + n * m].reshape(n, m))
                    start += n * m
        return layers

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "layers"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.layers = self._views()  # a pickle would hold copies of the views

    def scores(self, x: Floats, pool: Pool = None) -> Floats:
        """Return the logits of rows (N, D), float32 (N, C)."""
        scores: Floats = logits(self.layers, self.moments, x, pool)
        return scores

    def folded(self) -> list[tuple[Floats, Floats]]:
        """Return copies of the weights (in, out) and bias (out,) of each layer, which include batch normalisation."""
        layers = []
        for layer, (weights, bias, *norm) in enumerate(self.layers):
            if norm:
                mean, variance = self.moments[layer]
                factor = norm[0] / np.sqrt(variance + _VARIANCE)
                layers.append((weights * factor, ((bias - mean) * factor + norm[1])[0]))
            else:
                layers.append((weights.copy(), bias[0].copy()))
        return layers

    def step(self, x: Floats, codes: Codes, pool: Pool = None) -> Floats:
        """Take a step of AdamW on a batch, and return the logits (N, C) of the net before it, with dropout."""
        settings, goal = self._settings, goal_of(codes)
        target = goal.target(codes, settings.shape.widths[-1], settings.label_smoothing)
        scales = [np.float32(1 / (1 - left_out)) for left_out in settings.shares]
        masks = settings.masks(len(x))
        pairs, vectors, moments, scores = gradients(self.layers, x, target, masks, scales, pool, goal.activation)
        for moving, found in zip(self.moments, moments, strict=True):
            for old, new in zip(moving, found, strict=True):
                np.add(old, (new - old) * np.float32(1 - _MOMENTUM), out=old)
        self._steps += 1
        rate, decay = settings.rates(self._steps)
        pieces, start = [], 0
        for inputs, residual in pairs:
            rows = max(1, _PIECE // residual.shape[1])
            for row in range(0, inputs.shape[1], rows):
                pieces.append((start, inputs.T[row : row + rows], residual))
                start += pieces[-1][1].shape[0] * residual.shape[1]

        def update(piece: tuple[int, Floats, Floats]) -> None:
            # Each piece of the gradient is used while it is in the cache; the whole gradient never exists.
            place, rows, residual = piece
            self._adam(place, (rows @ residual).ravel(), rate, decay)

        _shared(pool if start >= _LARGE else None, update, pieces)
        self._adam(start, np.concatenate([v.ravel() for layer in vectors for v in layer]), rate, decay)
        if self._steps % _FLUSHED == 0:
            self._first[np.abs(self._first) < _TINY] = 0
        return np.asarray(scores)

    def _adam(self, start: int, gradient: Floats, rate: np.float32, decay: np.float32) -> None:
        """Update the weights from `start` on. The gradient is overwritten.

        The moments are kept divided by 1 - beta, which saves a pass over each of them.
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
