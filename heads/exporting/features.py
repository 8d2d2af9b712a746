"""Write the features of a file in formats of other tools, row by row with their ids, labels and splits."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from featurestore.backbones import licence_notes
from featurestore.errors import missing
from featurestore.store.file_format import blocks
from featurestore.store.reader import FeatureStore, find_file
from featurestore.system.files import replacing_files
from featurestore.system.printing import as_utf8
from heads.exporting.result import Export
from heads.feature_table import FeatureTable, load_features


def export_features(source: str | os.PathLike[str], form: str, out: str | os.PathLike[str] | None = None) -> Export:
    """Write the rows of a feature file, without views; several taps stand side by side.

    Args:
        source: a feature file, or a folder with one.
        form: a key of :data:`WRITERS`. ``npz``: arrays ``features`` (N, D), ``labels`` (N,), ``class_names``, ``ids``,
            ``splits``. ``parquet``: columns ``id``, ``label`` (name of the class), ``split``, ``features`` (a list of D
            numbers). ``h5ad`` (AnnData): X is the features, ``obs`` has ``label`` and ``split`` by id.
        out: file to write; by default it is called after the source, and lies in the working directory.

    Raises:
        StoreError: no such file.
        MissingDependencyError: the format's library is not installed.
        WriteError: the file cannot be written.
    """
    store = FeatureStore(find_file(source))
    table = load_features(store.path, "+".join(store.taps))
    path = Path(out) if out else Path(f"{table.path.stem}.{form}")
    try:
        with replacing_files(path) as draft:
            WRITERS[form](table, draft)
    except ImportError as error:
        raise missing(f"--format {form}", str(error.name), "export") from error
    notes = licence_notes(store.spec.backbone, store.provenance.get("licence", ""))
    return Export(path, form, path.stat().st_size, notes=tuple(notes))


def _write_npz(table: FeatureTable, path: Path) -> None:
    with path.open("wb") as stream:  # np.savez would put a suffix behind the name
        np.savez(
            stream,
            features=table.X,
            labels=table.y,
            class_names=np.array(table.class_names),
            ids=table.ids.astype(str),  # objects would be pickled
            splits=table.splits.astype(str),
        )


def _write_parquet(table: FeatureTable, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    width = table.X.shape[1]
    class_names, ids = [as_utf8(name) for name in table.class_names], [as_utf8(key) for key in table.ids.tolist()]
    names = [class_names[label] for label in table.y.tolist()]
    # Few readers of Parquet know float16.
    schema = pa.schema(
        {"id": pa.string(), "label": pa.string(), "split": pa.string(), "features": pa.list_(pa.float32(), width)},
        metadata={"class_names": json.dumps(class_names)},
    )
    with parquet.ParquetWriter(path, schema) as writer:
        for rows in blocks(len(table.y), 4 * width):
            values = np.asarray(table.X[rows], np.float32).ravel()
            features = pa.FixedSizeListArray.from_arrays(pa.array(values), width)
            columns = [*(pa.array(each[rows]) for each in (ids, names, table.splits.tolist())), features]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _write_h5ad(table: FeatureTable, path: Path) -> None:
    import anndata
    import pandas as pd

    names, ids = [as_utf8(name) for name in table.class_names], [as_utf8(key) for key in table.ids.tolist()]
    rows = {"label": pd.Categorical.from_codes(table.y, names), "split": pd.Categorical(table.splits)}
    anndata.AnnData(np.asarray(table.X), obs=pd.DataFrame(rows, index=ids)).write_h5ad(path)


WRITERS: dict[str, Callable[[FeatureTable, Path], None]] = {
    "npz": _write_npz,
    "parquet": _write_parquet,
    "h5ad": _write_h5ad,
}
"""The function that writes each format, by its name."""
