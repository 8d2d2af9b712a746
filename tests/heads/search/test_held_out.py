"""Designs that are judged without a folder of trials, against a sweep and against a fit by hand."""

import numpy as np
import pytest
from feature_files import write_features

from featurestore.errors import DesignError, HeadError
from heads import HeadDesign, load_features, sweep
from heads.search.held_out import best_held, designs_of, divided


def test_designs_are_those_of_the_quick_preset():
    assert len(designs_of("logreg")) == 9 and len(designs_of("knn")) == 2
    assert designs_of("dense") == [HeadDesign("dense")] and designs_of("flowers") == [HeadDesign("flowers")]
    assert designs_of("logreg", {"C": 0.5}) == [HeadDesign("logreg", {"C": 0.5})]
    assert {design.params["class_weight"] for design in designs_of("logreg", ["class_weight=balanced"])} == {"balanced"}
    with pytest.raises(DesignError):
        designs_of("logreg", ["c=1"])


def test_the_best_by_folds_is_the_best_of_a_sweep(digits_file, tmp_path):
    (tmp_path / "space.toml").write_text('[[heads]]\nkind = "ridge"\nalpha = { log = [10.0, 1e4], num = 4 }\n')
    swept = sweep(digits_file, tmp_path / "run", space=tmp_path / "space.toml", cv=5, progress=False)
    found = best_held(load_features(digits_file), designs_of("ridge"), 5, "accuracy")
    assert found.trial.design == swept.winner.design and found.trial.mean == pytest.approx(swept.winner.mean)
    assert sorted(found.rows) == sorted(load_features(digits_file).rows("train", "validation"))


def test_scores_are_of_a_head_that_was_fitted_to_the_others(digits_file):
    table = load_features(digits_file)
    found = best_held(table, [HeadDesign("ridge")], None, "accuracy")
    (X, y), (held, labels) = table.select("train"), table.select("validation")
    expected = HeadDesign("ridge").build().fit(X, y, temperature=1.0).scores(held)
    assert found.rows.tolist() == table.rows("validation").tolist()
    assert found.classes[found.codes].tolist() == labels.tolist()
    np.testing.assert_allclose(found.scores, expected, atol=1e-3)


def test_other_splits_leave_the_table_as_it_was(digits_file):
    table = load_features(digits_file)
    other = divided(table, np.full(600, "train"))
    assert len(other.rows("train")) == 600 and len(table.rows("train")) == 360


def test_a_design_that_cannot_be_judged_is_left_out(digits, tmp_path):
    file = write_features(tmp_path / "d.h5", digits[0][:40], digits[1][:40] % 2, ["train"] * 40, class_names=["0", "1"])
    designs = [HeadDesign("knn", {"n_neighbors": k}) for k in (3, 39)]
    assert best_held(load_features(file), designs, 2, "accuracy").trial.design == designs[0]
    with pytest.raises(HeadError, match=r"there are only \d+ training rows"):
        best_held(load_features(file), designs[1:], 2, "accuracy")
