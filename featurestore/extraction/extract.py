"""Stage 1: find out what is missing, run the backbones on that, publish."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from featurestore import backbones
from featurestore.extraction.options import ExtractionOptions
from featurestore.extraction.publishing import Extraction
from featurestore.extraction.run import Note
from featurestore.extraction.runner import Runner, digested
from featurestore.extraction.sharding import extract_shards, is_divided
from featurestore.sources.base import Source
from featurestore.sources.opener import open_source
from featurestore.spec import (
    LAST,
    Augment,
    Decoder,
    Dtype,
    Engine,
    ExtractionSpec,
    Interpolation,
    Pool,
    Precision,
    Resize,
)
from featurestore.store import file_format
from featurestore.store.lock import store_lock
from featurestore.store.place import Place
from featurestore.store.writer import remove_drafts
from featurestore.system.progress import Progress, reporting


def extract(
    source: str | os.PathLike[str] | Source,
    store: str | os.PathLike[str],
    *,
    backbone: str = backbones.DEFAULT,
    weights: str = "imagenet",
    size: int | None = None,
    pool: Pool | None = None,
    taps: Sequence[str] = (LAST,),
    preprocessing: str | None = None,
    resize: Resize | None = None,
    interpolation: Interpolation | None = None,
    crop_share: float | None = None,
    crops: int = 1,
    dtype: Dtype = "float32",
    views: int | None = None,
    augment: Augment | None = None,
    precision: Precision = "float32",
    decoder: Decoder = "pillow",
    engine: Engine = "auto",
    batch_size: int | None = None,
    prune: bool = False,
    rehash: bool = False,
    cluster: str | None = None,
    shard_rows: int | None = None,
    shard: str | None = None,
    progress: bool | Progress | None = True,
    note: Note | None = None,
) -> Extraction:
    """Run a frozen backbone once over the images of `source`, and keep its features in a file in `store`.

    As :func:`extract_all`, which tells the arguments, with one backbone.

    Example:
        >>> from featurestore import FeatureStore, extract
        >>> done = extract("images", "store", backbone="small_cnn", weights="random", size=32, progress=False)
        >>> done.rows, done.computed, FeatureStore(done.path).features().shape
        (30, 30, (30, 256))
        >>> extract("images", "store", backbone="small_cnn", weights="random", size=32, progress=False).computed
        0
    """
    options = ExtractionOptions(
        size=size, pool=pool, taps=tuple(taps), preprocessing=preprocessing, resize=resize, interpolation=interpolation,
        crop_share=crop_share, crops=crops, dtype=dtype, views=views, augment=augment, precision=precision,
        decoder=decoder, engine=engine, batch_size=batch_size, prune=prune, rehash=rehash, cluster=cluster,
        shard_rows=shard_rows, shard=shard,
    )  # fmt: skip
    return _extract(source, Place.of(store), {backbone: weights}, options, progress, note)[0]


def extract_all(
    source: str | os.PathLike[str] | Source,
    store: str | os.PathLike[str],
    networks: Mapping[str, str],
    *,
    size: int | None = None,
    pool: Pool | None = None,
    taps: Sequence[str] = (LAST,),
    preprocessing: str | None = None,
    resize: Resize | Sequence[Resize] | None = None,
    interpolation: Interpolation | None = None,
    crop_share: float | None = None,
    crops: int | Sequence[int] = 1,
    dtype: Dtype = "float32",
    views: int | None = None,
    augment: Augment | None = None,
    precision: Precision = "float32",
    decoder: Decoder = "pillow",
    engine: Engine = "auto",
    batch_size: int | None = None,
    prune: bool = False,
    rehash: bool = False,
    cluster: str | None = None,
    shard_rows: int | None = None,
    shard: str | None = None,
    progress: bool | Progress | None = True,
    note: Note | None = None,
) -> list[Extraction]:
    """Run frozen backbones once over the images of `source`; each image is read and decoded once for all of them.

    Only what is missing is computed: rows in the file already, in another file of the store made by the same spec,
    or in the journal of an interrupted run do not go through the backbone again.

    Args:
        source: whatever :func:`featurestore.open_source` opens, or what it returned.
        store: folder for the feature files, one for each backbone and look at the images; made if need be. Or its
            address, as ``s3://…``: see :mod:`featurestore.store.place`.
        networks: names of backbones, each with its weights (``imagenet``, ``random`` or a file).
        size, pool, taps, preprocessing, resize, interpolation, crop_share, crops, dtype, views, augment, precision,
            decoder, engine, batch_size, prune, rehash, cluster, shard_rows, shard: see
            :class:`featurestore.extraction.options.ExtractionOptions`.
        progress: True for bars or lines on standard error, False for nothing, or a function to call: see
            :func:`featurestore.system.progress.reporting`.
        note: called with a sentence when a run will take long.

    Raises:
        SourceError: nothing to extract in `source`.
        BackboneError, WeightsError, MissingDependencyError: see :func:`featurestore.backbones.load_backbone`.
        StoreLockedError: another process writes to the store.
        SpecMismatchError, CorruptFileError: a file in the way was made otherwise, or is damaged.
        DiskFullError: what is finished is kept, as with every other error.

    Example:
        >>> from featurestore import extract_all
        >>> networks = {"small_cnn": "random", "mobilenet:alpha=0.25": "random"}
        >>> [done.rows for done in extract_all("images", "store", networks, size=32, progress=False)]
        [30, 30]
    """
    options = ExtractionOptions(
        size=size, pool=pool, taps=tuple(taps), preprocessing=preprocessing, resize=resize, interpolation=interpolation,
        crop_share=crop_share, crops=crops, dtype=dtype, views=views, augment=augment, precision=precision,
        decoder=decoder, engine=engine, batch_size=batch_size, prune=prune, rehash=rehash, cluster=cluster,
        shard_rows=shard_rows, shard=shard,
    )  # fmt: skip
    return _extract(source, Place.of(store), networks, options, progress, note)


def _extract(
    source: str | os.PathLike[str] | Source,
    place: Place,
    networks: Mapping[str, str],
    options: ExtractionOptions,
    progress: bool | Progress | None,
    note: Note | None,
) -> list[Extraction]:
    requests, folder = options.requests(networks), place.folder
    runner = Runner(folder, requests, options, note)
    if not isinstance(source, Source):
        source = open_source(source)
    with reporting(progress) as report:
        if is_divided(source, place, options):
            return extract_shards(source, place, options, requests, runner, report)
        with store_lock(folder) as lock:
            remove_drafts(folder)
            dataset = digested(source, folder, report, trust=not options.rehash)

            def placed(spec: ExtractionSpec) -> tuple[Path, int]:
                target = file_format.file_in(folder, dataset.name, spec)
                place.pull(target)
                return target, lock

            found = runner.run(source, dataset, placed, report, options.cluster)
            if not place.address:
                return found
            for result in found:
                place.push(result.path)
            return [
                replace(each, notes=[*each.notes, f"the file is at {place.address_of(each.path)}"]) for each in found
            ]
