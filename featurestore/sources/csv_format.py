"""A CSV as a data set: of files beside it, or of images at addresses; and it may lie at an address itself."""

from pathlib import Path
from tempfile import TemporaryDirectory

from featurestore.errors import AddressError, ServerError, SourceError
from featurestore.sources.base import Format, Source, path_name
from featurestore.sources.csv_table import MAX_BYTES, ManifestSource, Table, read_manifest
from featurestore.sources.options import SourceOptions
from featurestore.sources.remote import AddressSource, address_name, below, folder_of
from featurestore.system.addresses import check_address, is_address
from featurestore.system.transfer import Downloads


def _open(where: str, name: str, options: SourceOptions) -> Source:
    if is_address(where):
        return _open_address(where, name, options)
    path = Path(where)
    if options.labels is not None and not path.is_dir():
        raise SourceError(f"{path}: with a CSV of labels, the source must be the folder of the images")
    manifest, root = (path, path.parent) if options.labels is None else (options.labels, path)
    first = None if options.labels else next(read_manifest(manifest, options.columns, labels="none"), None)
    if first and is_address(first.path):
        return _of_addresses(manifest, "", None, name, options)
    return ManifestSource(manifest, root, name=name, options=options)


def _open_address(where: str, name: str, options: SourceOptions) -> AddressSource:
    """Open a table at an address; or the folder of an address, with a table of this machine."""
    check_address(where)
    if options.labels is not None:
        return _of_addresses(options.labels, where.rstrip("/") + "/", None, name, options)
    with TemporaryDirectory() as folder:
        try:
            Downloads().get(where, copy := f"{folder}/table.csv", MAX_BYTES)
        except ServerError:
            raise
        except AddressError as error:
            raise AddressError(
                f"{where}: cannot be had ({error}): check the address, your access rights and the network"
            ) from error
        return _of_addresses(where, folder_of(where), copy, name, options)


def _of_addresses(
    manifest: Path | str, root: str, copy: str | None, name: str, options: SourceOptions
) -> AddressSource:
    """Open the images that a table names by addresses, or by paths below that of a folder."""

    def place(cell: str, where: str) -> str:
        return below(root, cell, contained=options.contained)

    remedy = "write addresses such as https://host/1.jpg, or s3://bucket/1.jpg"
    table = Table(manifest, "has an address", remedy, options, copy)
    return AddressSource(root, table.listing(place, name))


def _recognises(where: str, options: SourceOptions) -> bool:
    path = where.partition("?")[0] if is_address(where) else where
    return options.labels is not None or path.lower().endswith((".csv", ".tsv"))


FORMAT = Format(
    called="a .csv",
    recognises=_recognises,
    open=_open,
    has_columns=True,
    has_numbers=True,
    can_exclude=True,
    name=lambda where: address_name(where) if is_address(where) else path_name(where),
)
