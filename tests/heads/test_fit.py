import json
from dataclasses import replace

import numpy as np
import pytest
from commands import modules_imported_by
from feature_files import SPEC, write_features

from featurestore.errors import DesignError, HeadError
from heads import evaluate, fit_head, load_features, rows
from heads.kinds import linear
from heads.kinds.design import head_class


def test_report_tells_what_was_done(digits_file, tmp_path):
    found = fit_head(digits_file, "logreg", params=["C=0.1"], out=tmp_path / "head", seed=3)
    assert found.design.params["C"] == 0.1
    assert found.metrics.keys() == {"train", "validation"}
    measured = evaluate(found.path, digits_file, "validation").metrics()
    # A fit leaves out what needs all probabilities at once.
    assert found.metrics["validation"].keys() == measured.keys() - {"average_precision"}
    assert found.metrics["validation"] == pytest.approx({name: measured[name] for name in found.metrics["validation"]})
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


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["logreg", "linear-svm", "ridge", "lda", "centroid", "dense", "knn", "svm"])
def test_a_streamed_fit_is_the_fit_in_memory(digits, tmp_path, monkeypatch, kind, dtype):
    X, y = digits
    splits = np.resize(["train", "train", "train", "validation", "test"], 600)
    shown = np.arange(0, 600, 5)
    path = write_features(
        tmp_path / "f.h5", X, y, splits, class_names=[str(i) for i in range(10)], view_rows=shown,
        views=X[shown] + 1, spec=replace(SPEC, dtype=dtype),
    )  # fmt: skip
    wish = {"params": ["epochs=5"] if kind == "dense" else []}
    there = fit_head(path, kind, **wish)
    monkeypatch.setattr(rows, "_SHARE", 10**9)
    here = fit_head(path, kind, **wish)
    assert here.metrics.keys() == there.metrics.keys()
    for split, metrics in there.metrics.items():
        assert here.metrics[split] == pytest.approx(metrics, rel=1e-4)
    assert here.views == there.views == 120
    np.testing.assert_allclose(here.predict_proba(X), there.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("kind", ["logreg", "linear-svm"])
def test_problems_that_are_solved_in_turn_have_the_same_solution(digits_file, monkeypatch, kind):
    table = load_features(digits_file)
    X, y = table.select("train", "validation")
    solve = head_class(kind)(tol=1e-9)
    beside, temperature = solve.fit(X, y).scores(X), solve.temperature_
    monkeypatch.setattr(linear, "_LARGE", 1)
    in_turn = solve.fit(X, y)
    np.testing.assert_allclose(in_turn.scores(X), beside, atol=1e-3 * np.ptp(beside))
    assert in_turn.temperature_ == pytest.approx(temperature, rel=0.02)


@pytest.mark.parametrize(
    ("kind", "params", "what", "way_out"),
    [
        ("knn", (), "360 rows, which it needs in memory, take", "another kind: logreg"),
        ("svm", (), "360 rows, which it needs in memory, take", "another kind: logreg"),
        ("lda", (), "covariance of 64 × 64 numbers", "'ridge' needs none"),
        ("dense", ("hidden=512",), "numbers of its weights take", "fewer units"),
        ("logreg", (), "coefficients and their last steps take", "fewer columns"),
    ],
)
def test_what_does_not_fit_in_memory_is_refused_before_it_begins(digits_file, tmp_path, kind, params, what, way_out):
    with pytest.raises(HeadError) as caught:
        fit_head(digits_file, kind, params=params, out=tmp_path / "head", max_memory=100_000)
    text = str(caught.value)
    assert what in text and way_out in text and "give --max-memory " in text and str(digits_file) in text
    assert not (tmp_path / "head").exists()


def test_damaged_rows_on_disk_are_found(digits, tmp_path, monkeypatch):
    X, y = digits
    X = X.copy()
    X[0, 3] = np.inf
    path = write_features(tmp_path / "f.h5", X, y, ["train"] * 600, class_names=[str(i) for i in range(10)])
    monkeypatch.setattr(rows, "_SHARE", 10**9)
    with pytest.raises(HeadError, match=r"f\.h5: features hold NaN, .* in 1 of 600 rows, the first is row 0"):
        fit_head(path)
