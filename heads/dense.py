"""Dense nets: trained with Keras, used with NumPy alone."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np

from featurestore.errors import HeadError
from featurestore.runtime import import_keras
from heads.base import Head, HeldOut, Layers, Scaling, State, check_arrays
from heads.calibration import stratified_folds
from heads.data import Floats, Labels, Rows, Training
from heads.designs import parameter

_HELD_OUT = 10
"""One in so many training rows is held out when there are no validation rows."""


@dataclass(kw_only=True, eq=False)
class DenseHead(Head):
    """Layers of ReLU units with dropout, trained by AdamW on the cross-entropy.

    Training stops when the log loss on the validation rows (without any: on a tenth of the training rows) has not
    improved for `patience` epochs; the weights of the best epoch are kept. (Loshchilov & Hutter, "Decoupled weight
    decay regularization", ICLR 2019.)

    Fitted attributes: ``layers_``, for raw features: standardisation and batch normalisation are folded into them.
    """

    stops_early = True

    hidden: tuple[int, ...] = parameter((256,), "units of each hidden layer; 0 for none", low=1, high=65_536)
    input_dropout: float = parameter(0.0, "share of features left out in each step", low=0.0, high=0.95)
    dropout: float = parameter(0.5, "share of units left out in each step", low=0.0, high=0.95)
    batch_norm: bool = parameter(False, "batch normalisation before each activation")
    learning_rate: float = parameter(1e-3, "step size of AdamW", low=1e-8, high=1.0)
    weight_decay: float = parameter(1e-4, "decay of the weights in AdamW", low=0.0, high=1.0)
    label_smoothing: float = parameter(0.0, "share of the target spread over all classes", low=0.0, high=0.9)
    epochs: int = parameter(100, "most passes over the training rows", low=1, high=100_000)
    batch_size: int = parameter(64, "rows in a step", low=1, high=1_000_000)
    patience: int = parameter(10, "epochs without improvement before training stops", low=1, high=100_000)

    def _fit(
        self, training: Training, scaling: Scaling, validation: Rows | None, folds: Labels | None
    ) -> HeldOut | None:
        if validation is None:
            Z, codes = training.plain
            held = stratified_folds(codes, _HELD_OUT, self.random_state, training.groups) == 0
            validation = (Z[held], codes[held]) if held.any() else (Z, codes)
            training = training.of(~held)
        layers = dense_layers(self._train(training, validation))
        if not all(np.isfinite(array).all() for layer in layers for array in layer):
            raise HeadError("the training of the dense head diverged: give a smaller learning_rate")
        self.layers_: Layers = [scaling.fold(*layers[0]), *layers[1:]]
        return None

    def _train(self, training: Training, validation: Rows) -> Any:
        """The trained Keras model: standardised rows to logits."""
        keras = import_keras("the dense head")
        with _seeded(keras, self.random_state):
            model = keras.Sequential([keras.Input((training.Z.shape[1],)), keras.layers.Dropout(self.input_dropout)])
            for units in self.hidden:
                model.add(keras.layers.Dense(units))
                if self.batch_norm:
                    model.add(keras.layers.BatchNormalization())
                model.add(keras.layers.ReLU())
                model.add(keras.layers.Dropout(self.dropout))
            model.add(keras.layers.Dense(len(self.classes_)))
            model.compile(
                optimizer=keras.optimizers.AdamW(self.learning_rate, weight_decay=self.weight_decay),
                loss=self._loss(keras),
                metrics=[keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="log_loss")],
            )
            if training.weights is None:
                rows = {"x": training.Z, "y": training.codes, "batch_size": self.batch_size}
            else:
                rows = {"x": _draws(keras, training, self.batch_size, self.random_state), "shuffle": False}
            # Not the loss: that of smoothed labels is least where probabilities are wrong.
            best = {"monitor": "val_log_loss", "mode": "min", "restore_best_weights": True}
            trained = model.fit(
                **rows,
                epochs=self.epochs,
                validation_data=validation,
                validation_batch_size=max(self.batch_size, 1024),
                callbacks=[keras.callbacks.EarlyStopping(patience=self.patience, **best)],
                verbose=0,
            )
        names = {"train": "log_loss", "validation": "val_log_loss"}
        self.history_ = {
            name: [round(loss, 4) for loss in trained.history[key] if np.isfinite(loss)] for name, key in names.items()
        }
        return model

    def _loss(self, keras: Any) -> Any:
        """Cross-entropy of logits (N, C) and labels (N,), smoothed."""
        if self.label_smoothing == 0:
            return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        entropy = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=self.label_smoothing)

        def smoothed(codes: Any, logits: Any) -> Any:
            return entropy(keras.ops.one_hot(keras.ops.reshape(codes, (-1,)), len(self.classes_)), logits)

        return smoothed

    def _scores(self, X: Floats) -> Floats:
        for weights, bias in self.layers_[:-1]:
            X = np.maximum(X @ weights + bias, 0, dtype=np.float32)
        weights, bias = self.layers_[-1]
        return np.asarray(X @ weights + bias)

    def as_layers(self) -> Layers:
        """See :meth:`Head.as_layers`."""
        return self.layers_

    def state(self) -> State:
        """See :meth:`Head.state`."""
        return {
            name: array for i, layer in enumerate(self.layers_) for name, array in zip(_names(i), layer, strict=True)
        }

    def restore(self, state: State) -> None:
        """See :meth:`Head.restore`."""
        widths = list(pairwise((self.n_features_in_, *self.hidden, len(self.classes_))))
        shapes = {
            name: shape
            for i, (n, m) in enumerate(widths)
            for name, shape in zip(_names(i), ((n, m), (m,)), strict=True)
        }
        check_arrays(state, shapes)
        self.layers_ = [(state[w], state[b]) for w, b in map(_names, range(len(widths)))]


def _draws(keras: Any, training: Training, batch_size: int, seed: int) -> Any:
    """Batches as Keras takes them: in each epoch one version of each image, drawn anew, in another order."""
    rng = np.random.default_rng(seed)
    order = np.argsort(training.image, kind="stable")
    versions = np.bincount(training.image)
    first = versions.cumsum() - versions

    class Draws(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.on_epoch_end()

        def on_epoch_end(self) -> None:
            self.rows = rng.permutation(order[first + rng.integers(versions)])

        def __len__(self) -> int:
            return ceil(len(self.rows) / batch_size)

        def __getitem__(self, batch: int) -> Rows:
            rows = self.rows[batch * batch_size : (batch + 1) * batch_size]
            return training.Z[rows], training.codes[rows]

    return Draws()


def _names(layer: int) -> tuple[str, str]:
    return f"weights_{layer}", f"bias_{layer}"


def dense_layers(model: Any) -> Layers:
    """The layers of a Keras model made by :class:`DenseHead`, as float32 arrays, batch normalisation folded in."""
    layers: Layers = []
    for layer in model.layers:
        values = [np.asarray(value, np.float32) for value in layer.get_weights()]
        match type(layer).__name__:
            case "Dense":
                layers.append((values[0], values[1]))
            case "BatchNormalization":
                gamma, beta, mean, variance = values
                factor = gamma / np.sqrt(variance + layer.epsilon)
                weights, bias = layers.pop()
                layers.append((weights * factor, (bias - mean) * factor + beta))
    return layers


@contextmanager
def _seeded(keras: Any, seed: int) -> Iterator[None]:
    """Seed Keras, and leave the global random states of Python and NumPy as they were."""
    python, legacy = random.getstate(), np.random.get_state()
    try:
        keras.utils.set_random_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
