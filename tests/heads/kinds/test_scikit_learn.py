"""Heads as scikit-learn estimators: its own checks, and its pipelines, stacking and calibration."""

import pickle
import warnings

import numpy as np
import pytest
from commands import modules_imported_by
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from featurestore.errors import HeadError, InputError
from heads.kinds.dense import DenseHead
from heads.kinds.design import KINDS, HeadDesign
from heads.kinds.discriminant import CentroidHead, LDAHead
from heads.kinds.kernel_ridge import KernelRidgeHead
from heads.kinds.knn import KNNHead
from heads.kinds.linear import LinearSVMHead, LogisticHead, RidgeHead
from heads.kinds.svm import SVMHead

CLASSES = (LogisticHead, LinearSVMHead, RidgeHead, LDAHead, CentroidHead, KNNHead, SVMHead, KernelRidgeHead, DenseHead)
QUICK = {DenseHead: {"hidden": (16,), "epochs": 20, "learning_rate": 0.01}}

with warnings.catch_warnings():
    # They do not inherit from scikit-learn's BaseEstimator, so that they can be used without importing it.
    warnings.filterwarnings("ignore", ".*does not inherit from `sklearn.base.BaseEstimator`")
    each_check = parametrize_with_checks([kind(**QUICK.get(kind, {})) for kind in CLASSES])


@pytest.fixture
def named(digits):
    """Digits whose labels are texts."""
    X, y = digits
    return X, np.array([f"digit {label}" for label in y])


def test_every_kind_is_checked():
    assert {type(HeadDesign(kind).build()) for kind in KINDS} == set(CLASSES)


@each_check
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("kind", CLASSES)
def test_constructors_take_their_defaults_and_clone(kind):
    head = kind()
    assert is_classifier(head) and repr(head) == f"{kind.__name__}()"
    assert clone(head).get_params() == head.get_params()


def test_repr_shows_what_is_no_default():
    assert repr(LogisticHead(C=2.0, class_weight={0: 1.0})) == "LogisticHead(class_weight={0: 1.0}, C=2.0)"


@pytest.mark.parametrize("kind", [KNNHead, SVMHead, LDAHead])
def test_in_a_pipeline(kind, named):
    X, y = named
    pipeline = make_pipeline(MinMaxScaler(), kind()).fit(X[:400], y[:400])
    assert pipeline.score(X[400:], y[400:]) > 0.85
    assert set(pipeline.predict(X)) == set(pipeline.classes_) == set(y)


def test_in_a_search(named):
    X, y = named
    found = GridSearchCV(make_pipeline(MinMaxScaler(), LogisticHead()), {"logistichead__C": [1e-9, 0.1]}).fit(X, y)
    assert found.best_params_ == {"logistichead__C": 0.1}


def test_stacked(named):
    X, y = named
    members = [("linear", LogisticHead()), ("near", KNNHead()), ("net", DenseHead(**QUICK[DenseHead]))]
    stack = StackingClassifier(members, LogisticRegression(max_iter=1000), cv=3).fit(X[:400], y[:400])
    assert stack.score(X[400:], y[400:]) > 0.9


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibrated(method, named):
    X, y = named
    pair = np.isin(y, ("digit 3", "digit 8"))
    for rows in (np.ones(len(y), bool), pair):
        found = CalibratedClassifierCV(LinearSVMHead(), method=method, cv=3).fit(X[rows], y[rows])
        assert found.score(X[rows], y[rows]) > 0.9


@pytest.mark.parametrize("kind", CLASSES)
def test_two_classes_have_one_score_as_in_scikit_learn(kind, digits):
    X, y = digits
    pair = np.isin(y, (3, 8))
    head = kind(**QUICK.get(kind, {})).fit(X[pair], y[pair])
    scores, decision = head.scores(X[pair]), head.decision_function(X[pair])
    assert scores.shape == (pair.sum(), 2) and decision.shape == (pair.sum(),)
    np.testing.assert_array_equal(np.where(decision > 0, 8, 3), head.predict(X[pair]))


def test_an_unfitted_head_is_an_error_of_ours_and_of_scikit_learn(digits):
    for error in (HeadError, NotFittedError):
        with pytest.raises(error, match="LogisticHead is not fitted: call fit first") as found:
            LogisticHead().predict(digits[0])
    assert isinstance(pickle.loads(pickle.dumps(found.value)), NotFittedError)


@pytest.mark.parametrize("kind", [LogisticHead, LinearSVMHead, RidgeHead])
def test_class_weights(kind, digits):
    """Weights by class: none, given, and those that balanced stands for."""
    X, y = digits
    X, y = X[y < 3], y[y < 3]
    keep = np.flatnonzero((y > 0) | (np.arange(len(y)) % 5 == 0))
    X, y = X[keep], y[keep]
    counts = np.bincount(y)
    balanced = {label: len(y) / 3 / count for label, count in enumerate(counts.tolist())}

    def proba(weight):
        return kind(class_weight=weight).fit(X, y, temperature=1.0).predict_proba(X)

    np.testing.assert_array_equal(proba(None), proba("none"))
    np.testing.assert_allclose(proba(None), proba({0: 1.0}), atol=1e-6)  # ridge with weights is solved in steps
    np.testing.assert_allclose(proba("balanced"), proba(balanced), atol=1e-5)
    assert np.abs(proba("balanced") - proba(None)).max() > 0.001


@pytest.mark.parametrize("weight", [{"0": 1}, {0: -1}, {0: float("nan")}, "equal", 3])
def test_class_weights_that_are_none(weight, digits):
    with pytest.raises(InputError, match="class_weight="):
        LogisticHead(class_weight=weight).fit(*digits)


def test_wrong_rows_are_value_errors_of_ours(digits):
    X, y = digits
    head = LogisticHead().fit(X, y)
    for use in (lambda: head.predict(X[:, 1:]), lambda: head.fit(X.astype(complex), y), lambda: head.fit(X, y / 7)):
        with pytest.raises(InputError):
            use()


def test_answers_do_not_import_scikit_learn(digits, tmp_path):
    X, y = digits
    (tmp_path / "head.pickle").write_bytes(pickle.dumps(LogisticHead().fit(X, y)))
    code = "import pickle, numpy; pickle.load(open(sys.argv[1], 'rb')).predict(numpy.zeros((2, 64)))"
    assert not {"sklearn", "scipy"} & modules_imported_by(code, tmp_path / "head.pickle")


@pytest.mark.parametrize("kind", [LogisticHead, DenseHead])
def test_random_states(kind, digits):
    """As in scikit-learn: a number, none, or a generator whose next number counts."""
    X, y = digits

    def proba(state):
        return kind(**QUICK.get(kind, {}), random_state=state).fit(X, y).predict_proba(X)

    np.testing.assert_array_equal(proba(np.random.RandomState(3)), proba(np.random.RandomState(3)))
    assert np.isfinite(proba(None)).all()
    np.testing.assert_array_equal(proba(np.int64(3)), proba(3))
    with pytest.raises(InputError, match="random_state=-1: give a whole number"):
        proba(-1)
