"""What goes into the trained part of a network: rows of a cache, or pixels."""

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
from featurestore.sources.samples import Sample
from featurestore.sources.splits import DUPLICATE, assign_splits
from featurestore.spec import Dtype, ExtractionSpec
from featurestore.store.reader import FeatureStore
from featurestore.system.machine import cores
from featurestore.system.progress import Progress
from heads.feature_table import Labels
from heads.solvers.calibration import held_out_tenth
from heads.solvers.versions import Versions
from heads.storage.record import FITTED, Record


@dataclass(frozen=True, eq=False)
class Material:
    """Rows, and augmented versions of training rows.

    Attributes:
        plain, views: (N, ...) and (M, ...), in memory or mapped.
        view_rows: the row that each view shows (M,); -1 for a view that is not used.
        labels: int (N,), indices into the source's class names.
        splits, digests: str (N,).
        failures: (path, reason) of each image that gave no row.
    """

    plain: NDArray[Any]
    views: NDArray[Any]
    view_rows: Labels
    labels: Labels
    splits: NDArray[Any]
    digests: NDArray[Any]
    failures: list[tuple[str, str]]

    def draw(self, rows: Labels, rng: np.random.Generator) -> Labels:
        """For each row one of its versions: the index of a view, or -1 for the row itself."""
        place = np.full(len(self.plain) + 1, -1)  # in `rows`; the last is for views of no row
        place[rows] = np.arange(len(rows))
        views = np.flatnonzero(place[self.view_rows] >= 0)
        versions = Versions(np.concatenate([np.arange(len(rows)), place[self.view_rows[views]]]))
        return np.concatenate([np.full(len(rows), -1), views])[versions.draw(rng)]

    def read(self, rows: Labels, versions: Labels) -> NDArray[Any]:
        """These versions of rows."""
        found = np.empty((len(rows), *self.plain.shape[1:]), self.plain.dtype)
        shown = versions >= 0
        found[~shown] = self.plain[rows[~shown]]
        found[shown] = self.views[versions[shown]]
        return found

    def batches(
        self, rows: Labels, batch_size: int, codes: Labels | None = None, rng: np.random.Generator | None = None
    ) -> Any:
        """Batches of rows as Keras takes them, each row once; with labels, if they are given.

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
        """Rows per split."""
        names, counts = np.unique(self.splits, return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    @property
    def identity(self) -> str:
        """SHA-256 of what the rows are."""
        columns = (self.digests.tolist(), self.splits.tolist(), self.labels.tolist())
        return hashlib.sha256(json.dumps(columns).encode()).hexdigest()


def from_cache(
    source: Source,
    store: Path,
    spec: ExtractionSpec,
    network: tuple[str, str],
    boundary: str,
    *,
    dtype: Dtype,
    views: int,
    augment: str | None,
    progress: Progress | None,
) -> Material:
    """Features at the boundary, extracted by stage 1 as far as they are not there yet, and mapped.

    Raises:
        FeatureStoreError: see :func:`featurestore.extract`.
    """
    name, weights = network
    made = extract(
        source, store, backbone=name, weights=weights, size=spec.size, pool="none", taps=[boundary],
        preprocessing=spec.preprocessing, resize=spec.resize, dtype=dtype,
        views=views, augment=augment, precision=spec.precision, decoder=spec.decoder, progress=progress,
    )  # fmt: skip
    file = FeatureStore(made.path)
    # A file may hold more views than are asked for now.
    view_rows = np.where(file.view_numbers <= views, file.view_rows, -1)
    return Material(
        file.features(), file.views(), view_rows, file.labels.astype(np.intp), file.splits, file.digests,
        list(file.failures),
    )  # fmt: skip


def from_pixels(
    source: Source, spec: ExtractionSpec, *, views: int, augment: str | None, limit: int, progress: Progress
) -> Material:
    """Pixels uint8 of all images and the same views that stage 1 makes, decoded once and kept in memory.

    Args:
        source: the images.
        spec: their size, resize rule and decoder.
        views, augment: of each training image.
        limit: most bytes that they may take.
        progress: called after each image.

    Raises:
        HeadError: they take more.
    """
    dataset = source.dataset(lambda done, total: progress("reading", done, total))
    samples, _ = assign_splits(dataset.samples, {}, class_names=dataset.class_names)
    count = sum(1 + views * (sample.split == "train") for sample in samples)
    if (needed := count * spec.size**2 * 3) > limit:
        raise HeadError(
            f"{source.name}: {count} images and views of {spec.size} pixels take {needed / 2**30:.1f} GiB of memory, "
            f"{max(limit, 0) / 2**30:.1f} GiB are left for them: unfreeze less, so that features are cached on disk "
            "instead, or lower --views"
        )

    preset = augment or ""

    def task(sample: Sample) -> ImageTask:
        numbers = range(1, views + 1) if augment and sample.split == "train" else ()
        keys = [sample.digest, *(view_key(sample.digest, preset, number) for number in numbers)]
        items = [Item(key=key, sample=sample, number=number) for number, key in enumerate(keys)]
        return ImageTask(sample, [Wish(spec.size, preset, items)])

    side = (spec.size, spec.size, 3)
    plain, shown = (np.empty((n, *side), np.uint8) for n in (len(samples), count - len(samples)))
    good: list[Sample] = []
    owners: list[int] = []
    failures = [(failure.path, failure.reason) for failure in dataset.failures]
    tasks = map(task, samples)
    decoded = decode_ahead(source, spec.resize, spec.decoder, tasks, len(samples), window=2 * cores())
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
    return Material(
        plain[: len(good)],
        shown[: len(owners)],
        np.array(owners, np.intp),
        np.array([sample.label for sample in good], np.intp),
        np.array([sample.split for sample in good]),
        np.array([sample.digest for sample in good]),
        failures,
    )


@dataclass(frozen=True, eq=False)
class Rows:
    """Who does what.

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
    def of(cls, material: Material, record: Record | None, seed: int) -> "Rows":
        """Test rows judge and validation rows choose; without the former, the latter judge.

        Args:
            material: the rows, in the splits that they had when the head was fitted, see :func:`placed`.
            record: what the head has seen. Rows that it was fitted on do not judge it.
            seed: of the training rows that are held out, where they are needed to choose.

        Raises:
            HeadError: no training rows, or none to judge on.
        """
        seen = record.seen(material.digests.tolist()) if record else np.zeros(len(material.splits), "U6")
        train, validation, test = (np.flatnonzero(material.splits == s) for s in ("train", "validation", "test"))
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
        codes = material.labels[train]
        groups = np.unique(material.digests[train], return_inverse=True)[1]
        held = held_out_tenth(codes, seed, groups)
        return cls(train[~held], train[held], unseen, split, True)


def placed(material: Material, record: Record | None) -> Material:
    """Each image in the split that it had when the head was fitted; images that the head does not know keep theirs.

    A folder that has grown is split anew, and what was for training may now be called test: the head knows better.
    """
    if record is None:
        return material
    before = record.split_of(material.digests.tolist())
    return replace(material, splits=np.where((before == "") | (material.splits == DUPLICATE), material.splits, before))
