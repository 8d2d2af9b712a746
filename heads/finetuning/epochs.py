"""Epochs over the rows of a joined model: early stopping, and a checkpoint after each epoch that survives a kill."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.errors import HeadError
from featurestore.images import augment
from featurestore.spec import Dtype
from featurestore.system.documents import parse
from featurestore.system.files import write_whole
from featurestore.system.tensors import open_tensors
from heads.documents import CheckpointDocument
from heads.feature_table import Floats, Labels
from heads.finetuning.network import Array, Joined, host_values
from heads.finetuning.rows import Material, Rows
from heads.solvers.scores import log_loss
from heads.storage.saved_head import reason

History = list[dict[str, Any]]
"""Per epoch, from 0, which is the warm start: ``epoch``, ``loss`` on the training rows as they came (None at 0), and of
the rows that choose ``log_loss`` and ``accuracy``; ``seconds`` with all of that."""

_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "learning_rate": (1e-9, 10.0),
    "patience": (1, 100_000),
    "batch_size": (1, 1_000_000),
    "views": (1, 1000),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to fine-tune.

    Attributes:
        unfreeze: what is trained beside the head, see :func:`featurestore.backbones.graph.from_layer`.
        epochs: most passes over the training rows.
        learning_rate: of the head at the beginning; see :meth:`heads.finetuning.network.Joined.compile`.
        patience: epochs without a better log loss on the validation rows before training stops.
        batch_size: rows in a step.
        augment: train on views by this preset too, one version of each image in an epoch.
        views: of each training image.
        cache: the frozen part runs once. Without, every epoch runs all of the network, on pixels in memory.
        dtype: of the cache.
        seed: of everything random.
    """

    unfreeze: str = "last-block"
    epochs: int = 10
    learning_rate: float = 3e-4
    patience: int = 3
    batch_size: int = 32
    augment: str | None = None
    views: int = 4
    cache: bool = True
    dtype: Dtype = "float16"
    seed: int = 0

    def check(self) -> None:
        """Say what is wrong with it.

        Raises:
            HeadError: a number is out of its range.
            BackboneError: no such augmentation.
        """
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise HeadError(
                    f"{name.replace('_', ' ')} {getattr(self, name)}: give a number from {low:g} to {high:g}"
                )
        if self.augment is not None:
            augment.check(self.augment)


def train(
    joined: Joined,
    material: Material,
    rows: Rows,
    codes: Labels,
    recipe: Recipe,
    checkpoint: "Checkpoint",
    *,
    scratch: bool,
    report: Callable[..., None],
) -> History:
    """Train, or go on where a killed run was; the model then has the weights of the best epoch.

    Args:
        joined: the model.
        material, rows: what is what.
        codes: column of each of the material's labels.
        recipe: how.
        checkpoint: where.
        scratch: see :meth:`Joined.compile`.
        report: called after each epoch as report(stage, done, total, note).

    Raises:
        HeadError: it diverged, or the checkpoint is of another run.
    """
    labels = codes[material.labels[rows.train]]
    joined.compile(recipe.learning_rate, ceil(len(labels) / recipe.batch_size) * recipe.epochs, scratch=scratch)
    history, best = checkpoint.load(joined)
    if not history:
        history = [{"epoch": 0, "loss": None, **_judged(joined, material, rows, codes, recipe), "seconds": 0.0}]
    while len(history) <= recipe.epochs and len(history) - 1 - best_epoch(history, rows) < recipe.patience:
        started, epoch = time.perf_counter(), len(history)
        rng = np.random.default_rng([recipe.seed, epoch])
        batches = material.batches(rows.train, recipe.batch_size, labels, rng)
        fitted = joined.model.fit(batches, shuffle=False, verbose=0)  # else Keras changes their order, from no seed
        found = {"epoch": epoch, "loss": fitted.history["loss"][0], **_judged(joined, material, rows, codes, recipe)}
        if not np.isfinite([found["loss"], found["log_loss"]]).all():
            raise HeadError(f"training diverged in epoch {epoch}: give a smaller --learning-rate, and another --out")
        history.append({**found, "seconds": time.perf_counter() - started})
        if best_epoch(history, rows) == epoch:
            best = joined.values()
        checkpoint.save(joined, history, best)
        report("epochs", epoch, recipe.epochs, f"validation accuracy {found['accuracy']:.3f}")
    joined.assign(best)
    return history


def best_epoch(history: History, rows: Rows) -> int:
    """The epoch of the least log loss. Rows that the warm start was fitted on say nothing of it."""
    candidates = history[1:] or history if rows.borrowed else history
    return int(min(candidates, key=lambda found: found["log_loss"])["epoch"])


def logits(joined: Joined, material: Material, rows: Labels, batch_size: int) -> Floats:
    """Scores (n, C) of plain rows."""
    return np.asarray(joined.model.predict(material.batches(rows, batch_size), verbose=0))


def _judged(joined: Joined, material: Material, rows: Rows, codes: Labels, recipe: Recipe) -> dict[str, float]:
    scores, true = logits(joined, material, rows.choose, recipe.batch_size), codes[material.labels[rows.choose]]
    return {"log_loss": log_loss(scores, true), "accuracy": float((scores.argmax(axis=1) == true).mean())}


class Checkpoint:
    """The state after an epoch, in one file that is there as a whole or not at all.

    Args:
        path: of the file.
        settings: all that the state depends on: plain JSON types.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self._settings = path, settings

    def load(self, joined: Joined) -> tuple[History, list[Array]]:
        """What an interrupted run had reached, and its best weights; no history and those of now if there was none.

        Raises:
            HeadError: the file is of another run, or damaged.
        """
        if not os.path.lexists(self.path):
            return [], joined.values()
        now = _tensors(joined, joined.values())
        try:
            with open_tensors(self.path) as file:
                state = parse(file.metadata.get("state", ""), CheckpointDocument)
                check_settings(self.path, state["settings"], self._settings)
                found = file.read({name: (array.dtype, array.shape) for name, array in now.items()})
        except (OSError, ValueError) as error:
            raise HeadError(
                f"{self.path}: no readable checkpoint ({reason(error)}): delete it to train anew"
            ) from error
        groups: dict[str, list[Array]] = {}
        for name, array in found.items():
            groups.setdefault(name.partition(".")[0], []).append(array)
        joined.assign(groups["now"])
        for variable, value in zip(joined.model.optimizer.variables, groups["optimizer"], strict=True):
            variable.assign(value)
        return [dict(epoch) for epoch in state["history"]], groups["best"]

    def save(self, joined: Joined, history: History, best: list[Array]) -> None:
        """Replace the state.

        Raises:
            DiskFullError: no space left.
        """
        from safetensors.numpy import save

        state = json.dumps({"settings": self._settings, "history": history})
        write_whole(self.path, save(_tensors(joined, best), {"state": state}))


def _tensors(joined: Joined, best: list[Array]) -> dict[str, Array]:
    """What a checkpoint holds, by name."""
    groups = {"now": joined.values(), "optimizer": host_values(joined.model.optimizer.variables), "best": best}
    return {f"{name}.{i}": array for name, arrays in groups.items() for i, array in enumerate(arrays)}


def check_settings(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Check that a file in a run's folder is of this run.

    Raises:
        HeadError: it is of another; the message names what differs.
    """
    if differing := [name for name in now if before.get(name) != now[name]]:
        raise HeadError(
            f"{path}: of another run, which differs in {', '.join(differing)}: delete the folder, or choose another "
            "--out"
        )
