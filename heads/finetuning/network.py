"""A backbone and a head as one Keras model, of which the top is trained."""

import math
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones import FrozenNetwork, graph
from featurestore.backbones.keras_network import KerasNetwork, pooled
from featurestore.backbones.preprocessing import Preprocessing
from featurestore.backbones.taps import Tokens
from featurestore.errors import BackboneError, HeadError
from featurestore.spec import Pool, Tap
from heads.feature_table import Floats
from heads.kinds.answering import calibrated_layer
from heads.kinds.base import Head
from heads.kinds.design import kinds_of_layers
from heads.solvers.arrays import Scaling, standardise
from heads.storage.numeric_input import names_of
from heads.storage.saved_head import FittedHead
from heads.tasks.base import Link

if TYPE_CHECKING:
    import keras

Array = NDArray[Any]

BACKBONE_SHARE = 0.1
"""Learning rate of the backbone's layers, as a share of the head's (Howard & Ruder, "Universal language model
fine-tuning", ACL 2018, call such rates discriminative)."""


def check_joinable(fitted: FittedHead) -> None:
    """Check that a head is made of layers, on one tap of one backbone.

    Raises:
        HeadError: it is not.
    """
    if fitted.head.as_layers() is None:
        raise HeadError(
            f"{fitted.path}: a head of kind {fitted.design.kind!r} cannot be trained together with its backbone: "
            f"fit one of {', '.join(kinds_of_layers())}"
        )
    if fitted.numeric:
        raise HeadError(
            f"{fitted.path}: takes the numeric columns {names_of(fitted.numeric)} beside the image, and only a head on "
            "features of the image alone can be trained together with its backbone: fit one without tabular"
        )
    if len(fitted.inputs) > 1:
        raise HeadError(
            f"{fitted.path}: fitted on {len(fitted.inputs)} taps side by side, and only a head on one can be trained "
            "together with its backbone: fit one with --features TAP"
        )
    if not fitted.head.task_.has_probabilities:
        raise HeadError(
            f"{fitted.path}: predicts a number, and only a head of classes or labels can be trained together with its "
            "backbone"
        )
    if (crops := fitted.inputs[0].spec.crops) > 1:
        raise HeadError(
            f"{fitted.path}: fitted on the mean of {crops} crops of each image, and only a head on one look can be "
            "trained together with its backbone: extract with --crops 1, and fit a head on that"
        )


@dataclass(frozen=True, eq=False)
class Trunk:
    """A backbone up to the tap of a head, cut where training begins.

    Attributes:
        whole: from preprocessed images to the tap's layer.
        bottom: its part that stays as it is, up to `boundary`; None if there is none.
        top: the rest, with all layers that are trained.
        boundary: layer at which the two meet, or None.
        pool, size, preprocessing, tokens: of the backbone.
    """

    whole: "keras.Model"
    bottom: "keras.Model | None"
    top: "keras.Model"
    boundary: str | None
    pool: Pool
    size: int
    preprocessing: str
    tokens: Tokens | None

    @classmethod
    def of(cls, backbone: FrozenNetwork, tap: Tap, unfreeze: str, *, scratch: bool = False) -> "Trunk":
        """Cut a backbone.

        Args:
            backbone: the network; the tap is among its own.
            tap: the head's.
            unfreeze: see :func:`featurestore.backbones.graph.from_layer`.
            scratch: its weights are random: batch normalization learns too, and does not stay in inference mode.

        Raises:
            BackboneError: no such layer, or the backbone is no network of Keras.
        """
        import keras

        model = backbone.keras_model()
        if model is None:
            raise BackboneError(f"{backbone.name} is no network of Keras, and only such can be trained")
        part = next(layer for layer in model.layers if isinstance(layer, keras.Model))
        whole = keras.Model(part.inputs[0], part.output[tap.layer], name=part.name)
        trained = graph.from_layer(whole, unfreeze)
        boundary = graph.boundary(whole, trained)
        bottom, top = graph.split(whole, boundary) if boundary else (None, whole)
        for layer in whole.layers:
            layer.trainable = layer.name in trained
        for layer in whole._flatten_layers():
            # Not training=False: in a model inside a model, Keras overrules that with the outer call's value.
            if isinstance(layer, keras.layers.BatchNormalization) and not scratch:
                layer.trainable = False
        tokens = backbone.tokens if isinstance(backbone, KerasNetwork) else None
        return cls(whole, bottom, top, boundary, tap.pool, backbone.size, backbone.preprocessing, tokens)

    def encoder(self, cached: str | None) -> "keras.Model":
        """Build the model from rows at the boundary, of type `cached`, to features (B, D); for None, from pixels."""
        import keras

        if cached:
            rows = keras.Input(self.top.inputs[0].shape[1:], dtype=cached)
            maps = self.top(keras.ops.cast(rows, "float32"))
        else:
            rows = keras.Input((self.size, self.size, 3), dtype="uint8")
            images = Preprocessing.of(self.preprocessing)(rows)
            maps = self.top(self.bottom(images) if self.bottom else images)
        features = pooled(maps, self.pool, self.tokens)
        return keras.Model(rows, features if len(features.shape) == 2 else keras.layers.Flatten()(features))

    def complete(self) -> "tuple[keras.Model, Pool]":
        """Return the model that is to be saved, and how its output is to be pooled.

        A file does not tell which of its tokens are which, so those are pooled already.
        """
        import keras

        output = self.whole.outputs[0]
        if self.tokens is None or len(output.shape) != 3 or self.pool in ("none", "flatten"):
            return self.whole, self.pool
        return keras.Model(self.whole.inputs[0], pooled(output, self.pool, self.tokens), name=self.whole.name), "avg"

    def memory(self, batch_size: int, cached: bool) -> int:
        """Estimate the bytes that training takes: activations and weights, with gradients, moments and a copy."""
        from keras import tree

        def places(model: "keras.Model") -> list[int]:
            return [math.prod(t.shape[1:]) for layer in model.layers for t in tree.flatten(layer.output)]

        kept = 2 * sum(places(self.top))
        passing = 0 if cached or self.bottom is None else 2 * max(places(self.bottom))
        trained = sum(math.prod(weight.shape) for weight in self.top.trainable_variables)
        return int(4 * (batch_size * (kept + passing) + self.whole.count_params() + 5 * trained))


