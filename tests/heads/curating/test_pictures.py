"""Pictures of rows, from whatever they were extracted."""

import pytest
from pictures import write_images
from shards import picture, write_parquet, write_shards

from featurestore import FeatureStore, extract, open_source
from heads import fit_head, report
from heads.curating.pictures import Pictures
from heads.reporting.pictures import MEANING


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


def test_mistakes_have_maps_of_both_classes(tmp_path):
    images = tmp_path / "pets"
    write_images(images / "train", 6, ("blue", "red"))
    write_images(images / "test", 3, ("red", "blue"), seed=1)  # whose labels are wrong
    how = {"backbone": "small_cnn", "weights": "random", "size": 32, "progress": False}
    made = extract(open_source(images), tmp_path / "store", **how)
    fit_head(made.path, "lda", params=["shrinkage=1.0"], out=tmp_path / "head")
    page = tmp_path / "page.html"
    found = report(tmp_path / "head", page, features=made.path, source=images, explain=True, progress=False)
    text = page.read_text()
    assert found.mistakes and MEANING in text and text.count('alt="map of ') == 2 * len(found.mistakes)
    alone = report(tmp_path / "head", page, features=made.path, explain=True, progress=False)
    assert any("--explain needs --source" in note for note in alone.notes) and 'alt="map of ' not in page.read_text()

    flat = extract(open_source(images), tmp_path / "dense", **how, taps=["last=flatten"])
    fit_head(flat.path, "lda", out=tmp_path / "other")
    kept = (tmp_path / "other" / "head.json").read_text()
    (tmp_path / "other" / "head.json").write_text(kept.replace('"random"', '"gone.weights.h5"'))
    found = report(tmp_path / "other", page, features=flat.path, source=images, explain=True, progress=False)
    assert found.mistakes and any("Maps are left out: gone.weights.h5" in note for note in found.notes)
