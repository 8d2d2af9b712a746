"""How a user wants features to be extracted: checked once, before anything slow begins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from featurestore import engines
from featurestore.backbones import Request
from featurestore.errors import BackboneError, FeatureStoreError, suggest
from featurestore.extraction.cluster import check_cluster
from featurestore.images import augment as augmentation
from featurestore.images import decode
from featurestore.spec import (
    CUTTING,
    DECODERS,
    DTYPES,
    Augment,
    Decoder,
    Dtype,
    Engine,
    Interpolation,
    Pool,
    Precision,
    Resize,
)
from featurestore.store import file_format


@dataclass(frozen=True, kw_only=True)
class ExtractionOptions:
    """The options of :func:`featurestore.extract` and :func:`featurestore.extract_all`.

    Attributes:
        size: side of the networks' input in pixels; None for each network's own.
        pool, interpolation, crop_share: see :func:`featurestore.backbones.load_backbone`.
        resize, crops: how an image becomes a square, and of how many crops the features are averaged, see
            :class:`featurestore.spec.Framing`. Several of each, in a list, are so many looks at each image: each
            backbone has a file for each resize rule with each number of crops.
        taps: layers whose outputs are kept, as ``LAYER`` or ``LAYER=POOL``; a layer may be a glob or a slice.
        preprocessing: what a file wants its pixels to be; see :func:`featurestore.backbones.load_backbone`.
        dtype: of the stored features: ``float32`` or ``float16``.
        views: augmented versions of each training image, kept beside it; None for as many as the file has.
        augment: what they look like, one of :data:`featurestore.images.augment.AUGMENTATIONS`; None for ``mild``.
        precision: that networks compute in: ``float32``, ``bfloat16`` or ``float16``.
        decoder: ``pillow``, ``draft`` or ``turbo``: see :func:`featurestore.images.decode.decode_framings`.
        engine: ``keras``, ``openvino``, or ``auto``: that of the rows which are there, else the faster one.
        batch_size: images per forward pass; None for what suits the machine. An interrupted run is resumed with the
            size and engine that it began with.
        prune: drop rows of images that the source no longer holds, instead of refusing to.
        rehash: read all files, also those that look unchanged by their size, times and inode, and build every network.
        cluster: a number of processes on this machine, or the address of a Dask scheduler, see
            :mod:`featurestore.extraction.cluster`; None for this process alone.
        shard_rows: most images of one feature file; a data set of more becomes a folder of such files, see
            :mod:`featurestore.store.shards`. None for a million, or for what the folder that is there was made with.
        shard: ``I/N``: compute only those of the files whose turn it is for part I (from 1) of N, such as a task of a
            Slurm array; all tasks see the same store. None for all of them.

    Raises:
        BackboneError: a value that is none of these.
        FeatureStoreError: a cluster that is neither a number nor an address.
        MissingDependencyError: Dask, or what the decoder needs, is not installed.
    """

    size: int | None
    pool: Pool | None
    taps: tuple[str, ...]
    preprocessing: str | None
    resize: Resize | Sequence[Resize] | None
    interpolation: Interpolation | None
    crop_share: float | None
    crops: int | Sequence[int]
    dtype: Dtype
    views: int | None
    augment: Augment | None
    precision: Precision
    decoder: Decoder
    engine: Engine
    batch_size: int | None
    prune: bool
    rehash: bool
    cluster: str | None
    shard_rows: int | None
    shard: str | None

    def __post_init__(self) -> None:
        for what, value, known in (
            ("dtype", self.dtype, DTYPES),
            ("decoder", self.decoder, DECODERS),
            ("engine", self.engine, engines.ENGINES),
        ):
            if value not in known:
                raise BackboneError(f"unknown {what} {value!r}: {suggest(value, known)}")
        decode.check(self.decoder)
        if self.batch_size is not None and self.batch_size < 1:
            raise BackboneError(f"batch size {self.batch_size}: it must be at least 1")
        if self.views is not None and not 0 <= self.views <= file_format.MOST_VIEWS:
            raise BackboneError(f"views {self.views}: it must be 0 to {file_format.MOST_VIEWS:,}")
        if self.augment is not None:
            augmentation.check(self.augment)
        if self.shard_rows is not None and self.shard_rows < 1:
            raise FeatureStoreError(f"shard rows {self.shard_rows}: it must be at least 1")
        if self.cluster is not None:
            check_cluster(self.cluster)
        if self.shard is not None and self.cluster is not None:
            raise FeatureStoreError("shard and cluster both divide the work: give one of them")
        self.turn()

    def turn(self) -> tuple[int, int]:
        """Return which part of how many is to be computed, counted from 0."""
        if self.shard is None:
            return 0, 1
        number, slash, count = self.shard.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise FeatureStoreError(f"shard {self.shard!r}: write I/N, such as 1/8 for the first of eight")
        return int(number) - 1, int(count)

    def requests(self, networks: Mapping[str, str]) -> list[Request]:
        """Return how each network is built, for each look at the images.

        Args:
            networks: names of backbones, each with its weights.
        """
        resizes = [self.resize] if self.resize is None or isinstance(self.resize, str) else self.resize
        numbers = [self.crops] if isinstance(self.crops, int) else self.crops
        looks = list(dict.fromkeys(product(resizes, numbers)))
        return [
            Request(
                name, weights, self.size, self.pool, self.taps, self.preprocessing, self.precision, resize,
                self.interpolation, share, crops,
            )
            for name, weights in networks.items()
            for resize, crops in looks
            # Of several looks, a crop share is for those that have one.
            for share in [self.crop_share if len(looks) == 1 or crops > 1 or resize in CUTTING else None]
        ]  # fmt: skip
