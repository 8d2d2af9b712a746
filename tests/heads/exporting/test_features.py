import json

import h5py
import numpy as np
import pytest
from feature_files import write_features

from featurestore import FeatureStore
from featurestore.errors import StoreError, WriteError
from heads.exporting.features import WRITERS, export_features


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Two taps, one of them of maps."""
    rng = np.random.default_rng(0)
    taps = {"maps": rng.normal(size=(5, 2, 2, 3)).astype("float32"), "last": rng.normal(size=(5, 4)).astype("float32")}
    splits = ["train", "train", "test", "validation", "test"]
    path = tmp_path_factory.mktemp("exchange") / "small.h5"
    return write_features(path, taps, [0, 1, 2, 0, 1], splits, class_names=["a", "ü", "c"])


def read(path, form):
    """Features, ids, class names of rows, splits and all class names, as another tool reads them."""
    if form == "npz":
        with np.load(path) as found:
            names = found["class_names"]
            return found["features"], found["ids"], names[found["labels"]], found["splits"], names
    if form == "parquet":
        from pyarrow import parquet

        found = parquet.read_table(path)
        columns = [found[name].to_pylist() for name in ("features", "id", "label", "split")]
        return *columns, json.loads(found.schema.metadata[b"class_names"])
    import anndata

    found = anndata.read_h5ad(path)
    return found.X, found.obs_names, found.obs["label"], found.obs["split"], found.obs["label"].cat.categories


@pytest.mark.parametrize("form", WRITERS)
def test_what_was_written_reads_back(file, tmp_path, form):
    path = tmp_path / f"rows.{form}"
    done = export_features(file, form, path)
    assert done.to_dict() == {"path": str(path), "format": form, "bytes": path.stat().st_size}
    features, ids, labels, splits, names = read(path, form)
    store = FeatureStore(file)
    np.testing.assert_array_equal(
        features, np.concatenate([store.features("maps").reshape(5, -1), store.features("last")], 1)
    )
    assert list(ids) == store.ids.tolist() and list(splits) == store.splits.tolist()
    assert list(labels) == ["a", "ü", "c", "a", "ü"] and list(names) == ["a", "ü", "c"]
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_bad_input(file, tmp_path):
    with pytest.raises(StoreError, match="no such file"):
        export_features(tmp_path / "nothing.h5", "npz")
    (tmp_path / "taken").write_text("")
    with pytest.raises(WriteError, match="a file is in the way"):
        export_features(file, "npz", tmp_path / "taken" / "rows.npz")


@pytest.mark.parametrize("form", WRITERS)
def test_names_that_are_no_text(tmp_path, form):
    """Parquet and AnnData hold text only: the bytes of such a name are spelt out."""
    y = [0, 1, 0, 1]
    file = write_features(
        tmp_path / "f.h5", np.eye(4, dtype=np.float32), y, ["train"] * 4, class_names=["caf\udce9", "b"]
    )
    with h5py.File(file, "r+") as opened:
        opened["id"][...] = np.array([b"caf\xe9%d.png" % i for i in range(4)])
    export_features(file, form, tmp_path / f"rows.{form}")
    _, ids, labels, _, _ = read(tmp_path / f"rows.{form}", form)
    assert [str(name).replace("\udce9", r"\udce9") for name in [*ids, *list(labels)[:1]]] == [
        *(rf"caf\udce9{i}.png" for i in range(4)), r"caf\udce9",
    ]  # fmt: skip
