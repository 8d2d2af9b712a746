"""The rows that go into the trained part of a network, from a cache or from pixels, and what each is used for."""

import hashlib
import json
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError, ImageError
from featurestore.extraction.decode_ahead import ImageTask, Wish, decode_ahead
from featurestore.extraction.extract import extract
from featurestore.extraction.plan import Item
from featurestore.images.augment import view_key
from featurestore.sources.base import Source
from featurestore.sources.groups import joined
from featurestore.sources.samples import Sample
from featurestore.sources.splits import DUPLICATE, assign_splits
from featurestore.sources.tasks import TASKS
from featurestore.spec import ExtractionSpec
from featurestore.store.reader import FeatureStore
from featurestore.system.machine import cores
from featurestore.system.progress import Progress
from heads.feature_table import Labels
from heads.finetuning.recipe import Recipe
from heads.rows import Codes
from heads.solvers.calibration import held_out_tenth
from heads.solvers.versions import Versions
from heads.storage.record import FITTED, Record
from heads.tasks.multilabel import signs_of


@dataclass(frozen=True, eq=False)
class ImageRows:
    """A row for each image, and rows of augmented versions of training images.

    Attributes:
        plain, views: (N, ...) and (M, ...), in memory or mapped.
        view_rows: the row that each view shows (M,); -1 for a view that is not used.
        answers: of each row: int (N,), indices into the source's class names; of several labels uint8 (N, L).
        splits, digests: str (N,).
        groups: number of each row's group, see :meth:`heads.feature_table.FeatureTable.groups` (N,).
        failures: (path, reason) of each image that gave no row.
        grouped: whether the source has said which images are a group.
    """

    plain: NDArray[Any]
    views: NDArray[Any]
    view_rows: Labels
    answers: NDArray[Any]
    splits: NDArray[Any]
    digests: NDArray[Any]
    groups: Labels
    failures: list[tuple[str, str]]
    grouped: bool = False

    def draw(self, rows: Labels, rng: np.random.Generator) -> Labels:
        """Draw for each row one of its versions: the index of a view, or -1 for the row itself."""
        place = np.full(len(self.plain) + 1, -1)  # in `rows`; the last is for views of no row
        place[rows] = np.arange(len(rows))
        views = np.flatnonzero(place[self.view_rows] >= 0)
        versions = Versions(np.concatenate([np.arange(len(rows)), place[self.view_rows[views]]]))
        return np.concatenate([np.full(len(rows), -1), views])[versions.draw(rng)]

    def read(self, rows: Labels, versions: Labels) -> NDArray[Any]:
        """Read these versions of rows."""
        found = np.empty((len(rows), *self.plain.shape[1:]), self.plain.dtype)
        shown = versions >= 0
        found[~shown] = self.plain[rows[~shown]]
        found[shown] = self.views[versions[shown]]
        return found

    def batches(
        self, rows: Labels, batch_size: int, codes: Codes | None = None, rng: np.random.Generator | None = None
    ) -> Any:
        """Make batches of rows for Keras, each row once; with labels, if they are given.

        With `rng`, in random order, and of each row a version drawn at random.
        """
        import keras

        order, versions = np.arange(len(rows)), np.full(len(rows), -1)
        if rng is not None:
            order, versions = rng.permutation(len(rows)), self.draw(rows, rng)

        class Batches(keras.utils.PyDataset):  # type: ignore[misc]
            def __len__(self) -> int:
                return ceil(len(order) / batch_size)

            def __getitem__(_, number: int) -> tuple[NDArray[Any], ...]:  # noqa: N805
                some = order[number * batch_size : (number + 1) * batch_size]
                values = self.read(rows[some], versions[some])
                return (values,) if codes is None else (values, codes[some])

        return Batches()

    def split_counts(self) -> dict[str, int]:
        """Count the rows of each split."""
        names, counts = np.unique(self.splits, return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    @property
    def identity(self) -> str:
        """SHA-256 of the rows' images, splits and answers."""
        columns = (self.digests.tolist(), self.splits.tolist(), self.answers.tolist())
        return hashlib.sha256(json.dumps(columns).encode()).hexdigest()


def from_cache(
    source: Source,
    store: Path,
    spec: ExtractionSpec,
    network: tuple[str, str],
    boundary: str,
    recipe: Recipe,
    progress: Progress | None,
) -> ImageRows:
    """Extract the features at the boundary by stage 1, as far as they are not there yet, and map them.

    Args:
        source: the images.
        store: folder for the features.
        spec: of the features that the head takes: size, preprocessing and so on are the same.
        network: name and weights of the backbone.
        boundary: the layer whose output the rows are.
        recipe: tells the augmented versions, and the type of the features.
        progress: see :func:`featurestore.extract`.

    Raises:
        FeatureStoreError: see :func:`featurestore.extract`.
    """
    name, weights = network
    views = recipe.made_views
    made = extract(
        source, store, backbone=name, weights=weights, size=spec.size, pool="none", taps=[boundary],
        preprocessing=spec.preprocessing, resize=spec.resize, interpolation=spec.interpolation,
        crop_share=spec.crop_share, dtype=recipe.dtype,
        views=views, augment=recipe.augment, precision=spec.precision, decoder=spec.decoder, progress=progress,
    )  # fmt: skip
    file = FeatureStore(made.path)
    # A file may hold more views than are asked for now.
    view_rows = np.where(file.view_numbers <= views, file.view_rows, -1)
    return ImageRows(
        file.features(), file.views(), view_rows,
        file.labels.astype(np.intp) if file.targets is None else np.asarray(file.targets[:]), file.splits, file.digests,
        _groups(file.digests, file.groups),
        list(file.failures), file.grouped,
    )  # fmt: skip


def from_pixels(source: Source, spec: ExtractionSpec, recipe: Recipe, limit: int, progress: Progress) -> ImageRows:
    """Decode all images and the same views that stage 1 makes once, and keep their pixels, uint8, in memory.

    Args:
        source: the images.
        spec: their size, resize rule and decoder.
        recipe: tells the augmented versions.
        limit: most bytes that they may take.
        progress: called after each image.

    Raises:
        HeadError: they take more.
    """
    dataset = source.dataset(lambda done, total: progress("reading", done, total))
    asked, classes = TASKS[dataset.task], len(dataset.class_names)
    samples, _ = assign_splits(dataset.samples, {}, class_names=dataset.class_names, task=asked)
    views, preset = recipe.made_views, recipe.augment or ""
    count = sum(1 + views * (sample.split == "train") for sample in samples)
    if (needed := count * spec.size**2 * 3) > limit:
        raise HeadError(
            f"{source.name}: {count} images and views of {spec.size} pixels take {needed / 2**30:.1f} GiB of memory, "
            f"{max(limit, 0) / 2**30:.1f} GiB are left for them: unfreeze less, so that features are cached on disk "
            "instead, or lower --views"
        )

    def task(sample: Sample) -> ImageTask:
        numbers = range(1, views + 1) if sample.split == "train" else ()
        keys = [sample.digest, *(view_key(sample.digest, preset, number) for number in numbers)]
        items = [Item(key=key, sample=sample, number=number) for number, key in enumerate(keys)]
        return ImageTask(sample, [Wish(spec.framing, preset, items)])

    side = (spec.size, spec.size, 3)
    plain, shown = (np.empty((n, *side), np.uint8) for n in (len(samples), count - len(samples)))
    good: list[Sample] = []
    owners: list[int] = []
    failures = [(failure.path, failure.reason) for failure in dataset.failures]
    tasks = map(task, samples)
    decoded = decode_ahead(source, tasks, len(samples), window=2 * cores())
    for done, (sample, outcome) in enumerate(zip(samples, decoded, strict=True), start=1):
        found: list[Any] = [*outcome.pixels[0].values()]  # an image that cannot be read gives its error for all
        first, *rest = found
        if isinstance(first, ImageError):
            failures.append((sample.path or sample.id, str(first)))
        else:
            plain[len(good)] = first
            for image in rest:
                shown[len(owners)] = image
                owners.append(len(good))
            good.append(sample)
        progress("decoding", done, len(samples))
    width = asked.width(classes)
    answers = np.array([sample.values[:width] if width else sample.label for sample in good], asked.dtype or np.intp)
    return _of_samples(good, answers, (plain[: len(good)], shown[: len(owners)]), owners, failures)


def _of_samples(
    samples: list[Sample],
    answers: NDArray[Any],
    pixels: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    owners: list[int],
    failures: list[tuple[str, str]],
) -> ImageRows:
    digests = np.array([sample.digest for sample in samples])
    return ImageRows(
        *pixels,
        np.array(owners, np.intp),
        answers,
        np.array([sample.split for sample in samples]),
        digests,
        _groups(digests, np.array([sample.group for sample in samples])),
        failures,
        any(sample.group for sample in samples),
    )


def _groups(digests: NDArray[Any], names: NDArray[Any]) -> Labels:
    return joined(np.unique(digests, return_inverse=True)[1], names)


@dataclass(frozen=True, eq=False)
class Roles:
    """Which rows train, choose and judge.

    Attributes:
        train: rows to train on.
        choose: rows that tell which epoch was best.
        judge: rows that the result is measured on, once.
        split: name of the split that `judge` is.
        borrowed: the head was fitted on `choose`: they say nothing of it, and may choose among the epochs only.
    """

    train: Labels
    choose: Labels
    judge: Labels
    split: str
    borrowed: bool

    @classmethod
    def of(cls, images: ImageRows, record: Record | None, seed: int) -> "Roles":
        """Let test rows judge and validation rows choose; without test rows, validation rows judge.

        Args:
            images: the rows, in the splits that they had when the head was fitted, see :func:`placed`.
            record: what the head has seen. Rows that it was fitted on do not judge it.
            seed: of the training rows that are held out, where they are needed to choose.

        Raises:
            HeadError: no training rows, or none to judge on.
        """
        seen = record.seen(images.digests.tolist()) if record else np.zeros(len(images.splits), "U6")
        train, validation, test = (np.flatnonzero(images.splits == s) for s in ("train", "validation", "test"))
        split, judge = ("test", test) if len(test) else ("validation", validation)
        unseen = judge[seen[judge] != FITTED]
        if not len(train) or not len(judge):
            raise HeadError(
                f"{len(train)} training, {len(validation)} validation and {len(test)} test rows: fine-tuning needs "
                "some to train on and some to be judged by"
            )
        if not len(unseen):
            raise HeadError(
                f"the head was fitted on all {len(judge)} {split} rows, and no others are left to judge the result by: "
                "start from a head of  featurestore fit-head, which keeps validation rows apart, or add test images"
            )
        if len(test) and len(validation):
            return cls(train, validation, unseen, split, bool((seen[validation] == FITTED).any()))
        codes = images.answers[train] if images.answers.ndim == 1 else signs_of(images.answers[train])
        held = held_out_tenth(codes, seed, images.groups[train])
        return cls(train[~held], train[held], unseen, split, True)


def placed(images: ImageRows, record: Record | None) -> ImageRows:
    """Put each image in the split that it had when the head was fitted; images that are new to the head keep theirs.

    A folder that has grown is split anew, and an image that the head was fitted on may now be called test.
    """
    if record is None:
        return images
    before = record.split_of(images.digests.tolist())
    return replace(images, splits=np.where((before == "") | (images.splits == DUPLICATE), images.splits, before))
