"""A head of two classes carries a threshold: from the fit to the file, the prediction and the evaluation."""

import json

import numpy as np
import pytest
from feature_files import write_features
from sklearn.metrics import balanced_accuracy_score

from featurestore.errors import HeadError
from heads import evaluate, fit_head, load_features, load_head
from heads.search.sweep import sweep

SPACE = '[[heads]]\nkind = "logreg"\nC = [0.01, 0.1]\n'


def write(path, classes=2, rows=400, share=0.15):
    rng = np.random.default_rng(0)
    y = (rng.random(rows) < share).astype(np.intp)
    y[:classes] = np.arange(classes)
    X = (rng.normal(size=(rows, 6)) + 0.7 * y[:, None]).astype(np.float32)
    write_features(
        path, X, y, np.resize(["train", "train", "validation", "test"], rows), class_names=list("abc")[:classes]
    )
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "two.h5")


@pytest.mark.parametrize("by", ["balanced_accuracy", "f1", 0.2, "0.2"])
def test_a_threshold_is_saved_and_used(file, tmp_path, by):
    plain, head = fit_head(file, out=tmp_path / "plain"), fit_head(file, out=tmp_path / "head", threshold=by)
    loaded = load_head(tmp_path / "head")
    assert loaded.threshold == head.threshold and 0 < loaded.threshold < 0.5
    X, y = load_features(file).select("test")
    proba = loaded.predict_proba(X)
    np.testing.assert_array_equal(proba, plain.predict_proba(X))
    np.testing.assert_array_equal(loaded.predict(X), np.where(proba[:, 1] >= loaded.threshold, "b", "a"))
    found, before = evaluate(tmp_path / "head", file), evaluate(tmp_path / "plain", file)
    assert found.parted_at == loaded.threshold and before.parted_at is None
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(y, proba[:, 1] >= loaded.threshold))
    assert found.balanced_accuracy > before.balanced_accuracy
    assert (found.roc_auc, found.log_loss) == (before.roc_auc, before.log_loss)
    assert f"b from a probability of {loaded.threshold:.3g} on" in repr(loaded)


def test_heads_without_a_threshold_are_written_as_before(file, tmp_path):
    fit_head(file, out=tmp_path / "head", threshold=0.5)
    values = json.loads((tmp_path / "head" / "head.json").read_text())
    assert "threshold" not in values and values["format_version"] == 1
    assert load_head(tmp_path / "head").threshold is None


def test_the_winner_of_a_sweep_has_one_that_was_chosen_on_the_rows_that_judged(file, tmp_path):
    (tmp_path / "space.toml").write_text(SPACE)
    options = {"space": tmp_path / "space.toml", "cv": 3, "progress": False}
    found = sweep(file, tmp_path / "run", threshold="balanced_accuracy", metric="average_precision", **options)
    assert found.settings.threshold == "balanced_accuracy"
    assert len(found.winner.scores["average_precision"]) == 3
    assert 0 < load_head(tmp_path / "run" / "winner").threshold < 0.4
    assert found.test.parted_at == load_head(tmp_path / "run" / "winner").threshold
    again = sweep(file, tmp_path / "run", metric="average_precision", ensemble=2, threshold=0.3, **options)
    assert load_head(again.head).threshold == 0.3
    other = sweep(file, tmp_path / "other", **options)
    assert "average_precision" not in other.winner.scores  # which nobody asked for


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("acuracy", "did you mean 'accuracy'"),
        (1.0, "above 0 and below 1"),
        ("nan", "above 0 and below 1"),
        (0, "above 0"),
    ],
)
def test_other_thresholds_are_refused(file, asked, message):
    with pytest.raises(HeadError, match=message):
        fit_head(file, threshold=asked)


def test_three_classes_have_none(tmp_path):
    file = write(tmp_path / "three.h5", classes=3)
    with pytest.raises(HeadError, match="parts two classes, and this is 3 classes"):
        fit_head(file, threshold=0.3)
    with pytest.raises(HeadError, match="two classes"):
        sweep(file, tmp_path / "run", threshold="f1", progress=False)


def test_a_head_that_holds_nothing_out_asks_for_a_number(file):
    with pytest.raises(HeadError, match="knn holds out no rows"):
        fit_head(file, "knn", threshold="f1")
    assert fit_head(file, "knn", threshold=0.3).threshold == 0.3


@pytest.mark.parametrize("change", [{"format_version": 1}, {"threshold": 1.5}, {"class_names": ["a", "b", "c"]}])
def test_an_altered_threshold_is_refused(file, tmp_path, change):
    fit_head(file, out=tmp_path / "head", threshold=0.3)
    path = tmp_path / "head" / "head.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(HeadError, match=r"head\.json"):
        load_head(tmp_path / "head")
