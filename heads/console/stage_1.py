"""The commands of stage 1: images to features."""

from pathlib import Path
from typing import Annotated, Any

import typer

from featurestore import spec
from heads.console import options, terminal, text
from heads.console.app import FAILURES_LISTED, command
from heads.console.options import (
    NETWORK,
    SOURCE,
    VIEWS,
    FileOrDir,
    Json,
    Preprocessing,
    Quiet,
    opens_source,
    option,
)


@command()
@opens_source
def extract(
    source: Any,
    store: Annotated[str, option("Folder for the feature file, or its s3:// address.")],
    backbone: Annotated[
        list[str] | None,
        option("See `featurestore backbones`; hub:NAME; a .keras or .onnx file. Repeatable.", group=NETWORK),
    ] = None,
    weights: Annotated[
        list[str] | None,
        option("imagenet (default), random, or a file; for all backbones, or one each.", group=NETWORK),
    ] = None,
    size: Annotated[
        int | None, option("Side of the input in pixels; by default the backbone's.", group=NETWORK)
    ] = None,
    tap: Annotated[
        list[str] | None,
        option("Layer or glob to take; `last` by default.", metavar="LAYER[=POOL]", group=NETWORK),
    ] = None,
    pool: Annotated[
        spec.Pool | None, option("How a map, or tokens, become a vector; by default what suits.", group=NETWORK)
    ] = None,
    preprocessing: Preprocessing = None,
    resize: options.Resize = None,
    interpolation: options.Interpolation = None,
    crop_share: options.CropShare = None,
    crops: options.Crops = None,
    views: Annotated[int | None, option("Augmented versions of each training image to keep too.", group=VIEWS)] = None,
    augment: Annotated[spec.Augment | None, option("What they look like; by default mild.", group=VIEWS)] = None,
    dtype: options.Dtype = "float32",
    precision: options.Precision = "float32",
    decoder: options.Decoder = "pillow",
    engine: options.Engine = "auto",
    batch_size: options.BatchSize = None,
    cluster: options.Cluster = None,
    shard_rows: options.ShardRows = None,
    shard: options.Shard = None,
    prune: Annotated[bool, option("Drop rows of images that SOURCE no longer holds.", "--prune", group=SOURCE)] = False,
    rehash: Annotated[
        bool, option("Read every file again, also those that look unchanged.", "--rehash", group=SOURCE)
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a frozen backbone over SOURCE, and keep its features. A run that was killed goes on where it was."""
    from featurestore.extraction.extract import extract_all

    networks = options.networks(backbone or ["efficientnet_lite0"], weights or ["imagenet"])
    loud = not (quiet or as_json)
    results = extract_all(
        source, store, networks, size=size, pool=pool, taps=tap or ("last",), preprocessing=preprocessing,
        resize=options.rules(resize), interpolation=interpolation, crop_share=crop_share, crops=crops or 1,
        dtype=dtype, views=views, augment=augment, precision=precision, decoder=decoder, engine=engine,
        batch_size=batch_size, prune=prune, rehash=rehash, cluster=cluster, shard_rows=shard_rows, shard=shard,
        progress=loud, note=terminal.note if loud else None,
    )  # fmt: skip
    terminal.show(results[0] if len(results) == 1 else results, as_json, quiet, text.extraction)
    if any(result.failures for result in results):
        raise typer.Exit(FAILURES_LISTED)


@command()
@opens_source
def inspect(
    source: Any,
    page: Annotated[Path | None, option("Write a page of pictures that opens from disk.", metavar="FILE.html")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show what SOURCE holds, and which files cannot be read. Classes, splits, image sizes, duplicates."""
    from featurestore.pages.inspection import inspect_source

    found = inspect_source(source, not (quiet or as_json), page=page)
    terminal.show(found, as_json, quiet, text.inspection)
    if page and not (quiet or as_json):
        terminal.show(str(page), False, False, "page: {}".format)
    if found.failures:
        raise typer.Exit(FAILURES_LISTED)


@command()
def info(path: FileOrDir, as_json: Json = False) -> None:
    """Show what a feature file holds, or each one in a folder."""
    from featurestore.store.reader import FeatureStore, find_files

    terminal.show([FeatureStore(file).summary() for file in find_files(path)], as_json, False, text.info)


@command()
def verify(path: FileOrDir, quiet: Quiet = False, as_json: Json = False) -> None:
    """Read feature files whole, and compare their content digests."""
    from featurestore.store.reader import verify_files

    terminal.show(verify_files(path), as_json, quiet, text.verified)


@command()
def backbones(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One backbone; `hub`: those of keras-hub.")] = None,
    taps: Annotated[bool, option("List the layers of one, with shapes and costs.", "--taps")] = False,
    size: Annotated[int | None, option("Side of the input in pixels.")] = None,
    preprocessing: Preprocessing = None,
    as_json: Json = False,
) -> None:
    """List the backbones, or the layers of one."""
    from featurestore.backbones import table, taps_of

    if name and taps:
        terminal.show(taps_of(name, size=size, preprocessing=preprocessing), as_json, False, text.taps)
    else:
        terminal.show(table(name), as_json, False, text.backbones)


@command()
def import_backbone(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="timm:NAME, hf:OWNER/NAME[@REVISION], hf:FOLDER.")],
    out: Annotated[Path, option("File to write; its pixel contract goes to a .json beside it.", metavar="FILE.onnx")],
    size: Annotated[int | None, option("Side of the input in pixels; by default the network's own.")] = None,
    weights: Annotated[
        str | None, option("random, or for timm a checkpoint; by default those of SOURCE.", metavar="random|FILE")
    ] = None,
    check: Annotated[Path | None, option("Images to compare the file on.", metavar="FOLDER")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a network of timm or Hugging Face to an ONNX file. PyTorch is needed to do that, and not to use it."""
    from featurestore.importing.import_backbone import import_backbone as run

    found = run(source, out, size=size, weights=weights, check=check, progress=not (quiet or as_json))
    terminal.show(found, as_json, quiet, text.imported)
