"""Fine-tune: train the top of a backbone together with a head that was fitted on its features.

What stays frozen runs once, through stage 1: its output at the boundary is cached, with views, and each epoch runs
only the rest. In the folder of a run stand the ``cache``; a checkpoint, while it goes on; and at its end the backbone
as a ``.keras`` file, the ``head`` fitted to it, and ``finetune.json``, which says how both compare with the head alone.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones import load_backbone, named
from featurestore.errors import HeadError
from featurestore.sources.base import Source
from featurestore.sources.opener import open_source
from featurestore.spec import LAST, ExtractionSpec, Tap
from featurestore.store.file_format import safe_name
from featurestore.store.lock import store_lock
from featurestore.system.files import replacing_files, write_whole
from featurestore.system.machine import machine_memory
from heads.evaluation.evaluate import PairedDifference, known_classes, measure, paired_difference
from heads.feature_table import Input, Labels
from heads.finetuning.epochs import Checkpoint, Recipe, best_epoch, check_settings, logits, train
from heads.finetuning.network import Array, Joined, Trunk, check_joinable
from heads.finetuning.rows import Material, Rows, from_cache, from_pixels, placed
from heads.fit import library_versions
from heads.prediction.predictor import backbone_of
from heads.reporting.run_folder import TUNED, TUNING, read_tuning
from heads.solvers.calibration import calibrate
from heads.solvers.scores import softmax
from heads.storage.record import Record, note_measured
from heads.storage.saved_head import FittedHead, check_target, load_head, reason, save_head

CHECKPOINT, CACHE = "checkpoint.safetensors", "cache"
"""In the folder of a run, beside the files that :mod:`heads.reporting.run_folder` names."""

_SUFFIX = "-finetuned"

_CHANCE = 0.05
"""P-value from which on a difference may be chance."""

_SAMPLE = 256
"""Training rows that tell the scale of the features."""


def finetune(
    head_dir: str | os.PathLike[str],
    source: str | os.PathLike[str] | Source,
    out: str | os.PathLike[str],
    recipe: Recipe | None = None,
    *,
    store: str | os.PathLike[str] | None = None,
    weights: str | None = None,
    max_memory: int | None = None,
    progress: Callable[..., None] | None = None,
    note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train a backbone's top and a head together, and compare the result with the head alone on rows kept for that.

    Test rows are read once, at the end. Where there are none, the validation rows stand in for them, and a tenth of the
    training rows for those. A run that was killed goes on after its last epoch when the same call is repeated.

    Args:
        head_dir: a saved linear or dense head; training starts from it.
        source: the images that it was fitted on, see :func:`featurestore.extract`.
        out: folder of the run; made if need be.
        recipe: how; by default :class:`heads.finetuning.epochs.Recipe`.
        store: folder for the cache; by default one in `out`.
        weights: of the backbone, if not where they were.
        max_memory: most bytes that training may take; by default those of the machine.
        progress: called as progress(stage, done, total, note).
        note: called with a sentence before anything slow begins.

    Returns:
        What ``finetune.json`` holds: plain JSON types.

    Raises:
        HeadError: no such head, one that has no layers, a class that it does not know, not enough memory, diverged, or
            `out` holds another run.
        BackboneError: the backbone is gone, or has no such layer.
        SourceError, StoreError: see :func:`featurestore.extract`.
    """
    recipe, out = recipe or Recipe(), Path(out).resolve()
    recipe.check()
    check_target(out / TUNED)
    source = source if isinstance(source, Source) else open_source(source)
    task = _Task.of(load_head(head_dir), source, out, recipe, weights)
    limit = max_memory or machine_memory()
    if task.memory > limit:
        raise HeadError(
            f"{head_dir}: training its backbone needs about {task.memory / 2**30:.2f} GiB of memory, and "
            f"{limit / 2**30:.2f} GiB are there: unfreeze less, or lower --batch-size"
        )
    if note:
        where = f"behind {task.cached!r}, which is cached," if task.cached else "on pixels"
        note(f"training {where} takes about {task.memory / 2**30:.2f} GiB of memory")
    report = progress or (lambda *step: None)
    with store_lock(out):
        started = time.perf_counter()
        material = task.material(Path(store or out / CACHE), limit - task.memory, report)
        settings = {**asdict(recipe), "head": _digest(task.fitted), "images": material.identity}
        return _finished(out, settings) or task.run(material, settings, report, time.perf_counter() - started)