@dataclass(frozen=True, eq=False)
class Joined:
    """A trunk with a head on top.

    Attributes:
        model: from rows, as :meth:`Trunk.encoder` takes them, to logits (B, C).
        dense: the head's layers, for standardised features.
        scaling: how features are standardised.
        origin: the head that they came from.
        variables: of the model, but for those of the part that is never trained.
    """

    model: "keras.Model"
    dense: list[Any]
    scaling: Scaling
    origin: Head
    variables: list[Any]

    @classmethod
    def of(cls, trunk: Trunk, encoder: "keras.Model", head: Head, sample: Floats, seed: int) -> "Joined":
        """Put a head on a trunk; the model gives the probabilities that both gave before.

        Its first layer was fitted to standardised features, and is trained on such: else steps of one size would be
        far too large for some of its weights, and too small for others.

        Args:
            trunk: the backbone.
            encoder: made by it.
            head: linear or dense.
            sample: features (N, D) that tell their scale.
            seed: of the dropout.
        """
        import keras

        pairs = [*(head.as_layers() or ())]
        scaling = standardise(sample)[1]
        pairs[0] = (pairs[0][0] * scaling.scale[:, None], pairs[0][1] + scaling.mean @ pairs[0][0])
        pairs[-1] = calibrated_layer(head, *pairs[-1])
        x = (encoder.outputs[0] - scaling.mean) / scaling.scale
        x = keras.layers.Dropout(getattr(head, "input_dropout", 0.0), seed=seed)(x)
        dense = []
        for number, (_, bias) in enumerate(pairs):
            if number:
                x = keras.layers.Dropout(getattr(head, "dropout", 0.0), seed=seed + number)(keras.layers.ReLU()(x))
            dense.append(keras.layers.Dense(len(bias), kernel_initializer="zeros"))
            x = dense[-1](x)
        for layer, pair in zip(dense, pairs, strict=True):
            layer.set_weights(pair)
        model = keras.Model(encoder.inputs[0], x)
        below = {id(variable) for variable in trunk.bottom.variables} if trunk.bottom else set()
        return cls(model, dense, scaling, head, [v for v in model.variables if id(v) not in below])

    def values(self) -> list[Array]:
        """Copy the values of :attr:`variables`."""
        return host_values(self.variables)

    def assign(self, values: list[Array]) -> None:
        """Set the values of :attr:`variables`."""
        for variable, value in zip(self.variables, values, strict=True):
            variable.assign(value)

    def head(self) -> Head:
        """Return the head with the weights of now, which need no calibration; it takes features as they come."""
        pairs = [[np.asarray(values, np.float32) for values in layer.get_weights()] for layer in self.dense]
        pairs[0] = list(self.scaling.fold(*pairs[0]))
        head = copy(self.origin)
        head.temperature_ = 1.0
        if head.link_ is not None:
            head.link_ = head.link_._replace(**Link.none(len(head.link_.slope)).known())
        head.restore(dict(zip(self.origin.state(), (array for pair in pairs for array in pair), strict=True)))
        return head

    def compile(self, learning_rate: float, steps: int, *, scratch: bool) -> None:
        """Make the model ready for `steps` steps of Adam, whose rates fall along a cosine.

        (Loshchilov & Hutter, "SGDR", ICLR 2017, without restarts.)

        Args:
            learning_rate: of the head at the beginning; of the backbone :data:`BACKBONE_SHARE` of it.
            steps: in all epochs.
            scratch: all layers have the same rate.
        """
        import keras

        own = {id(variable) for layer in self.dense for variable in layer.variables}
        shares = [1.0 if scratch or id(v) in own else BACKBONE_SHARE for v in self.model.trainable_variables]

        class Discriminative(keras.optimizers.Adam):  # type: ignore[misc]
            def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
                # Not the gradient: Adam divides by its size.
                share = shares[self._get_variable_index(variable)]
                super().update_step(gradient, variable, learning_rate * share)

        optimizer = Discriminative(keras.optimizers.schedules.CosineDecay(learning_rate, steps))
        optimizer.build(self.model.trainable_variables)
        classes = self.origin.link_ is None
        kind = keras.losses.SparseCategoricalCrossentropy if classes else keras.losses.BinaryCrossentropy
        self.model.compile(optimizer, loss=kind(from_logits=True))


def host_values(variables: list[Any]) -> list[Array]:
    """Values of Keras variables as arrays of their own."""
    return [np.array(variable.numpy()) for variable in variables]
