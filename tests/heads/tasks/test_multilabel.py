"""Several labels of each row, against scikit-learn's one against the rest."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import average_precision_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler
from tasks_asked import asked_file, made

from featurestore.errors import HeadError, InputError
from heads.evaluation.evaluate import evaluate
from heads.feature_table import load_features
from heads.fit import fit_head
from heads.kinds.dense import DenseHead
from heads.kinds.discriminant import LDAHead
from heads.kinds.knn import KNNHead
from heads.kinds.linear import LinearSVMHead, LogisticHead, RidgeHead
from heads.search.sweep import sweep
from heads.storage.saved_head import load_head

X, Y, _ = made(600)
TRAIN, TEST = slice(0, 400), slice(400, None)


@pytest.mark.parametrize("C", [0.01, 1.0])
def test_logistic_heads_are_scikit_learns_one_against_the_rest(C):
    head = LogisticHead(C=C, tol=1e-9).fit(X[TRAIN], Y[TRAIN], temperature=1.0)
    Z = StandardScaler().fit(X[TRAIN])
    model = OneVsRestClassifier(LogisticRegression(C=C, tol=1e-8, max_iter=2000)).fit(Z.transform(X[TRAIN]), Y[TRAIN])
    expected = model.decision_function(Z.transform(X[TEST]))
    np.testing.assert_allclose(head.scores(X[TEST]), expected, atol=2e-3)


def test_ridge_heads_are_scikit_learns():
    head = RidgeHead(alpha=20.0, tol=1e-10).fit(X[TRAIN], Y[TRAIN], temperature=1.0)
    Z = StandardScaler().fit(X[TRAIN])
    model = RidgeClassifier(alpha=20.0).fit(Z.transform(X[TRAIN]), Y[TRAIN].astype(int))
    np.testing.assert_allclose(head.scores(X[TEST]), model.decision_function(Z.transform(X[TEST])), atol=2e-3)


@pytest.mark.parametrize("kind", [LogisticHead, LinearSVMHead, RidgeHead, KNNHead, DenseHead])
def test_each_kind_learns_labels(kind):
    head = kind().fit(X[TRAIN], Y[TRAIN])
    proba = head.predict_proba(X[TEST])
    assert proba.shape == (200, 3) and ((proba >= 0) & (proba <= 1)).all()
    assert average_precision_score(Y[TEST], proba, average="macro") > 0.75
    assert head.predict(X[TEST]).shape == (200, 3) and head.predict(X[TEST]).dtype == np.uint8
    assert 0 < head.score(X[TEST], Y[TEST]) <= 1
    # The calibrated probabilities are as frequent as they say.
    assert np.abs(proba.mean(axis=0) - Y[TEST].mean(axis=0)).max() < 0.12


def test_thresholds_are_chosen_where_nothing_was_fitted():
    head = LogisticHead().fit(X[TRAIN], Y[TRAIN])
    rare = head.link_.thresholds[2]
    assert rare < 0.5  # a label that few rows have is said to be there from a lower probability on
    np.testing.assert_array_equal(head.predict(X[TEST])[:, 2], head.predict_proba(X[TEST])[:, 2] >= rare)


def test_what_heads_refuse():
    with pytest.raises(InputError, match="LDAHead: it does not learn several labels of each image"):
        LDAHead().fit(X[TRAIN], Y[TRAIN])
    with pytest.raises(InputError, match="class_weight is of one class"):
        LogisticHead(class_weight="balanced").fit(X[TRAIN], Y[TRAIN])
    with pytest.raises(InputError, match="labels must be 0 or 1"):
        LogisticHead().fit(X[TRAIN], 2 * Y[TRAIN])
    with pytest.raises(InputError, match="no train row has the label '1'"):
        LogisticHead().fit(X[TRAIN], Y[TRAIN] * [1, 0, 1])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return asked_file(tmp_path_factory.mktemp("labels"), "multilabel")


@pytest.mark.parametrize("kind", ["logreg", "knn", "dense"])
def test_a_saved_head_says_what_it_said(file, tmp_path, kind):
    made_head = fit_head(file, kind, out=tmp_path / "head")
    loaded, (rows, y) = load_head(tmp_path / "head"), load_features(file).select("test")
    np.testing.assert_array_equal(loaded.predict_proba(rows), made_head.predict_proba(rows))
    np.testing.assert_array_equal(loaded.predict(rows), made_head.predict(rows))
    assert loaded.to_dict()["format_version"] == 3 and loaded.head.task_.name == "multilabel"
    assert list(loaded.classes_) == ["a", "b", "ç"]
    found = evaluate(tmp_path / "head", file)
    expected = average_precision_score(y, loaded.predict_proba(rows), average="macro")
    assert found.average_precision == pytest.approx(expected, abs=1e-6)
    low, high = found.intervals["average_precision"]
    assert low < found.average_precision < high and len(found.per_label) == 3


def test_a_sweep_takes_the_best_of_all_kinds_and_goes_on(file, tmp_path):
    found = sweep(file, tmp_path / "run", preset="quick", progress=False)
    assert found.settings.metric == "average_precision" and found.test.average_precision > 0.7
    kinds = {trial.design.kind for trial in found.trials}
    assert kinds == {"logreg", "linear-svm", "ridge", "knn"}
    again = sweep(file, tmp_path / "run", preset="quick", progress=False)
    assert again.winner == found.winner
    for metric, message in (("accuracy", "is measured by average_precision, roc_auc"), ("nix", "unknown metric")):
        with pytest.raises(HeadError, match=message):
            sweep(file, tmp_path / "other", metric=metric, progress=False)
    with pytest.raises(HeadError, match="--ensemble"):
        sweep(file, tmp_path / "other", ensemble=2, progress=False)


def test_a_head_of_labels_refuses_a_file_of_numbers(file, tmp_path):
    fit_head(file, "ridge", out=tmp_path / "head")
    numbers = asked_file(tmp_path, "regression")
    with pytest.raises(
        HeadError, match=r"number of each image \(regression\), and .*head was fitted to several labels"
    ):
        evaluate(tmp_path / "head", numbers)