@dataclass(frozen=True, eq=False)
class _Task:
    """One run, before its first epoch.

    Attributes:
        codes: for each class of the source, the column of the head's scores.
        network: name and weights of the backbone.
        tap: the head's.
        scratch: the weights are random.
    """

    fitted: FittedHead
    source: Source
    out: Path
    recipe: Recipe
    codes: Labels
    network: tuple[str, str]
    tap: Tap
    scratch: bool
    trunk: Trunk

    @classmethod
    def of(cls, fitted: FittedHead, source: Source, out: Path, recipe: Recipe, weights: str | None) -> "_Task":
        check_joinable(fitted)
        codes = _codes(fitted, source)
        item = fitted.inputs[0]
        weights = weights or item.weights
        backbone = backbone_of(str(fitted.path), item.spec, weights)
        tap = dict(zip(item.spec.tap_names, item.spec.taps, strict=True))[item.tap]
        scratch = weights == "random"
        trunk = Trunk.of(backbone, tap, recipe.unfreeze, scratch=scratch)
        return cls(fitted, source, out, recipe, codes, named(item.spec.backbone, weights), tap, scratch, trunk)

    @property
    def spec(self) -> ExtractionSpec:
        """Of the features that the head takes."""
        return self.fitted.inputs[0].spec

    @property
    def cached(self) -> str | None:
        """The layer whose output is cached, if any."""
        return self.trunk.boundary if self.recipe.cache else None

    @property
    def memory(self) -> int:
        """About the bytes that training takes."""
        return self.trunk.memory(self.recipe.batch_size, self.cached is not None)

    @property
    def views(self) -> int:
        """Of each training image."""
        return self.recipe.views if self.recipe.augment else 0

    def material(self, store: Path, left: int, report: Callable[..., None]) -> Material:
        """What the trained part takes in; pixels may take as many bytes as are `left`."""
        recipe = self.recipe
        options: dict[str, Any] = {"views": self.views, "augment": recipe.augment, "progress": report}
        if self.cached is None:
            found = from_pixels(self.source, self.spec, limit=left, **options)
        else:
            found = from_cache(self.source, store, self.spec, self.network, self.cached, dtype=recipe.dtype, **options)
        return placed(found, self.fitted.record)

    def run(
        self, material: Material, settings: dict[str, Any], report: Callable[..., None], seconds: float
    ) -> dict[str, Any]:
        """Train, compare, save; `seconds` is what the material took."""
        recipe, rows = self.recipe, Rows.of(material, self.fitted.record, self.recipe.seed)
        encoder = self.trunk.encoder(recipe.dtype if self.cached else None)
        sample = encoder.predict(material.batches(rows.train[:_SAMPLE], recipe.batch_size), verbose=0)
        joined = Joined.of(self.trunk, encoder, self.fitted.head, sample, recipe.seed)
        warm, checkpoint = joined.values(), Checkpoint(self.out / CHECKPOINT, settings)
        history = train(joined, material, rows, self.codes, recipe, checkpoint, scratch=self.scratch, report=report)
        temperature = 1.0
        if best := best_epoch(history, rows):
            scores = logits(joined, material, rows.choose, recipe.batch_size)
            temperature = calibrate(scores, self.codes[material.labels[rows.choose]]).temperature
        epochs = [epoch["seconds"] for epoch in history[1:]]
        found = {
            **self._compared(joined, material, rows, warm, temperature),
            "history": history,
            "best_epoch": best,
            "boundary": self.cached,
            "memory": self.memory,
            "seconds": {"material": seconds, "training": sum(epochs), "epoch": float(np.median(epochs))},
            "notes": self._notes(material),
            "failures": [list(failure) for failure in material.failures],
            "settings": settings,
            **self._saved(joined, material, rows, temperature, sum(epochs)),
        }
        write_whole(self.out / TUNING, json.dumps(found, indent=1).encode() + b"\n")
        checkpoint.path.unlink(missing_ok=True)
        return found

    def _notes(self, material: Material) -> list[str]:
        """What the comparison may suffer from."""
        record = self.fitted.record
        if record:
            new = int((record.split_of(material.digests.tolist()) == "").sum())
            return [f"{new} images are new since the head was fitted"] if new else []
        if self.fitted.rows == material.split_counts():
            return []
        return [
            f"the head was fitted on other splits ({self.fitted.rows}, here {material.split_counts()}) by an earlier "
            "version, which did not keep the images: it may have seen some of the rows that it is judged by"
        ]

    def _compared(
        self, joined: Joined, material: Material, rows: Rows, warm: list[Array], temperature: float
    ) -> dict[str, Any]:
        """The head alone, of weights `warm`, and the trained model on the same rows, which are read here only."""
        fitted = self.fitted
        y = known_classes(fitted, self.source.class_names, self.source.name)[material.labels[rows.judge]]
        proba: list[NDArray[np.float64]] = []
        for values, divisor in ((warm, 1.0), (joined.values(), temperature)):
            joined.assign(values)
            scores = logits(joined, material, rows.judge, self.recipe.batch_size)
            proba.append(np.zeros((len(y), len(fitted.class_names))))
            proba[-1][:, fitted.head.classes_] = softmax(scores / divisor)
        frozen, finetuned = (measure(y, each, fitted.class_names, split=rows.split).to_dict() for each in proba)
        difference = paired_difference(y, *proba)
        return {
            "frozen": frozen,
            "finetuned": finetuned,
            "difference": difference.to_dict(),
            "recommendation": _recommendation(difference, len(y), rows.split),
        }

    def _saved(
        self, joined: Joined, material: Material, rows: Rows, temperature: float, seconds: float
    ) -> dict[str, str]:
        """Save backbone and head, and say where."""
        before = self.fitted.record
        record = Record.of(
            material.digests, material.splits, fitted=dict.fromkeys(("train", *(before.fitted if before else ()))),
            chosen=("validation",) if rows.split == "test" else (),
        )  # fmt: skip
        backbone = _save_backbone(self.trunk, self.spec, self.tap, self.out)
        tuned = replace(
            self.fitted,
            head=joined.head(temperature),
            inputs=(backbone,),
            dataset=self.source.name,
            rows=material.split_counts(),
            views=len(material.views),
            metrics={},
            seconds=seconds,
            seed=self.recipe.seed,
            versions=library_versions(),
            record=record,
        )
        path = save_head(self.out / TUNED, tuned).path
        if rows.split == "test":
            for folder in filter(None, (self.fitted.path, path)):
                note_measured(folder, "test", material.digests[rows.judge].tolist())
        return {"path": str(path), "backbone": backbone.weights}


