"""Near-duplicates in the features become groups: in folds, in intervals, and by name where splits divide them."""

import numpy as np
import pytest
from cases import linear
from feature_files import write_features
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.errors import HeadError
from heads import evaluate, fit_head, load_features, probe, sweep
from heads.evaluation import alike
from heads.evaluation.alike import find_alike
from heads.search.plan import SweepPlan


@pytest.fixture
def frames(tmp_path):
    """Films of three frames each, which stand one after the other, and 40 pictures of their own."""
    rng = np.random.default_rng(0)
    films = np.repeat(rng.normal(size=(40, 32)), 3, axis=0) + rng.normal(0, 0.02, (120, 32))
    X = np.concatenate([films, rng.normal(size=(40, 32))])
    labels = np.concatenate([np.repeat(np.arange(40) % 2, 3), np.arange(40) % 2])
    X[:, 0] += labels
    splits = np.resize(["train", "train", "train", "train", "train", "train", "validation", "test", "test"], len(X))
    return write_features(tmp_path / "frames.h5", X, labels, splits, class_names=["a", "b"])


def test_frames_of_a_film_are_a_group_and_divided_ones_are_named(frames):
    found = find_alike(load_features(frames), 0.95)
    assert found.notes[0] == (
        "near-duplicates: 120 rows are in 40 groups at a similarity of 0.95, the largest has 3 rows"
    )
    assert found.notes[1].startswith("13 groups of near-duplicates stand in several splits as they are (first: '0")
    assert "' in validation, '0" in found.notes[1] and ", similarity 1.000)" in found.notes[1]
    assert (found.names[120:] == "").all() and len(set(found.names[:120])) == 40
    for film in found.names[:120].reshape(40, 3):
        assert len(set(film)) == 1


@pytest.mark.parametrize("block", [7, 64])
def test_groups_do_not_depend_on_blocks(frames, monkeypatch, block):
    expected = find_alike(load_features(frames), 0.95)
    monkeypatch.setattr(alike, "_BLOCK", block)
    found = find_alike(load_features(frames), 0.95)
    assert found.names.tolist() == expected.names.tolist() and found.notes == expected.notes


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9))
def test_groups_are_the_components_of_alike_pairs(tmp_path_factory, seed, similarity):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rng.integers(2, 40), 4)).astype(np.float32)
    path = tmp_path_factory.mktemp("alike") / "x.h5"
    table = load_features(write_features(path, X, np.arange(len(X)) % 2, ["train"] * len(X), class_names=["a", "b"]))
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    near = (similarity <= Z @ Z.T) | np.eye(len(X), dtype=bool)
    for _ in range(6):
        near = near @ near
    try:
        names = find_alike(table, similarity).names
    except HeadError as error:
        assert "are one group: give --group-near-duplicates a greater one" in str(error)
        assert near.sum(axis=1).max() > max(len(X) / 2, 2)
        return
    alone = near.sum(axis=1) == 1
    assert ((names == "") == alone).all()
    assert (((names[:, None] == names) & ~alone[:, None]) == (near & ~alone[:, None])).all()


def test_folds_and_intervals_keep_them_together(frames, tmp_path):
    table, notes = load_features(frames), []
    groups = table.grouped_by(find_alike(table, 0.95).names)
    plan = SweepPlan(groups, 4, True, 0)
    with plan.division(None, tmp_path) as division:
        numbers = groups.groups(np.arange(160))
        fold = np.full(160, -2)
        fold[plan._source] = division.fold
        for number in np.unique(numbers):
            assert len(set(fold[numbers == number]) - {-2}) <= 1
    space = linear(tmp_path / "space.toml", "knn", "lda")
    options = {"space": space, "cv": 4, "progress": False}
    plain = sweep(frames, tmp_path / "plain", **options)
    kept = sweep(frames, tmp_path / "kept", **options, group_near_duplicates=0.95, note=notes.append)
    assert notes == kept.notes[:2] and notes[0].startswith("near-duplicates: 120 rows")
    knn = [
        next(trial.mean for trial in run.trials if trial.design.kind == "knn") for run in (plain, kept)
    ]  # a film's other frames tell the class
    assert knn[0] > knn[1] + 0.1
    assert plain.settings.to_dict()["group_near_duplicates"] is None
    assert kept.settings.to_dict()["group_near_duplicates"] == 0.95 and kept.test.groups < kept.test.rows
    with pytest.raises(HeadError, match="another sweep"):
        sweep(frames, tmp_path / "kept", **options)


def test_fit_probe_and_evaluate(frames, tmp_path):
    notes = []
    fit_head(frames, "lda", out=tmp_path / "head", group_near_duplicates=0.95, note=notes.append)
    one = evaluate(tmp_path / "head", frames)
    other = evaluate(tmp_path / "head", frames, group_near_duplicates=0.95, note=notes.append)
    assert one.groups is None and 10 < other.groups < other.rows == one.rows
    assert np.ptp(other.intervals["accuracy"]) > np.ptp(one.intervals["accuracy"])
    probe(frames, progress=False, group_near_duplicates=0.95, note=notes.append)
    assert len(notes) == 6 and len(set(notes)) == 2


@pytest.mark.parametrize(("similarity", "words"), [(1.0, "above 0 and below 1"), (0.0, "above 0"), (0.01, "one group")])
def test_similarities_that_make_no_sense(frames, similarity, words):
    with pytest.raises(HeadError, match=words):
        find_alike(load_features(frames), similarity)
