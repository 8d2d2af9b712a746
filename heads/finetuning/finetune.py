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

from featurestore.backbones import keras_file, load_backbone, named
from featurestore.errors import HeadError
from featurestore.sources.base import Source
from featurestore.sources.opener import open_source
from featurestore.spec import LAST, Augment, Dtype, ExtractionSpec, Tap
from featurestore.store.file_format import safe_name
from featurestore.store.lock import store_lock
from featurestore.system.files import replacing_files, write_whole
from featurestore.system.machine import machine_memory
from featurestore.system.progress import Progress, reporting
from heads.evaluation.evaluate import PairedDifference, paired_hits
from heads.feature_table import Input
from heads.finetuning.epochs import Checkpoint, Training
from heads.finetuning.network import Array, Joined, Trunk, check_joinable
from heads.finetuning.recipe import Recipe
from heads.finetuning.result import FineTuning, finished, recommendation
from heads.finetuning.rows import ImageRows, Roles, from_cache, from_pixels, placed
from heads.fit import library_versions
from heads.kinds.base import Head
from heads.metrics.evaluation import Evaluated
from heads.prediction.predictor import backbone_of
from heads.reporting.run_folder import TUNED, TUNING
from heads.storage.record import Record, note_measured
from heads.storage.saved_head import FittedHead, check_target, load_head, save_head
from heads.tasks.base import places

CHECKPOINT, CACHE = "checkpoint.safetensors", "cache"
"""In the folder of a run, beside the files that :mod:`heads.reporting.run_folder` names."""

_SUFFIX = "-finetuned"

_SAMPLE = 256
"""Training rows that tell the scale of the features."""


def finetune(
    head: str | os.PathLike[str] | FittedHead,
    source: str | os.PathLike[str] | Source,
    out: str | os.PathLike[str],
    *,
    unfreeze: str = "last-block",
    epochs: int = 10,
    learning_rate: float = 3e-4,
    patience: int = 3,
    batch_size: int = 32,
    augment: Augment | None = None,
    views: int = 4,
    cache: bool = True,
    dtype: Dtype = "float16",
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
    weights: str | None = None,
    max_memory: int | None = None,
    progress: bool | Progress = True,
    note: Callable[[str], None] | None = None,
) -> FineTuning:
    """Train a backbone's top and a head together, and compare the result with the head alone on rows kept for that.

    Test rows are read once, at the end. Where there are none, the validation rows stand in for them, and a tenth of the
    training rows for those. A run that was killed goes on after its last epoch when the same call is repeated.

    Args:
        head: a saved linear or dense head, or its folder; training starts from it.
        source: the images that it was fitted on, see :func:`featurestore.extract`.
        out: folder of the run; made if need be.
        unfreeze: what is trained beside the head: a layer and all after it, a number of layers, ``last-block`` or
            ``all``, see :func:`featurestore.backbones.graph.from_layer`.
        epochs: most passes over the training rows.
        learning_rate: of the head at the beginning; see :meth:`heads.finetuning.network.Joined.compile`.
        patience: epochs without a better log loss on the validation rows before training stops.
        batch_size: rows in a step.
        augment: train on augmented versions too, one version of each image in an epoch; one of
            :data:`featurestore.images.augment.AUGMENTATIONS`.
        views: augmented versions of each training image.
        cache: the frozen part runs once. Without, every epoch runs all of the network, on pixels in memory.
        dtype: of the cache.
        seed: of everything random.
        store: folder for the cache; by default one in `out`.
        weights: of the backbone, if not where they were.
        max_memory: most bytes that training may take; by default those of the machine.
        progress: see :func:`featurestore.system.progress.reporting`.
        note: called with a sentence before anything slow begins.

    Raises:
        HeadError: no such head, one that has no layers, a class that it does not know, an option out of its range, not
            enough memory, diverged, or `out` holds another run.
        BackboneError: the backbone is gone, or has no such layer.
        SourceError, StoreError: see :func:`featurestore.extract`.

    Example:
        >>> from featurestore import extract
        >>> from heads import finetune, fit_head
        >>> file = extract("images", "store", backbone="small_cnn", weights="random", size=32, progress=False).path
        >>> head = fit_head(file, "logreg", out="cnn-head")
        >>> tuned = finetune(head, "images", "tuned", epochs=1, progress=False)
        >>> tuned.boundary, len(tuned.history), tuned.path.name
        ('block3_pool', 2, 'head')
    """
    recipe = Recipe(
        unfreeze=unfreeze, epochs=epochs, learning_rate=learning_rate, patience=patience, batch_size=batch_size,
        augment=augment, views=views, cache=cache, dtype=dtype, seed=seed,
    )  # fmt: skip
    out = Path(out).resolve()
    check_target(out / TUNED)
    source = source if isinstance(source, Source) else open_source(source)
    setup = _Setup.of(head if isinstance(head, FittedHead) else load_head(head), source, out, recipe, weights)
    limit = max_memory or machine_memory()
    setup.check_memory(limit)
    if note:
        where = f"behind {setup.cached!r}, which is cached," if setup.cached else "on pixels"
        note(f"training {where} takes about {setup.memory / 2**30:.2f} GiB of memory")
    with store_lock(out), reporting(progress) as report:
        return setup.run(Path(store or out / CACHE), limit - setup.memory, report or (lambda *step: None))