def _codes(fitted: FittedHead, source: Source) -> Labels:
    """For each class of the source, the column of the head's scores.

    Raises:
        HeadError: there is none.
    """
    classes = fitted.head.classes_
    numbers = known_classes(fitted, source.class_names, source.name)
    for number in numbers:
        if number not in classes:
            raise HeadError(
                f"{source.name}: the head was fitted without training rows of class {fitted.class_names[number]!r}: "
                "fit it again with some, or leave the class out with --exclude"
            )
    return np.searchsorted(classes, numbers)


def _digest(fitted: FittedHead) -> str:
    """SHA-256 of a head."""
    digest = hashlib.sha256(json.dumps(replace(fitted, path=None).to_dict(), sort_keys=True).encode())
    for array in fitted.head.state().values():
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _finished(out: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """What the same run found before, if it has come to its end: its test rows are not read again."""
    path = out / TUNING
    if not os.path.lexists(path):
        return None
    try:
        found = read_tuning(out)
    except (OSError, ValueError) as error:
        raise HeadError(f"{path}: not readable ({reason(error)}): delete it, or choose another --out") from error
    check_settings(path, found["settings"], settings)
    return dict(found)


def _recommendation(difference: PairedDifference, rows: int, split: str) -> str:
    """What a difference, see :func:`heads.evaluation.evaluate.paired_difference`, on so many rows amounts to."""
    low, high = difference.interval
    # Of four rows that differ, all four right is an interval above 0, but one such run in eight is chance.
    beyond_chance = difference.p_value < _CHANCE
    if low > 0 and beyond_chance:
        return "take the fine-tuned model: it is more accurate, beyond what chance explains"
    if high < 0 and beyond_chance:
        return "keep the frozen head: fine-tuning has made it worse"
    return f"keep the frozen head: on {rows} {split} rows the difference may be chance, and it costs nothing more"


def _save_backbone(trunk: Trunk, spec: ExtractionSpec, tap: Tap, out: Path) -> Input:
    """Write the trained backbone, up to the head's tap, and say what features it makes."""
    path = out / f"{safe_name(spec.backbone.removesuffix(_SUFFIX))}{_SUFFIX}.keras"
    with replacing_files(path) as draft:  # Keras looks at the suffix
        trunk.whole.save(draft)
    backbone = load_backbone(
        str(path), size=spec.size, taps=(Tap(LAST, tap.pool),), preprocessing=spec.preprocessing,
        precision=spec.precision,
    )  # fmt: skip
    made = backbone.spec(spec.resize, spec.dtype, spec.decoder)
    return Input(made, made.tap_names[0], str(path))
