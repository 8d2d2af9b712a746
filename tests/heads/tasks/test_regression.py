"""Numbers, against scikit-learn's regressors."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.preprocessing import StandardScaler
from tasks_asked import asked_file, made

from featurestore.errors import InputError
from heads.evaluation.evaluate import evaluate
from heads.feature_table import load_features
from heads.fit import fit_head
from heads.kinds.dense import DenseHead
from heads.kinds.kernel_ridge import KernelRidgeHead
from heads.kinds.knn import KNNHead
from heads.kinds.linear import LogisticHead, RidgeHead
from heads.search.sweep import sweep
from heads.storage.saved_head import load_head

X, _, Y = made(600)
TRAIN, TEST = slice(0, 400), slice(400, None)


@pytest.mark.parametrize("alpha", [0.1, 100.0])
def test_ridge_is_scikit_learns(alpha):
    head = RidgeHead(alpha=alpha, tol=1e-10).fit(X[TRAIN], Y[TRAIN], task="regression")
    Z = StandardScaler().fit(X[TRAIN])
    expected = Ridge(alpha=alpha).fit(Z.transform(X[TRAIN]), Y[TRAIN]).predict(Z.transform(X[TEST]))
    np.testing.assert_allclose(head.predict(X[TEST]), expected, rtol=1e-4)
    assert head.score(X[TEST], Y[TEST]) == pytest.approx(r2_score(Y[TEST], head.predict(X[TEST])))


@pytest.mark.parametrize("kind", [RidgeHead, KNNHead, DenseHead, KernelRidgeHead])
def test_each_kind_learns_numbers_whatever_their_unit(kind):
    head = kind().fit(X[TRAIN], Y[TRAIN], task="regression")
    assert r2_score(Y[TEST], head.predict(X[TEST])) > 0.4
    scaled = kind().fit(X[TRAIN], 1000 * Y[TRAIN] - 5, task="regression")
    np.testing.assert_allclose(scaled.predict(X[TEST]), 1000 * head.predict(X[TEST]) - 5, rtol=1e-3)
    with pytest.raises(InputError, match="numbers, which have no probabilities"):
        head.predict_proba(X[TEST])


def test_what_heads_refuse():
    with pytest.raises(InputError, match="LogisticHead: it does not learn a number of each image"):
        LogisticHead().fit(X, Y, task="regression")
    for wrong in (np.where(Y > 50, np.inf, Y), Y[:, None]):
        with pytest.raises(InputError, match="numbers must be finite"):
            RidgeHead().fit(X, wrong, task="regression")
    with pytest.raises(InputError, match="all train rows have the same number"):
        RidgeHead().fit(X, np.ones(600), task="regression")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return asked_file(tmp_path_factory.mktemp("numbers"), "regression")


@pytest.mark.parametrize("kind", ["ridge", "knn", "kernel-ridge", "dense"])
def test_a_saved_head_says_what_it_said(file, tmp_path, kind):
    fitted = fit_head(file, kind, out=tmp_path / "head")
    loaded, (rows, y) = load_head(tmp_path / "head"), load_features(file).select("test")
    np.testing.assert_array_equal(loaded.predict(rows), fitted.predict(rows))
    assert loaded.class_names == ("length",) and loaded.to_dict()["task"]["name"] == "regression"
    found = evaluate(tmp_path / "head", file)
    assert found.mae == pytest.approx(mean_absolute_error(y, loaded.predict(rows)))
    assert found.target == "length" and found.half_width > 0 and 0.8 <= found.covered <= 1


def test_a_sweep_of_numbers(file, tmp_path):
    found = sweep(file, tmp_path / "run", preset="quick", progress=False)
    assert found.settings.metric == "r2" and found.test.r2 > 0.8
    assert {trial.design.kind for trial in found.trials} == {"ridge", "knn"}
    assert load_head(found.head).head.link_.residuals is not None
    by_error = sweep(file, tmp_path / "mae", preset="quick", metric="mae", progress=False)
    assert by_error.winner.mean == min(trial.mean for trial in by_error.trials)


def test_intervals_hold_the_share_that_they_claim():
    """Over 200 random divisions of the same rows: the coverage of 95 % intervals, and no division decides."""
    rng, covered = np.random.default_rng(0), []
    for _ in range(200):
        order = rng.permutation(600)
        head = RidgeHead(alpha=10.0).fit(X[order[:200]], Y[order[:200]], task="regression")
        residuals = head.link_.residuals
        half = residuals[min(len(residuals), int(np.ceil((len(residuals) + 1) * 0.95))) - 1]
        covered.append((np.abs(head.predict(X[order[200:]]) - Y[order[200:]]) <= half).mean())
    assert 0.94 < np.mean(covered) < 0.975
