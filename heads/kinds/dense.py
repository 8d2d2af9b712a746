"""Dense nets. A single one is trained by the same code as the many nets of a sweep."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np

from featurestore.errors import HeadError
from featurestore.system.machine import cores
from heads.feature_table import Floats, LabelledRows, Labels
from heads.kinds.base import Head, HeldOut, Spaces, State, too_large, too_many_classes
from heads.kinds.parameters import parameter
from heads.rows import taken
from heads.solvers.adamw import Net, Shape
from heads.solvers.arrays import Extent, Layers, Scaling, check_arrays
from heads.solvers.calibration import held_most, thinned
from heads.solvers.components import components, projected, width
from heads.solvers.dense_net import Batches, Member, threads_for, train_epoch
from heads.solvers.folds import Division
from heads.solvers.lbfgs import Doubles
from heads.solvers.training import Training

_EACH = 20
"""Bytes for each weight while a net is trained: the weight, its gradient, two moments, and its best value so far."""

# Batches of 128 take three quarters of the time of 64, with learning rates √2 times as large (the rule for Adam), and
# a patience of 5 epochs half the epochs of 10. On four data sets neither changed the best design's accuracy.
_SPACE = {
    "hidden": [[], [64], [128], [256], [512], [256, 64], [128, 128]],
    "dropout": [0.0, 0.3, 0.5],
    "learning_rate": {"log": [4e-4, 4e-3]},
    "weight_decay": {"log": [1e-5, 1e-2]},
    "label_smoothing": [0.0, 0.1],
    "batch_norm": [False, True],
    "epochs": 40,
    "batch_size": 128,
    "patience": 5,
}


@dataclass(kw_only=True, eq=False, repr=False)
class DenseHead(Head):
    """Layers of ReLU units with dropout, trained by AdamW on the cross-entropy: of classes the softmax', of several
    labels the sum of the sigmoids'; and of numbers on the squared error.

    Fewer rows than columns are trained on in their leading components, see :mod:`heads.solvers.components`.

    Training stops when the log loss on the validation rows has not improved for `patience` epochs; the weights of the
    best epoch are kept. Without validation rows, a tenth of the training images, drawn by `random_state`, is not
    trained on and takes their place; if no image can be left out, the training rows themselves do. (Loshchilov &
    Hutter, "Decoupled weight decay regularization", ICLR 2019.)

    Fitted attributes: ``layers_``, for features as they are (standardisation and batch normalisation are part of them),
    and ``n_iter_``, the number of epochs. ``held_out_``, and so the temperature, are of the rows that decided when to
    stop: they were not trained on, but their log loss is the least of all epochs. ``history_`` names them
    ``validation``; the losses on ``train`` rows are those of the batches during training, with dropout.
    """

    family = "dense"
    spaces: ClassVar[Spaces] = {
        "standard": _SPACE | {"samples": 32},
        "thorough": _SPACE | {"samples": 128, "input_dropout": [0.0, 0.2], "epochs": 80, "patience": 10},
    }
    stops_early = streams = True
    tasks = frozenset({"classification", "multilabel", "regression"})

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

    def obstacle(self, extent: Extent, max_memory: int | None) -> str | None:
        """See :meth:`Head.obstacle`: the time for many classes, and the memory for the weights and their moments."""
        return too_many_classes(extent) or self._too_large(extent, max_memory)

    def obstacle_alone(self, extent: Extent, max_memory: int | None) -> str | None:
        """See :meth:`Head.obstacle_alone`: the memory for the weights and their moments."""
        return self._too_large(extent, max_memory)

    def _too_large(self, extent: Extent, max_memory: int | None) -> str | None:
        inputs = width(extent.rows, extent.columns)
        numbers = Shape((inputs, *self.hidden, extent.classes), self.batch_norm).numbers
        needed = _EACH * numbers
        if inputs < extent.columns:  # the basis, twice, and the first layer for the features as they are
            needed += 4 * extent.columns * (2 * inputs + [*self.hidden, extent.classes][0])
        return too_large(needed, max_memory, f"the {numbers:,} numbers of its weights take", "fewer units")

    def _fit(
        self, training: Training, scaling: Scaling, validation: LabelledRows | None, folds: Labels | None
    ) -> HeldOut | None:
        rows, columns = training.Z.shape
        if why := self._too_large(Extent(rows, rows, columns, len(self.classes_)), None):
            raise HeadError(f"hidden={','.join(map(str, self.hidden))}: {why}")
        if validation is not None:  # of thousands of classes, only as many rows as have scores that fit in memory
            most = held_most(len(self.classes_))
            kept = thinned(np.zeros(len(validation[1]), np.intp), most, self._seed) == 0
            validation = taken(validation[0], kept), validation[1][kept]
        none, basis = Scaling.none(columns), None
        if width(rows, columns) < columns:
            basis = components(training.Z, none, columns)
            training = training._replace(Z=projected(training.Z, none, basis))
        division = replace(Division.of(training), features=columns)
        if basis is not None and validation is not None:
            validation = projected(validation[0], none, basis), validation[1]
        batches = Batches(division, division.folds, False, self._seed, stopping=validation)
        inputs = division.X.shape[1]
        member = Member.of(self.get_params(), inputs, len(self.classes_), self._seed, features=columns)
        net, layers, scores = Net(member.settings), list[tuple[Floats, Floats]](), None
        with threads_for([member], cores()) as pool:
            while not member.stopped:
                (better,) = train_epoch([member], [net], batches, pool, history=True)
                if better is not None:
                    layers, scores = net.folded(), better
        with np.errstate(all="ignore"):  # the check below names a net that diverged
            if basis is not None:
                layers[0] = basis @ layers[0][0], layers[0][1]
            layers[0] = scaling.fold(*layers[0])
        if not all(np.isfinite(array).all() for layer in layers for array in layer):
            raise HeadError("the training of the dense head diverged: give a smaller learning_rate")
        self.layers_: Layers = layers
        self.n_iter_ = member.epoch
        losses = {"train": member.learnt, "validation": member.losses}
        self.history_ = {name: [round(loss, 4) for loss in some if np.isfinite(loss)] for name, some in losses.items()}
        return (scores, batches.codes) if scores is not None and batches.unseen else None

    def _scores(self, X: Floats) -> Floats:
        for weights, bias in self.layers_[:-1]:
            X = np.maximum(X @ weights + bias, 0, dtype=np.float32)
        weights, bias = self.layers_[-1]
        return np.asarray(X @ weights + bias)

    def as_layers(self) -> Layers:
        """See :meth:`Head.as_layers`."""
        return self.layers_

    def _add(self, scale: float, offset: Doubles) -> None:
        *inner, (weights, bias) = self.layers_
        self.layers_ = [*inner, (weights, (bias + offset * self.temperature_).astype(np.float32))]

    def state(self) -> State:
        """See :meth:`Head.state`."""
        return {
            name: array for i, layer in enumerate(self.layers_) for name, array in zip(_names(i), layer, strict=True)
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See :meth:`Head.shapes`."""
        widths = pairwise((self.n_features_in_, *self.hidden, len(self.classes_)))
        return {
            name: shape
            for i, (n, m) in enumerate(widths)
            for name, shape in zip(_names(i), ((n, m), (m,)), strict=True)
        }

    def restore(self, state: State) -> None:
        """See :meth:`Head.restore`."""
        check_arrays(state, self.shapes())
        self.layers_ = [(state[w], state[b]) for w, b in map(_names, range(len(self.hidden) + 1))]


def _names(layer: int) -> tuple[str, str]:
    return f"weights_{layer}", f"bias_{layer}"