@dataclass(frozen=True, eq=False)
class _Setup:
    """A run before its rows are read.

    Attributes:
        fitted: the head that training starts from.
        source: its images.
        out: folder of the run.
        recipe: how to train.
        network: name and weights of the backbone.
        tap: the head's.
        scratch: the weights are random.
        trunk: the backbone, cut where training begins.
    """

    fitted: FittedHead
    source: Source
    out: Path
    recipe: Recipe
    network: tuple[str, str]
    scratch: bool
    trunk: Trunk

    @classmethod
    def of(cls, fitted: FittedHead, source: Source, out: Path, recipe: Recipe, weights: str | None) -> "_Setup":
        check_joinable(fitted)
        fitted.check_task(source.listing().task, source.name)
        _check_classes(fitted, source)
        item = fitted.inputs[0]
        weights = weights or item.weights
        backbone = backbone_of(str(fitted.path), item.spec, weights)
        tap = dict(zip(item.spec.tap_names, item.spec.taps, strict=True))[item.tap]
        scratch = weights == "random"
        trunk = Trunk.of(backbone, tap, recipe.unfreeze, scratch=scratch)
        return cls(fitted, source, out, recipe, named(item.spec.backbone, weights), scratch, trunk)

    @property
    def spec(self) -> ExtractionSpec:
        """The spec of the features that the head takes."""
        return self.fitted.inputs[0].spec

    @property
    def cached(self) -> str | None:
        """The layer whose output is cached, if any."""
        return self.trunk.boundary if self.recipe.cache else None

    @property
    def memory(self) -> int:
        """The bytes that training takes, estimated."""
        return self.trunk.memory(self.recipe.batch_size, self.cached is not None)

    def check_memory(self, limit: int) -> None:
        """Check that training takes no more bytes than the limit.

        Raises:
            HeadError: it does.
        """
        if self.memory > limit:
            raise HeadError(
                f"{self.fitted.path}: training its backbone needs about {self.memory / 2**30:.2f} GiB of memory, and "
                f"{limit / 2**30:.2f} GiB are there: unfreeze less, or lower --batch-size"
            )

    def image_rows(self, store: Path, left: int, report: Progress) -> ImageRows:
        """Read the rows that the trained part takes in; pixels may take as many bytes as are `left`."""
        if self.cached is None:
            found = from_pixels(self.source, self.spec, self.recipe, left, report)
        else:
            found = from_cache(self.source, store, self.spec, self.network, self.cached, self.recipe, report)
        return placed(found, self.fitted.record)

    def run(self, store: Path, left: int, report: Progress) -> FineTuning:
        """Read the rows, train, compare and save; or return what the same run found before. See :meth:`image_rows`."""
        started = time.perf_counter()
        images = self.image_rows(store, left, report)
        settings = {**asdict(self.recipe), "head": _digest(self.fitted), "images": images.identity}
        return finished(self.out, settings) or self._train(images, settings, report, time.perf_counter() - started)

    def _train(self, images: ImageRows, settings: dict[str, Any], report: Progress, seconds: float) -> FineTuning:
        """Train, compare and save; `seconds` is the time that reading the rows took."""
        recipe, roles = self.recipe, Roles.of(images, self.fitted.record, self.recipe.seed)
        encoder = self.trunk.encoder(recipe.dtype if self.cached else None)
        sample = encoder.predict(images.batches(roles.train[:_SAMPLE], recipe.batch_size), verbose=0)
        joined = Joined.of(self.trunk, encoder, self.fitted.head, sample, recipe.seed)
        task, head = self.fitted.head.task_, self.fitted.head
        training = Training(joined, images, roles, task.codes(self._answers(images), head.classes_, head.link_), recipe)
        warm, checkpoint = joined.values(), Checkpoint(self.out / CHECKPOINT, settings)
        history = training.run(checkpoint, scratch=self.scratch, report=report)
        tuned_head = joined.head()
        if best := training.best_epoch(history):
            tuned_head.calibrate(training.logits(roles.choose), training.labels(roles.choose))
        spent = [epoch.seconds for epoch in history[1:]]
        frozen, finetuned, difference = self._compared(training, warm, tuned_head)
        tuned = self._saved(training, tuned_head, sum(spent))
        found = FineTuning(
            frozen=frozen,
            finetuned=finetuned,
            difference=difference,
            recommendation=recommendation(difference, len(roles.judge), roles.split),
            history=history,
            best_epoch=best,
            boundary=self.cached,
            memory=self.memory,
            seconds={"material": seconds, "training": sum(spent), "epoch": float(np.median(spent))},
            notes=self._notes(images),
            failures=[list(failure) for failure in images.failures],
            settings=settings,
            path=tuned,
            backbone=_backbone_file(self.spec, self.out),
        )
        write_whole(self.out / TUNING, json.dumps(found.to_dict(), indent=1).encode() + b"\n")
        checkpoint.path.unlink(missing_ok=True)
        return found

    def _notes(self, images: ImageRows) -> list[str]:
        """Say in sentences what the comparison may suffer from."""
        record, threshold = self.fitted.record, self.fitted.threshold
        notes = []
        if threshold is not None:
            notes.append(f"compared at a probability of 0.5; the tuned head keeps the threshold {threshold:.3g}")
        if self.fitted.novelty is not None:
            notes.append("the tuned head tells no novelty: that was of the features of the frozen backbone")
        if record:
            new = int((record.split_of(images.digests.tolist()) == "").sum())
            return [*notes, f"{new} images are new since the head was fitted"] if new else notes
        if self.fitted.rows == images.split_counts():
            return notes
        return [
            *notes,
            f"the head was fitted on other splits ({self.fitted.rows}, here {images.split_counts()}) by an earlier "
            "version, which did not keep the images: it may have seen some of the rows that it is judged by",
        ]

    def _answers(self, images: ImageRows) -> NDArray[Any]:
        """Return the answers of all rows, by the head's numbers of classes."""
        names = self.source.class_names
        return self.fitted.head.task_.aligned(images.answers, names, self.fitted.class_names, self.source.name)

    def _compared(
        self, training: Training, warm: list[Array], tuned: Head
    ) -> tuple[Evaluated, Evaluated, PairedDifference]:
        """Measure the head alone, of weights `warm`, and the trained model on the rows that judge, read here only."""
        fitted, joined, judge = self.fitted, training.joined, training.roles.judge
        y, names, task = self._answers(training.images)[judge], fitted.class_names, fitted.head.task_
        groups = training.images.groups[judge] if training.images.grouped else None
        columns, found, hits = np.arange(len(names)), list[Evaluated](), list[NDArray[np.bool_]]()
        for values, head in ((warm, joined.head()), (joined.values(), tuned)):
            joined.assign(values)
            outputs = np.zeros((len(y), len(names)))
            outputs[:, fitted.head.classes_] = head.answers_of(training.logits(judge))
            outcomes = task.outcomes(y, outputs, columns, len(names))
            found.append(task.measure(outcomes, names, training.roles.split, groups, head.link_))
            right = task.decided(outputs, columns, head.link_) == y
            hits.append(right.all(axis=1) if right.ndim > 1 else right)
        return found[0], found[1], paired_hits(*hits, groups=groups)

    def _saved(self, training: Training, head: Head, seconds: float) -> Path:
        """Save backbone and head, and return the head's folder."""
        before, images, split = self.fitted.record, training.images, training.roles.split
        record = Record.of(
            images.digests, images.splits, fitted=dict.fromkeys(("train", *(before.fitted if before else ()))),
            chosen=("validation",) if split == "test" else (),
        )  # fmt: skip
        tuned = replace(
            self.fitted,
            head=head,
            inputs=(_save_backbone(self.trunk, self.spec, self.out),),
            dataset=self.source.name,
            rows=images.split_counts(),
            views=len(images.views),
            metrics={},
            seconds=seconds,
            seed=self.recipe.seed,
            versions=library_versions(),
            record=record,
            conformity=None,  # both are of the features of the frozen backbone
            novelty=None,
        )
        path = save_head(self.out / TUNED, tuned).path
        if split == "test":
            for folder in filter(None, (self.fitted.path, path)):
                note_measured(folder, "test", images.digests[training.roles.judge].tolist())
        assert path is not None
        return path


