import json

import numpy as np
import pytest
from commands import modules_imported_by
from feature_files import write_features

from featurestore.errors import DesignError, HeadError
from heads import evaluate, fit_head, load_features


def test_report_tells_what_was_done(digits_file, tmp_path):
    found = fit_head(digits_file, "logreg", params=["C=0.1"], out=tmp_path / "head", seed=3)
    assert found.design.params["C"] == 0.1
    assert found.metrics.keys() == {"train", "validation"}
    assert found.metrics["validation"] == pytest.approx(evaluate(found.path, digits_file, "validation").metrics())
    assert found.rows == {"test": 120, "train": 360, "validation": 120}
    assert (found.seed, found.dataset, found.views) == (3, "digits", 0)
    assert {"numpy", "sklearn"} <= found.versions.keys()
    assert json.loads(json.dumps(found.to_dict()))["path"] == str(tmp_path / "head")


def test_without_out_nothing_is_written(digits_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fit_head(load_features(digits_file)).path is None
    assert list(tmp_path.iterdir()) == []


def test_test_rows_have_no_influence(digits, digits_file, tmp_path):
    X, y = digits
    table = load_features(digits_file)
    X, y = X.copy(), y.copy()
    X[table.rows("test")] = np.nan
    y[table.rows("test")] = 0
    other = write_features(tmp_path / "other.h5", X, y, table.splits, class_names=table.class_names)
    rows = np.asarray(table.X[table.rows("validation")])
    np.testing.assert_array_equal(fit_head(other).predict_proba(rows), fit_head(digits_file).predict_proba(rows))


def test_class_without_training_rows_has_probability_zero(gap_file, tmp_path):
    for kind in ("logreg", "linear-svm", "svm", "knn"):
        found = fit_head(gap_file, kind, out=tmp_path / kind)
        proba = found.predict_proba(load_features(gap_file).X)
        assert proba.shape[1] == 3
        assert (proba[:, 1] == 0).all()
        judged = evaluate(found.path, gap_file)
        assert judged.per_class[1]["recall"] == 0
        assert judged.per_class[1]["support"] > 0
        assert np.isfinite(judged.log_loss)


def test_two_classes_have_an_area_under_the_curve(pair_file, tmp_path):
    found = evaluate(fit_head(pair_file, out=tmp_path / "head").path, pair_file)
    assert 0.9 < found.roc_auc <= 1
    assert "roc_auc" in found.intervals


def test_files_that_no_head_can_be_fitted_on(digits, tmp_path):
    X, y = digits
    names = [str(i) for i in range(10)]
    unsplit = write_features(tmp_path / "test.h5", X, y, ["test"] * 600, class_names=names)
    with pytest.raises(HeadError, match=r"no train rows .* test \(600\)"):
        fit_head(unsplit)
    single = write_features(tmp_path / "single.h5", X, np.full(600, 4), ["train"] * 600, class_names=names)
    with pytest.raises(HeadError, match="all train rows are of class '4'"):
        fit_head(single)


def test_what_is_wrong_with_the_wish_is_said_before_the_file_is_read(digits_file, tmp_path):
    with pytest.raises(DesignError):
        fit_head("no such file", "logrek")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(HeadError, match="holds other things"):
        fit_head("no such file", out=tmp_path)


def test_a_logistic_head_needs_neither_tensorflow_nor_scikit_learn(digits_file, tmp_path):
    fit = "import heads; heads.fit_head(sys.argv[1], out=sys.argv[2])"
    code = f"{fit}; heads.load_head(sys.argv[2]); heads.evaluate(sys.argv[2], sys.argv[1])"
    loaded = modules_imported_by(code, digits_file, tmp_path / "head")
    assert "safetensors" in loaded
    assert not loaded & {"tensorflow", "keras", "jax", "torch", "sklearn", "scipy"}


def test_linear_and_dense_heads_are_used_with_numpy_alone(digits_file, tmp_path):
    for kind, params in {"linear-svm": {}, "dense": {"epochs": 2}}.items():
        fit_head(digits_file, kind, params=params, out=tmp_path / kind)
        loaded = modules_imported_by(
            "import heads; heads.evaluate(sys.argv[2], sys.argv[1])", digits_file, tmp_path / kind
        )
        assert "safetensors" in loaded
        assert not loaded & {"tensorflow", "keras", "jax", "torch", "sklearn", "scipy", "skops"}
