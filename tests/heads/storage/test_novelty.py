"""What a head carries of its training rows: small, optional, and enough to know what is unlike them."""

import json

import numpy as np
import pytest
from feature_files import write_features

from featurestore.errors import HeadError
from heads import fit_head, load_features, load_head, sweep
from heads.storage import novelty
from heads.storage.novelty import Novelty

SPACE = '[[heads]]\nkind = "logreg"\nC = [0.1]\n'


def cosine_distances(asking, known, k):
    one, other = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (asking, known))
    return np.sort(1 - one @ other.T, axis=1)[:, k - 1]


def rows(rng, count, columns, rank=None):
    made = np.abs(rng.normal(size=(count, rank or columns)))
    return (made if rank is None else made @ np.abs(rng.normal(size=(rank, columns)))).astype(np.float32)


def test_in_few_columns_it_is_the_cosine_distance_to_the_tenth_neighbour():
    rng = np.random.default_rng(0)
    known, asking = rows(rng, 400, 20), rows(rng, 50, 20) + np.linspace(0, 9, 50)[:, None].astype(np.float32)
    found = Novelty.of(known, np.arange(400))
    exact = cosine_distances(asking, known, 10)
    expected = [(found.distances <= far).mean() for far in exact]
    np.testing.assert_allclose(found.quantiles(asking), expected, atol=0.02)
    assert found.neighbours == 10 and len(found.distances) == 400


def test_what_lies_outside_of_the_directions_that_are_kept_counts(monkeypatch):
    monkeypatch.setattr(novelty, "_DIRECTIONS", 3)
    rng = np.random.default_rng(0)
    known = rows(rng, 300, 40, rank=3)
    found = Novelty.of(known, np.arange(300))
    assert found.rows.shape == (300, 3)
    inside = rows(rng, 50, 3) @ np.linalg.lstsq(np.eye(3), np.zeros((3, 40)), rcond=None)[0] + known[:50]
    far = np.zeros((50, 40), np.float32)
    far[:, :20] = np.abs(rng.normal(size=(50, 20)))
    beside = known[:50] + 20 * np.abs(rng.normal(size=(50, 40))).astype(np.float32)
    assert found.quantiles(inside).max() <= 1 and np.median(found.quantiles(inside)) < 0.6
    assert (found.quantiles(far) == 1).all() and (found.quantiles(beside) == 1).all()


def test_new_rows_of_the_same_kind_have_all_quantiles_alike():
    rng = np.random.default_rng(1)
    quantiles = Novelty.of(rows(rng, 3000, 30), np.arange(3000)).quantiles(rows(rng, 2000, 30))
    for share in (0.1, 0.5, 0.9, 0.99):
        assert (quantiles <= share).mean() == pytest.approx(share, abs=0.04)


def test_rows_of_its_own_group_do_not_make_a_row_look_familiar():
    rng = np.random.default_rng(0)
    people = rows(rng, 60, 20)
    frames = np.repeat(people, 15, axis=0) + 1e-3 * rows(rng, 900, 20)
    alone, grouped = Novelty.of(frames, np.arange(900)), Novelty.of(frames, np.repeat(np.arange(60), 15))
    assert np.median(alone.distances) < 1e-3 < np.median(grouped.distances)
    stranger = rows(rng, 200, 20)
    assert np.median(alone.quantiles(stranger)) == 1 and np.median(grouped.quantiles(stranger)) < 0.9
    with pytest.raises(HeadError, match="all training rows are one group"):
        Novelty.of(frames, np.zeros(900, np.intp))


def test_rows_without_a_direction_are_far_and_many_rows_are_drawn(monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(novelty, "_ROWS", 100)
    found = Novelty.of(rows(rng, 2500, 12), np.arange(2500))
    assert len(found.rows) == 100
    assert found.quantiles(np.zeros((1, 12), np.float32)).tolist() == [1.0]
    assert found.quantiles(np.full((1, 12), 1e15)).tolist() == found.quantiles(np.full((1, 12), 1e-20)).tolist()


def test_a_saved_head_says_what_it_said_and_one_without_it_has_nothing_of_it(digits_file, tmp_path):
    plain = fit_head(digits_file, out=tmp_path / "plain")
    fitted = fit_head(digits_file, out=tmp_path / "head", novelty=True)
    X, _ = load_features(digits_file).select("test")
    loaded = load_head(tmp_path / "head")
    np.testing.assert_array_equal(loaded.novelties(X), fitted.novelties(X))
    assert plain.novelties(X) is None and load_head(tmp_path / "plain").novelty is None
    assert "novelty    known from 360 training rows" in repr(fitted)
    names = {file.name for file in (tmp_path / "plain").iterdir()}
    assert {file.name for file in (tmp_path / "head").iterdir()} == names | {"novelty.safetensors"}
    for name in names - {"head.json"}:
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "head" / name).read_bytes()
    one, two = (json.loads((tmp_path / name / "head.json").read_text()) for name in ("plain", "head"))
    assert one | {"seconds": 0} == two | {"seconds": 0}
    fit_head(digits_file, out=tmp_path / "head")
    assert not (tmp_path / "head" / "novelty.safetensors").exists()


def test_the_winner_of_a_sweep_knows_train_and_validation_rows(digits_file, tmp_path):
    (tmp_path / "space.toml").write_text(SPACE)
    found = sweep(digits_file, tmp_path / "run", space=tmp_path / "space.toml", novelty=True, progress=False)
    assert len(load_head(found.head).novelty.rows) == 480 and found.settings.novelty


def test_numeric_columns_have_no_part(digits, tmp_path):
    X, y = digits
    ages = np.where(np.arange(600) % 7, np.arange(600.0), np.nan)
    splits = np.resize(["train", "test"], 600)
    file = write_features(
        tmp_path / "aged.h5", X, y, splits, class_names=[f"digit {i}" for i in range(10)], numbers={"age": ages}
    )
    both, alone = (fit_head(file, "lda", tap=tap, novelty=True) for tap in ("last+tabular", "last"))
    table = load_features(file, "last+tabular")
    found = both.novelties(table.X[:20])
    np.testing.assert_array_equal(found, alone.novelties(table.X[:20, :-1]))
    with pytest.raises(HeadError, match="numeric columns alone"):
        fit_head(file, "lda", tap="tabular", novelty=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"basis": np.zeros((63, 64), np.float16)}, "basis is float16"),
        ({"rows": np.zeros((9, 63), np.float16)}, "do not fit each other"),
        ({"neighbours": np.array([400])}, "do not fit each other"),
        ({"neighbours": np.array([0])}, "do not fit each other"),
        ({"distances": np.array([1.0, 0.5], np.float32)}, "damaged"),
        ({"distances": np.zeros(0, np.float32)}, "do not fit each other"),
        ({"rows": np.full((360, 64), np.nan, np.float16)}, "damaged"),
        ({"more": np.zeros(1)}, "holds a tensor 'more'"),
    ],
)
def test_a_damaged_file_is_named(digits_file, tmp_path, change, words):
    from safetensors.numpy import load_file, save_file

    fit_head(digits_file, out=tmp_path / "head", novelty=True)
    file = tmp_path / "head" / "novelty.safetensors"
    save_file(load_file(file) | change, file)
    with pytest.raises(HeadError, match=words) as found:
        load_head(tmp_path / "head")
    assert str(file) in str(found.value)