def _check_classes(fitted: FittedHead, source: Source) -> None:
    """Check that the head has a column of scores for each class of the source.

    Raises:
        HeadError: it has none for one of them.
    """
    for number in places(source.class_names, fitted.class_names, source.name):
        if number not in fitted.head.classes_:
            raise HeadError(
                f"{source.name}: the head was fitted without training rows of class {fitted.class_names[number]!r}: "
                "fit it again with some, or leave the class out with --exclude"
            )


def _digest(fitted: FittedHead) -> str:
    """Compute the SHA-256 of a head: its description and its arrays."""
    digest = hashlib.sha256(json.dumps(replace(fitted, path=None).to_dict(), sort_keys=True).encode())
    for array in fitted.head.state().values():
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _backbone_file(spec: ExtractionSpec, out: Path) -> Path:
    return out / f"{safe_name(spec.backbone.removesuffix(_SUFFIX))}{_SUFFIX}{keras_file.SUFFIX}"


def _save_backbone(trunk: Trunk, spec: ExtractionSpec, out: Path) -> Input:
    """Write the trained backbone, up to the head's tap, and return the origin of its features."""
    path = _backbone_file(spec, out)
    with replacing_files(path) as draft:  # Keras looks at the suffix
        model, pool = trunk.complete()
        model.save(draft)
    backbone = load_backbone(
        str(path), size=spec.size, taps=(Tap(LAST, pool),), preprocessing=spec.preprocessing,
        precision=spec.precision, resize=spec.resize, interpolation=spec.interpolation,
        crop_share=spec.crop_share,
    )  # fmt: skip
    made = backbone.spec(spec.dtype, spec.decoder)
    return Input(made, made.tap_names[0], str(path))
