"""Epochs over the rows of a joined model: early stopping, and a checkpoint after each epoch that survives a kill."""

import json
import os
import time
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.errors import HeadError
from featurestore.system.documents import parse
from featurestore.system.files import write_whole
from featurestore.system.progress import Progress
from featurestore.system.results import plain
from featurestore.system.tensors import open_tensors
from heads.documents import CheckpointDocument
from heads.feature_table import Floats, Labels
from heads.finetuning.network import Array, Joined, host_values
from heads.finetuning.recipe import Recipe
from heads.finetuning.result import Epoch, check_settings
from heads.finetuning.rows import ImageRows, Roles
from heads.rows import Codes
from heads.solvers.goals import is_classes, mean_loss
from heads.storage.saved_head import reason


@dataclass(frozen=True, eq=False)
class Training:
    """A joined model and the rows that it learns from and is judged by.

    Attributes:
        joined: the model.
        images: the rows.
        roles: which of them train, choose and judge.
        codes: what the model's scores are to be, of each row: see :mod:`heads.solvers.goals`.
        recipe: how to train.
    """

    joined: Joined
    images: ImageRows
    roles: Roles
    codes: Codes
    recipe: Recipe

    def run(self, checkpoint: "Checkpoint", *, scratch: bool, report: Progress) -> list[Epoch]:
        """Train, or go on where a killed run was; the model then has the weights of the best epoch.

        Args:
            checkpoint: what is written after each epoch.
            scratch: see :meth:`heads.finetuning.network.Joined.compile`.
            report: called after each epoch.

        Raises:
            HeadError: it diverged, or the checkpoint is of another run.
        """
        joined, recipe, train = self.joined, self.recipe, self.roles.train
        labels = self.labels(train)
        targets = labels if is_classes(labels) else (labels > 0).astype(np.float32)
        joined.compile(recipe.learning_rate, ceil(len(labels) / recipe.batch_size) * recipe.epochs, scratch=scratch)
        history, best = checkpoint.load(joined)
        if not history:
            history = [self._epoch(0, None, time.perf_counter())]
        while len(history) <= recipe.epochs and len(history) - 1 - self.best_epoch(history) < recipe.patience:
            started, number = time.perf_counter(), len(history)
            rng = np.random.default_rng([recipe.seed, number])
            batches = self.images.batches(train, recipe.batch_size, targets, rng)
            fitted = joined.model.fit(batches, shuffle=False, verbose=0)  # else Keras changes their order, from no seed
            loss = fitted.history["loss"][0]
            epoch = self._epoch(number, loss, started)
            if not np.isfinite([loss, epoch.log_loss]).all():
                raise HeadError(
                    f"training diverged in epoch {number}: give a smaller --learning-rate, and another --out"
                )
            history.append(epoch)
            if self.best_epoch(history) == number:
                best = joined.values()
            checkpoint.save(joined, history, best)
            report("epochs", number, recipe.epochs, f"validation accuracy {epoch.accuracy:.3f}")
        joined.assign(best)
        return history

    def best_epoch(self, history: list[Epoch]) -> int:
        """Return the epoch of the least log loss; a warm start that was fitted on the rows that choose is left out."""
        candidates = history[1:] or history if self.roles.borrowed else history
        return min(candidates, key=lambda epoch: epoch.log_loss).epoch

    def labels(self, rows: Labels) -> Codes:
        """Return what the scores of some rows are to be."""
        return self.codes[rows]

    def logits(self, rows: Labels) -> Floats:
        """Compute the scores (n, C) of rows as they came."""
        return np.asarray(self.joined.model.predict(self.images.batches(rows, self.recipe.batch_size), verbose=0))

    def _epoch(self, number: int, loss: float | None, started: float) -> Epoch:
        """Judge an epoch that has just ended by the rows that choose. (The warm start took no time.)"""
        scores, true = self.logits(self.roles.choose), self.labels(self.roles.choose)
        right = scores.argmax(axis=1) == true if is_classes(true) else ((scores > 0) == (true > 0)).all(axis=1)
        seconds = time.perf_counter() - started if number else 0.0
        return Epoch(number, loss, mean_loss(scores, true), float(right.mean()), seconds)


class Checkpoint:
    """The state after an epoch, in one file that is there as a whole or not at all.

    Args:
        path: of the file.
        settings: all that the state depends on: plain JSON types.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self._settings = path, settings

    def load(self, joined: Joined) -> tuple[list[Epoch], list[Array]]:
        """Restore the state of an interrupted run; return its history (empty if there was none) and its best weights.

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
        return [Epoch(**epoch) for epoch in state["history"]], groups["best"]

    def save(self, joined: Joined, history: list[Epoch], best: list[Array]) -> None:
        """Replace the state.

        Raises:
            DiskFullError: no space left.
        """
        from safetensors.numpy import save

        state = json.dumps({"settings": self._settings, "history": plain(history)})
        write_whole(self.path, save(_tensors(joined, best), {"state": state}))


def _tensors(joined: Joined, best: list[Array]) -> dict[str, Array]:
    """Return the arrays that a checkpoint holds, by name."""
    groups = {"now": joined.values(), "optimizer": host_values(joined.model.optimizer.variables), "best": best}
    return {f"{name}.{i}": array for name, arrays in groups.items() for i, array in enumerate(arrays)}
