"""Features of images that have no labels, computed as those of a feature file were.

The images go through stage 1 like any others, into a feature file of their own with the one class ``unlabelled``: the
backbone sees each image once, an interrupted run goes on, and the format needs no rows without a class. Nothing can be
fitted to such a file by mistake, since a head needs two classes.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from featurestore.backbones import named
from featurestore.errors import SourceError, SpecMismatchError
from featurestore.extraction.extract import extract
from featurestore.sources.base import FileSource, Source, path_name
from featurestore.sources.opener import unlabelled
from featurestore.sources.samples import Dataset, Sample
from featurestore.sources.tree import Tree
from featurestore.store.file_format import SHARDS, SUFFIX
from featurestore.store.reader import FeatureStore
from featurestore.system.progress import Progress
from heads.feature_table import FeatureTable, load_features

CLASS = "unlabelled"


def table_of(
    images: str | os.PathLike[str],
    table: FeatureTable,
    store: Path,
    *,
    progress: bool | Progress | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> FeatureTable:
    """Return features of images without labels, made as those of a table.

    Args:
        images: an image, a folder of images, a tar or Parquet file; or a feature file, whose labels are not looked at.
        table: the features that they are to be compared with; numeric columns have no part.
        store: folder for the feature file.
        progress: see :func:`featurestore.system.progress.reporting`.
        note: is called with a sentence on images that cannot be read.

    Raises:
        SourceError: no images there, or none that can be read.
        SpecMismatchError: the features are made in another way.
        FeatureStoreError: see :func:`featurestore.extract_all`.
    """
    where, tap = os.fspath(images), "+".join(each.tap for each in table.inputs)
    if where.endswith((SUFFIX, SHARDS)):
        found = load_features(where, tap)
        _check(found, table)
        return found
    source, known = source_of_images(where), {}
    for each in table.inputs:
        spec = each.spec
        if spec in known:
            continue
        backbone, weights = named(spec.backbone, each.weights)
        done = extract(
            source, store, backbone=backbone, weights=weights, size=spec.size, preprocessing=spec.preprocessing,
            taps=[f"{one.layer}={one.pool}" for one in spec.taps], resize=spec.resize, crop_share=spec.crop_share,
            interpolation=spec.interpolation, dtype=spec.dtype, precision=spec.precision, decoder=spec.decoder,
            prune=True, progress=progress,
        )  # fmt: skip
        known[spec] = FeatureStore(done.path)
        for first in done.failures[:1]:
            note(f"{len(done.failures)} images of {where} are left out, the first is {first.path}: {first.reason}")
    found = FeatureTable(Path(where), [(known[each.spec], each.tap) for each in table.inputs])
    _check(found, table)
    return found


def _check(found: FeatureTable, table: FeatureTable) -> None:
    for here, there, path in zip(found.inputs, table.inputs, found.files, strict=True):
        if here.fingerprint != there.fingerprint:
            raise SpecMismatchError(
                f"{path}: its features do not fit {table.path} (there): "
                f"{'; '.join(here.spec.differences(there.spec))}: extract both alike"
            )


def source_of_images(where: str) -> Source:
    """Open images that need no labels: a file, all images below a folder, or what holds images.

    Raises:
        SourceError: no image is there.
    """
    path = Path(where)
    if source := unlabelled(where):
        listing = source.listing()
        samples = [Sample(id=each.id, path=each.path, label=0, split="train", index=each.index)
                   for each in listing.samples]  # fmt: skip
        source.relist(replace(listing, class_names=(CLASS,), samples=samples))
        source.class_names = (CLASS,)
        return source
    if path.is_dir():
        root, names = path, sorted(Tree(path).images)
    elif path.exists():
        root, names = path.parent, [path.name]
    else:
        raise SourceError(f"{where}: no such image or folder")
    if not names:
        raise SourceError(f"{where}: no images in this folder: name images, or a folder of images")
    samples = [Sample(id=name, path=name, label=0, split="train") for name in names]
    return FileSource(root, Dataset(name=path_name(where), class_names=(CLASS,), samples=samples))
