"""Images without labels get features as those of a feature file, once."""

import shutil

import numpy as np
import pytest
from pictures import write_images
from shards import write_shards

from featurestore import FeatureStore, extract
from featurestore.errors import SourceError, SpecMismatchError
from heads import load_features, look_at
from heads.curating.unlabelled import CLASS, source_of_images, table_of


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Images, and their features."""
    folder = tmp_path_factory.mktemp("labelled")
    write_images(folder / "images", 8)
    options = {"backbone": "small_cnn", "weights": "random", "size": 32, "engine": "keras", "progress": False}
    return folder, extract(folder / "images", folder / "store", **options).path


def test_a_folder_an_image_and_a_tar(made, tmp_path):
    folder, _ = made
    assert len(source_of_images(str(folder / "images")).listing().samples) == 24
    image = next((folder / "images" / "red").iterdir())
    assert [each.path for each in source_of_images(str(image)).listing().samples] == [image.name]
    tar = source_of_images(str(write_shards(tmp_path / "pets")))
    assert tar.class_names == (CLASS,) and {each.label for each in tar.listing().samples} == {0}


def test_features_are_those_of_the_file_and_computed_once(made, tmp_path):
    folder, file = made
    pool = tmp_path / "pool"
    shutil.copytree(folder / "images" / "red", pool)
    (pool / "broken.png").write_bytes(b"no image")
    notes, table = [], load_features(file)
    for _ in range(2):
        found = table_of(pool, table, tmp_path / "store", note=notes.append)
    place = {digest: row for row, digest in enumerate(table.digests)}
    rows = [place[digest] for digest in found.digests]
    np.testing.assert_array_equal(found.X, np.asarray(table.X)[rows])
    assert found.class_names == (CLASS,) and len(notes) == 2 and "broken.png" in notes[0]
    assert len(list((tmp_path / "store").glob("*.h5"))) == 1


def test_a_folder_without_images_and_one_that_is_not_there(made, tmp_path):
    table = load_features(made[1])
    with pytest.raises(SourceError, match="no such image or folder"):
        table_of(tmp_path / "nowhere", table, tmp_path / "store")
    with pytest.raises(SourceError, match="no images in this folder"):
        table_of(tmp_path, table, tmp_path / "store")


def test_a_feature_file_of_another_kind(made, tmp_path):
    folder, file = made
    other = extract(
        folder / "images", tmp_path, backbone="small_cnn", weights="random", size=40, engine="keras", progress=False
    ).path
    with pytest.raises(SpecMismatchError, match="size: 40 here, 32 there"):
        table_of(other, load_features(file), tmp_path / "store")


def test_images_to_label_and_neighbours_of_an_image_with_pictures(made, tmp_path):
    folder, file = made
    pool = write_images(tmp_path / "pool", 3, seed=1)
    found = look_at("label-next", file, pool=pool, count=4, page=tmp_path / "page.html", progress=False)
    assert found.found == 9 and len(found.looks) == 4
    assert (tmp_path / "page.html").read_text().count("<img") == 4
    assert FeatureStore(next((folder / "store" / "unlabelled").glob("*.h5"))).class_names == (CLASS,)
    image = sorted((pool / "red").iterdir())[0]
    near = look_at("neighbours", file, to=image, count=3, progress=False)
    assert [each.label for each in near.looks] == ["red"] * 3 and image.name in near.looks[0].why
