"""Rows for training: of a cache or of pixels, the same images and views either way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import write_images

from featurestore import extract, open_source
from featurestore.errors import HeadError
from featurestore.spec import ExtractionSpec, Tap
from featurestore.store.reader import FeatureStore
from heads.finetuning.recipe import Recipe
from heads.finetuning.rows import ImageRows, Roles, from_cache, from_pixels, placed
from heads.storage.record import Record

SPEC = ExtractionSpec("small_cnn", "0" * 64, (Tap(),), 32, "squash", "tf", "float32")
VIEWS = {"views": 2, "augment": "mild"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = write_images(tmp_path_factory.mktemp("material") / "colours", 8)
    (folder / "red" / "bad.png").write_text("no image")
    return open_source(folder)


@pytest.fixture(scope="module")
def cache(source, tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def cached(source, cache, **options):
    network = ("small_cnn", "random")
    return from_cache(source, cache, SPEC, network, "block1_relu", Recipe(dtype="float32", **options), None)


def pixels(source, limit=10**9, **options):
    return from_pixels(source, SPEC, Recipe(**options), limit, lambda *step: None)


def test_a_cache_and_pixels_are_of_the_same_rows_and_views(source, cache):
    from featurestore.backbones import load_backbone

    made, shown = cached(source, cache, **VIEWS), pixels(source, **VIEWS)
    for name in ("answers", "splits", "digests", "view_rows"):
        np.testing.assert_array_equal(getattr(made, name), getattr(shown, name))
    assert made.identity == shown.identity
    assert [path for path, _ in made.failures] == [path for path, _ in shown.failures] == ["red/bad.png"]
    layer = load_backbone("small_cnn", weights="random", size=32, pool="none", taps=["block1_relu"]).model
    for part in ("plain", "views"):
        expected = layer.predict(getattr(shown, part), verbose=0)["block1_relu"]
        np.testing.assert_allclose(getattr(made, part), expected, rtol=1e-3, atol=1e-3)


def test_views_of_an_earlier_run_are_left_out(source, cache):
    cached(source, cache, **VIEWS)
    plain = cached(source, cache, augment=None)
    assert len(plain.views) > 0
    assert (plain.draw(np.arange(len(plain.plain)), np.random.default_rng(0)) == -1).all()


def test_too_many_pixels_are_refused_before_they_are_decoded(source):
    with pytest.raises(HeadError, match=r"colours: 61 images and views of 32 pixels take 0\.0 GiB.*unfreeze less"):
        pixels(source, limit=61 * 32 * 32 * 3 - 1, **VIEWS)
    pixels(source, limit=61 * 32 * 32 * 3, **VIEWS)


@given(st.lists(st.integers(-1, 5), max_size=20), st.integers(0, 100))
def test_each_row_is_drawn_once_as_itself_or_as_one_of_its_views(view_rows, seed):
    values = np.arange(6.0)
    owners = np.array(view_rows, np.intp)
    material = ImageRows(values, values[owners], owners, np.zeros(6, np.intp), *[np.array([])] * 3, [])
    rows = np.random.default_rng(seed).permutation(6)
    versions = material.draw(rows, np.random.default_rng(seed))
    assert (material.read(rows, versions) == rows).all()


def test_all_versions_are_drawn(source):
    material = pixels(source, **VIEWS)
    rng, rows = np.random.default_rng(0), np.flatnonzero(material.splits == "train")
    drawn = np.concatenate([material.draw(rows, rng) for _ in range(60)])
    assert set(drawn.tolist()) == {-1, *range(len(material.views))}
    assert 0.25 < (drawn == -1).mean() < 0.42  # one version in three


def of(splits, labels=None):
    n = len(splits)
    empty = np.zeros(n, np.intp)
    digests = np.array([f"{i:064x}" for i in range(n)])
    digests = np.array([digest[::-1] for digest in digests])  # they differ where they begin
    labels, groups = empty if labels is None else labels, np.unique(digests, return_inverse=True)[1]
    return ImageRows(empty, empty[:0], empty[:0], labels, np.array(splits), digests, groups, [])


def test_who_trains_chooses_and_judges():
    whole = Roles.of(of(["train"] * 6 + ["validation"] * 2 + ["test"] * 2 + ["duplicate"]), None, 0)
    assert [*map(list, (whole.train, whole.choose, whole.judge))] == [[*range(6)], [6, 7], [8, 9]]
    assert (whole.split, whole.borrowed) == ("test", False)
    for stronger in ("validation", "test"):
        labels = np.arange(42) % 2
        found = Roles.of(of(["train"] * 40 + [stronger] * 2, labels), None, 0)
        assert (list(found.judge), found.split, found.borrowed) == ([40, 41], stronger, True)
        assert len(found.choose) == 4 and sorted([*found.train, *found.choose]) == [*range(40)]
        assert set(labels[found.choose]) == {0, 1}
    with pytest.raises(HeadError, match="3 training, 0 validation and 0 test rows"):
        Roles.of(of(["train"] * 3), None, 0)


def record(material, fitted, chosen=()):
    return Record.of(material.digests, material.splits, fitted, chosen)


def test_a_folder_that_has_grown_keeps_the_splits_that_the_head_was_fitted_with():
    before = of(["train"] * 6 + ["validation"] * 2 + ["test"] * 2)
    known = record(before, ["train"])
    grown = of(["test"] * 3 + ["train"] * 7 + ["duplicate", "test", "train"])
    found = placed(grown, known)
    assert found.splits.tolist() == [*before.splits, "duplicate", "test", "train"]
    assert list(Roles.of(found, known, 0).judge) == [8, 9, 11]
    assert placed(grown, None) is grown


def test_rows_that_a_head_was_fitted_on_do_not_judge_it():
    whole = of(["train"] * 6 + ["validation"] * 2 + ["test"] * 2)
    rows = Roles.of(whole, record(whole, ["train", "validation"]), 0)
    assert (list(rows.choose), list(rows.judge), rows.borrowed) == ([6, 7], [8, 9], True)
    without = of(["train"] * 40 + ["validation"] * 2, np.arange(42) % 2)
    with pytest.raises(HeadError, match="fitted on all 2 validation rows, and no others are left"):
        Roles.of(without, record(without, ["train", "validation"]), 0)
    assert list(Roles.of(without, record(without, ["train"], ["validation"]), 0).judge) == [40, 41]


def test_the_cache_is_that_of_stage_1(source, cache):
    cached(source, cache, **VIEWS)
    (path,) = cache.glob("*.h5")
    again = extract(source, cache, backbone="small_cnn", weights="random", size=32, pool="none", taps=["block1_relu"])
    assert (again.path, again.computed) == (path, 0)
    assert FeatureStore(path).spec.taps == (Tap("block1_relu", "none"),)
