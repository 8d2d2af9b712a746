"""Pictures of rows, from whatever they were extracted."""

import pytest
from pictures import write_images
from shards import picture, write_parquet, write_shards

from featurestore import FeatureStore, extract, open_source
from heads.curating.pictures import Pictures


def from_folder(folder):
    return write_images(folder / "pets", 4), {}


def from_tars(folder):
    return write_shards(folder / "pets"), {}


def from_parquet(folder):
    path = write_parquet(folder / "pets.parquet", [picture(i, i) for i in range(12)], [0] * 12, breed=[1, 2] * 6)
    return path, {"label_column": "breed"}  # which is not said again with --source


@pytest.mark.parametrize("make", [from_folder, from_tars, from_parquet])
def test_rows_are_shown_by_what_they_were_extracted_from(make, tmp_path):
    source, options = make(tmp_path)
    made = extract(
        open_source(source, **options),
        tmp_path / "store",
        backbone="small_cnn",
        weights="random",
        size=32,
        engine="keras",
    )
    pictures = Pictures(FeatureStore(made.path), source, None)
    found, sizes = pictures.take([3, 1])
    assert not pictures.failures and list(found) == [3, 1] and len(sizes) == 12
    assert all(each["uri"].startswith("data:image/") for each in found.values())
